"""Header and payload in one frame: places, energies, counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import HEADER, LINK
from twophase.link.constellation import qam
from twophase.link.header import Header, header_code
from twophase.link.modem import after
from twophase.link.transmitter import Transmitter
from twophase.sim.frames import framed, payload_stream, transmit

MODES = LINK.modes


def test_a_frame_is_header_then_payload_then_nothing(content_bundle: Path, samples) -> None:
    # Estimates on both sides of 5 dB, where the header's code and length change.
    snr_db = np.linspace(4.0, 6.0, len(samples.labels)).astype(np.float32)
    sent = transmit(Transmitter(content_bundle), samples.features, snr_db, MODES)
    payload = payload_stream(sent, MODES)
    frames = framed(payload, Header(HEADER, len(MODES)), snr_db)
    assert frames.points.shape == (len(samples.labels), 4 + MODES.max_symbols)
    assert set(frames.header_count) == {1, 4}
    power = 0.0
    for row in range(len(samples.labels)):
        code = header_code("hamming84" if snr_db[row] < 5.0 else "plain", len(MODES))
        mode = int(sent.mode[row])
        # By hand: code bits, two to a QPSK symbol of unit energy, then the scaled payload.
        header = qam(4).points[code.codewords[mode].reshape(-1, 2) @ [2, 1]]
        body = qam(MODES[mode].order).points[sent.symbols[row, : MODES[mode].symbols]] / payload.energy**0.5
        power += (np.abs(body) ** 2).sum()
        expected = np.concatenate([header, body])
        np.testing.assert_allclose(frames.points[row, : expected.size], expected, atol=1e-12)
        assert not frames.points[row, expected.size :].any()
        assert frames.header_count[row] == header.size
    assert power / sent.symbol_count.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(
        after(frames.points, frames.header_count, MODES.max_symbols), payload.points
    )
    # What the device itself gives is the same.
    assert np.array_equal(sent.header_count, frames.header_count)
    assert np.array_equal(sent.header, Header(HEADER, len(MODES)).encode(sent.mode, snr_db)[0])
    # Without a header the frame is the payload.
    bare = framed(payload, Header((), len(MODES)), snr_db)
    assert np.array_equal(bare.points, payload.points)
    assert not bare.header_count.any()
