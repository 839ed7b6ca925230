"""What LLRs are, for both kernels and precisions: references of 60 digits, definitions, closed forms, bounds.

And what must not change a number: the kernel, the batch, the layout of arrays.
"""

import importlib.util
import json
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

REFERENCE = Path(__file__).parents[1] / "reference"
VECTORS = json.loads((REFERENCE / "llr_vectors.json").read_text(encoding="utf-8"))
SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
DEMAPPERS = [llr_exact, llr_maxlog]
KERNELS = ["numpy", "numba"]

every_order = pytest.mark.parametrize("order", QAM_ORDERS)
both_demappers = pytest.mark.parametrize("demapper", DEMAPPERS)
both_kernels = pytest.mark.parametrize("kernel", KERNELS)
both_precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def transmission(order, shape, esn0_db, seed=0, *, shared=False, known=True):
    """A QAM, what is received at SNRs that broadcast, N0, Rayleigh gains, and priors of the bits.

    N0 and gain are ``shared`` if one number serves all symbols, which is another way through the kernels.
    """
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, order, shape)
    noise_var = np.broadcast_to(10 ** (-np.asarray(esn0_db) / 10), shape).copy()
    unit = (rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))) / np.sqrt(2)
    prior = 6 * rng.normal(size=(*shape[:-1], shape[-1] * qam(order).bits_per_symbol))
    gain = unit[0][:1, :1] if shared else unit[0]
    received = gain * qam(order).points[symbols] + np.sqrt(noise_var) * unit[1]
    return qam(order), received, noise_var[:1, :1] if shared else noise_var, gain, prior if known else None


def metrics(constellation, received, noise_var, gain, prior=None):
    """log P(y, x) of each point but for a constant, and which points have a one in each bit."""
    numbers = np.arange(constellation.order)[:, np.newaxis]
    ones = symbols_to_bits(numbers, constellation.bits_per_symbol).astype(bool)
    metric = -(np.abs(received[..., np.newaxis] - gain[..., np.newaxis] * constellation.points) ** 2)
    metric = metric / noise_var[..., np.newaxis]
    return metric if prior is None else metric + prior.reshape(*received.shape, -1) @ ones.T, ones


def by_definition(reduce, metric, ones):
    """LLRs from the metrics of points, by a sum or a maximum over each group."""
    each = [reduce(metric[..., bit], axis=-1) - reduce(metric[..., ~bit], axis=-1) for bit in ones.T]
    return np.clip(np.stack(each, axis=-1).reshape(*metric.shape[:-2], -1), -MAX_CLIP, MAX_CLIP)


def assert_close(llr, expected, metric, digits=1e-10, rounding=1e-14):
    """Equal to ``digits`` of max(1, |LLR|), but for the rounding of the metrics whose difference it is."""
    largest = np.abs(metric).max(axis=-1)
    allowed = np.repeat(rounding * largest, expected.shape[-1] // largest.shape[-1], axis=-1)
    error = np.abs(llr - expected)
    assert (error <= digits * np.maximum(1, np.abs(expected)) + allowed).all(), error.max()


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


CHANNELS = st.builds(
    transmission,
    st.sampled_from(QAM_ORDERS),
    st.just((2, 5)),
    st.floats(-30, 60),
    st.integers(0, 2**32),
    shared=st.booleans(),
    known=st.booleans(),
)


@SETTINGS
@given(CHANNELS)
def test_exact_is_the_posterior_of_log_sum_exp_and_maxlog_the_difference_of_the_nearest(channel):
    """Of a QAM by axes and by all points; they differ by the logarithm of a group of points at most."""
    constellation, received, noise_var, gain, prior = channel
    metric, ones = metrics(*channel)
    exact, maxlog = (by_definition(reduce, metric, ones) for reduce in (np.logaddexp.reduce, np.max))
    for kernel in KERNELS:
        given = (noise_var, gain, MAX_CLIP, prior, kernel)
        found = llr_exact(received, constellation, *given)
        assert_close(found, exact, metric)
        assert_close(llr_bruteforce(received, constellation.points, *given), exact, metric)
        nearest = llr_maxlog(received, constellation, *given)
        assert_close(nearest, maxlog, metric)
        assert np.abs(found - nearest).max() <= np.log(np.sqrt(constellation.order) / 2) + 1e-6


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


@SETTINGS
@given(CHANNELS, st.sampled_from(KERNELS))
def test_single_precision_is_double_but_for_its_rounding(channel, kernel):
    constellation, *arrays, prior = channel
    received, noise_var, gain = (
        array.astype(np.complex64 if np.iscomplexobj(array) else np.float32) for array in arrays
    )
    metric, _ = metrics(constellation, received, noise_var, gain)
    for demapper in DEMAPPERS:
        given = (constellation, noise_var, gain, LLR_CLIP, prior)
        double = demapper(received, *given)
        single = demapper(received, *given, kernel=kernel, dtype=np.float32)
        assert single.dtype == np.float32
        assert_close(single, double, metric, digits=2e-5, rounding=5e-6)
        wide = demapper(received.astype(complex), *given, kernel=kernel, dtype="float32")
        np.testing.assert_array_equal(wide, single)


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
@both_kernels
def test_positive_means_one_up_to_the_clip_and_without_gain_the_prior_alone_is_known(order, kernel):
    """A prior is held within +-MAX_CLIP, so that a certain bit does not swallow what is said of others."""
    points, width = qam(order).points, qam(order).bits_per_symbol
    bits = symbols_to_bits(np.arange(order), width)
    certain = np.tile([1e300, 0.5], width // 2)
    for demapper in DEMAPPERS:
        for clip in (LLR_CLIP, 7.5):
            llr = demapper(points, qam(order), 1e-6, clip=clip, kernel=kernel)
            np.testing.assert_array_equal(llr, np.where(bits == 1, clip, -clip))
        assert not demapper([1 + 1j, 100j], qam(order), [1e-6, 1.0], 0.0, kernel=kernel).any()
        nothing = demapper([1j], qam(order), 1.0, 0.0, prior=certain, kernel=kernel)
        np.testing.assert_allclose(nothing, certain.clip(-LLR_CLIP, LLR_CLIP), atol=1e-12)
        held, sure = (
            demapper([0.3 + 0.1j], qam(order), 0.5, prior=prior, kernel=kernel)
            for prior in (certain.clip(-MAX_CLIP, MAX_CLIP), certain)
        )
        np.testing.assert_array_equal(sure, held)
        assert demapper(np.zeros((3, 0), complex), qam(order), 1.0, kernel=kernel).shape == (3, 0)
    assert not llr_bruteforce([1 + 1j, 100j], points, 1e-3, 0.0, kernel=kernel).any()


@both_kernels
def test_bruteforce_takes_any_constellation_in_bit_order(kernel):
    """An 8-PSK against plain sums."""
    points = np.exp(2j * np.pi * np.array([0, 3, 1, 2, 7, 4, 6, 5]) / 8)
    likelihood = np.exp(-(np.abs(0.4 - 0.9j - points) ** 2) / 0.8)
    ones = [[4, 5, 6, 7], [2, 3, 6, 7], [1, 3, 5, 7]]
    odds = [likelihood[group].sum() / np.delete(likelihood, group).sum() for group in ones]
    found = llr_bruteforce([0.4 - 0.9j], points, 0.8, kernel=kernel)
    np.testing.assert_allclose(found, np.log(odds), rtol=1e-12)


@both_kernels
def test_other_labels_and_amplitudes_than_the_standard_ones(kernel):
    """Natural binary labels on uneven amplitudes, without the symmetries that the fast kernels use."""
    levels = np.array([-1.5, -0.4, 0.1, 1.2])
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8)
    numbers = np.arange(16)
    real = levels[2 * (numbers >> 3) + ((numbers >> 1) & 1)]
    imaginary = levels[2 * ((numbers >> 2) & 1) + (numbers & 1)]
    other = Constellation(16, 4, real + 1j * imaginary, levels, labels)
    _, received, noise_var, gain, prior = transmission(16, (4, 6), 4)
    for known in (None, prior):
        llr = llr_exact(received, other, noise_var, gain, prior=known, kernel=kernel)
        expected = llr_bruteforce(received, other.points, noise_var, gain, prior=known)
        np.testing.assert_allclose(llr, expected, rtol=1e-10, atol=1e-10)


@SETTINGS
@given(CHANNELS)
def test_hard_decisions_take_the_nearest_point_and_hard_llrs_its_bits(channel):
    constellation, received, noise_var, gain, _ = channel
    decided = hard_decisions(received, constellation, gain)
    nearest = metrics(constellation, received, noise_var, gain)[0].argmax(axis=-1)
    np.testing.assert_array_equal(decided, nearest)
    assert decided.dtype == np.int64
    points = constellation.points
    np.testing.assert_array_equal(hard_decisions(1e90j * points, constellation, 1e90j), range(points.size))
    bits = symbols_to_bits(decided, constellation.bits_per_symbol)
    for kernel, dtype in ((kernel, dtype) for kernel in KERNELS for dtype in (np.float64, np.float32)):
        llr = llr_hard(received, constellation, noise_var, gain, 7.5, kernel, dtype)
        assert llr.dtype == dtype
        np.testing.assert_array_equal(llr, np.where(bits == 1, 7.5, -7.5))
    assert not llr_hard([1j], constellation, 1.0, 0.0).any()


@every_order
@both_demappers
@both_kernels
@both_precisions
@pytest.mark.parametrize("known", [False, True])
def test_a_symbol_never_depends_on_its_batch(order, demapper, kernel, dtype, known):
    """Mixed SNRs and several blocks: bit for bit what each row, and each of some symbols, gives alone."""
    shape = (3, 601 if kernel == "numba" else 4101)
    _, received, noise_var, gain, prior = transmission(order, shape, np.array([[0], [11], [45]]))
    width = qam(order).bits_per_symbol

    def llr(row, symbols, noise_var):
        """Of some symbols."""
        bits = np.ravel(np.arange(shape[1] * width).reshape(shape[1], width)[symbols])
        place = row, symbols
        own = prior[row][..., bits] if known else None
        return demapper(
            received[place], qam(order), noise_var, gain[place], prior=own, kernel=kernel, dtype=dtype
        )

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
    _, received, noise_var, gain, _ = transmission(64, (7, 5), 9)
    words = {"kernel": kernel, "dtype": dtype}
    expected = demapper(received, qam(64), noise_var, gain, **words)
    frozen = received.copy()
    frozen.setflags(write=False)
    spread = np.repeat(received, 2, axis=1)[:, ::2]
    for same in (frozen, spread, np.asfortranarray(received), received[np.newaxis], received.tolist()):
        llr = demapper(same, qam(64), noise_var, gain, **words)
        np.testing.assert_array_equal(llr.reshape(expected.shape), expected)
    one = demapper(received, qam(64), noise_var[0, 0], gain[:, :1], **words)
    wide = np.broadcast_to(gain[:, :1], received.shape)
    np.testing.assert_array_equal(demapper(received, qam(64), noise_var, wide, **words), one)


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("received", [1j, 1j * np.inf]),
        ("received", 1 + 1j),
        ("received", ["x", "y"]),
        ("noise_var", 0.0),
        ("noise_var", np.inf),
        ("noise_var", [1.0, -1.0]),
        ("noise_var", [np.inf, 1.0]),
        ("noise_var", 1j),
        ("noise_var", [[1.0]]),
        ("gain", np.nan),
        ("gain", [1j, np.nan]),
        ("gain", [[1.0]]),
        ("clip", 0.0),
        ("clip", 601.0),
        ("prior", np.nan),
        ("prior", [1j]),
        ("prior", [1.0, 2.0]),
        ("kernel", "cuda"),
        ("dtype", np.float16),
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
