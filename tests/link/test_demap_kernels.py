"""The compiled kernel against NumPy's, single precision against double, and what must not change a number."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link import demap
from twophase.link.constellation import Constellation, qam
from twophase.link.demap import (
    LLR_CLIP,
    MAX_CLIP,
    available_kernels,
    llr_bruteforce,
    llr_exact,
    llr_hard,
    llr_maxlog,
)
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
DEMAPPERS = [llr_exact, llr_maxlog]
KERNELS = ["numpy", "numba"]
PRECISIONS = [np.float64, np.float32]

every_order = pytest.mark.parametrize("order", QAM_ORDERS)
both_demappers = pytest.mark.parametrize("demapper", DEMAPPERS)
both_kernels = pytest.mark.parametrize("kernel", KERNELS)
both_precisions = pytest.mark.parametrize("dtype", PRECISIONS)


def transmission(order, shape, esn0_db, seed=0):
    """Received, noise variances and Rayleigh gains, and priors of the bits, for SNRs that broadcast."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, order, shape)
    noise_var = np.broadcast_to(10 ** (-np.asarray(esn0_db) / 10), shape).copy()
    unit = (rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))) / np.sqrt(2)
    prior = 6 * rng.normal(size=(*shape[:-1], shape[-1] * qam(order).bits_per_symbol))
    return unit[0] * qam(order).points[symbols] + np.sqrt(noise_var) * unit[1], noise_var, unit[0], prior


def assert_close(llr, expected, received, noise_var, gain, digits=1e-10, rounding=1e-14):
    """Equal to ``digits`` of max(1, |LLR|), but for the rounding of the metrics whose difference it is."""
    metric = (np.abs(received * gain) + np.abs(gain) ** 2) / noise_var
    allowed = np.repeat(rounding * metric, expected.shape[-1] // metric.shape[-1], axis=-1)
    error = np.abs(llr - expected)
    assert (error <= digits * np.maximum(1, np.abs(expected)) + allowed).all(), error.max()


def test_numba_is_here_and_the_package_does_not_import_it():
    assert available_kernels() == ("numpy", "numba")
    code = "import sys, twophase.link, twophase.link.demap; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_numba_its_kernel_is_refused(monkeypatch):
    monkeypatch.setattr(demap, "find_spec", lambda name: None)
    available_kernels.cache_clear()
    try:
        assert available_kernels() == ("numpy",)
        for demapper in (llr_exact, llr_maxlog, llr_hard):
            with pytest.raises(InputError, match=r"'kernel' must be 'numpy' .numba is not installed"):
                demapper([1j], qam(4), 1.0, kernel="numba")
    finally:
        available_kernels.cache_clear()


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 60), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_compiled_equals_numpy(order, esn0_db, seed, known, full):
    """Also where N0 and gain are one number for all symbols, which is another way through the kernel."""
    received, noise_var, gain, prior = transmission(order, (3, 11), esn0_db, seed)
    if not full:
        received, noise_var, gain = received / gain, noise_var[:1, :1], np.ones((1, 1), complex)
    for demapper in DEMAPPERS:
        plain, fast = (
            demapper(received, qam(order), noise_var, gain, MAX_CLIP, prior if known else None, kernel)
            for kernel in KERNELS
        )
        assert_close(fast, plain, received, noise_var, gain)


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 60), st.integers(0, 2**32), st.sampled_from(KERNELS))
def test_single_precision_is_double_but_for_its_rounding(order, esn0_db, seed, kernel):
    received, noise_var, gain, _ = transmission(order, (3, 11), esn0_db, seed)
    received, gain = received.astype(np.complex64), gain.astype(np.complex64)
    noise_var = noise_var.astype(np.float32)
    for demapper in DEMAPPERS:
        double = demapper(received, qam(order), noise_var, gain)
        single = demapper(received, qam(order), noise_var, gain, kernel=kernel, dtype=np.float32)
        assert single.dtype == np.float32
        assert_close(single, double, received, noise_var, gain, digits=2e-5, rounding=5e-6)
        wide = demapper(received.astype(complex), qam(order), noise_var, gain, kernel=kernel, dtype="float32")
        np.testing.assert_array_equal(wide, single)


@every_order
@both_demappers
@both_kernels
@both_precisions
@pytest.mark.parametrize("known", [False, True])
def test_a_symbol_never_depends_on_its_batch(order, demapper, kernel, dtype, known):
    """Mixed SNRs and several blocks: bit for bit what each row, and each of some symbols, gives alone."""
    shape = (3, 601 if kernel == "numba" else 4101)
    received, noise_var, gain, prior = transmission(order, shape, np.array([[0], [11], [45]]))
    width = qam(order).bits_per_symbol

    def llr(row, symbols, noise_var):
        """Of some symbols."""
        bits = np.ravel(np.arange(shape[1] * width).reshape(shape[1], width)[symbols])
        told = prior[row][..., bits] if known else None
        place = row, symbols
        given = {"prior": told, "kernel": kernel, "dtype": dtype}
        return demapper(received[place], qam(order), noise_var, gain[place], **given)

    together = llr(slice(None), slice(None), noise_var)
    for row in range(shape[0]):
        np.testing.assert_array_equal(llr(row, slice(None), noise_var[row, 0]), together[row])
        for column in (0, 255, 256, 600):
            alone = llr(row, [column], noise_var[row, 0])
            np.testing.assert_array_equal(alone, together[row, column * width : (column + 1) * width])


@both_demappers
@both_kernels
@both_precisions
def test_any_layout_of_the_arrays_gives_the_same(demapper, kernel, dtype):
    received, noise_var, gain, _ = transmission(64, (7, 5), 9)
    expected = demapper(received, qam(64), noise_var, gain, kernel=kernel, dtype=dtype)
    frozen = received.copy()
    frozen.setflags(write=False)
    spread = np.repeat(received, 2, axis=1)[:, ::2]
    for same in (frozen, spread, np.asfortranarray(received), received[np.newaxis], received.tolist()):
        llr = demapper(same, qam(64), noise_var, gain, kernel=kernel, dtype=dtype)
        np.testing.assert_array_equal(llr.reshape(expected.shape), expected)
    one = demapper(received, qam(64), noise_var[0, 0], gain[:, :1], kernel=kernel, dtype=dtype)
    wide = np.broadcast_to(gain[:, :1], received.shape)
    np.testing.assert_array_equal(
        demapper(received, qam(64), noise_var, wide, kernel=kernel, dtype=dtype), one
    )
    assert demapper(np.zeros((3, 0), complex), qam(64), 1.0, kernel=kernel, dtype=dtype).shape == (3, 0)


@both_kernels
def test_other_labels_and_amplitudes_than_the_standard_ones(kernel):
    """Natural binary labels on uneven amplitudes, without the symmetries that the fast kernels use."""
    levels = np.array([-1.5, -0.4, 0.1, 1.2])
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8)
    numbers = np.arange(16)
    real = levels[2 * (numbers >> 3) + ((numbers >> 1) & 1)]
    imaginary = levels[2 * ((numbers >> 2) & 1) + (numbers & 1)]
    other = Constellation(16, 4, real + 1j * imaginary, levels, labels)
    received, noise_var, gain, prior = transmission(16, (4, 6), 4)
    for known in (None, prior):
        np.testing.assert_allclose(
            llr_exact(received, other, noise_var, gain, prior=known, kernel=kernel),
            llr_bruteforce(received, other.points, noise_var, gain, prior=known),
            rtol=1e-10,
            atol=1e-10,
        )


@both_demappers
@both_kernels
def test_priors_add_up(demapper, kernel):
    """Without a gain the posterior is the prior; in QPSK channel and prior add; axes stay apart."""
    prior = np.array([3.0, -2.0, 0.5, 1e9])
    nothing = demapper([1j], qam(16), 1.0, 0.0, prior=prior, kernel=kernel)
    np.testing.assert_allclose(nothing, [3.0, -2.0, 0.5, LLR_CLIP], atol=1e-12)
    received, noise_var, gain, prior = transmission(4, (3, 8), 5)
    channel = demapper(received, qam(4), noise_var, gain, MAX_CLIP, kernel=kernel)
    both = demapper(received, qam(4), noise_var, gain, MAX_CLIP, prior, kernel)
    np.testing.assert_allclose(both, channel + prior, rtol=1e-10, atol=1e-10)
    zero = demapper(received, qam(4), noise_var, gain, MAX_CLIP, 0.0, kernel)
    np.testing.assert_allclose(zero, channel, rtol=1e-10, atol=1e-10)
    # Bits 0 and 2 of 16-QAM known for certain leave 1 and 3, on the other axis, as they were.
    received, noise_var, gain, _ = transmission(16, (50,), 6)
    free = demapper(received, qam(16), noise_var, gain, kernel=kernel).reshape(-1, 4)
    known = np.tile([1e300, 0.0, -1e300, 0.0], 50)
    sure = demapper(received, qam(16), noise_var, gain, prior=known, kernel=kernel).reshape(-1, 4)
    np.testing.assert_allclose(sure[:, 1::2], free[:, 1::2], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(sure[:, 0], LLR_CLIP)


@both_kernels
@both_precisions
@pytest.mark.parametrize("esn0_db", [-30, 0, 30, 60])
def test_far_outside_the_grid_the_sign_is_certain(kernel, dtype, esn0_db):
    """At a million times the outermost amplitude, and with physical units of 1e-7 as well as of 1."""
    for scale in (1e6, 1e-1):
        y, h = np.array([1e6 * (1 - 1j)]) * scale * 1e-6, scale * 1e-6
        noise_var = (scale * 1e-6) ** 2 * 10 ** (-esn0_db / 10)
        for demapper in DEMAPPERS:
            llr = demapper(y, qam(256), noise_var, h, kernel=kernel, dtype=dtype)
            assert np.isfinite(llr).all()
            assert llr[0] == -LLR_CLIP
            assert llr[1] == LLR_CLIP


def test_elementary_functions_are_good_to_a_few_last_places():
    """Against long double; 2^-52 is one unit in the last place of 1."""
    from numba import njit

    from twophase.link.demap_kernels import exp_nonpositive, log_ratio

    @njit
    def evaluate(x, a, b):
        powers, logs = np.empty_like(x), np.empty_like(x)
        for i in range(x.size):
            powers[i] = exp_nonpositive(x[i])
            logs[i] = log_ratio(a[i], b[i])
        return powers, logs

    rng = np.random.default_rng(0)
    last = 2.0**-52
    x = np.concatenate([rng.uniform(-708, 0, 20_000), -(10 ** rng.uniform(-20, 0, 20_000)), [0, -708]])
    a = np.exp(rng.uniform(-640, 20, x.size))
    b = np.where(np.arange(x.size) % 2, a * rng.uniform(0.3, 3, x.size), np.exp(rng.uniform(-9, 2, x.size)))
    powers, logs = evaluate(x, a, b)
    expected = np.exp(x.astype(np.longdouble))
    assert (np.abs(powers - expected) / expected).max() < 2 * last
    expected = np.log(a.astype(np.longdouble) / b)
    away = expected != 0
    assert (np.abs(logs - expected)[away] / np.abs(expected)[away]).max() < 4 * last
    same, certain = evaluate(np.array([-1e300, 0.0]), a[:2], a[:2])
    assert same[0] == pytest.approx(np.exp(-708.0), rel=1e-12)
    assert same[1] == 1
    assert not certain.any()
