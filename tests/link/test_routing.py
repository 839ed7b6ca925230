import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.header import HeaderStep, header_code
from twophase.link.modes import LinkConfig
from twophase.link.routing import Hysteresis, Routing, SnrTable, fixed_routing, table_lines
from twophase.link.typed import from_json

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)
MODES = LinkConfig(codebook_sizes=(16, 64), tokens=(12, 4), qam_orders=(4, 16), embedding_dim=2).modes
TABLE = SnrTable((-1.25, 8.0), (0, 1, 3))
HEADER = (HeaderStep(-10.0, "rm14"), HeaderStep(5.0, "hamming84"))
CONTENT = Routing("content", TABLE, 0.0, HEADER)


@st.composite
def tables(draw):
    thresholds = sorted(draw(st.sets(st.floats(-20, 30, width=32), max_size=6)))
    modes = [draw(st.integers(0, 3))]
    for _ in thresholds:
        modes.append(draw(st.sampled_from([mode for mode in range(4) if mode != modes[-1]])))
    return SnrTable(tuple(thresholds), tuple(modes))


def float32_neighbours(value):
    single = np.float32(value)
    return float(np.nextafter(single, np.float32(-np.inf))), float(np.nextafter(single, np.float32(np.inf)))


def step_of(table, snr_db):
    """How many thresholds an Es/N0 reaches in float32."""
    return sum(np.float32(snr_db) >= np.float32(threshold) for threshold in table.thresholds_db)


@SETTINGS
@given(tables(), st.lists(st.floats(-30, 40), max_size=20))
def test_the_choice_is_the_mode_of_the_last_threshold_reached(table, snrs):
    for threshold in table.thresholds_db:
        snrs += [threshold, *float32_neighbours(threshold), math.nextafter(threshold, -math.inf)]
    chosen = table.choose(snrs)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [table.modes[step_of(table, snr_db)] for snr_db in snrs]
    edges = [-math.inf, *table.thresholds_db, math.inf]
    steps = range(len(table.modes))
    assert [table.bounds(step) for step in steps] == [(edges[step], edges[step + 1]) for step in steps]


@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_the_choice_keeps_the_shape(shape):
    chosen = TABLE.choose(np.full(shape, 3.0))
    assert chosen.shape == shape
    assert (chosen == 1).all()


@pytest.mark.parametrize("routing", [fixed_routing(), CONTENT, Routing("table", TABLE, 1.5, ())])
def test_a_routing_survives_json(routing):
    assert from_json(Routing, json.loads(json.dumps(asdict(routing))), "routing") == routing


def test_only_a_content_routing_tells_the_mode_and_the_receiver_takes_it_from_the_header():
    assert CONTENT.tells_mode
    assert not fixed_routing().tells_mode
    assert CONTENT.header_code(4.9, 9) is header_code("rm14", 9)
    snr_db = np.array([0.0, 6.0, 20.0])
    symbols, _ = CONTENT.header_of(4).encode([3, 0, 2], snr_db)
    llr = np.stack([2.0 * (symbols >> 1) - 1, 2.0 * (symbols & 1) - 1], axis=-1).reshape(3, -1)
    assert CONTENT.received_mode(snr_db, llr, 4).tolist() == [3, 0, 2]
    assert CONTENT.received_mode(6.0, llr[1], 4).shape == ()


def test_the_receiver_looks_a_shared_mode_up_at_its_own_snr():
    for routing in (Routing("snr", TABLE, 0.0, ()), Routing("table", TABLE, 2.0, ())):
        assert routing.header_code(3.0, 4) is None
        for header_llr in (None, np.zeros((3, 0))):
            assert routing.received_mode([-2.0, 0.0, 9.0], header_llr, 4).tolist() == [0, 1, 3]
    assert fixed_routing().received_mode([-5.0, 30.0], None, 1).tolist() == [0, 0]


def test_a_routing_is_checked_against_the_modes():
    CONTENT.check(MODES)
    many = LinkConfig((16,) * 5, (1,) * 5, (4, 16, 64, 256), embedding_dim=2).modes
    with pytest.raises(InputError, match="'header' must be a code of at least 5 bits for 20 modes"):
        CONTENT.check(many)
    with pytest.raises(InputError, match=r"'routing\.table\.modes' must lie in 0\.\.3, not 4"):
        Routing("snr", SnrTable((0.0,), (4, 0)), 0.0, ()).check(MODES)


def hold_slowly(table, hysteresis_db, estimates):
    """By the step of every estimate: what a reader of the rule would do, one estimate at a time."""
    held, step = [], None
    for estimate in np.asarray(estimates, dtype=np.float32).tolist():
        own = step_of(table, estimate)
        step = own if step is None else step
        lower, upper = table.bounds(step)
        if own < step and lower - estimate < hysteresis_db:
            held.append(lower)
        elif own > step and estimate - upper < hysteresis_db:
            held.append(float32_neighbours(upper)[0])
        else:
            held.append(estimate)
            step = own
    return held


@SETTINGS
@given(
    tables(),
    st.one_of(st.just(0.0), st.floats(0, 6)),
    st.lists(st.floats(-30, 40, width=32), max_size=30),
    st.integers(0, 30),
)
def test_what_is_held_equals_its_slow_twin_and_the_state_carries_over(table, hysteresis_db, estimates, cut):
    held = Hysteresis(table, hysteresis_db).hold(estimates)
    assert (held.dtype, held.shape) == (np.float32, (len(estimates),))
    assert held.tolist() == hold_slowly(table, hysteresis_db, estimates)
    in_parts, singly = Hysteresis(table, hysteresis_db), Hysteresis(table, hysteresis_db)
    parts = [in_parts.hold(estimates[:cut]), in_parts.hold(estimates[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), held)
    scalars = [singly.hold(estimate) for estimate in estimates]
    assert all(scalar.shape == () for scalar in scalars)
    np.testing.assert_array_equal(scalars, held)


def test_a_table_is_written_in_one_line_per_step():
    assert table_lines(TABLE, MODES) == [
        "below -1.25 dB   16x4qam    24 symbols",
        "-1.25 to 8 dB    16x16qam   12 symbols",
        "from 8 dB        64x16qam    6 symbols",
    ]
    one = LinkConfig(codebook_sizes=(16,), tokens=(1,), qam_orders=(16,), embedding_dim=2).modes
    assert table_lines(fixed_routing().table, one) == ["any SNR   16x16qam   1 symbol"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SnrTable((), ()), "'modes' must hold at least one mode number"),
        (lambda: SnrTable((), (-1,)), "'modes' must be whole numbers from 0, not -1"),
        (lambda: SnrTable((), (True,)), "'modes' must be whole numbers from 0, not True"),
        (lambda: SnrTable((1.0,), (0,)), "'thresholds_db' must hold 0 numbers, one fewer than modes"),
        (lambda: SnrTable((0.1,), (0, 1)), "'thresholds_db' must be finite and exact in float32, not 0.1"),
        (lambda: SnrTable((1.0, 1.0), (0, 1, 0)), r"'thresholds_db' must ascend, not \(1.0, 1.0\)"),
        (lambda: SnrTable((1.0,), (2, 2)), r"'modes' must change at each threshold, not \(2, 2\)"),
        (lambda: TABLE.choose(math.nan), "'snr_db' must be finite"),
        (lambda: TABLE.bounds(3), r"'step' must lie in 0\.\.2, not 3"),
        (lambda: TABLE.bounds(-1), "'step' must"),
        (lambda: Routing("other", TABLE, 0.0, ()), "'router' must be one of fixed, content, snr, table"),
        (lambda: Routing("fixed", TABLE, 0.0, ()), "'table' must hold mode 0 alone for the router 'fixed'"),
        (lambda: Routing("snr", TABLE, 1.0, ()), "'hysteresis_db' must be 0 for the router 'snr', not 1.0"),
        (lambda: Routing("table", TABLE, -1.0, ()), "'hysteresis_db' must be finite and at least 0"),
        (lambda: Routing("table", TABLE, math.inf, ()), "'hysteresis_db' must be finite"),
        (lambda: Routing("content", TABLE, 0.0, ()), "'header' must name a code for the router 'content'"),
        (lambda: Routing("snr", TABLE, 0.0, HEADER), "'header' must be empty for the router 'snr'"),
        (lambda: Routing("content", TABLE, 0.0, HEADER[::-1]), "'header' must have steps that ascend"),
        (lambda: CONTENT.received_mode(0.0, None, 4), "'header_llr' must be given"),
        (lambda: CONTENT.received_mode(0.0, np.zeros(15), 4), r"'header_llr' must have shape \(\.\.\., 16\)"),
        (lambda: fixed_routing().received_mode(0.0, [0.0], 4), "'header_llr' must be empty: this link sends"),
        (lambda: Hysteresis(TABLE, -0.5), "'hysteresis_db' must be finite and at least 0, not -0.5"),
        (lambda: Hysteresis(TABLE, math.inf), "'hysteresis_db' must be finite and at least 0"),
        (lambda: Hysteresis(TABLE, 1.0).hold([[0.0]]), r"'snr_db' must have at most one axis, not \(1, 1\)"),
        (lambda: table_lines(SnrTable((), (4,)), MODES), r"'table\.modes' must lie in 0\.\.3, not 4"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
