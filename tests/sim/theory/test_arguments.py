"""What no theory holds for, and how it is named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.power_gain import power_gain_nodes, rician_factor
from twophase.sim.theory.rates import (
    ber_for_usage,
    bicm_mutual_information,
    capacity,
    cm_mutual_information,
    qam_ber,
)
from twophase.sim.theory.statistics import clopper_pearson, paired_gap, wilson_by_sample


def _ones(order: int, *others: object) -> np.ndarray:
    return ber_for_usage(np.ones(16), order, *others)


@pytest.mark.parametrize("rate", [qam_ber, _ones, cm_mutual_information, bicm_mutual_information])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((8, 0.0), "order"),
        ((16, np.nan), "esn0_db"),
        ((16, 0.0, "rice"), "channel"),
        ((16, 0.0, "rician", 101.0), "rician_k_db"),
        ((16, 0.0, "rician", np.nan), "rician_k_db"),
    ],
)
def test_rates_name_bad_arguments(rate, arguments, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        rate(*arguments)


@pytest.mark.parametrize(
    ("function", "name", "calls"),
    [
        (
            ber_for_usage,
            "histogram",
            [(np.ones(4), 16, 0.0), (np.zeros(16), 16, 0.0), (-np.ones(16), 16, 0.0)],
        ),
        (capacity, "channel", [(0.0, "rice")]),
        (simplex_success, "classes", [(1, 6, 0.0)]),
        (simplex_success, "symbols", [(10, 0, 0.0)]),
        (simplex_success, "esn0_db", [(10, 6, np.nan)]),
        (simplex_success, "channel", [(10, 6, 0.0, "rice")]),
        (simplex_success, "coherence", [(10, 6, 0.0, "rayleigh", length) for length in ("frame", 1)]),
        (label_accuracy, "clean", [(1.1, 0.5, 10)]),
        (label_accuracy, "delivered", [(0.9, np.nan, 10)]),
        (label_accuracy, "classes", [(0.9, 0.5, 1)]),
        (power_gain_nodes, "weights", [((),), ((0.0, 0.0),), ((1.0, -1.0),), ((1.0, math.nan),)]),
        (power_gain_nodes, "factor", [((1.0,), -0.1), ((1.0,), math.inf)]),
        (rician_factor, "rician_k_db", [(-101.0,)]),
        (paired_gap, "differences", [([],), ([1.5],), ([np.nan],)]),
        (wilson_by_sample, "fractions", [([[0.5]],), ([-0.1],)]),
        (wilson_by_sample, "confidence", [([0.5], 1.0)]),
        (clopper_pearson, "total", [(0, 0)]),
        (clopper_pearson, "count", [(3, 2)]),
    ],
)
def test_bad_arguments_are_named(function, name, calls) -> None:
    for arguments in calls:
        with pytest.raises(InputError, match=f"'{name}' must"):
            function(*arguments)


def test_the_factor_of_rician_fading_is_given_in_db() -> None:
    assert rician_factor(20.0) == pytest.approx(100.0)
