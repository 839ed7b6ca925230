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

NAMES = [entry.name for entry in fields(Settings)]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@given(st.sampled_from(NAMES), ANY_JSON)
def test_a_crafted_value_is_taken_as_it_is_or_refused(name: str, value: object) -> None:
    """Any error but an InputError fails here."""
    with suppress(InputError):
        assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("seed", 1.5, "be a whole number, not 1.5"),
        ("seed", True, "be a whole number, not True"),
        ("trials", 2.5, "be a whole number"),
        ("trials", "20", "be a whole number"),
        ("max_trials", None, "be a whole number"),
        ("pilots", 2.0, "be a whole number"),
        ("rician_k_db", "6", "be a number, not '6'"),
        ("delay_spread_ns", None, "be a number"),
        ("noise_mismatch_db", False, "be a number"),
        ("snr_error_bias_db", [0.0], "be a number"),
        ("snr_error_jitter_db", {}, "be a number"),
        ("tolerance", True, "be a number"),
        ("tolerance", 10**400, "lie in 0..1"),
        ("tolerance", float("nan"), "lie in 0..1"),
        ("precision", "0.1", "be a number"),
        ("precision", True, "be a number"),
        ("channel", 3, "be one of awgn"),
        ("channel", ["awgn"], "be one of awgn"),
        ("demapper", None, "be one of exact"),
        ("mode", 1, "be a text, not 1"),
        ("codes", "conv", "be a tuple, not 'conv'"),
        ("codes", ["conv"], "be a tuple"),
        ("codes", (1,), "be one of conv, ldpc, not 1"),
        ("baselines", None, "be a tuple"),
        ("coherence", 2.0, "be one of symbol, sample or be a whole number"),
        ("coherence", True, "be one of symbol, sample or be a whole number"),
        ("delay_spread_ns", 10**400, "be positive and at most 1,000,000 ns"),
        ("pilots", 10_001, "be at most 10,000, not 10001"),
        ("pilots", 0, "be at least 1"),
        ("seed", -3, "be at least 0"),
        ("trials", 0, "be at least 1"),
        ("precision", 2.0, "lie between 0 and 1"),
        ("tolerance", 2.0, "lie in 0..1"),
        ("rician_k_db", float("nan"), "lie in -100"),
        ("noise_mismatch_db", float("inf"), "lie in -100"),
        ("delay_spread_ns", -3.0, "be positive and at most"),
        ("coherence", "sample", "be 'symbol' on AWGN"),
        ("known_snr", "block", "be 'mean' unless a gain holds for a whole sample"),
        ("codes", ("conv", "conv"), "name each only once"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: object, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**{name: value})
    assert str(caught.value).startswith(f"'{name}' must {rule}")


def test_a_coherence_has_an_end() -> None:
    assert Settings(channel="rayleigh", coherence=1_000_000).coherence == 1_000_000
    with pytest.raises(
        InputError, match="'coherence' must be 'symbol', 'sample' or 2 to 1,000,000 symbols, not 1000001"
    ):
        Settings(channel="rayleigh", coherence=1_000_001)


def test_what_depends_on_another_setting() -> None:
    for values, name in (
        ({"channel": "rayleigh", "coherence": 1}, "coherence"),
        ({"channel": "tdl-a", "coherence": 4}, "coherence"),
        ({"precision": 0.1, "max_trials": 1}, "max_trials"),
        ({"snr_error_bias_db": 1e39}, "router_snr_error"),
        ({"snr_error_jitter_db": -1.0}, "router_snr_error"),
    ):
        with pytest.raises(InputError, match=f"'{name}' must"):
            Settings(**values)


def test_whole_numbers_pass_for_numbers() -> None:
    settings = Settings(rician_k_db=3, delay_spread_ns=100, tolerance=0, snr_error_bias_db=-1)
    assert settings.rician_k_db == 3


def test_settings_survive_a_report() -> None:
    settings = Settings(codes=("conv", "ldpc"), precision=0.01, mode="4x4qam", seed=2**70)
    values = json.loads(json.dumps(asdict(settings)))
    lists = {name: tuple(values[name]) for name in ("codes", "baselines")}
    assert Settings(**(values | lists)) == settings
