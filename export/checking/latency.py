"""How long one sample takes, in this process and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from twophase.link.errors import InputError

__all__ = ["Latency", "measure_latency"]


@dataclass(frozen=True)
class Latency:
    """Times of single calls."""

    p50_us: float
    """Median, in microseconds."""
    p99_us: float
    calls: int


def measure_latency(call: Callable[[], object], calls: int = 1000, warm_up: int = 100) -> Latency:
    """Time ``call`` by itself, again and again.

    Parameters
    ----------
    call
        What to time.
    calls
        How often, at least once.
    warm_up
        Calls before that are not counted.

    Raises
    ------
    InputError
        If ``calls`` is below 1 or ``warm_up`` is negative.
    """
    if calls < 1:
        raise InputError("calls", "be at least 1", calls)
    if warm_up < 0:
        raise InputError("warm_up", "be at least 0", warm_up)
    for _ in range(warm_up):
        call()
    times = np.empty(calls)
    for number in range(calls):
        start = perf_counter_ns()
        call()
        times[number] = perf_counter_ns() - start
    p50, p99 = np.percentile(times, (50, 99)) / 1000.0
    return Latency(float(p50), float(p99), calls)
