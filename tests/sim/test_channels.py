"""The seeded channel, the modems and the demapper, each against scikit-commpy itself."""

from __future__ import annotations

import dataclasses
import math

import commpy.channels
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
from twophase.sim.theory.ber import qam_ber

ORDERS = (4, 16, 64, 256)
CHANNELS = ("awgn", "rayleigh", "rician")


def _send(
    name: str, esn0_db: float, rng: np.random.Generator, symbols: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is received, and the gains."""
    channel = seeded_channel(rng, esn0_db, fading(name))
    received = channel.propagate(symbols.ravel())
    return received.reshape(symbols.shape), channel.channel_gains.reshape(symbols.shape)


@pytest.mark.parametrize("esn0_db", [-3.0, 0.0, 17.5])
@pytest.mark.parametrize("name", CHANNELS)
def test_bit_identical_with_commpy_under_its_own_generator(name, esn0_db) -> None:
    symbols = qam(64).points[np.arange(64)]
    np.random.seed(1234)  # noqa: NPY002 - commpy draws from the global generator
    theirs = SISOFlatChannel(None, fading(name))
    theirs.set_SNR_dB(esn0_db, 1, 1)
    expected = theirs.propagate(symbols)
    ours = SeededFlatChannel(np.random.RandomState(1234), None, fading(name))
    ours.set_SNR_dB(esn0_db, 1, 1)
    assert np.array_equal(ours.propagate(symbols), expected)
    assert np.array_equal(ours.channel_gains, theirs.channel_gains)
    assert np.array_equal(ours.noises, theirs.noises)
    assert np.array_equal(ours.unnoisy_output, theirs.unnoisy_output)


@pytest.mark.parametrize("name", CHANNELS)
def test_bit_identical_with_commpy_fed_by_our_generator(name, monkeypatch) -> None:
    symbols = qam(16).points[np.arange(15)]
    received, _ = _send(name, 8.0, np.random.default_rng(9), symbols)
    monkeypatch.setattr(commpy.channels, "standard_normal", np.random.default_rng(9).standard_normal)
    theirs = SISOFlatChannel(None, fading(name))
    theirs.set_SNR_dB(8.0, 1, 1)
    assert np.array_equal(received, theirs.propagate(symbols))


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    _send("rayleigh", 3.0, np.random.default_rng(0), np.ones(10, dtype=complex))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


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
    assert np.array_equal(channel.channel_gains, [gains[at // coherence] for at in range(count)])


def test_bad_channels_are_named() -> None:
    with pytest.raises(InputError, match="'channel' must be 'awgn', 'rayleigh' or 'rician'"):
        fading("rice")
    with pytest.raises(InputError, match="'esn0_db' must be finite"):
        seeded_channel(np.random.default_rng(0), np.nan, fading("awgn"))


# At least 200 errors are expected.  18 comparisons at 4.5 sigma: a false alarm in 1e-4 of all seeds.
@pytest.mark.parametrize(
    ("order", "channel", "esn0_db"),
    [
        *((4, "awgn", snr) for snr in (0.0, 8.0)),
        *((16, "awgn", snr) for snr in (5.0, 14.0)),
        *((64, "awgn", snr) for snr in (10.0, 20.0)),
        *((256, "awgn", snr) for snr in (15.0, 26.0)),
        *((order, "rayleigh", snr) for order in ORDERS for snr in (5.0, 20.0)),
        (16, "rician", 12.0),
        (64, "rician", 18.0),
    ],
)
def test_bit_error_rate_meets_theory(order, channel, esn0_db) -> None:
    rng = np.random.default_rng([order, int(esn0_db)])
    constellation = qam(order)
    sent = rng.integers(0, order, 80_000)
    received, gains = _send(channel, esn0_db, rng, constellation.modulate(sent))
    decided = hard_decisions(received, constellation, gains)
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
@pytest.mark.parametrize("channel", CHANNELS)
def test_commpy_llrs_equal_the_exact_ones_where_finite(order, count, channel) -> None:
    constellation = qam(order)
    rng = np.random.default_rng(order)
    for esn0_db in (-5.0, 8.0, 18.0):
        symbols = constellation.modulate(rng.integers(0, order, (2, count)))
        received, gains = _send(channel, esn0_db, rng, symbols)
        noise_var = 10 ** (-esn0_db / 10)
        demapper = CommpyDemapper()
        llr = demapper(received, constellation, noise_var, gains, clip=500.0)
        brute = llr_bruteforce(received, constellation.points, noise_var, gains, clip=500.0)
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
