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
    ("call", "name"),
    [
        (lambda: ber_for_usage(np.ones(4), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(np.zeros(16), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(-np.ones(16), 16, 0.0), "histogram"),
        (lambda: capacity(0.0, "rice"), "channel"),
        (lambda: simplex_success(1, 6, 0.0), "classes"),
        (lambda: simplex_success(10, 0, 0.0), "symbols"),
        (lambda: simplex_success(10, 6, np.nan), "esn0_db"),
        (lambda: simplex_success(10, 6, 0.0, "rice"), "channel"),
        (lambda: simplex_success(10, 6, 0.0, "rayleigh", "frame"), "coherence"),
        (lambda: simplex_success(10, 6, 0.0, "rayleigh", 1), "coherence"),
        (lambda: label_accuracy(1.1, 0.5, 10), "clean"),
        (lambda: label_accuracy(0.9, np.nan, 10), "delivered"),
        (lambda: label_accuracy(0.9, 0.5, 1), "classes"),
        (lambda: power_gain_nodes(()), "weights"),
        (lambda: power_gain_nodes((0.0, 0.0)), "weights"),
        (lambda: power_gain_nodes((1.0, -1.0)), "weights"),
        (lambda: power_gain_nodes((1.0, math.nan)), "weights"),
        (lambda: power_gain_nodes((1.0,), -0.1), "factor"),
        (lambda: power_gain_nodes((1.0,), math.inf), "factor"),
        (lambda: rician_factor(-101.0), "rician_k_db"),
        (lambda: paired_gap([]), "differences"),
        (lambda: paired_gap([1.5]), "differences"),
        (lambda: paired_gap([np.nan]), "differences"),
        (lambda: wilson_by_sample([[0.5]]), "fractions"),
        (lambda: wilson_by_sample([-0.1]), "fractions"),
        (lambda: wilson_by_sample([0.5], confidence=1.0), "confidence"),
        (lambda: clopper_pearson(0, 0), "total"),
        (lambda: clopper_pearson(3, 2), "count"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()


def test_the_factor_of_rician_fading_is_given_in_db() -> None:
    assert rician_factor(20.0) == pytest.approx(100.0)
