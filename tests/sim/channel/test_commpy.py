"""The seeded channel, the modems and the demapper, each against scikit-commpy itself."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from commpy.channels import SISOFlatChannel
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import Constellation, qam
from twophase.link.demap import hard_decisions, llr_bruteforce, llr_exact
from twophase.link.errors import InputError, VerificationError
from twophase.sim.channel.commpy import CommpyDemapper, SeededFlatChannel, fading, modem, seeded_channel
from twophase.sim.theory.rates import qam_ber

ORDERS = (4, 16, 64, 256)
CHANNELS = ("awgn", "rayleigh", "rician")


@pytest.mark.parametrize("name", CHANNELS)
def test_bit_identical_with_commpy_under_the_same_generator(name) -> None:
    symbols = qam(64).points
    np.random.seed(1234)  # noqa: NPY002 - commpy draws from the global generator
    theirs = SISOFlatChannel(None, fading(name))
    theirs.set_SNR_dB(17.5, 1, 1)
    expected = theirs.propagate(symbols)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ours = seeded_channel(np.random.RandomState(1234), 17.5, fading(name))
    assert np.array_equal(ours.propagate(symbols), expected)
    for part in ("channel_gains", "noises", "unnoisy_output"):
        assert np.array_equal(getattr(ours, part), getattr(theirs, part))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - and ours does not


@given(st.floats(-100, 100))
def test_rician_fading_has_the_stated_factor_and_commpy_takes_it(rician_k_db) -> None:
    mean, variance = fading("rician", rician_k_db)
    assert isinstance(mean, complex)
    assert abs(mean) ** 2 / variance == pytest.approx(10 ** (rician_k_db / 10), rel=1e-5)
    device = SeededFlatChannel(np.random.default_rng(0), None, (mean, variance))
    assert device.isComplex
    assert device.k_factor == pytest.approx(10 ** (rician_k_db / 10), rel=1e-5)


def test_bad_channels_are_named() -> None:
    with pytest.raises(InputError, match="'channel' must be 'awgn', 'rayleigh' or 'rician'"):
        fading("rice")
    with pytest.raises(InputError, match="'esn0_db' must be finite"):
        seeded_channel(np.random.default_rng(0), np.nan, fading("awgn"))


# At least 200 errors are expected.  14 comparisons at 4.5 sigma: a false alarm in 1e-4 of all seeds.
@pytest.mark.parametrize(
    ("order", "channel", "esn0_db"),
    [
        *((order, "awgn", snr) for order, snr in zip(ORDERS, (8.0, 14.0, 20.0, 26.0), strict=True)),
        *((order, "rayleigh", snr) for order in ORDERS for snr in (5.0, 20.0)),
        *((order, "rician", snr) for order, snr in ((16, 12.0), (64, 18.0))),
    ],
)
def test_bit_error_rate_meets_theory(order, channel, esn0_db) -> None:
    rng = np.random.default_rng([order, int(esn0_db)])
    constellation = qam(order)
    sent = rng.integers(0, order, 80_000)
    air = seeded_channel(rng, esn0_db, fading(channel))
    decided = hard_decisions(air.propagate(constellation.modulate(sent)), constellation, air.channel_gains)
    width = constellation.bits_per_symbol
    # Bits of a symbol err together, symbols do not: the symbol is the unit.
    wrong = (symbols_to_bits(sent, width) != symbols_to_bits(decided, width)).reshape(-1, width).sum(axis=1)
    expected = width * float(qam_ber(order, esn0_db, channel))
    assert wrong.size * expected > 200
    z = (wrong.mean() - expected) / (wrong.std() / math.sqrt(wrong.size))
    assert abs(z) < 4.5


@pytest.mark.parametrize("order", ORDERS)
def test_commpys_modem_equals_the_table(order) -> None:
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
@pytest.mark.parametrize("channel", CHANNELS)
def test_commpys_llrs_equal_the_exact_ones_where_finite(order, count, channel) -> None:
    constellation = qam(order)
    rng = np.random.default_rng(order)
    for esn0_db in (-2.0, 8.0, 18.0):
        symbols = constellation.modulate(rng.integers(0, order, (2, count)))
        air = seeded_channel(rng, esn0_db, fading(channel))
        received = air.propagate(symbols.ravel()).reshape(2, count)
        gains = air.channel_gains.reshape(2, count)
        # A variance for each symbol, and neighbours that share one.
        noise_var = 10 ** (-esn0_db / 10) * rng.uniform(0.9, 1.1, (2, 1))
        demapper = CommpyDemapper()
        llr = demapper(received, constellation, noise_var, gains, clip=500.0)
        brute = llr_bruteforce(received, constellation.points, noise_var, gains, clip=500.0)
        assert demapper.total == llr.size
        assert demapper.replaced < llr.size // 4
        np.testing.assert_allclose(llr, brute, rtol=1e-9, atol=1e-9)


def test_commpys_llrs_are_made_finite_and_counted() -> None:
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
    assert mixed(np.empty((2, 0)), constellation, 1.0).shape == (2, 0)


def test_commpys_llrs_that_are_wrong_are_noticed(monkeypatch) -> None:
    constellation = qam(16)
    device = modem(constellation)
    monkeypatch.setattr(device, "demodulate", lambda y, kind, n0: np.full(y.size * 4, 0.25))
    with pytest.raises(VerificationError, match="differ from the exact ones"):
        CommpyDemapper()(constellation.points, constellation, 0.5)
