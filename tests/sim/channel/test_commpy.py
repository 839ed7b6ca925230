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
from twophase.link.demap import llr_exact
from twophase.link.errors import InputError, VerificationError
from twophase.sim.channel.commpy import CommpyDemapper, SeededFlatChannel, fading, modem, seeded_channel

ORDERS = (4, 16, 64, 256)
CHANNELS = ("awgn", "rayleigh", "rician")


def _send(
    name: str, esn0_db: float, rng: np.random.Generator, symbols: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is received, and the gains."""
    channel = seeded_channel(rng, esn0_db, fading(name))
    received = channel.propagate(symbols.ravel())
    return received.reshape(symbols.shape), channel.channel_gains.reshape(symbols.shape)


@pytest.mark.parametrize("esn0_db", [-3.0, 17.5])
@pytest.mark.parametrize("name", CHANNELS)
def test_bit_identical_with_commpy_under_its_own_generator(name, esn0_db) -> None:
    symbols = qam(64).points
    np.random.seed(1234)  # noqa: NPY002 - commpy draws from the global generator
    theirs = SISOFlatChannel(None, fading(name))
    theirs.set_SNR_dB(esn0_db, 1, 1)
    expected = theirs.propagate(symbols)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    ours = SeededFlatChannel(np.random.RandomState(1234), None, fading(name))
    ours.set_SNR_dB(esn0_db, 1, 1)
    assert np.array_equal(ours.propagate(symbols), expected)
    for part in ("channel_gains", "noises", "unnoisy_output"):
        assert np.array_equal(getattr(ours, part), getattr(theirs, part))
    # And by a generator of our own, which leaves the global one alone.
    received, gains = _send(name, esn0_db, np.random.default_rng(9), symbols)
    assert not np.array_equal(received, expected)
    assert received.shape == gains.shape
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", CHANNELS)
def test_noise_and_gain_have_the_stated_energy(name) -> None:
    count, esn0_db = 200_000, 4.0
    received, gains = _send(name, esn0_db, np.random.default_rng(1), np.zeros(count, dtype=complex))
    noise_var = 10 ** (-esn0_db / 10)
    # Energies of complex Gaussians are exponential, of one dimension chi-square: relative deviations 1 and
    # sqrt(2).  Bound 5 sigma each: a false alarm in 8e-6 of all seeds.
    assert np.mean(np.abs(received) ** 2) == pytest.approx(noise_var, rel=5 / math.sqrt(count))
    for part in (received.real, received.imag):
        assert np.mean(part**2) == pytest.approx(noise_var / 2, rel=5 * math.sqrt(2 / count))
    if name == "awgn":
        assert np.array_equal(gains, np.ones(count))
        return
    mean, variance = fading(name)
    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1.0, rel=5 / math.sqrt(count))
    assert abs(np.mean(gains) - mean) < 5 * math.sqrt(variance / count)
    scattered = gains - mean
    assert np.mean(np.abs(scattered) ** 2) == pytest.approx(variance, rel=5 / math.sqrt(count))
    assert abs(np.mean(scattered[1:] * scattered[:-1].conj())) < 5 * variance / math.sqrt(count)
    # Circular: a REAL scattered part would have |E s^2| = variance.
    assert abs(np.mean(scattered**2)) < 5 * math.sqrt(2) * variance / math.sqrt(count)


@given(st.floats(-100, 100))
def test_rician_fading_has_the_stated_factor_and_commpy_takes_it(rician_k_db) -> None:
    mean, variance = fading("rician", rician_k_db)
    assert isinstance(mean, complex)
    assert abs(mean) ** 2 / variance == pytest.approx(10 ** (rician_k_db / 10), rel=1e-5)
    device = SeededFlatChannel(np.random.default_rng(0), None, (mean, variance))
    assert device.isComplex
    assert device.k_factor == pytest.approx(10 ** (rician_k_db / 10), rel=1e-5)


@pytest.mark.parametrize(("count", "coherence"), [(12, 4), (11, 4), (3, 4), (5, 1)])
def test_a_gain_holds_for_the_coherence_time(count, coherence) -> None:
    channel = SeededFlatChannel(np.random.default_rng(7), 1.0, fading("rayleigh"), coherence)
    channel.propagate(np.ones(count, dtype=complex))
    twin = np.random.default_rng(7)
    twin.standard_normal(2 * count)
    blocks = -(-count // coherence)
    gains = (twin.standard_normal(blocks) + 1j * twin.standard_normal(blocks)) * np.sqrt(0.5)
    assert np.array_equal(channel.channel_gains, np.repeat(gains, coherence)[:count])


def test_channels_are_named_and_rician_ones_have_6_db() -> None:
    assert fading("rician") == fading("rician", 6.0)
    with pytest.raises(InputError, match="'channel' must be 'awgn', 'rayleigh' or 'rician'"):
        fading("rice")
    with pytest.raises(InputError, match="'esn0_db' must be finite"):
        seeded_channel(np.random.default_rng(0), np.nan, fading("awgn"))


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
@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_commpy_llrs_equal_the_exact_ones_where_finite(order, count, channel) -> None:
    constellation, rng = qam(order), np.random.default_rng(order)
    for esn0_db in (-5.0, 8.0, 18.0):
        symbols = constellation.modulate(rng.integers(0, order, (2, count)))
        received, gains = _send(channel, esn0_db, rng, symbols)
        noise_var = 10 ** (-esn0_db / 10) * rng.uniform(0.8, 1.2, received.shape)  # one for each symbol
        demapper = CommpyDemapper()
        llr = demapper(received, constellation, noise_var, gains, clip=500.0)
        assert demapper.total == llr.size
        assert demapper.replaced < llr.size // 4
        np.testing.assert_allclose(
            llr, llr_exact(received, constellation, noise_var, gains, clip=500.0), rtol=1e-9, atol=1e-9
        )


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
    assert mixed(np.empty((2, 0)), constellation, 1.0).shape == (2, 0)


def test_commpy_llrs_that_are_wrong_are_noticed(monkeypatch) -> None:
    constellation = qam(16)
    monkeypatch.setattr(modem(constellation), "demodulate", lambda y, kind, n0: np.full(y.size * 4, 0.25))
    with pytest.raises(VerificationError, match="differ from the exact ones"):
        CommpyDemapper()(constellation.points, constellation, 0.5)
