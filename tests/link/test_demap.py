"""What LLRs are, for both kernels: references of 60 digits, definitions, closed forms, symmetries, bounds."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import (
    LLR_CLIP,
    MAX_CLIP,
    hard_decisions,
    llr_bruteforce,
    llr_exact,
    llr_hard,
    llr_maxlog,
)
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

REFERENCE = Path(__file__).parents[1] / "reference"
VECTORS = json.loads((REFERENCE / "llr_vectors.json").read_text(encoding="utf-8"))
SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
DEMAPPERS = [llr_exact, llr_maxlog]
KERNELS = ["numpy", "numba"]

every_order = pytest.mark.parametrize("order", QAM_ORDERS)
both_demappers = pytest.mark.parametrize("demapper", DEMAPPERS)
both_kernels = pytest.mark.parametrize("kernel", KERNELS)
both_precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def transmission(order, shape, esn0_db, seed=0, fading=True):
    """Point numbers, received symbols, noise variances and gains; ``esn0_db`` broadcasts to ``shape``."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, order, shape)
    noise_var = np.broadcast_to(10 ** (-np.asarray(esn0_db) / 10), shape)
    unit = (rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))) / np.sqrt(2)
    gain = unit[0] if fading else np.ones(shape, complex)
    return symbols, gain * qam(order).points[symbols] + np.sqrt(noise_var) * unit[1], noise_var, gain


def metrics(order, received, noise_var, gain):
    """-|y - h x|^2 / N0 of each point, and which points have a one in each bit."""
    ones = symbols_to_bits(np.arange(order)[:, np.newaxis], qam(order).bits_per_symbol).astype(bool)
    metric = -(np.abs(received[..., np.newaxis] - gain[..., np.newaxis] * qam(order).points) ** 2)
    return metric / noise_var[..., np.newaxis], ones


@every_order
@pytest.mark.parametrize("clip", [LLR_CLIP, MAX_CLIP])
def test_llrs_equal_sixty_digit_references(order, clip):
    """To 12 digits, or to the rounding of the metrics whose small difference the LLR is."""
    cases = [case for case in VECTORS if case["order"] == order]
    y, h = (np.array([complex(*case[name]) for case in cases]) for name in ("received", "gain"))
    noise_var = np.array([case["noise_var"] for case in cases])
    points = qam(order).points
    correlation = (np.abs(y * h) + np.abs(h) ** 2) / noise_var
    distance = (np.abs(y) + np.abs(h)) ** 2 / noise_var
    for kernel in KERNELS:
        for llr, name, metric in (
            (llr_exact(y, qam(order), noise_var, h, clip, kernel=kernel), "exact", correlation),
            (llr_maxlog(y, qam(order), noise_var, h, clip, kernel=kernel), "maxlog", correlation),
            (llr_bruteforce(y, points, noise_var, h, clip, kernel=kernel), "exact", distance),
        ):
            expected = np.array([case[name] for case in cases])
            error = np.abs(llr.reshape(expected.shape) - expected.clip(-clip, clip))
            allowed = 1e-12 * np.abs(expected) + 1e-14 * (1 + metric[:, np.newaxis])
            assert (error <= allowed).all(), (kernel, name)


def test_references_cover_both_sides_of_the_clip_and_are_what_their_generators_make():
    largest = [max(abs(value) for value in case["exact"]) for case in VECTORS]
    assert min(largest) == 0
    assert max(largest) > 1e6
    assert sum(LLR_CLIP / 50 < value < LLR_CLIP for value in largest) > 20
    generators = []
    for name in ("make_qam_points", "make_llr_vectors"):
        spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
        generators.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(generators[-1])
    tables = json.loads((REFERENCE / "qam_points.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(generators[0].make())) == tables
    for case in VECTORS[::7]:
        table = tables[str(case["order"])]
        exact, maxlog = generators[1].reference_llr(case, table["points"], table["scale_squared"])
        assert (exact, maxlog) == (case["exact"], case["maxlog"])


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 30), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_exact_is_the_posterior_of_log_sum_exp(order, esn0_db, seed, fading, known):
    """Separable and by all points, both kernels, and in single precision to its digits."""
    _, received, noise_var, gain = transmission(order, (2, 5), esn0_db, seed, fading)
    width = qam(order).bits_per_symbol
    prior = 6 * np.random.default_rng(seed).normal(size=(2, 5 * width)) if known else None
    metric, ones = metrics(order, received, noise_var, gain)
    if known:
        metric = metric + prior.reshape(2, 5, width) @ ones.T
    total = np.logaddexp.reduce
    each = [total(metric[..., bit], axis=-1) - total(metric[..., ~bit], axis=-1) for bit in ones.T]
    expected = np.clip(np.stack(each, axis=-1).reshape(2, -1), -LLR_CLIP, LLR_CLIP)
    for kernel in KERNELS:
        words = {"prior": prior, "kernel": kernel}
        for llr in (
            llr_exact(received, qam(order), noise_var, gain, **words),
            llr_bruteforce(received, qam(order).points, noise_var, gain, **words),
        ):
            assert llr.shape == (2, 5 * width)
            np.testing.assert_allclose(llr, expected, rtol=1e-10, atol=1e-10)
        single = llr_exact(received, qam(order), noise_var, gain, dtype=np.float32, **words)
        np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-3)


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 60), st.integers(0, 2**32))
def test_maxlog_is_the_difference_of_the_nearest_points(order, esn0_db, seed):
    """It stays within the logarithm of a group of points of the exact one."""
    _, received, noise_var, gain = transmission(order, (7,), esn0_db, seed)
    metric, ones = metrics(order, received, noise_var, gain)
    expected = [[row[bit].max() - row[~bit].max() for bit in ones.T] for row in metric]
    maxlog = llr_maxlog(received, qam(order), noise_var, gain)
    clipped = np.clip(expected, -LLR_CLIP, LLR_CLIP).ravel()
    allowed = 1e-10 + 1e-14 * np.abs(metric).max()
    np.testing.assert_allclose(maxlog, clipped, rtol=1e-10, atol=allowed)
    difference = llr_exact(received, qam(order), noise_var, gain) - maxlog
    assert np.abs(difference).max() <= np.log(np.sqrt(order) / 2) + 1e-9


@both_kernels
@both_precisions
def test_exact_keeps_the_log_two_that_maxlog_drops_at_any_snr(kernel, dtype):
    """Bit 0 of 16-QAM at level 2: zeros at 1 and 3 are equally near, of the ones -1 alone."""
    received = np.array([2 / np.sqrt(10) + 0j])
    for noise_var in (0.02, 0.01, 0.002):  # |LLR| 80 is near the end of single precision's exp
        nearest = -(3**2 - 1**2) / 10 / noise_var
        exact, maxlog = (
            demapper(received, qam(16), noise_var, clip=MAX_CLIP, kernel=kernel, dtype=dtype)[0]
            for demapper in DEMAPPERS
        )
        assert maxlog == pytest.approx(nearest, rel=1e-13 if dtype == np.float64 else 1e-6)
        assert exact - nearest == pytest.approx(-np.log(2), abs=1e-9 if dtype == np.float64 else 2e-3)


EXTREME = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 5e-324, 1e-100, 1e100, -1.7e308])
)


@settings(SETTINGS, max_examples=100)
@given(
    st.sampled_from(QAM_ORDERS),
    st.builds(complex, EXTREME, EXTREME),
    st.builds(complex, EXTREME, EXTREME),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
def test_llrs_are_finite_whatever_is_received(order, received, gain, noise_var):
    """In both precisions, as one value for all and as one for each symbol."""
    y, points = np.full(2, received), qam(order).points
    for h in (gain, np.full(2, gain)):
        found = [llr_bruteforce(y, points, noise_var, h, kernel=kernel) for kernel in KERNELS]
        for demapper in DEMAPPERS:
            found += [
                demapper(y, qam(order), noise_var, h, kernel=kernel, dtype=dtype)
                for kernel in KERNELS
                for dtype in ("float64", "float32")
            ]
        for llr in found:
            assert np.isfinite(llr).all()
            assert np.abs(llr).max() <= LLR_CLIP
            np.testing.assert_array_equal(llr[: llr.size // 2], llr[llr.size // 2 :])


@every_order
@both_demappers
@both_kernels
def test_positive_means_one_up_to_the_clip_and_without_gain_nothing_is_known(order, demapper, kernel):
    points, bits = qam(order).points, symbols_to_bits(np.arange(order), qam(order).bits_per_symbol)
    for clip in (LLR_CLIP, 7.5):
        llr = demapper(points, qam(order), 1e-6, clip=clip, kernel=kernel)
        np.testing.assert_array_equal(llr, np.where(bits == 1, clip, -clip))
    assert not demapper([1 + 1j, 100j], qam(order), [1e-6, 1.0], 0.0, kernel=kernel).any()
    assert not llr_bruteforce([1 + 1j, 100j], points, 1e-3, 0.0, kernel=kernel).any()
    assert demapper(np.zeros((3, 0), complex), qam(order), 1.0, kernel=kernel).shape == (3, 0)


@both_kernels
def test_bruteforce_takes_any_constellation_in_bit_order(kernel):
    """BPSK: LLR = -4 Re(y) / N0 for 0 -> +1, 1 -> -1; and an 8-PSK against plain sums."""
    bpsk = llr_bruteforce([0.3 + 2j], [1, -1], 0.5, kernel=kernel)
    assert bpsk[0] == pytest.approx(-4 * 0.3 / 0.5, rel=1e-13)
    points = np.exp(2j * np.pi * np.array([0, 3, 1, 2, 7, 4, 6, 5]) / 8)
    likelihood = np.exp(-(np.abs(0.4 - 0.9j - points) ** 2) / 0.8)
    odds = [
        likelihood[[4, 5, 6, 7]].sum() / likelihood[[0, 1, 2, 3]].sum(),
        likelihood[[2, 3, 6, 7]].sum() / likelihood[[0, 1, 4, 5]].sum(),
        likelihood[[1, 3, 5, 7]].sum() / likelihood[[0, 2, 4, 6]].sum(),
    ]
    found = llr_bruteforce([0.4 - 0.9j], points, 0.8, kernel=kernel)
    np.testing.assert_allclose(found, np.log(odds), rtol=1e-12)


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-20, 40), st.integers(0, 2**32))
def test_hard_decisions_take_the_nearest_point(order, esn0_db, seed):
    _, received, noise_var, gain = transmission(order, (3, 20), esn0_db, seed)
    decided = hard_decisions(received, qam(order), gain)
    np.testing.assert_array_equal(decided, metrics(order, received, noise_var, gain)[0].argmax(axis=-1))
    assert decided.dtype == np.int64
    signs = llr_maxlog(received, qam(order), noise_var, gain) > 0
    np.testing.assert_array_equal(symbols_to_bits(decided, qam(order).bits_per_symbol), signs)
    points = qam(order).points
    np.testing.assert_array_equal(hard_decisions(1e90j * points, qam(order), 1e90j), np.arange(order))


@every_order
@both_kernels
@both_precisions
def test_hard_llrs_are_the_bits_of_the_nearest_point(order, kernel, dtype):
    _, received, noise_var, gain = transmission(order, (4, 30), 3)
    gain[:, 7] = 0
    width = qam(order).bits_per_symbol
    llr = llr_hard(received, qam(order), noise_var, gain, 7.5, kernel, dtype)
    assert llr.dtype == dtype
    bits = symbols_to_bits(hard_decisions(received, qam(order), gain), width)
    expected = np.where(bits == 1, 7.5, -7.5)
    expected[:, 7 * width : 8 * width] = 0
    np.testing.assert_array_equal(llr, expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("received", [np.nan, 1j]),
        ("received", [1j, 1j * np.inf]),
        ("received", 1 + 1j),
        ("received", ["x", "y"]),
        ("noise_var", 0.0),
        ("noise_var", [1.0, -1.0]),
        ("noise_var", [np.nan, 1.0]),
        ("noise_var", [np.inf, 1.0]),
        ("noise_var", np.inf),
        ("noise_var", 1j),
        ("noise_var", [[1.0]]),
        ("gain", np.nan),
        ("gain", [1.0, np.nan]),
        ("gain", [1j, 1j * np.inf]),
        ("gain", [[1.0]]),
        ("clip", 0.0),
        ("clip", 601.0),
        ("prior", np.nan),
        ("prior", [1j]),
        ("prior", [1.0, 2.0]),
        ("kernel", "cuda"),
        ("dtype", np.float16),
        ("dtype", np.complex64),
    ],
)
@both_kernels
@both_precisions
def test_bad_input_is_named(name, value, kernel, dtype):
    """The compiled kernels look for infinities themselves: typed arrays, which they take as they are."""
    if name in ("received", "gain", "noise_var") and np.asarray(value).dtype.kind in "fc" and np.ndim(value):
        value = np.array(value, dtype=dtype if name == "noise_var" else np.result_type(np.complex64, dtype))
    chosen = {"received": [0.1 + 0.2j, 1j], "noise_var": 1.0, "kernel": kernel, "dtype": dtype, name: value}
    received = chosen.pop("received")
    for demapper in DEMAPPERS if name in ("prior", "dtype") else [*DEMAPPERS, llr_hard]:
        with pytest.raises(InputError, match=f"'{name}' must"):
            demapper(received, qam(16), **chosen)
    if name != "dtype":
        del chosen["dtype"]
        with pytest.raises(InputError, match=f"'{name}' must"):
            llr_bruteforce(received, qam(16).points, **chosen)


@pytest.mark.parametrize("points", [[1.0], [1, 2, 3], [[1, 2], [3, 4]], [], [1, np.nan]])
def test_points_must_spell_bits(points):
    with pytest.raises(InputError, match="'points' must"):
        llr_bruteforce([1j], points, 1.0)


def test_hard_decisions_name_bad_input():
    with pytest.raises(InputError, match="'received' must be finite"):
        hard_decisions([np.nan], qam(4))
    with pytest.raises(InputError, match="'gain' must broadcast"):
        hard_decisions([1j, 1], qam(4), [1, 1, 1])
