"""Both kernels, both precisions and priors, each against a slower or plainer way to the same number."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link import demap
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import Constellation, qam
from twophase.link.demap import (
    LLR_CLIP,
    MAX_CLIP,
    available_kernels,
    hard_decisions,
    llr_bruteforce,
    llr_exact,
    llr_hard,
    llr_maxlog,
)
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

VECTORS = json.loads((Path(__file__).parents[1] / "reference/llr_vectors.json").read_text(encoding="utf-8"))
SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)
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
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 30), st.integers(0, 2**32))
def test_all_kernels_give_the_posterior_of_log_sum_exp(order, esn0_db, seed):
    received, noise_var, gain, prior = transmission(order, (2, 5), esn0_db, seed)
    points = qam(order).points
    width = qam(order).bits_per_symbol
    ones = symbols_to_bits(np.arange(order)[:, np.newaxis], width).astype(bool)
    metric = -(np.abs(received[..., np.newaxis] - gain[..., np.newaxis] * points) ** 2)
    metric = metric / noise_var[..., np.newaxis] + prior.reshape(2, 5, width) @ ones.T
    expected = [
        np.logaddexp.reduce(metric[..., ones[:, bit]], axis=-1)
        - np.logaddexp.reduce(metric[..., ~ones[:, bit]], axis=-1)
        for bit in range(width)
    ]
    expected = np.clip(np.stack(expected, axis=-1).reshape(2, -1), -LLR_CLIP, LLR_CLIP)
    for kernel in KERNELS:
        separable = llr_exact(received, qam(order), noise_var, gain, prior=prior, kernel=kernel)
        brute = llr_bruteforce(received, points, noise_var, gain, prior=prior, kernel=kernel)
        np.testing.assert_allclose(separable, expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(brute, expected, rtol=1e-10, atol=1e-10)
        single = llr_exact(
            received, qam(order), noise_var, gain, prior=prior, kernel=kernel, dtype=np.float32
        )
        np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-3)


@every_order
@pytest.mark.parametrize("clip", [LLR_CLIP, MAX_CLIP])
def test_compiled_llrs_equal_sixty_digit_references(order, clip):
    cases = [case for case in VECTORS if case["order"] == order]
    received, gain = (np.array([complex(*case[name]) for case in cases]) for name in ("received", "gain"))
    noise_var = np.array([case["noise_var"] for case in cases])
    for llr, name in (
        (llr_exact(received, qam(order), noise_var, gain, clip, kernel="numba"), "exact"),
        (llr_maxlog(received, qam(order), noise_var, gain, clip, kernel="numba"), "maxlog"),
    ):
        expected = np.array([case[name] for case in cases]).clip(-clip, clip)
        metric = (np.abs(received * gain) + np.abs(gain) ** 2) / noise_var
        error = np.abs(llr.reshape(expected.shape) - expected)
        assert (error <= 1e-12 * np.abs(expected) + 1e-14 * (1 + metric[:, np.newaxis])).all(), name


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


@both_kernels
@both_precisions
def test_two_equally_near_neighbours_keep_their_log_two(kernel, dtype):
    """Max-log would be off by ln 2 at any SNR: bit 0 of 16-QAM at amplitude 2, which lies between 1 and 3."""
    received = np.array([2 / np.sqrt(10)], dtype=np.complex128)
    for noise_var in (0.02, 0.01):  # |LLR| 40 and 80: the latter near the end of single precision's exp
        nearest = -(3**2 - 1**2) / 10 / noise_var
        exact = llr_exact(received, qam(16), noise_var, clip=MAX_CLIP, kernel=kernel, dtype=dtype)[0]
        assert exact - nearest == pytest.approx(-np.log(2), abs=1e-4)
    far = llr_exact(received, qam(16), 0.002, clip=MAX_CLIP, kernel=kernel, dtype=dtype)[0]
    assert far == pytest.approx(-400 - np.log(2), abs=2e-3)


@every_order
@both_demappers
@both_kernels
@both_precisions
@pytest.mark.parametrize("known", [False, True])
def test_a_symbol_never_depends_on_its_batch(order, demapper, kernel, dtype, known):
    """Mixed SNRs and several blocks: bit for bit what each row, and each of some symbols, gives alone."""
    shape = (3, 601)
    received, noise_var, gain, prior = transmission(order, shape, np.array([[0], [11], [45]]))
    given = {"kernel": kernel, "dtype": dtype}
    together = demapper(received, qam(order), noise_var, gain, prior=prior if known else None, **given)
    width = qam(order).bits_per_symbol
    for row in range(shape[0]):
        told = prior[row] if known else None
        alone = demapper(received[row], qam(order), noise_var[row, 0], gain[row], prior=told, **given)
        np.testing.assert_array_equal(together[row], alone)
        for column in (0, 255, 256, 600):
            bits = slice(column * width, (column + 1) * width)
            alone = demapper(
                received[row, [column]],
                qam(order),
                noise_var[row, 0],
                gain[row, column],
                prior=prior[row, bits] if known else None,
                **given,
            )
            np.testing.assert_array_equal(together[row, bits], alone)


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
    """Without a gain the posterior is the prior; in QPSK channel and prior add; unlike bits stay apart."""
    prior = np.array([3.0, -2.0, 0.5, 1e9])
    nothing = demapper([1j], qam(16), 1.0, 0.0, prior=prior, kernel=kernel)
    np.testing.assert_allclose(nothing, [3.0, -2.0, 0.5, LLR_CLIP], atol=1e-12)
    received, noise_var, gain, prior = transmission(4, (3, 8), 5)
    channel = demapper(received, qam(4), noise_var, gain, MAX_CLIP, kernel=kernel)
    both = demapper(received, qam(4), noise_var, gain, MAX_CLIP, prior, kernel)
    np.testing.assert_allclose(both, channel + prior, rtol=1e-10, atol=1e-10)
    zero = demapper(received, qam(4), noise_var, gain, MAX_CLIP, 0.0, kernel)
    np.testing.assert_allclose(zero, channel, rtol=1e-10, atol=1e-10)


@both_kernels
def test_priors_known_for_certain_leave_the_rest_of_the_symbol_alone(kernel):
    """Bits 0 and 2 of 16-QAM known: bits 1 and 3, on the other axis, are what they were."""
    received, noise_var, gain, _ = transmission(16, (50,), 6)
    known = np.tile([1e300, 0.0, -1e300, 0.0], 50)
    free = llr_exact(received, qam(16), noise_var, gain, kernel=kernel).reshape(-1, 4)
    told = llr_exact(received, qam(16), noise_var, gain, prior=known, kernel=kernel).reshape(-1, 4)
    np.testing.assert_allclose(told[:, 1::2], free[:, 1::2], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(told[:, 0], LLR_CLIP)


EXTREME = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 5e-324, 1e-100, 1e100, -1.7e308])
)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    st.sampled_from(QAM_ORDERS),
    EXTREME,
    EXTREME,
    EXTREME,
    EXTREME,
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
def test_llrs_are_finite_whatever_is_received(order, y_re, y_im, h_re, h_im, noise_var):
    """In both precisions, as one value for all and as one for each symbol."""
    y = np.full(2, complex(y_re, y_im))
    for h in (complex(h_re, h_im), np.full(2, complex(h_re, h_im))):
        found = [llr_bruteforce(y, qam(order).points, noise_var, h, kernel="numba")]
        for demapper in DEMAPPERS:
            found.append(demapper(y, qam(order), noise_var, h, kernel="numba"))
            found += [
                demapper(y, qam(order), noise_var, h, kernel=kernel, dtype="float32") for kernel in KERNELS
            ]
        for llr in found:
            assert np.isfinite(llr).all()
            assert np.abs(llr).max() <= LLR_CLIP
            np.testing.assert_array_equal(llr[: llr.size // 2], llr[llr.size // 2 :])


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


@every_order
@both_kernels
@both_precisions
def test_hard_llrs_are_the_bits_of_the_nearest_point(order, kernel, dtype):
    received, noise_var, gain, _ = transmission(order, (4, 30), 3)
    gain[:, 7] = 0
    width = qam(order).bits_per_symbol
    llr = llr_hard(received, qam(order), noise_var, gain, 7.5, kernel, dtype)
    assert llr.dtype == dtype
    bits = symbols_to_bits(hard_decisions(received, qam(order), gain), width)
    expected = np.where(bits == 1, 7.5, -7.5)
    expected[:, 7 * width : 8 * width] = 0
    np.testing.assert_array_equal(llr, expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("received", {"received": [np.nan, 1j]}),
        ("received", {"received": [1j, 1j * np.inf]}),
        ("received", {"received": 1 + 1j}),
        ("received", {"received": ["x", "y"]}),
        ("noise_var", {"noise_var": 0.0}),
        ("noise_var", {"noise_var": [1.0, -1.0]}),
        ("noise_var", {"noise_var": [1.0, 0.0]}),
        ("noise_var", {"noise_var": [np.nan, 1.0]}),
        ("noise_var", {"noise_var": [np.inf, 1.0]}),
        ("noise_var", {"noise_var": np.inf}),
        ("noise_var", {"noise_var": 1j}),
        ("noise_var", {"noise_var": [1.0, 1.0, 1.0]}),
        ("noise_var", {"noise_var": [[1.0]]}),
        ("gain", {"gain": np.nan}),
        ("gain", {"gain": [1.0, np.nan]}),
        ("gain", {"gain": [1j, 1j * np.inf]}),
        ("gain", {"gain": [1.0, 1.0, 1.0]}),
        ("gain", {"gain": [[1.0]]}),
        ("gain", {"gain": "x"}),
        ("clip", {"clip": 0.0}),
        ("clip", {"clip": 601.0}),
        ("prior", {"prior": np.nan}),
        ("prior", {"prior": [1j]}),
        ("prior", {"prior": [1.0, 2.0]}),
        ("kernel", {"kernel": "cuda"}),
        ("dtype", {"dtype": np.float16}),
        ("dtype", {"dtype": np.complex64}),
    ],
)
@both_kernels
@both_precisions
def test_bad_input_is_named(name, arguments, kernel, dtype):
    """The compiled kernels look for infinities themselves: typed arrays, which they take as they are."""
    chosen = {"received": [0.1 + 0.2j, 1j], "noise_var": 1.0, "kernel": kernel, "dtype": dtype} | arguments
    typed = {"received": np.result_type(np.complex64, dtype), "noise_var": dtype}
    for key, kind in typed.items():
        if key in arguments and np.ndim(arguments[key]) and np.asarray(arguments[key]).dtype.kind in "fc":
            chosen[key] = np.array(arguments[key], dtype=kind)
    received = chosen.pop("received")
    for demapper in DEMAPPERS if {"prior", "dtype"} & set(arguments) else [*DEMAPPERS, llr_hard]:
        with pytest.raises(InputError, match=f"'{name}' must"):
            demapper(received, qam(16), **chosen)
    if "dtype" not in arguments:
        del chosen["dtype"]
        with pytest.raises(InputError, match=f"'{name}' must"):
            llr_bruteforce(received, qam(16).points, **chosen)


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
