"""Message passing on any code: against enumeration where it is exact, and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from twophase.link.bits import indices_to_bits
from twophase.sim.codes.message_passing import RULES, parity_checks, propagate

KERNELS = pytest.mark.parametrize("kernel", ["numpy", "numba"])
TREE = [[0, 1, 2], [2, 3, 4], [4, 5, 6, 7]]
"""Checks without a cycle: there, sum-product is exact."""
CYCLES = [[0, 1, 2], [3, 4, 5], [6, 7, 0], [1, 3, 6, 7], [2, 5, 0, 4], [2, 3, 7]]


def test_layers_share_no_bit_and_hold_is_a_syndrome() -> None:
    checks = parity_checks(CYCLES, 8)
    assert [layer.shape for layer in checks.layers] == [(2, 3), (1, 3), (2, 4), (1, 3)]
    assert [
        checks.bits[a:b].tolist() for a, b in zip(checks.starts, checks.starts[1:], strict=False)
    ] == CYCLES
    words = indices_to_bits(np.arange(2**8), 8)
    expected = [not any(word[check].sum() % 2 for check in CYCLES) for word in words]
    assert checks.hold(words.astype(bool)).tolist() == expected


@KERNELS
def test_sum_product_is_exact_on_a_tree(kernel) -> None:
    checks = parity_checks(TREE, 8)
    every = indices_to_bits(np.arange(2**8), 8)
    words = every[checks.hold(every.astype(bool))]
    llr = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    metric = llr.astype(float) @ words.T
    exact = np.transpose(
        [logsumexp(metric[:, bit == 1], axis=1) - logsumexp(metric[:, bit == 0], axis=1) for bit in words.T]
    )
    found = propagate(checks, llr, 10, "sum-product", kernel)
    # A frame ends as soon as its decisions are a word; where they never are, all passes were made.
    unfinished = ~checks.hold(found > 0)
    assert unfinished.sum() > 20
    np.testing.assert_allclose(found[unfinished], exact[unfinished], rtol=1e-5, atol=1e-5)


def answer(incoming: np.ndarray, rule: str) -> list[float]:
    """What a check says to each of its bits, given what all of them say."""
    said = []
    for place in range(len(incoming)):
        others = np.delete(incoming, place)
        sign = -np.prod(np.where(others > 0, -1.0, 1.0))
        if rule == "min-sum":
            said.append(0.75 * sign * np.abs(others).min())
        else:
            said.append(2 * np.arctanh(sign * np.prod(np.tanh(np.abs(others) / 2))))
    return said


@KERNELS
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("passes", [1, 5])
def test_propagation_equals_a_plain_loop(rule, passes, kernel) -> None:
    llr = (2 * np.random.default_rng(2).standard_normal((100, 8))).astype(np.float32)
    found = propagate(parity_checks(CYCLES, 8), llr, passes, rule, kernel)
    broken = 0
    for row, posterior in zip(found, llr.astype(float), strict=True):
        said = [np.zeros(len(check)) for check in CYCLES]
        for _ in range(passes):
            for number, check in enumerate(CYCLES):
                incoming = posterior[check] - said[number]
                said[number] = answer(incoming, rule)
                posterior[check] = incoming + said[number]
            if not any((posterior[check] > 0).sum() % 2 for check in CYCLES):
                break
        else:
            broken += 1
        np.testing.assert_allclose(row, posterior, rtol=1e-4, atol=1e-4)
    assert 0 < broken < 100
