"""Datagrams of the edge example: what is accepted, and what is thrown away and how it is counted."""

from __future__ import annotations

import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SAMPLES = (np.arange(5) + 1j * np.arange(5, 0, -1)).astype(np.complex64)
NONE = SAMPLES[:0]


def checked(body: bytes) -> bytes:
    """A datagram with a right check, whatever it says."""
    return body + struct.pack("<I", zlib.crc32(body))


class Receiving:
    """An inbox, to which a stream sends frames by their numbers."""

    def __init__(self, frames: ModuleType) -> None:
        self.frames, self.inbox = frames, frames.Inbox()

    def samples(self, *numbers: int, stream: int = 7, samples: np.ndarray = SAMPLES) -> list[Any]:
        """What is made of each frame: its number, or None if it is thrown away."""
        packed = (self.frames.pack(self.frames.SAMPLES, stream, number, samples) for number in numbers)
        return [frame and frame.sequence for frame in map(self.inbox.take, packed)]

    def end(self, number: int, stream: int = 7) -> bool:
        """Whether the end of a stream is believed."""
        return self.inbox.take(self.frames.pack(self.frames.END, stream, number, NONE)) is not None


@pytest.fixture
def receiving(frames: ModuleType) -> Receiving:
    return Receiving(frames)


def test_a_frame_arrives_as_it_was_sent(frames: ModuleType) -> None:
    frame = frames.Inbox().take(frames.pack(frames.SAMPLES, 7, 0, SAMPLES))
    assert (frame.kind, frame.stream, frame.sequence) == (frames.SAMPLES, 7, 0)
    np.testing.assert_array_equal(frame.samples, SAMPLES)
    assert frame.samples.dtype == np.complex64


def test_the_format_is_fixed(frames: ModuleType) -> None:
    """Bytes written down by hand, so that a receiver in another language can be held to them."""
    body = b"2PL\x00\x01\x00\x01\x00\x07\x00\x00\x00\x02" + bytes(7)
    body += struct.pack("<ff", 1.5, -2.0)
    assert frames.pack(0, 7, 2, np.array([1.5 - 2j], np.complex64)) == checked(body)


def test_every_altered_byte_truncation_and_extension_is_noticed(frames: ModuleType) -> None:
    good = frames.pack(frames.SAMPLES, 7, 0, SAMPLES)
    inbox = frames.Inbox()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 128
        assert inbox.take(bytes(bad)) is None
    assert inbox.counts == {"foreign": 4, "damaged": len(good) - 4}
    inbox = frames.Inbox()
    for length in range(len(good)):
        assert inbox.take(good[:length]) is None
    assert inbox.take(good + b"\0") is None
    assert inbox.counts == {"short": 24, "damaged": len(good) - 24 + 1}
    assert inbox.take(good) is not None


@pytest.mark.parametrize(
    ("place", "byte", "counted"),
    [(4, 2, "unknown"), (5, 9, "unknown"), (6, 4, "damaged"), (6, 6, "damaged")],
    ids=["version", "kind", "fewer samples than stated", "more"],
)
def test_a_right_check_does_not_make_a_frame(frames: ModuleType, place: int, byte: int, counted: str) -> None:
    body = bytearray(frames.pack(frames.SAMPLES, 7, 0, SAMPLES)[:-4])
    body[place] = byte
    inbox = frames.Inbox()
    assert inbox.take(checked(bytes(body))) is None
    assert inbox.counts == {counted: 1}


def test_samples_must_be_finite(receiving: Receiving) -> None:
    assert receiving.samples(0, samples=np.array([np.nan, 1], np.complex64)) == [None]
    assert receiving.inbox.counts == {"damaged": 1}


def test_order_repetition_and_loss_are_counted(receiving: Receiving) -> None:
    inbox = receiving.inbox
    assert receiving.samples(0, 2, 1, 2, 5) == [0, 2, 1, None, 5]
    assert inbox.counts == {"accepted": 4, "reordered": 1, "repeated": 1}
    assert (inbox.lost, inbox.has_ended, inbox.is_complete) == (2, False, False)
    assert receiving.end(7)
    assert (inbox.lost, inbox.has_ended, inbox.is_complete) == (3, True, False)
    assert receiving.samples(3, stream=8) == [None]
    assert inbox.counts["foreign"] == 1
    assert receiving.samples(3, 4, 6) == [3, 4, 6]
    assert (inbox.lost, inbox.is_complete) == (0, True)


def test_memory_of_a_long_stream_is_bounded(receiving: Receiving) -> None:
    window = receiving.frames.WINDOW
    count = 3 * window
    assert receiving.samples(*range(count), samples=NONE) == list(range(count))
    assert len(receiving.inbox._seen) <= 2 * window + 1
    assert receiving.samples(count - window - 1, count - window, samples=NONE) == [None, None]
    assert (receiving.inbox.counts["late"], receiving.inbox.counts["repeated"]) == (1, 1)
    assert receiving.inbox.lost == 0


def test_the_end_of_a_stream_that_was_not_received_is_foreign(receiving: Receiving) -> None:
    assert not receiving.end(0, stream=99)
    assert not receiving.inbox.has_ended
    assert receiving.samples(0) == [0]
    assert not receiving.end(1, stream=99)
    assert receiving.inbox.counts == {"foreign": 2, "accepted": 1, "reordered": 0}
    assert receiving.end(1)
    assert receiving.inbox.is_complete


def test_a_leap_is_foreign_and_harms_nothing(receiving: Receiving) -> None:
    window = receiving.frames.WINDOW
    assert receiving.samples(2**64 - 1, window, stream=1) == [None, None]
    assert receiving.samples(0, window + 1) == [0, None]
    assert not receiving.end(window + 1)
    assert receiving.inbox.counts == {"foreign": 4, "accepted": 1, "reordered": 0}
    assert receiving.samples(window) == [window]
    assert receiving.inbox.lost == window - 1


def test_an_end_before_what_came_and_frames_after_the_end_are_foreign(receiving: Receiving) -> None:
    receiving.samples(0, 2)
    assert not receiving.end(2)
    assert receiving.end(3)
    assert receiving.samples(3) == [None]
    assert receiving.inbox.counts["foreign"] == 2
    assert (receiving.inbox.lost, receiving.inbox.is_complete) == (1, False)
