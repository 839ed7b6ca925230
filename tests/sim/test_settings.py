"""Settings refuse what breaks a rule or is of another type, whoever wrote it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.settings import Settings

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@given(st.sampled_from([entry.name for entry in fields(Settings)]), ANY_JSON)
def test_a_crafted_value_is_taken_as_it_is_or_refused(name: str, value: object) -> None:
    """Any error but an InputError fails here."""
    with suppress(InputError):
        assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        # One wrong type and one wrong choice; the others are rules of their own.
        ({"trials": "20"}, "'trials' must be a whole number"),
        ({"codes": (1,)}, "'codes' must be one of conv, ldpc, not 1"),
        ({"trials": 0}, "'trials' must lie in 1..100,000, not 0"),
        ({"seed": -3}, "'seed' must be at least 0"),
        ({"trials": 10**20}, "'trials' must lie within 64 bits"),
        ({"pilots": 10_001}, "'pilots' must lie in 1..10,000, not 10001"),
        ({"precision": 1.0}, "'precision' must lie between 0 and 1"),
        ({"tolerance": float("nan")}, "'tolerance' must lie in 0..1"),
        ({"rician_k_db": -101.0}, "'rician_k_db' must lie in -100"),
        ({"delay_spread_ns": 0.0}, "'delay_spread_ns' must be positive and at most 1,000,000 ns"),
        ({"delay_spread_ns": 10**400}, "'delay_spread_ns' must be positive"),
        ({"codes": ("conv", "conv")}, "'codes' must name each only once"),
        ({"coherence": "sample"}, "'coherence' must be 'symbol' on AWGN"),
        ({"channel": "tdl-a", "coherence": 4}, "'coherence' must be 'symbol' on a tapped"),
        ({"channel": "rayleigh", "coherence": 1}, "'coherence' must be 'symbol', 'sample' or 2 to 1,000,000"),
        ({"channel": "rayleigh", "coherence": 1_000_001}, "'coherence' must be 'symbol', 'sample' or 2"),
        ({"known_snr": "block"}, "'known_snr' must be 'mean' unless a gain holds for a whole sample"),
        ({"precision": 0.1, "max_trials": 1}, "'max_trials' must be at least the 20 trials"),
        ({"snr_error_bias_db": -101.0}, "'router_snr_error' must have a bias within 100 dB"),
        ({"snr_error_jitter_db": -1.0}, "'router_snr_error' must have a jitter from 0"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], rule: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**values)
    assert str(caught.value).startswith(rule)


def test_settings_survive_a_report() -> None:
    settings = Settings(
        codes=("conv", "ldpc"), channel="rayleigh", coherence=1_000_000, tolerance=0, seed=2**62
    )
    values = json.loads(json.dumps(asdict(settings)))
    lists = {name: tuple(values[name]) for name in ("codes", "baselines")}
    assert Settings(**(values | lists)) == settings
