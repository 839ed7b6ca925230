"""The scale of an input: measured by stated rules, one rounding, and other units refused or noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.input_scale import CONSTANT_EXPONENT, InputScale, measure, spread

RNG = np.random.default_rng(0)
TABLE = np.stack(
    [RNG.normal(750, 300, 400), RNG.normal(0.01, 0.002, 400), np.full(400, 7.5), RNG.integers(0, 2, 400)], 1
).astype(np.float32)


def test_each_feature_is_centred_and_divided_by_the_power_of_two_at_its_deviation() -> None:
    scale = measure(TABLE, "float32", one=False)
    assert scale.offset == tuple(map(float, spread(TABLE, one=False)[0].astype(np.float32)))
    assert scale.exponent == (8, -9, CONSTANT_EXPONENT, -1)
    assert scale.mean == pytest.approx(TABLE.mean(axis=0), rel=0.01)
    scaled = scale.scaled(TABLE)
    assert (scaled.std(axis=0)[[0, 1, 3]] > 0.7).all()
    assert (scaled.std(axis=0) < 1.42).all()
    assert not scaled[:, 2].any()
    assert not scale.scaled(TABLE + np.float32([0, 0, 1e6, 0])).astype(np.float16)[:, 2].any()


def test_outliers_do_not_count_and_saturate() -> None:
    spoilt = TABLE.copy()
    spoilt[5] = 3e38
    scale, clean = (measure(values, "float32", one=False) for values in (spoilt, TABLE))
    assert scale.exponent[:2] == clean.exponent[:2]
    assert scale.scaled(spoilt)[5].max() == 8 * 127 / 128
    rare = np.zeros((1000, 1), np.float32)
    rare[3] = 1
    assert measure(rare, "float32", one=False).exponent == (-5,)  # constant but for its tail: the tail counts


@pytest.mark.parametrize(
    ("values", "dtype", "offset", "exponent"),
    [
        (RNG.integers(0, 256, (50, 4, 4)), "uint8", 0, 8),
        (np.zeros((50, 4, 4)), "uint8", 0, 8),
        (RNG.integers(0, 17, (50, 64)), "float32", 0, 4),
        (RNG.random((50, 4, 4)), "float32", 0, 0),
        (RNG.normal(0, 3, (5000, 2, 2)), "float32", 0, 4),
        (RNG.uniform(1000, 1200, (50, 4, 4)), "float32", 1100, 7),
        (np.zeros((50, 4, 4)), "float32", 0, CONSTANT_EXPONENT),
    ],
)
def test_pixels_keep_one_scale(values: Any, dtype: Any, offset: float, exponent: int) -> None:
    scale = measure(values.astype(np.float32), dtype, one=True)
    assert scale.offset == pytest.approx((offset,), abs=5)
    assert scale.exponent == (exponent,)
    scaled = np.abs(scale.scaled(values.astype(np.float32)))
    assert scaled.max() < 1.6
    assert exponent == CONSTANT_EXPONENT or dtype == "uint8" or scaled.max() > 0.5


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e30),
    st.integers(-90, 90),
    st.integers(-10, 3),
)
def test_fused_or_not_it_is_rounded_once(x: float, offset: float, exponent: int, unit: int) -> None:
    """What is rounded to 8 bits is the same from (x - o) * f and from one fused x * f - o * f."""
    factor = 2.0 ** -(exponent + unit)
    with np.errstate(over="ignore"):
        apart = (np.float32(x) - np.float32(offset)) * np.float32(factor)
        fused = np.float32(np.longdouble(x) * factor - np.longdouble(offset) * factor)
    assert np.clip(np.rint(apart), -128, 127) == np.clip(np.rint(fused), -128, 127)


@pytest.mark.parametrize(
    ("dtype", "values", "rule"),
    [
        ("uint8", [0.0, 0.5], r"'x' must be pixels, whole numbers 0\.\.255.*not 0\.5"),
        ("uint8", [-1, 3], r"'x' must be pixels.*not -1"),
        ("uint8", [256, 3], r"'x' must be pixels.*not 256"),
        ("float32", np.array([3], np.uint8), "'x' must be in the units of the training data.*uint8"),
        ("float32", [np.nan], "'x' must be finite"),
        ("uint8", [np.inf], "'x' must be finite"),
    ],
)
def test_other_units_are_refused(dtype: Any, values: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        InputScale(dtype).taken("x", values)


def test_pixels_are_taken_as_they_come() -> None:
    for values in ([0, 255], np.array([0, 255], np.uint8), np.array([0.0, 255.0])):
        assert InputScale("uint8").taken("x", values).tolist() == [0, 255]


def test_a_shift_against_the_training_data_is_said() -> None:
    pixels = RNG.integers(0, 256, (60, 8, 8)).astype(np.float32)
    scale = measure(pixels, "uint8", one=True)
    assert scale.shifts(pixels[:30]) == []
    mean, deviation = scale.shifts(pixels / 255)
    assert mean.startswith("the mean of the input is 0.5")
    assert deviation.startswith("the standard deviation of the input is 0.")
    assert scale.shifts(pixels[:9] / 255) == []  # too few to say
    table = measure(TABLE, "float32", one=False)
    assert table.shifts(TABLE[::7]) == []
    assert "the mean of feature 2 is 8.5, in training 7.5 ± 0" in table.shifts(
        TABLE + np.float32([0, 0, 1, 0])
    )
    found = table.shifts(TABLE * np.float32([1000, 1, 1, 40]))
    assert len(found) == 2
    assert all("feature 0 (and of 1 more)" in entry for entry in found)


@pytest.mark.parametrize("size", [10, 60, 400])
def test_samples_of_the_same_law_are_no_shift(size: int) -> None:
    """Rare binary and heavy-tailed features, 160 of them: a false alarm in at most 2 of 100 draws."""

    def draw(count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rare = rng.random((count, 100)) < 0.02
        tailed, normal = rng.lognormal(0, 1, (count, 30)), rng.normal(5, 2, (count, 30))
        return np.hstack([rare, tailed, normal]).astype(np.float32)

    scale = measure(draw(1000, 0), "float32", one=False)
    assert sum(bool(scale.shifts(draw(size, seed))) for seed in range(1, 101)) < 3
    assert scale.shifts(np.zeros((size, 160), np.float32))


def test_what_varies_beyond_any_unit_is_refused() -> None:
    with pytest.raises(InputError, match=r"'features' must vary by at least 2\^-90 in their units, not 5"):
        measure(np.float32([[1e-35], [0]]), "float32", one=False)


def test_entries_are_checked() -> None:
    for wrong in ({"limit": 3.0}, {"offset": (1e39,)}, {"deviation": (-1.0,)}, {"exponent": (101,)}):
        with pytest.raises(InputError):
            InputScale(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'offset' must hold 1 or 3 numbers, one per feature, not 2"):
        InputScale(offset=(0.0, 1.0)).check(3)
