"""Codes and labels on the link's air: sizes, what arrives without noise and under it, what is charged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.link.modem import Transmission
from twophase.link.modes import Mode, ModeTable
from twophase.link.receiver import Reception
from twophase.sim.baselines.designs import (
    CodedBaseline,
    LabelSender,
    Payload,
    coded_mode,
    descriptions,
    make_baselines,
)
from twophase.sim.settings import Settings

# 24 bits over QPSK and 16-QAM; 25 bits, padded to 30, over 64-QAM and to 32 over 256-QAM.
MODES = ModeTable((Mode(0, 64, 4, 4), Mode(0, 64, 4, 16), Mode(1, 32, 5, 64), Mode(1, 32, 5, 256)))
SYMBOLS = np.array([12, 6, 5, 8])
CLIP = 30.0
SAMPLES = 400


class Notebook:
    """A receiver that keeps the LLRs and decides by the first bits."""

    def receive(self, llr, mode) -> Reception:
        self.llr = np.asarray(llr)
        number = (self.llr[:, :3] > 0) @ [4, 2, 1]
        return Reception(np.eye(8, dtype=np.float32)[number], np.zeros((len(number), 1), dtype=np.int64))


@pytest.fixture(scope="module")
def transmission() -> Transmission:
    """All modes by turns, random bits."""
    mode = np.arange(SAMPLES) % len(MODES)
    width = np.array([entry.information_bits for entry in MODES])[mode]
    bits = np.random.default_rng(0).integers(0, 2, (SAMPLES, MODES.max_bits), dtype=np.uint8)
    bits *= np.arange(MODES.max_bits) < width[:, None]
    nothing = np.zeros((SAMPLES, 0), dtype=np.int64)
    count = np.array([entry.symbols for entry in MODES])[mode]
    return Transmission(mode, nothing, bits, nothing, nothing, count, nothing, np.zeros(SAMPLES, np.int64))


def _classes(sent: Transmission) -> np.ndarray:
    """What the notebook should decide for."""
    return sent.bits[:, :3] @ [4, 2, 1]


def _baseline(name: str, kernel: str = "numpy", modes: ModeTable = MODES) -> tuple[CodedBaseline, Notebook]:
    notebook = Notebook()
    return CodedBaseline(
        name, SimpleNamespace(modes=modes, receiver=notebook, llr_clip=CLIP), kernel
    ), notebook


@pytest.mark.parametrize("name", ["conv", "ldpc"])
@pytest.mark.parametrize(
    ("mode", "order", "size"), [(0, 16, (48, 24)), (1, 256, (48, 24)), (2, 256, (40, 25)), (3, 256, (64, 25))]
)
def test_a_code_takes_the_symbols_of_the_mode(name, mode, order, size) -> None:
    coded = coded_mode(name, MODES[mode])
    # Equal symbols where a constellation allows; 256-QAM has no larger one.
    assert coded.symbols == SYMBOLS[mode] == MODES[mode].symbols * (2 if MODES[mode].order == 256 else 1)
    assert (coded.order, coded.code.n, coded.code.k, len(coded.interleaver)) == (order, *size, size[0])
    assert coded_mode(name, MODES[mode]) is coded  # built once


@pytest.mark.parametrize("name", ["conv", "ldpc"])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_without_noise_every_bit_arrives(name, kernel, transmission) -> None:
    made, notebook = _baseline(name, kernel)
    payload = made.transmit(transmission, _classes(transmission), transmission.symbol_count)
    np.testing.assert_array_equal(payload.symbols, SYMBOLS[transmission.mode])
    used = np.arange(made.max_symbols) < payload.symbols[:, None]
    assert payload.points.shape == used.shape
    assert (payload.points[~used] == 0).all()
    assert np.sum(np.abs(payload.points) ** 2) / payload.symbols.sum() == pytest.approx(1)
    rng = np.random.default_rng(1)
    gains = rng.standard_normal(used.shape) + 1j * rng.standard_normal(used.shape)
    for number, mode in enumerate(MODES):
        rows = np.flatnonzero(transmission.mode == number)
        received, noise_var = gains[rows] * payload.points[rows], np.full(used[rows].shape, 1e-9)
        decided = made.receive(payload, rows, received, gains[rows], noise_var)
        np.testing.assert_array_equal(decided, _classes(transmission)[rows])
        width, padded = mode.information_bits, mode.channel_bits
        np.testing.assert_array_equal(notebook.llr[:, :width] > 0, transmission.bits[rows, :width])
        np.testing.assert_array_equal(notebook.llr[:, width:padded], -CLIP)  # padding is known
        np.testing.assert_array_equal(notebook.llr[:, padded:], 0)
        assert np.abs(notebook.llr).max() <= CLIP


@pytest.mark.parametrize("name", ["conv", "ldpc"])
def test_a_sample_is_received_alike_in_any_batch_and_by_any_kernel(name, transmission) -> None:
    made, fast = (_baseline(name, kernel)[0] for kernel in ("numpy", "numba"))
    payload = made.transmit(transmission, _classes(transmission), transmission.symbol_count)
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(payload.points.shape) + 1j * rng.standard_normal(payload.points.shape)
    received, gains = payload.points + 0.15 * noise, np.ones_like(payload.points)
    noise_var = np.full(payload.points.shape, 2 * 0.15**2)

    def decided(baseline: CodedBaseline, rows: np.ndarray) -> np.ndarray:
        return baseline.receive(payload, rows, received[rows], gains[rows], noise_var[rows])

    together = decided(made, np.arange(SAMPLES))
    right = together == _classes(transmission)
    # Rate 1/2 over 16-QAM leaves hardly a frame wrong, the other modes have less room.
    assert 0.3 < right.mean() < 1
    assert right[transmission.mode == 0].mean() > 0.98
    np.testing.assert_array_equal(decided(fast, np.arange(SAMPLES)), together)
    for rows in (np.array([17]), np.arange(SAMPLES)[::-3]):
        np.testing.assert_array_equal(decided(made, rows), together[rows])


@pytest.mark.parametrize("name", ["conv", "ldpc"])
def test_the_receiver_knows_the_scale(name, transmission) -> None:
    # Zeros alone are sent: all points are the same inner one, which unit energy moves far out.
    made, notebook = _baseline(name)
    sent = replace(transmission, bits=np.zeros_like(transmission.bits))
    payload = made.transmit(sent, _classes(sent), sent.symbol_count)
    assert payload.energy < 0.9
    rows = np.flatnonzero(sent.mode == 1)
    received = payload.points[rows]
    made.receive(payload, rows, received, np.ones_like(received), np.full(received.shape, 1e-3))
    assert (notebook.llr[:, :24] < -10).all()


def _sent(sender: LabelSender, classes: np.ndarray, symbols: np.ndarray) -> Payload:
    return sender.transmit(SimpleNamespace(mode=np.zeros(len(classes), dtype=np.int64)), classes, symbols)


@pytest.mark.parametrize("tfidf", [False, True])
def test_labels_of_all_lengths_arrive_without_noise(tfidf: bool) -> None:
    rng = np.random.default_rng(3)
    classes, symbols = rng.integers(0, 10, 300), rng.choice([1, 2, 6, 7, 14], 300)
    sender = LabelSender(10, 14, classes if tfidf else None)
    assert (sender.name, sender.max_symbols) == ("tfidf" if tfidf else "classify-and-send", 14)
    payload = _sent(sender, np.zeros_like(classes) if tfidf else classes, symbols)
    np.testing.assert_array_equal(payload.symbols, symbols)
    used = np.arange(14) < symbols[:, None]
    assert (payload.points[~used] == 0).all()
    assert np.sum(np.abs(payload.points) ** 2) / symbols.sum() == pytest.approx(1)
    gains = rng.standard_normal(used.shape) + 1j * rng.standard_normal(used.shape)
    rows = np.flatnonzero(rng.random(300) < 0.5)
    received = gains[rows] * payload.points[rows]
    decided = sender.receive(payload, rows, received, gains[rows], np.full(received.shape, 1e-6))
    np.testing.assert_array_equal(decided, classes[rows])


def test_baselines_are_made_in_order_and_described_without_a_build() -> None:
    system = SimpleNamespace(modes=MODES, receiver=None, classes=10, llr_clip=CLIP)
    settings = Settings(codes=("ldpc", "conv"), baselines=("classify-and-send",))
    made = make_baselines(settings, system, header_symbols=4)
    assert [baseline.max_symbols for baseline in made] == [12, 12, 16]
    described = descriptions(settings, MODES, 10)
    assert [baseline.name for baseline in made] == [*described]
    assert "(48, 24) over 16-QAM; (48, 24) over 256-QAM; (40, 25) over 256-QAM" in described["ldpc"]
    assert "noise-free decision of the deployed link itself" in described["classify-and-send"]
    assert make_baselines(Settings(), system) == ()
    with pytest.raises(InputError, match="'baseline' must be left out where the samples hold no sentences"):
        make_baselines(Settings(baselines=("tfidf",)), system)


def test_a_mode_of_too_many_bits_and_a_payload_without_energy_are_refused() -> None:
    with pytest.raises(InputError, match="'k' must"):
        _baseline("ldpc", modes=ModeTable((Mode(0, 65536, 300, 4),)))
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(InputError, match="'points' must carry energy"):
        _sent(LabelSender(4, 3), none, none)
