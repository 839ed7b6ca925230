"""Datagrams of the edge example: one frame of baseband I/Q each, and what may go wrong with them.

A datagram is a header, samples and a check, all little-endian:

    magic      4 bytes   "2PL" and a zero byte
    version    uint8     1
    kind       uint8     0 samples, 1 end of the stream
    count      uint16    complex samples that follow; 0 at the end of the stream
    stream     uint32    drawn by the sender when it starts
    sequence   uint64    number of the frame, from 0; at the end of the stream, the frames that were sent
    samples    complex64 (float32 I, float32 Q) for each
    check      uint32    CRC-32 of all before

Nothing in it names the mode: the receiver finds that out as it would on the air.

The first samples decide which stream is heard; what another sender says, and the end of a stream that was not
heard, is foreign.  So is a number more than ``WINDOW`` beyond the newest: one of the first ``WINDOW`` frames
must come first.  The check finds damage, not forgery: whoever knows a stream can still speak in its name.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["END", "MAX_DATAGRAM", "SAMPLES", "Frame", "Inbox", "pack"]

MAGIC = b"2PL\0"
VERSION = 1
SAMPLES, END = 0, 1
WINDOW = 4096
"""How far before the newest frame one may come and still be known from a repetition, and how far ahead."""

_HEADER = struct.Struct("<4sBBHIQ")
_CHECK = struct.Struct("<I")
_SAMPLE = 8

MAX_DATAGRAM = 65536
"""More than UDP can carry."""


@dataclass(frozen=True)
class Frame:
    """What a good datagram holds."""

    kind: int
    stream: int
    sequence: int
    samples: NDArray[np.complex64]


def pack(kind: int, stream: int, sequence: int, samples: NDArray[np.complex64]) -> bytes:
    """The datagram of a frame."""
    head = _HEADER.pack(MAGIC, VERSION, kind, len(samples), stream, sequence)
    body = head + samples.astype("<c8").tobytes()
    return body + _CHECK.pack(zlib.crc32(body))


def _unpack(datagram: bytes) -> Frame | str:
    """The frame of a datagram, or what is wrong with it."""
    if datagram[: len(MAGIC)] != MAGIC[: len(datagram)]:
        return "foreign"
    if len(datagram) < _HEADER.size + _CHECK.size:
        return "short"
    body, check = datagram[: -_CHECK.size], datagram[-_CHECK.size :]
    if zlib.crc32(body) != _CHECK.unpack(check)[0]:
        return "damaged"
    _, version, kind, count, stream, sequence = _HEADER.unpack_from(body)
    if version != VERSION or kind not in (SAMPLES, END):
        return "unknown"
    if len(body) != _HEADER.size + count * _SAMPLE:
        return "damaged"
    samples = np.frombuffer(body, dtype="<c8", offset=_HEADER.size).astype(np.complex64)
    return Frame(kind, stream, sequence, samples) if np.isfinite(samples).all() else "damaged"


@dataclass
class Inbox:
    """Takes datagrams of one stream, in whatever order they come, and counts those that it throws away.

    The stream is that of the first samples; numbers beyond the newest by more than ``WINDOW`` are foreign.
    """

    counts: Counter[str] = field(default_factory=Counter)
    """``accepted``, of these ``reordered``; thrown away: ``foreign``, ``short``, ``damaged``, ``unknown``
    (version or kind), ``repeated``, ``late``."""
    _stream: int | None = None
    _newest: int = -1
    _seen: set[int] = field(default_factory=set)
    _sent: int | None = None

    def take(self, datagram: bytes) -> Frame | None:
        """The frame of a datagram; None if it is thrown away."""
        frame = _unpack(datagram)
        problem = frame if isinstance(frame, str) else self._problem(frame)
        if isinstance(frame, str) or problem is not None:
            self.counts[str(problem)] += 1
            return None
        if frame.kind == END:
            self._sent = frame.sequence
            return frame
        self._stream = frame.stream
        self.counts["accepted"] += 1
        self.counts["reordered"] += frame.sequence < self._newest
        self._seen.add(frame.sequence)
        self._newest = max(self._newest, frame.sequence)
        if len(self._seen) > 2 * WINDOW:
            self._seen = {number for number in self._seen if number > self._newest - WINDOW}
        return frame

    def _problem(self, frame: Frame) -> str | None:
        if frame.stream != self._stream and (self._stream is not None or frame.kind == END):
            return "foreign"
        if frame.sequence > self._newest + WINDOW:
            return "foreign"
        if frame.kind == END and frame.sequence <= self._newest:
            return "foreign"
        if frame.kind == END and self._sent not in (None, frame.sequence):
            return "foreign"
        if self._sent is not None and frame.kind == SAMPLES and frame.sequence >= self._sent:
            return "foreign"
        if frame.kind == SAMPLES and frame.sequence <= self._newest - WINDOW:
            return "late"
        if frame.kind == SAMPLES and frame.sequence in self._seen:
            return "repeated"
        return None

    @property
    def is_complete(self) -> bool:
        """Whether the end is known and nothing is missing before it."""
        return self._sent is not None and self.lost == 0

    @property
    def has_ended(self) -> bool:
        """Whether the sender has said that it ended."""
        return self._sent is not None

    @property
    def lost(self) -> int:
        """Frames that were sent, as far as is known, and have not come."""
        sent = self._newest + 1 if self._sent is None else self._sent
        return max(0, sent - self.counts["accepted"])
