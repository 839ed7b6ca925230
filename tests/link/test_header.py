import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.header import Header, HeaderStep, check_steps, codes_for, header_code, plan_header
from twophase.link.noise import esn0_float32

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)
STEPS = (HeaderStep(-10.0, "rm15"), HeaderStep(2.5, "hamming84"), HeaderStep(9.0, "plain"))
GRID = np.arange(-10.0, 20.5, 0.5)
COUNTS = (2, 3, 4, 5, 9, 12, 16, 32, 64, 128)
SNRS = st.floats(-30, 40)


def test_each_step_has_its_code_and_the_first_applies_below_too():
    header = Header(STEPS, 9)
    for snr_db, name in (
        (-99, "rm15"),
        (-10, "rm15"),
        (2, "rm15"),
        (2.5, "hamming84"),
        (9, "plain"),
        (99, "plain"),
    ):
        assert header.code(snr_db) is header_code(name, 9)
    assert header.max_symbols == 16
    counts = header.symbol_count([[-99.0, 2.5, 9.0]])
    assert (counts.dtype, counts.tolist()) == (np.int64, [[16, 4, 2]])


def test_an_snr_is_compared_as_float32():
    """A float64 just below a threshold is that threshold for the graph, and so it is for the header."""
    header = Header(STEPS, 9)
    below = math.nextafter(2.5, -math.inf)
    assert header.code(below) is header.code(2.5)
    assert header.code(float(np.nextafter(np.float32(2.5), np.float32(0)))) is header.code(0.0)


@SETTINGS
@given(st.integers(0, 2**32), st.sampled_from([(), (7,), (2, 3)]))
def test_round_trip_with_a_code_for_each_sample(seed, shape):
    rng = np.random.default_rng(seed)
    header = Header(STEPS, 9)
    mode, snr_db = rng.integers(0, 9, shape), rng.uniform(-10, 20, shape)
    symbols, counts = header.encode(mode, snr_db)
    assert (symbols.dtype, symbols.shape) == (np.int64, (*shape, 16))
    np.testing.assert_array_equal(counts, header.symbol_count(snr_db))
    for place in np.ndindex(shape):
        code = header.code(float(snr_db[place]))
        assert code is not None
        assert counts[place] == code.symbols
        np.testing.assert_array_equal(symbols[place][: code.symbols], code.symbols_of(mode[place]))
        assert (symbols[place][code.symbols :] == -1).all()
    llr = rng.normal(0, 50, (*shape, 32))  # what lies behind a header is not looked at
    sent = np.arange(16) < counts[..., np.newaxis]
    llr[..., 0::2] = np.where(sent, 2.0 * (symbols >> 1) - 1, llr[..., 0::2])
    llr[..., 1::2] = np.where(sent, 2.0 * (symbols & 1) - 1, llr[..., 1::2])
    decoded = header.decode(llr, snr_db)
    assert (decoded.dtype, decoded.shape) == (np.int64, shape)
    np.testing.assert_array_equal(decoded, mode)


def test_one_snr_serves_all_samples():
    header = Header(STEPS, 9)
    symbols, counts = header.encode([3, 8], 4.0)
    np.testing.assert_array_equal(counts, [4, 4])
    np.testing.assert_array_equal(symbols, header.encode([3, 8], [4.0, 4.0])[0])
    llr = np.random.default_rng(0).normal(size=(5, 32))
    np.testing.assert_array_equal(header.decode(llr, 4.0), header.decode(llr, np.full(5, 4.0)))


def test_ends_that_disagree_on_the_code_mostly_miss_the_mode():
    """9 modes, the receiver one step too high: it reads four symbols of the sixteen as hamming84."""
    header = Header(STEPS, 9)
    symbols, _ = header.encode(np.arange(9), 2.0)
    llr = np.stack([2.0 * (symbols >> 1) - 1, 2.0 * (symbols & 1) - 1], axis=-1).reshape(9, -1)
    np.testing.assert_array_equal(header.decode(llr, 2.0), np.arange(9))
    assert (header.decode(llr, 3.0) != np.arange(9)).mean() >= 0.5


def test_without_steps_nothing_is_sent():
    header = Header((), 4)
    assert header.max_symbols == 0
    assert header.code(3.0) is None
    symbols, counts = header.encode([3, 0], [1.0, 2.0])
    assert (symbols.shape, counts.tolist()) == ((2, 0), [0, 0])
    assert header.symbol_count([[1.0], [2.0]]).tolist() == [[0], [0]]
    with pytest.raises(InputError, match="'header' must have a code to be decoded"):
        header.decode(np.zeros((2, 0)), 3.0)


def test_no_samples_are_no_headers():
    symbols, counts = Header(STEPS, 9).encode(np.zeros(0, dtype=int), 3.0)
    assert (symbols.shape, counts.shape) == ((0, 16), (0,))
    assert Header(STEPS, 9).decode(np.zeros((0, 32)), 3.0).shape == (0,)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("target", [1e-2, 1e-3, 1e-6])
def test_a_plan_takes_the_shortest_code_that_is_safe(count, target):
    header = Header(plan_header(count, target), count)
    doubling = [
        code
        for code in codes_for(count)
        if code.name not in {f"repeat{r}" for r in (3, 5, 6, 7, *range(9, 16))}
    ]
    for esn0_db in GRID.tolist():
        chosen = header.code(esn0_db)
        assert chosen is not None
        safe = [code for code in doubling if code.word_error_bound(esn0_db) <= target]
        if safe:
            assert chosen in safe
            assert chosen.symbols == min(code.symbols for code in safe)
            assert chosen.min_distance == max(c.min_distance for c in safe if c.symbols == chosen.symbols)
        else:
            assert chosen.min_distance == max(code.min_distance for code in doubling)


@pytest.mark.parametrize("count", COUNTS)
def test_a_plan_is_short_and_its_headers_shrink(count):
    steps = plan_header(count)
    assert steps[0].from_db == -10.0
    assert len(steps) <= 7
    lengths = [header_code(step.code, count).symbols for step in steps]
    assert lengths == sorted(lengths, reverse=True)
    assert len({step.code for step in steps}) == len(steps)
    assert header_code(steps[-1].code, count).symbols == math.ceil(math.log2(count) / 2)


@pytest.mark.parametrize(
    ("count", "symbols"),
    [
        (2, [32, 16, 8, 4, 2, 1, 1, 1]),
        (4, [32, 32, 16, 8, 4, 2, 2, 1]),
        (9, [32, 32, 16, 8, 8, 4, 4, 2]),
        (16, [32, 32, 16, 16, 8, 4, 4, 2]),
    ],
)
def test_the_costs_that_the_module_documents(count, symbols):
    header = Header(plan_header(count), count)
    assert header.symbol_count([-10, -5, 0, 2.5, 5, 7.5, 10, 15]).tolist() == symbols


def test_a_plan_keeps_its_target_from_the_snr_on_that_the_module_documents():
    def bounds(count):
        header = Header(plan_header(count), count)
        return np.array([header.code(esn0_db).word_error_bound(esn0_db) for esn0_db in GRID])

    for count, from_db in ((2, -8.0), (4, -4.5), (16, -3.0)):
        np.testing.assert_array_equal(bounds(count) <= 1e-3, from_db <= GRID)
    assert bounds(16)[GRID == -5.0] == pytest.approx(0.01, abs=0.001)
    assert bounds(16)[GRID == -10.0] == pytest.approx(0.52, abs=0.005)


@SETTINGS
@given(st.sampled_from(COUNTS), SNRS, st.integers(0, 2**32))
def test_a_planned_header_is_read_back(count, snr_db, seed):
    header = Header(plan_header(count), count)
    mode = np.random.default_rng(seed).integers(0, count, 5)
    symbols, _ = header.encode(mode, snr_db)
    llr = np.stack([2.0 * (symbols >> 1) - 1, 2.0 * (symbols & 1) - 1], axis=-1).reshape(5, -1)
    np.testing.assert_array_equal(header.decode(llr, esn0_float32(snr_db)), mode)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HeaderStep(0.1, "plain"), "'from_db' must be finite and exact in float32, not 0.1"),
        (lambda: HeaderStep(math.nan, "plain"), "'from_db' must be finite and exact in float32, not nan"),
        (lambda: HeaderStep(math.inf, "plain"), "'from_db' must be finite and exact in float32, not inf"),
        (lambda: HeaderStep(0.0, "rm13"), "'code' must be one of plain, repeat2, .* not 'rm13'"),
        (
            lambda: check_steps((STEPS[1], STEPS[0])),
            r"'header' must have steps that ascend, not \(2.5, -10.0\)",
        ),
        (lambda: check_steps((STEPS[1], HeaderStep(2.5, "plain"))), "'header' must have steps that ascend"),
        (
            lambda: check_steps((STEPS[0], HeaderStep(5.0, "rm15"))),
            "'header' must change its code at each step",
        ),
        (lambda: Header((STEPS[1], STEPS[0]), 9), "'header' must have steps that ascend"),
        (
            lambda: Header(STEPS, 17),
            "'header' must be a code of at least 5 bits for 17 modes, not 'hamming84'",
        ),
        (lambda: Header(STEPS, 1), r"'modes_count' must lie in 2\.\.1024 for a header, not 1"),
        (lambda: Header(STEPS, 9).code(math.nan), "'snr_db' must be finite"),
        (lambda: Header(STEPS, 9).encode(9, 0.0), r"'mode' must lie in 0\.\.8, not 9"),
        (lambda: Header(STEPS, 9).encode(0.0, 0.0), "'mode' must be integers"),
        (lambda: Header(STEPS, 9).encode([0, 1], [0.0] * 3), r"'snr_db' must broadcast to the shape \(2,\)"),
        (lambda: Header(STEPS, 9).encode(0, math.inf), "'snr_db' must be finite"),
        (lambda: Header(STEPS, 9).decode(np.zeros(31), 0.0), r"'header_llr' must have shape \(\.\.\., 32\)"),
        (lambda: Header(STEPS, 9).decode(0.0, 0.0), r"'header_llr' must have shape \(\.\.\., 32\), not \(\)"),
        (
            lambda: Header(STEPS, 9).decode(np.zeros((2, 32)), [0.0] * 3),
            "'snr_db' must broadcast to the shape",
        ),
        (lambda: Header(STEPS, 9).decode(np.full(32, math.nan), 0.0), "'llr' must be finite"),
        (lambda: plan_header(1), r"'modes_count' must lie in 2\.\.1024 for a header, not 1"),
        (lambda: plan_header(4, 0.0), "'target' must lie between 0 and 1, not 0.0"),
        (lambda: plan_header(4, 1.0), "'target' must lie between 0 and 1, not 1.0"),
        (lambda: plan_header(4, math.nan), "'target' must lie between 0 and 1, not nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
