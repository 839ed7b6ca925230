"""The seeded channel, the modems and the demapper, each against scikit-commpy itself."""

from __future__ import annotations

import dataclasses
import math

import commpy.channels
import numpy as np
import pytest
from commpy.channels import SISOFlatChannel

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import Constellation, qam
from twophase.link.demap import hard_decisions, llr_bruteforce, llr_exact
from twophase.link.errors import InputError, VerificationError
from twophase.sim.channels import CommpyDemapper, FlatChannel, SeededFlatChannel, modem
from twophase.sim.theory import qam_ber

ORDERS = (4, 16, 64, 256)
FADING = {"awgn": (1 + 0j, 0), "rayleigh": (0j, 1)}


@pytest.mark.parametrize("esn0_db", [-3.0, 0.0, 17.5])
@pytest.mark.parametrize("name", FADING)
def test_bit_identical_with_commpy_under_its_own_generator(name, esn0_db) -> None:
    symbols = qam(64).points[np.arange(64)]
    np.random.seed(1234)  # noqa: NPY002 - commpy draws from the global generator
    theirs = SISOFlatChannel(None, FADING[name])
    theirs.set_SNR_dB(esn0_db, 1, 1)
    expected = theirs.propagate(symbols)
    ours = SeededFlatChannel(np.random.RandomState(1234), None, FADING[name])
    ours.set_SNR_dB(esn0_db, 1, 1)
    assert np.array_equal(ours.propagate(symbols), expected)
    assert np.array_equal(ours.channel_gains, theirs.channel_gains)
    assert np.array_equal(ours.noises, theirs.noises)
    assert np.array_equal(ours.unnoisy_output, theirs.unnoisy_output)


@pytest.mark.parametrize("name", FADING)
def test_bit_identical_with_commpy_fed_by_our_generator(name, monkeypatch) -> None:
    symbols = qam(16).points[np.arange(15)].reshape(3, 5)
    air = FlatChannel(name, 8.0, np.random.default_rng(9))
    received = air.propagate(symbols)
    monkeypatch.setattr(commpy.channels, "standard_normal", np.random.default_rng(9).standard_normal)
    theirs = SISOFlatChannel(None, FADING[name])
    theirs.set_SNR_dB(8.0, 1, 1)
    assert np.array_equal(received, theirs.propagate(symbols.ravel()).reshape(3, 5))


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    FlatChannel("rayleigh", 3.0, np.random.default_rng(0)).propagate(np.ones(10))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", FADING)
def test_noise_and_gain_have_the_stated_energy(name) -> None:
    count, esn0_db = 200_000, 4.0
    air = FlatChannel(name, esn0_db, np.random.default_rng(1))
    received = air.propagate(np.zeros(count, dtype=np.complex64))
    noise_var = 10 ** (-esn0_db / 10)
    # Energies of complex Gaussians are exponential, of one dimension chi-square: relative deviations 1 and
    # sqrt(2).  Bound 5 sigma each: a false alarm in 4e-6 of all seeds.
    assert np.mean(np.abs(received) ** 2) == pytest.approx(noise_var, rel=5 / math.sqrt(count))
    for part in (received.real, received.imag):
        assert np.mean(part**2) == pytest.approx(noise_var / 2, rel=5 * math.sqrt(2 / count))
    if name == "rayleigh":
        assert np.mean(np.abs(air.gains) ** 2) == pytest.approx(1.0, rel=5 / math.sqrt(count))
        lagged = np.mean(air.gains[1:] * np.conj(air.gains[:-1]))
        assert abs(lagged) < 5 / math.sqrt(count)
    else:
        assert np.array_equal(air.gains, np.ones(count))


def test_block_fading_holds_one_gain_for_a_row() -> None:
    rows, width, esn0_db = 40_000, 5, 3.0
    air = FlatChannel("rayleigh", esn0_db, np.random.default_rng(7), "sample")
    received = air.propagate(np.ones((rows, width)))
    assert np.array_equal(air.gains, np.repeat(air.gains[:, :1], width, axis=1))
    gain = air.gains[:, 0]
    # |h|^2 is exponential of mean 1 and variance 1; 5 sigma each, independent from row to row.
    assert np.mean(np.abs(gain) ** 2) == pytest.approx(1.0, abs=5 / math.sqrt(rows))
    assert np.mean(np.abs(gain) ** 2 > 1) == pytest.approx(math.exp(-1), abs=2.5 / math.sqrt(rows))
    assert abs(np.mean(gain[1:] * np.conj(gain[:-1]))) < 5 / math.sqrt(rows)
    # The noise is drawn symbol by symbol all the same.
    noise = received - air.gains
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(10**-0.3, rel=5 / math.sqrt(rows * width))
    assert abs(np.mean(noise[:, 1:] * np.conj(noise[:, :-1]))) < 5 * 10**-0.3 / math.sqrt(rows * (width - 1))


def test_one_symbol_a_row_fades_alike() -> None:
    symbols = qam(16).points[:, np.newaxis]
    each, row = (
        FlatChannel("rayleigh", 3.0, np.random.default_rng(1), name).propagate(symbols)
        for name in ("symbol", "sample")
    )
    assert np.array_equal(each, row)


def test_block_fading_has_the_mean_bit_error_rate_of_fading() -> None:
    rng = np.random.default_rng(12)
    constellation, esn0_db = qam(16), 12.0
    sent = rng.integers(0, 16, (30_000, 6))
    air = FlatChannel("rayleigh", esn0_db, rng, "sample")
    decided = hard_decisions(air.propagate(constellation.modulate(sent)), constellation, air.gains)
    wrong = (symbols_to_bits(sent, 4) != symbols_to_bits(decided, 4)).mean(axis=1)
    expected = float(qam_ber(16, esn0_db, "rayleigh"))
    # The row is the unit, for its bits err together.  4.5 sigma: a false alarm in 7e-6 of all seeds.
    assert abs(wrong.mean() - expected) < 4.5 * wrong.std() / math.sqrt(len(wrong))
    # Intervals for independent bits would be half as long as they should be.
    assert wrong.std() > 1.8 * math.sqrt(expected * (1 - expected) / 24)


def test_replay_uses_the_same_air() -> None:
    air = FlatChannel("rayleigh", 6.0, np.random.default_rng(2))
    symbols = qam(16).points.reshape(4, 4)
    received = air.propagate(symbols)
    assert np.array_equal(air.replay(symbols), received)
    other = 0.3 * symbols[::-1]
    assert np.array_equal(air.replay(other), air.gains * other + air.noise)
    with pytest.raises(InputError, match="'symbols' must have shape"):
        air.replay(symbols[0])


@pytest.mark.parametrize(
    ("name", "esn0_db", "argument"), [("rice", 3.0, "channel"), ("awgn", np.nan, "esn0_db")]
)
def test_bad_channels_are_named(name, esn0_db, argument) -> None:
    with pytest.raises(InputError, match=f"'{argument}' must"):
        FlatChannel(name, esn0_db, np.random.default_rng(0))


def test_an_unknown_coherence_is_named() -> None:
    with pytest.raises(InputError, match="'coherence' must"):
        FlatChannel("rayleigh", 3.0, np.random.default_rng(0), "frame")


# At least 200 errors are expected.  16 comparisons at 4.5 sigma: a false alarm in 1e-4 of all seeds.
@pytest.mark.parametrize(
    ("order", "channel", "esn0_db"),
    [
        *((4, "awgn", snr) for snr in (0.0, 8.0)),
        *((16, "awgn", snr) for snr in (5.0, 14.0)),
        *((64, "awgn", snr) for snr in (10.0, 20.0)),
        *((256, "awgn", snr) for snr in (15.0, 26.0)),
        *((order, "rayleigh", snr) for order in ORDERS for snr in (5.0, 20.0)),
    ],
)
def test_bit_error_rate_meets_theory(order, channel, esn0_db) -> None:
    rng = np.random.default_rng([order, int(esn0_db)])
    constellation = qam(order)
    sent = rng.integers(0, order, 80_000)
    air = FlatChannel(channel, esn0_db, rng)
    decided = hard_decisions(air.propagate(constellation.modulate(sent)), constellation, air.gains)
    width = constellation.bits_per_symbol
    # Bits of a symbol err together, symbols do not: the symbol is the unit.
    wrong = (symbols_to_bits(sent, width) != symbols_to_bits(decided, width)).reshape(-1, width).sum(axis=1)
    expected = width * float(qam_ber(order, esn0_db, channel))
    assert wrong.size * expected > 200
    z = (wrong.mean() - expected) / (wrong.std() / math.sqrt(wrong.size))
    assert abs(z) < 4.5


@pytest.mark.parametrize("order", ORDERS)
def test_commpy_modem_equals_the_table(order) -> None:
    constellation = qam(order)
    sent = np.random.default_rng(order).integers(0, order, 500)
    bits = symbols_to_bits(sent, constellation.bits_per_symbol).astype(np.int64)
    device = modem(constellation)
    assert np.array_equal(device.modulate(bits), constellation.modulate(sent))
    assert np.array_equal(device.demodulate(constellation.modulate(sent), "hard"), bits)
    assert device.Es == pytest.approx(1.0)


def test_a_table_that_differs_from_commpy_is_refused() -> None:
    class Shifted(Constellation):
        def modulate(self, symbols):
            return super().modulate((np.asarray(symbols) + 1) % self.order)

    honest = qam(16)
    parts = {field.name: getattr(honest, field.name) for field in dataclasses.fields(honest)}
    with pytest.raises(VerificationError, match="16-QAM"):
        modem(Shifted(**parts))


@pytest.mark.parametrize(("order", "count"), [(4, 60), (16, 40), (64, 20), (256, 8)])
@pytest.mark.parametrize("channel", FADING)
def test_commpy_llrs_equal_the_exact_ones_where_finite(order, count, channel) -> None:
    constellation = qam(order)
    rng = np.random.default_rng(order)
    for esn0_db in (-5.0, 8.0, 18.0):
        air = FlatChannel(channel, esn0_db, rng)
        received = air.propagate(constellation.modulate(rng.integers(0, order, (2, count))))
        noise_var = 10 ** (-esn0_db / 10)
        demapper = CommpyDemapper()
        llr = demapper(received, constellation, noise_var, air.gains, clip=500.0)
        brute = llr_bruteforce(received, constellation.points, noise_var, air.gains, clip=500.0)
        assert demapper.total == llr.size
        assert demapper.replaced < llr.size // 4
        np.testing.assert_allclose(llr, brute, rtol=1e-9, atol=1e-9)


def test_commpy_llrs_are_made_finite_and_counted() -> None:
    constellation = qam(4)
    received = np.tile(constellation.points, 5)
    demapper = CommpyDemapper()
    llr = demapper(received, constellation, 10**-4.0)
    assert np.array_equal(llr, llr_exact(received, constellation, 10**-4.0))
    assert demapper.replaced == demapper.total == 40
    # A dead gain leaves nothing to divide by; the other symbols are commpy's.
    gain = np.ones(20, dtype=complex)
    gain[3] = 0
    mixed = CommpyDemapper()
    assert np.isfinite(mixed(received, constellation, 1.0, gain)).all()
    assert (mixed.replaced, mixed.total) == (2, 40)


def test_commpy_llrs_take_one_noise_variance_per_symbol() -> None:
    constellation = qam(16)
    rng = np.random.default_rng(4)
    received = rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))
    noise_var = rng.uniform(0.2, 2.0, (3, 4))
    demapper = CommpyDemapper()
    np.testing.assert_allclose(
        demapper(received, constellation, noise_var),
        llr_exact(received, constellation, noise_var),
        atol=1e-10,
    )
    assert demapper.replaced == 0
    assert demapper(np.empty((2, 0)), constellation, 1.0).shape == (2, 0)


def test_commpy_llrs_that_are_wrong_are_noticed(monkeypatch) -> None:
    constellation = qam(16)
    device = modem(constellation)
    monkeypatch.setattr(device, "demodulate", lambda y, kind, n0: np.full(y.size * 4, 0.25))
    with pytest.raises(VerificationError, match="differ from the exact ones"):
        CommpyDemapper()(constellation.points, constellation, 0.5)
