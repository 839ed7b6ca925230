"""Datagrams of the edge example: what is accepted, and what is thrown away and how it is counted."""

from __future__ import annotations

import struct
import zlib
from types import ModuleType

import numpy as np
import pytest

SAMPLES = (np.arange(5) + 1j * np.arange(5, 0, -1)).astype(np.complex64)


def checked(body: bytes) -> bytes:
    """A datagram with a right check, whatever it says."""
    return body + struct.pack("<I", zlib.crc32(body))


def test_a_frame_arrives_as_it_was_sent(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    frame = inbox.take(frames.pack(frames.SAMPLES, 7, 0, SAMPLES))
    assert (frame.kind, frame.stream, frame.sequence) == (frames.SAMPLES, 7, 0)
    np.testing.assert_array_equal(frame.samples, SAMPLES)
    assert frame.samples.dtype == np.complex64
    assert inbox.counts == {"accepted": 1, "reordered": 0}


def test_the_format_is_fixed(frames: ModuleType) -> None:
    """Bytes written down by hand, so that a receiver in another language can be held to them."""
    body = b"2PL\x00\x01\x00\x01\x00\x07\x00\x00\x00\x02" + bytes(7)
    body += struct.pack("<ff", 1.5, -2.0)
    assert frames.pack(0, 7, 2, np.array([1.5 - 2j], np.complex64)) == checked(body)


def test_every_altered_byte_truncation_and_extension_is_noticed(frames: ModuleType) -> None:
    good = frames.pack(frames.SAMPLES, 7, 0, SAMPLES)
    inbox = frames.Inbox()
    for place in range(len(good)):
        for flip in (1, 128):
            bad = bytearray(good)
            bad[place] ^= flip
            assert inbox.take(bytes(bad)) is None
    assert inbox.counts == {"foreign": 8, "damaged": 2 * (len(good) - 4)}
    inbox = frames.Inbox()
    for length in range(len(good)):
        assert inbox.take(good[:length]) is None
    assert inbox.take(good + b"\0") is None
    assert inbox.counts == {"short": 24, "damaged": len(good) - 24 + 1}
    assert inbox.take(good) is not None


@pytest.mark.parametrize(
    ("place", "byte", "counted"),
    [(4, 2, "unknown"), (5, 9, "unknown"), (6, 4, "damaged"), (6, 6, "damaged")],
    ids=["version", "kind", "fewer samples than told", "more"],
)
def test_a_right_check_does_not_make_a_frame(frames: ModuleType, place: int, byte: int, counted: str) -> None:
    body = bytearray(frames.pack(frames.SAMPLES, 7, 0, SAMPLES)[:-4])
    body[place] = byte
    inbox = frames.Inbox()
    assert inbox.take(checked(bytes(body))) is None
    assert inbox.counts == {counted: 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_must_be_finite(frames: ModuleType, value: float) -> None:
    inbox = frames.Inbox()
    assert inbox.take(frames.pack(frames.SAMPLES, 7, 0, np.array([value], np.complex64))) is None
    assert inbox.counts == {"damaged": 1}


def test_order_repetition_and_loss_are_counted(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    taken = [inbox.take(frames.pack(frames.SAMPLES, 7, number, SAMPLES)) for number in (0, 2, 1, 2, 5)]
    assert [frame and frame.sequence for frame in taken] == [0, 2, 1, None, 5]
    assert inbox.counts == {"accepted": 4, "reordered": 1, "repeated": 1}
    assert (inbox.lost, inbox.has_ended, inbox.is_complete) == (2, False, False)
    inbox.take(frames.pack(frames.END, 7, 7, SAMPLES[:0]))
    assert (inbox.lost, inbox.has_ended, inbox.is_complete) == (3, True, False)
    assert inbox.take(frames.pack(frames.SAMPLES, 8, 3, SAMPLES)) is None  # another stream
    assert inbox.counts["foreign"] == 1
    for number in (3, 4, 6):
        inbox.take(frames.pack(frames.SAMPLES, 7, number, SAMPLES))
    assert (inbox.lost, inbox.is_complete) == (0, True)


def test_memory_of_a_long_stream_is_bounded(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    empty = SAMPLES[:0]
    count = 3 * frames.WINDOW
    for number in range(count):
        assert inbox.take(frames.pack(frames.SAMPLES, 7, number, empty)) is not None
    assert len(inbox._seen) <= 2 * frames.WINDOW + 1
    assert inbox.take(frames.pack(frames.SAMPLES, 7, count - frames.WINDOW - 1, empty)) is None
    assert inbox.take(frames.pack(frames.SAMPLES, 7, count - frames.WINDOW, empty)) is None
    assert (inbox.counts["late"], inbox.counts["repeated"]) == (1, 1)
    assert inbox.lost == 0


def test_the_end_of_a_stream_that_was_not_received_is_foreign(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    for number in (0, 3):
        assert inbox.take(frames.pack(frames.END, 99, number, SAMPLES[:0])) is None
    assert not inbox.has_ended
    assert inbox.take(frames.pack(frames.SAMPLES, 7, 0, SAMPLES)) is not None
    assert inbox.take(frames.pack(frames.END, 99, 1, SAMPLES[:0])) is None
    assert inbox.counts == {"foreign": 3, "accepted": 1, "reordered": 0}
    assert inbox.take(frames.pack(frames.END, 7, 1, SAMPLES[:0])) is not None
    assert inbox.is_complete


def test_a_leap_is_foreign_and_harms_nothing(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    for number in (2**63, 2**64 - 1, frames.WINDOW):
        assert inbox.take(frames.pack(frames.SAMPLES, 1, number, SAMPLES)) is None
    assert inbox.take(frames.pack(frames.SAMPLES, 7, 0, SAMPLES)) is not None
    for kind, body in ((frames.SAMPLES, SAMPLES), (frames.END, SAMPLES[:0])):
        assert inbox.take(frames.pack(kind, 7, 2**63, body)) is None
        assert inbox.take(frames.pack(kind, 7, frames.WINDOW + 1, body)) is None
    assert inbox.counts == {"foreign": 7, "accepted": 1, "reordered": 0}
    assert inbox.take(frames.pack(frames.SAMPLES, 7, frames.WINDOW, SAMPLES)) is not None
    assert inbox.lost == frames.WINDOW - 1


def test_an_end_before_what_came_and_frames_after_the_end_are_foreign(frames: ModuleType) -> None:
    inbox = frames.Inbox()
    for number in (0, 2):
        inbox.take(frames.pack(frames.SAMPLES, 7, number, SAMPLES))
    assert inbox.take(frames.pack(frames.END, 7, 2, SAMPLES[:0])) is None
    assert inbox.take(frames.pack(frames.END, 7, 3, SAMPLES[:0])) is not None
    assert inbox.take(frames.pack(frames.SAMPLES, 7, 3, SAMPLES)) is None
    assert (inbox.counts["foreign"], inbox.lost, inbox.is_complete) == (2, 1, False)
