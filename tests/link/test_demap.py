import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import (
    LLR_CLIP,
    MAX_CLIP,
    hard_decisions,
    llr_bruteforce,
    llr_exact,
    llr_maxlog,
)
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

REFERENCE = Path(__file__).parents[1] / "reference"
VECTORS = json.loads((REFERENCE / "llr_vectors.json").read_text(encoding="utf-8"))
SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)

every_order = pytest.mark.parametrize("order", QAM_ORDERS)
both_demappers = pytest.mark.parametrize("demapper", [llr_exact, llr_maxlog])


def generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def transmission(order, shape, esn0_db, seed=0, fading=True):
    """Point numbers, received symbols, noise variances and gains; ``esn0_db`` broadcasts to ``shape``."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, order, shape)
    noise_var = np.broadcast_to(10 ** (-np.asarray(esn0_db) / 10), shape)
    unit = (rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))) / np.sqrt(2)
    gain = unit[0] if fading else np.ones(shape, complex)
    return symbols, gain * qam(order).points[symbols] + np.sqrt(noise_var) * unit[1], noise_var, gain


@pytest.fixture(scope="module")
def references():
    """The committed vectors as arrays, one group for each order."""
    return {
        order: {
            name: np.array([case[name] for case in VECTORS if case["order"] == order])
            for name in ("received", "gain", "noise_var", "exact", "maxlog")
        }
        for order in QAM_ORDERS
    }


def as_complex(pairs):
    return pairs[:, 0] + 1j * pairs[:, 1]


@every_order
@pytest.mark.parametrize("clip", [LLR_CLIP, MAX_CLIP])
def test_llrs_equal_sixty_digit_references(references, order, clip):
    """To 12 digits, or to the rounding of the metrics whose small difference the LLR is."""
    group = references[order]
    received, gain, noise_var = as_complex(group["received"]), as_complex(group["gain"]), group["noise_var"]
    correlation = (np.abs(received * gain) + np.abs(gain) ** 2) / noise_var
    distance = (np.abs(received) + np.abs(gain)) ** 2 / noise_var
    for llr, name, metric in (
        (llr_exact(received, qam(order), noise_var, gain, clip), "exact", correlation),
        (llr_maxlog(received, qam(order), noise_var, gain, clip), "maxlog", correlation),
        (llr_bruteforce(received, qam(order).points, noise_var, gain, clip), "exact", distance),
    ):
        error = np.abs(llr.reshape(group[name].shape) - group[name].clip(-clip, clip))
        allowed = 1e-12 * np.abs(group[name]) + 1e-14 * (1 + metric[:, np.newaxis])
        assert (error <= allowed).all(), name


def test_references_cover_both_sides_of_the_clip():
    largest = [max(abs(value) for value in case["exact"]) for case in VECTORS]
    assert min(largest) == 0
    assert max(largest) > 1e6
    assert sum(LLR_CLIP / 50 < value < LLR_CLIP for value in largest) > 20


def test_references_are_what_their_generators_make():
    qam_points = generator("make_qam_points")
    tables = json.loads((REFERENCE / "qam_points.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(qam_points.make())) == tables
    llr_vectors = generator("make_llr_vectors")
    for case in VECTORS[::7]:
        table = tables[str(case["order"])]
        exact, maxlog = llr_vectors.reference_llr(case, table["points"], table["scale_squared"])
        assert (exact, maxlog) == (case["exact"], case["maxlog"])


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 30), st.integers(0, 2**32), st.booleans())
def test_exact_equals_its_slow_twin(order, esn0_db, seed, fading):
    _, received, noise_var, gain = transmission(order, (4, 9), esn0_db, seed, fading)
    fast = llr_exact(received, qam(order), noise_var, gain)
    slow = llr_bruteforce(received, qam(order).points, noise_var, gain)
    assert fast.shape == (4, 9 * qam(order).bits_per_symbol)
    np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-10)


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 30), st.integers(0, 2**32))
def test_maxlog_is_the_difference_of_the_nearest_points(order, esn0_db, seed):
    _, received, noise_var, gain = transmission(order, (7,), esn0_db, seed)
    metric = -(np.abs(received[:, np.newaxis] - gain[:, np.newaxis] * qam(order).points) ** 2)
    metric /= noise_var[:, np.newaxis]
    ones = symbols_to_bits(np.arange(order)[:, np.newaxis], qam(order).bits_per_symbol).astype(bool)
    expected = [
        [row[ones[:, bit]].max() - row[~ones[:, bit]].max() for bit in range(ones.shape[1])] for row in metric
    ]
    np.testing.assert_allclose(
        llr_maxlog(received, qam(order), noise_var, gain),
        np.clip(expected, -LLR_CLIP, LLR_CLIP).ravel(),
        rtol=1e-10,
        atol=1e-10,
    )


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-30, 60), st.integers(0, 2**32))
def test_maxlog_is_within_the_log_of_a_group_of_exact(order, esn0_db, seed):
    _, received, noise_var, gain = transmission(order, (16,), esn0_db, seed)
    difference = llr_exact(received, qam(order), noise_var, gain) - llr_maxlog(
        received, qam(order), noise_var, gain
    )
    assert np.abs(difference).max() <= np.log(np.sqrt(order) / 2) + 1e-9


def test_exact_keeps_the_log_two_that_maxlog_drops_at_any_snr():
    """Bit 0 of 16-QAM at level 2: zeros at 1 and 3 are equally near, of the ones -1 alone."""
    received = [2 / np.sqrt(10) + 0j]
    for noise_var in (0.02, 0.002, 0.0014):
        nearest = -(3**2 - 1**2) / 10 / noise_var
        assert llr_maxlog(received, qam(16), noise_var, clip=MAX_CLIP)[0] == pytest.approx(nearest, rel=1e-13)
        exact = llr_exact(received, qam(16), noise_var, clip=MAX_CLIP)[0]
        assert exact - nearest == pytest.approx(-np.log(2), abs=1e-9)


@every_order
@both_demappers
def test_positive_means_one(order, demapper):
    symbols = np.arange(order)
    llr = demapper(qam(order).points, qam(order), 1e-3)
    np.testing.assert_array_equal(llr > 0, symbols_to_bits(symbols, qam(order).bits_per_symbol))
    assert np.abs(llr).min() > 5


@both_demappers
@pytest.mark.parametrize("noise_var", [0.1, 1.0, 7.0])
def test_qpsk_closed_form(demapper, noise_var):
    """38.211 QPSK sends (1 - 2b)/sqrt(2): LLR = -4 Re(conj(h) y) / (sqrt(2) N0)."""
    y, gain = np.array([0.3 - 1.1j, -0.2 + 0.05j]), 0.7 + 0.4j
    turned = np.conj(gain) * y
    expected = -4 / np.sqrt(2) * np.stack([turned.real, turned.imag], axis=-1).ravel() / noise_var
    np.testing.assert_allclose(demapper(y, qam(4), noise_var, gain), expected, rtol=1e-13)


@every_order
@both_demappers
def test_symmetries_of_the_constellation(order, demapper):
    """Reflecting the real axis flips bit 0 alone, the imaginary axis bit 1; swapping axes swaps bit pairs."""
    _, received, noise_var, _ = transmission(order, (50,), 5, seed=order, fading=False)
    width = qam(order).bits_per_symbol
    llr = demapper(received, qam(order), noise_var).reshape(-1, width)
    signs = np.ones(width)
    signs[0] = -1
    reflected = demapper(-received.conj(), qam(order), noise_var).reshape(-1, width)
    np.testing.assert_allclose(reflected, llr * signs, rtol=1e-12, atol=1e-12)
    reflected = demapper(received.conj(), qam(order), noise_var).reshape(-1, width)
    np.testing.assert_allclose(reflected, llr * np.roll(signs, 1), rtol=1e-12, atol=1e-12)
    swapped = demapper(received.imag + 1j * received.real, qam(order), noise_var).reshape(-1, width // 2, 2)
    np.testing.assert_allclose(swapped[..., ::-1].reshape(-1, width), llr, rtol=1e-12, atol=1e-12)


@every_order
@both_demappers
def test_only_the_ratios_matter(order, demapper):
    """A common factor of received, gain and deviation and a common phase of the first two change nothing."""
    _, received, noise_var, gain = transmission(order, (30,), 8)
    llr = demapper(received, qam(order), noise_var, gain)
    factor = 37.0 * np.exp(1.234j)
    scaled = demapper(received * factor, qam(order), noise_var * 37.0**2, gain * factor)
    np.testing.assert_allclose(scaled, llr, rtol=1e-10, atol=1e-10)


@every_order
@both_demappers
def test_a_symbol_never_depends_on_its_batch(order, demapper):
    """Mixed SNRs, and more symbols than one internal block: bit for bit what each row gives alone."""
    shape = (5, 4001)
    _, received, noise_var, gain = transmission(order, shape, np.array([[-5], [0], [8], [20], [45]]))
    together = demapper(received, qam(order), noise_var, gain)
    for row in range(shape[0]):
        alone = demapper(received[row], qam(order), noise_var[row, 0], gain[row])
        np.testing.assert_array_equal(together[row], alone)
    last = demapper(received[-1:, -1:], qam(order), noise_var[-1:, -1:], gain[-1:, -1:])
    np.testing.assert_array_equal(together[-1, -qam(order).bits_per_symbol :], last[0])


def test_noise_var_and_gain_broadcast():
    _, received, _, _ = transmission(16, (2, 3, 4), 5)
    noise_var = np.array([[[0.1]], [[1.0]]])
    gain = np.array([1, 1j, 0.5, 2])
    expected = llr_exact(
        received, qam(16), np.broadcast_to(noise_var, (2, 3, 4)), np.broadcast_to(gain, (2, 3, 4))
    )
    np.testing.assert_array_equal(llr_exact(received, qam(16), noise_var, gain), expected)


@every_order
def test_exact_llrs_are_true_log_odds(order):
    """Among bits with the same LLR the share of ones is sigmoid(LLR).

    |z| < 5 in each of at most 16 bins: false-alarm probability below 1e-5; a noise variance off by 2 gives
    more than 20.
    """
    symbols, received, noise_var, gain = transmission(order, (60_000,), 8, seed=7)
    bits = symbols_to_bits(symbols, qam(order).bits_per_symbol)
    llr = llr_exact(received, qam(order), noise_var, gain)
    assert worst_z(llr, bits) < 5
    assert worst_z(llr_exact(received, qam(order), noise_var / 2, gain), bits) > 20


def worst_z(llr, bits):
    """Largest standardised difference between counted and predicted ones over bins of the LLR."""
    bins = np.digitize(llr, np.arange(-7, 8))
    predicted = expit(llr)
    scores = []
    for chosen in (bins == number for number in range(16)):
        variance = (predicted * (1 - predicted))[chosen].sum()
        if variance > 10:
            scores.append(abs((bits - predicted)[chosen].sum()) / np.sqrt(variance))
    return max(scores)


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
    for llr in (
        llr_exact([complex(y_re, y_im)], qam(order), noise_var, complex(h_re, h_im)),
        llr_maxlog([complex(y_re, y_im)], qam(order), noise_var, complex(h_re, h_im)),
        llr_bruteforce([complex(y_re, y_im)], qam(order).points, noise_var, complex(h_re, h_im)),
    ):
        assert np.isfinite(llr).all()
        assert np.abs(llr).max() <= LLR_CLIP


@both_demappers
def test_without_gain_nothing_is_known(demapper):
    assert not demapper([1 + 1j, 100j], qam(64), [1e-6, 1.0], 0.0).any()
    assert not llr_bruteforce([1 + 1j, 100j], qam(4).points, 1e-3, 0.0).any()


@every_order
@both_demappers
def test_high_snr_saturates_at_the_clip(order, demapper):
    llr = demapper(qam(order).points, qam(order), 1e-6)
    assert set(np.abs(llr).tolist()) == {LLR_CLIP}
    assert set(np.abs(demapper(qam(order).points, qam(order), 1e-6, clip=7.5)).tolist()) == {7.5}


def test_bruteforce_takes_any_constellation_in_bit_order():
    """BPSK: LLR = -4 Re(y) / N0 for 0 -> +1, 1 -> -1; and an 8-PSK against plain sums."""
    assert llr_bruteforce([0.3 + 2j], [1, -1], 0.5)[0] == pytest.approx(-4 * 0.3 / 0.5, rel=1e-13)
    points = np.exp(2j * np.pi * np.array([0, 3, 1, 2, 7, 4, 6, 5]) / 8)
    likelihood = np.exp(-(np.abs(0.4 - 0.9j - points) ** 2) / 0.8)
    odds = [
        likelihood[[4, 5, 6, 7]].sum() / likelihood[[0, 1, 2, 3]].sum(),
        likelihood[[2, 3, 6, 7]].sum() / likelihood[[0, 1, 4, 5]].sum(),
        likelihood[[1, 3, 5, 7]].sum() / likelihood[[0, 2, 4, 6]].sum(),
    ]
    np.testing.assert_allclose(llr_bruteforce([0.4 - 0.9j], points, 0.8), np.log(odds), rtol=1e-12)


@SETTINGS
@given(st.sampled_from(QAM_ORDERS), st.floats(-20, 40), st.integers(0, 2**32))
def test_hard_decisions_take_the_nearest_point(order, esn0_db, seed):
    _, received, noise_var, gain = transmission(order, (3, 20), esn0_db, seed)
    decided = hard_decisions(received, qam(order), gain)
    distance = np.abs(received[..., np.newaxis] - gain[..., np.newaxis] * qam(order).points)
    np.testing.assert_array_equal(decided, distance.argmin(axis=-1))
    assert decided.dtype == np.int64
    signs = llr_maxlog(received, qam(order), noise_var, gain) > 0
    np.testing.assert_array_equal(symbols_to_bits(decided, qam(order).bits_per_symbol), signs)


@every_order
def test_hard_decisions_undo_the_modulation(order):
    np.testing.assert_array_equal(hard_decisions(qam(order).points, qam(order)), np.arange(order))
    far = hard_decisions(1e90j * qam(order).points, qam(order), 1e90j)
    np.testing.assert_array_equal(far, np.arange(order))


@both_demappers
def test_nothing_received_gives_nothing(demapper):
    assert demapper(np.zeros((3, 0), complex), qam(16), 1.0).shape == (3, 0)
    assert demapper(np.zeros((0, 2), complex), qam(16), 1.0).shape == (0, 8)
    assert hard_decisions(np.zeros((3, 0), complex), qam(16)).shape == (3, 0)


@pytest.mark.parametrize(
    "demapper",
    [llr_exact, llr_maxlog, lambda y, c, *rest, **named: llr_bruteforce(y, c.points, *rest, **named)],
)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("received", {"received": [np.nan]}),
        ("received", {"received": [1j * np.inf]}),
        ("received", {"received": 1 + 1j}),
        ("received", {"received": ["x"]}),
        ("noise_var", {"noise_var": 0.0}),
        ("noise_var", {"noise_var": -1.0}),
        ("noise_var", {"noise_var": [1.0, 0.0]}),
        ("noise_var", {"noise_var": np.nan}),
        ("noise_var", {"noise_var": np.inf}),
        ("noise_var", {"noise_var": 1j}),
        ("noise_var", {"noise_var": [1.0, 1.0, 1.0]}),
        ("gain", {"gain": np.nan}),
        ("gain", {"gain": [1.0, 1.0, 1.0]}),
        ("gain", {"gain": [[1.0], [1.0]]}),
        ("clip", {"clip": 0.0}),
        ("clip", {"clip": -5.0}),
        ("clip", {"clip": np.inf}),
        ("clip", {"clip": np.nan}),
    ],
)
def test_bad_input_is_named(demapper, name, arguments):
    chosen = {"received": [0.1 + 0.2j, 1j], "noise_var": 1.0, "gain": 1.0, "clip": 50.0} | arguments
    with pytest.raises(InputError, match=f"'{name}' must"):
        demapper(chosen["received"], qam(16), chosen["noise_var"], gain=chosen["gain"], clip=chosen["clip"])


@pytest.mark.parametrize("points", [[1.0], [1, 2, 3], [[1, 2], [3, 4]], [], [1, np.nan]])
def test_points_must_spell_bits(points):
    with pytest.raises(InputError, match="'points' must"):
        llr_bruteforce([1j], points, 1.0)


def test_hard_decisions_name_bad_input():
    with pytest.raises(InputError, match="'received' must be finite"):
        hard_decisions([np.nan], qam(4))
    with pytest.raises(InputError, match="'gain' must broadcast"):
        hard_decisions([1j, 1], qam(4), [1, 1, 1])
