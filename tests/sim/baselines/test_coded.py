"""The coded baseline: sizes, what arrives without noise, what the receiver is given."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.bits import bits_to_symbols
from twophase.link.errors import InputError
from twophase.link.modem import Transmission
from twophase.link.modes import Mode, ModeTable
from twophase.link.receiver import Reception
from twophase.sim.baselines.coded import CodedBaseline, coded_description, coded_mode

# 24 bits over QPSK and 16-QAM; 25 bits, padded to 30, over 64-QAM and to 32 over 256-QAM.
MODES = ModeTable((Mode(0, 64, 4, 4), Mode(0, 64, 4, 16), Mode(1, 32, 5, 64), Mode(1, 32, 5, 256)))
CLIP = 30.0


class Notebook:
    """A receiver that keeps the LLRs and decides by the first bits."""

    def __init__(self) -> None:
        self.llr = np.empty(0)

    def receive(self, llr, mode) -> Reception:
        self.llr = np.asarray(llr)
        number = (self.llr[:, :3] > 0) @ [4, 2, 1]
        return Reception(np.eye(8, dtype=np.float32)[number], np.zeros((len(number), 1), dtype=np.int64))


def transmission(samples=60, seed=0) -> tuple[Transmission, np.ndarray]:
    """All modes by turns, random bits; and the class that the notebook should decide for."""
    rng = np.random.default_rng(seed)
    mode = np.arange(samples) % len(MODES)
    bits = np.zeros((samples, MODES.max_bits), dtype=np.uint8)
    for row, number in enumerate(mode):
        bits[row, : MODES[number].information_bits] = rng.integers(0, 2, MODES[number].information_bits)
    nothing = np.zeros((samples, 0), dtype=np.int64)
    count = np.array([MODES[number].symbols for number in mode])
    sent = Transmission(mode, nothing, bits, nothing, nothing, count, nothing, np.zeros(samples, np.int64))
    return sent, bits[:, :3] @ [4, 2, 1]


def _system(modes: ModeTable, receiver) -> SimpleNamespace:
    return SimpleNamespace(modes=modes, receiver=receiver, llr_clip=CLIP)


def baseline(name, kernel="numpy"):
    notebook = Notebook()
    return CodedBaseline(name, _system(MODES, notebook), kernel), notebook


@pytest.mark.parametrize("name", ["conv", "ldpc"])
@pytest.mark.parametrize(
    ("mode", "order", "symbols", "size"),
    [(0, 16, 12, (48, 24)), (1, 256, 6, (48, 24)), (2, 256, 5, (40, 25)), (3, 256, 8, (64, 25))],
)
def test_a_code_takes_the_symbols_of_the_mode(name, mode, order, symbols, size) -> None:
    coded = coded_mode(name, MODES[mode])
    assert (coded.order, coded.symbols) == (order, symbols)
    assert (coded.code.n, coded.code.k) == size
    assert f"({size[0]}, {size[1]}) over {order}-QAM" in coded_description(name, MODES)  # without a build
    # Equal symbols where a constellation allows; 256-QAM has no larger one.
    assert symbols == MODES[mode].symbols * (2 if MODES[mode].order == 256 else 1)
    assert len(coded.interleaver) == coded.code.n


@pytest.mark.parametrize("name", ["conv", "ldpc"])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_without_noise_every_bit_arrives(name, kernel) -> None:
    made, notebook = baseline(name, kernel)
    sent, classes = transmission()
    payload = made.transmit(sent, classes, sent.symbol_count)
    assert payload.points.shape == (60, made.max_symbols)
    np.testing.assert_array_equal(payload.symbols, np.array([12, 6, 5, 8])[sent.mode])
    used = np.arange(made.max_symbols) < payload.symbols[:, None]
    assert (payload.points[~used] == 0).all()
    assert np.sum(np.abs(payload.points) ** 2) / payload.symbols.sum() == pytest.approx(1)
    rng = np.random.default_rng(1)
    gains = rng.standard_normal(payload.points.shape) + 1j * rng.standard_normal(payload.points.shape)
    for number in range(len(MODES)):
        rows = np.flatnonzero(sent.mode == number)
        decided = made.receive(
            payload, rows, gains[rows] * payload.points[rows], gains[rows], np.full(used[rows].shape, 1e-9)
        )
        np.testing.assert_array_equal(decided, classes[rows])
        width, padded = MODES[number].information_bits, MODES[number].channel_bits
        np.testing.assert_array_equal(notebook.llr[:, :width] > 0, sent.bits[rows, :width])
        np.testing.assert_array_equal(notebook.llr[:, width:padded], -CLIP)  # padding is known
        np.testing.assert_array_equal(notebook.llr[:, padded:], 0)
        assert np.abs(notebook.llr).max() <= CLIP


@pytest.mark.parametrize("name", ["conv", "ldpc"])
def test_a_sample_is_received_alike_in_any_batch_and_by_any_kernel(name) -> None:
    made, _ = baseline(name)
    fast, _ = baseline(name, "numba")
    sent, classes = transmission()
    payload = made.transmit(sent, classes, sent.symbol_count)
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(payload.points.shape) + 1j * rng.standard_normal(payload.points.shape)
    received, gains = payload.points + 0.15 * noise, np.ones_like(payload.points)
    noise_var = np.full(payload.points.shape, 2 * 0.15**2)
    rows = np.arange(60)
    together = made.receive(payload, rows, received, gains, noise_var)
    assert 0.3 < np.mean(together == classes) < 1
    np.testing.assert_array_equal(fast.receive(payload, rows, received, gains, noise_var), together)
    for row in (0, 17, 59):
        pick = slice(row, row + 1)
        alone = made.receive(payload, rows[pick], received[pick], gains[pick], noise_var[pick])
        assert alone[0] == together[row]
    some = rows[::-3]
    np.testing.assert_array_equal(
        made.receive(payload, some, received[some], gains[some], noise_var[some]), together[some]
    )


@pytest.mark.parametrize("name", ["conv", "ldpc"])
def test_the_receiver_knows_the_scale(name) -> None:
    # Zeros alone are sent: all points are the same inner one, which unit energy moves far out.
    made, notebook = baseline(name)
    sent, _ = transmission()
    sent = Transmission(**{**vars(sent), "bits": np.zeros_like(sent.bits)})
    rows = np.flatnonzero(sent.mode == 1)
    payload = made.transmit(sent, np.zeros(60, dtype=np.int64), sent.symbol_count)
    assert payload.energy < 0.9
    received = payload.points[rows]
    made.receive(payload, rows, received, np.ones_like(received), np.full(received.shape, 1e-3))
    assert (notebook.llr[:, :24] < -10).all()


@pytest.mark.parametrize("name", ["conv", "ldpc"])
def test_coding_gains_where_there_is_room(name) -> None:
    # 24 bits in twelve symbols at Es/N0 12 dB: rate 1/2 over 16-QAM leaves no frame in a hundred wrong.
    modes = ModeTable((MODES[0],))
    notebook = Notebook()
    made = CodedBaseline(name, _system(modes, notebook), "numba")
    rng = np.random.default_rng(4)
    samples = 2000
    bits = rng.integers(0, 2, (samples, 24)).astype(np.uint8)
    zeros, nothing = np.zeros(samples, dtype=np.int64), np.zeros((samples, 0), dtype=np.int64)
    symbols = bits_to_symbols(bits, 2)
    sent = Transmission(zeros, nothing, bits, symbols, zeros + 24, zeros + 12, nothing, zeros)
    payload = made.transmit(sent, zeros, sent.symbol_count)
    noise = rng.standard_normal((samples, 12)) + 1j * rng.standard_normal((samples, 12))
    noise_var = 10**-1.2
    received = payload.points + math.sqrt(noise_var / 2) * noise
    made.receive(
        payload, np.arange(samples), received, np.ones_like(received), np.full(received.shape, noise_var)
    )
    wrong = ((notebook.llr > 0) != bits).any(axis=1).mean()
    assert wrong < 0.01


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(InputError, match="'code' must be 'conv' or 'ldpc'"):
        coded_mode("turbo", MODES[0])
    with pytest.raises(InputError, match="'k' must"):
        CodedBaseline("ldpc", _system(ModeTable((Mode(0, 65536, 300, 4),)), None))


def test_a_code_is_built_once() -> None:
    first, second = baseline("ldpc")[0], baseline("ldpc")[0]
    assert all(one.code is other.code for one, other in zip(first._coded, second._coded, strict=True))
