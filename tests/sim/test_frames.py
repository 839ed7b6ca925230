"""What systems put on the air: header and payload in one frame, and nothing that a mode does not allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tools.tiny_bundle import HEADER, LINK
from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError
from twophase.link.header import Header, header_code
from twophase.link.modem import Transmission
from twophase.link.transmitter import Transmitter
from twophase.sim.frames import framed, payload_stream, soft_stream, transmit
from twophase.sim.system import System

MODES = LINK.modes


def test_a_frame_is_header_then_payload_then_nothing(content_bundle, samples) -> None:
    # Estimates on both sides of 5 dB, where the header's code and length change.
    snr_db = np.linspace(4.0, 6.0, len(samples.labels)).astype(np.float32)
    sent = transmit(Transmitter(content_bundle), samples.features, snr_db, MODES)
    payload = payload_stream(sent, MODES)
    frames = framed(payload, Header(HEADER, len(MODES)), snr_db)
    assert frames.points.shape == (len(samples.labels), 4 + MODES.max_symbols)
    for row in range(len(samples.labels)):
        code = header_code("hamming84" if snr_db[row] < 5.0 else "plain", len(MODES))
        mode = int(sent.mode[row])
        # By hand: code bits, two to a QPSK symbol of unit energy, then the scaled payload.
        header = qam(4).points[code.codewords[mode].reshape(-1, 2) @ [2, 1]]
        body = qam(MODES[mode].order).points[sent.symbols[row, : MODES[mode].symbols]] / payload.energy**0.5
        expected = np.concatenate([header, body])
        np.testing.assert_allclose(frames.points[row, : expected.size], expected, atol=1e-12)
        assert not frames.points[row, expected.size :].any()
        assert frames.header_count[row] == sent.header_count[row] == header.size


class _Altered:
    """A hard transmitter that sends something it must not."""

    def __init__(self, system: System, name: str, value: int) -> None:
        self._system, self._name, self._value = system, name, value

    def send(self, features, snr_db, mode=None) -> Transmission:
        sent = self._system.transmitter.send(features, snr_db, mode)
        altered = getattr(sent, self._name).copy()
        altered[0, ...] = self._value
        return replace(sent, **{self._name: altered})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", 4, "chooses mode 4 of 4"),
        ("mode", -1, "chooses mode -1 of 4"),
        ("bit_count", 1, "another number of bits or symbols"),
        ("symbol_count", 9, "another number of bits or symbols"),
        ("symbols", 16, "symbols outside"),
        ("symbols", -1, "symbols outside"),
        ("indices", 99, "indices outside"),
        ("indices", -1, "indices outside"),
        ("bits", 3, "do not spell its bits"),
    ],
)
def test_a_transmitter_that_breaks_its_mode_is_refused(content, name, value, message) -> None:
    system, samples = content
    with pytest.raises(ArtifactError, match=message):
        transmit(_Altered(system, name, value), samples.features, 3.0, MODES)


class _Soft:
    """Sends one value everywhere, in mode 0 whatever is asked for."""

    def __init__(self, value: complex) -> None:
        self._value = value

    def send(self, features, snr_db, mode=None):
        count = len(features)
        return np.zeros(count, dtype=np.int64), np.full((count, MODES.max_symbols), self._value)


@pytest.mark.parametrize(
    ("value", "forced", "message"),
    [(np.nan, 0, "not finite"), (0j, 0, "no energy"), (1j, 1, "does not keep to the mode 4x16qam")],
)
def test_a_soft_transmitter_without_a_signal_or_of_another_mode_is_refused(
    samples, value, forced, message
) -> None:
    with pytest.raises(ArtifactError, match=message):
        soft_stream(_Soft(value), samples.features, 3.0, MODES, forced)
