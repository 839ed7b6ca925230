"""Header and payload in one frame: places, energies, counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import HEADER, LINK
from twophase.link.constellation import qam
from twophase.link.header import Header, header_code
from twophase.link.manifest import load_manifest
from twophase.link.modem import after
from twophase.link.transmitter import Transmitter
from twophase.sim.frames import framed, payload_stream, transmit

MODES = LINK.modes


@pytest.fixture(scope="module")
def sender(content_bundle: Path) -> Transmitter:
    return Transmitter(content_bundle)


def test_a_frame_is_header_then_payload_then_nothing(sender, samples) -> None:
    # Estimates on both sides of 5 dB, where the header's code and length change.
    snr_db = np.linspace(4.0, 6.0, len(samples.labels)).astype(np.float32)
    sent = transmit(sender, samples.features, snr_db, MODES)
    payload = payload_stream(sent, MODES)
    frames = framed(payload, Header(HEADER, len(MODES)), snr_db)
    assert frames.points.shape == (len(samples.labels), 4 + MODES.max_symbols)
    assert set(frames.header_count) == {1, 4}
    for row in range(len(samples.labels)):
        code = header_code("hamming84" if snr_db[row] < 5.0 else "plain", len(MODES))
        mode = int(sent.mode[row])
        # By hand: code bits, two to a QPSK symbol of unit energy, then the scaled payload.
        header = qam(4).points[code.codewords[mode].reshape(-1, 2) @ [2, 1]]
        body = qam(MODES[mode].order).points[sent.symbols[row, : MODES[mode].symbols]] / payload.energy**0.5
        expected = np.concatenate([header, body])
        np.testing.assert_allclose(frames.points[row, : expected.size], expected, atol=1e-12)
        assert not frames.points[row, expected.size :].any()
        assert frames.header_count[row] == header.size
    # What the device itself gives is the same.
    assert np.array_equal(sent.header_count, frames.header_count)
    assert np.array_equal(sent.header, Header(HEADER, len(MODES)).encode(sent.mode, snr_db)[0])


def test_header_and_payload_have_unit_energy_each(sender, samples) -> None:
    sent = transmit(sender, samples.features, 3.0, MODES)
    snr_db = np.full(len(samples.labels), 3.0, dtype=np.float32)
    frames = framed(payload_stream(sent, MODES), Header(HEADER, len(MODES)), snr_db)
    np.testing.assert_allclose(np.abs(frames.points[:, :4]), 1.0)
    body = after(frames.points, frames.header_count, MODES.max_symbols)
    assert np.sum(np.abs(body) ** 2) / sent.symbol_count.sum() == pytest.approx(1.0)


def test_without_a_header_the_frame_is_the_payload(sender, samples) -> None:
    payload = payload_stream(transmit(sender, samples.features, 3.0, MODES), MODES)
    snr_db = np.full(len(samples.labels), 3.0, dtype=np.float32)
    frames = framed(payload, Header((), len(MODES)), snr_db)
    assert np.array_equal(frames.points, payload.points)
    assert not frames.header_count.any()


def test_behind_counts_from_each_rows_own_header() -> None:
    rows = np.arange(15).reshape(3, 5).astype(complex)
    assert after(rows, np.array([0, 2, 3]), 2).real.tolist() == [[0, 1], [7, 8], [13, 14]]


def test_forced_modes_reach_every_mode(sender, samples, content_bundle) -> None:
    for number, mode in enumerate(load_manifest(content_bundle, "bundle").modes):
        sent = transmit(sender, samples.features, 3.0, MODES, forced=number)
        assert set(sent.mode) == {number}
        assert set(sent.symbol_count) == {mode.symbols}
