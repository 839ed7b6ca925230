"""Latency is the time of single calls."""

from __future__ import annotations

import pytest

from twophase.export.verify import run_checks
from twophase.export.verify.run_checks import Latency, measure_latency
from twophase.link.errors import InputError


def test_quantiles_of_known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """101 calls that take 0, 1, ..., 100 us on a clock of the test's own."""
    clock = [0]
    durations = iter([7_000] * 3 + [1000 * number for number in range(101)])

    def call() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(run_checks, "perf_counter_ns", lambda: clock[0])
    assert measure_latency(call, calls=101, warm_up=3) == Latency(50.0, 99.0, 101)


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"calls": 0}, "'calls' must be at least 1"), ({"warm_up": -1}, "'warm_up' must be at least 0")],
)
def test_wrong_counts_are_refused(options: dict[str, int], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        measure_latency(lambda: None, **options)
