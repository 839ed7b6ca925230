"""How many LLRs a second each demapper makes, on one thread, in one run.  Prints tables in Markdown.

    OMP_NUM_THREADS=1 python benchmarks/demap.py [--rounds 7] [--symbols 65536] [--seed 0]

Own kernels, exact and max-log, NumPy and numba, float64 and float32; scikit-commpy; Sionna's Demapper
(`sionna-no-rt`, torch on the CPU, eager) and komm where they are installed; and the memory floor: copying
complex64 numbers into new float32 ones, as many bytes as the float32 LLRs have.  All demap the same symbols
on AWGN at an Es/N0 at which commpy is finite, and must agree with log-sum-exp in float64 over all points
before anything is timed.  Each is timed in every round, in another order, and its best round counts.

Exits 1 where a ratio that is asked for is missed: exact float64 (numba) at least 1000 x commpy at 16-QAM and
8 x Sionna's exact demapper; max-log float32 (numba) at least 40 x Sionna's and within 12 x of the floor.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.constellation import Constellation, qam
from twophase.link.demap import available_kernels, llr_bruteforce, llr_exact, llr_maxlog
from twophase.sim.channel.commpy import modem

ESN0_DB = {16: 12.0, 64: 17.0, 256: 20.0}
ORDERS = tuple(ESN0_DB)
SHORTEST = 0.02  # seconds that one timing lasts at least

Symbols = NDArray[np.complex128]
Demap = Callable[[Symbols], NDArray[Any]]
FLOOR = "memory floor: complex64 to float32 copy"
COMMPY = "scikit-commpy"
SIONNA = {"app": "Sionna, exact", "maxlog": "Sionna, max-log"}


def own(constellation: Constellation, noise_var: float) -> Iterator[tuple[str, Demap, str]]:
    """Name, function of complex128 or complex64 symbols, and the kind of symbols it takes."""
    for kernel in available_kernels():
        for demapper, kind in ((llr_exact, "exact"), (llr_maxlog, "max-log")):
            for dtype, taken in (("float64", "complex128"), ("float32", "complex64")):

                def run(
                    y: Symbols, demapper: Any = demapper, kernel: str = kernel, dtype: str = dtype
                ) -> NDArray[Any]:
                    llr: NDArray[Any] = demapper(y, constellation, noise_var, kernel=kernel, dtype=dtype)
                    return llr

                yield f"{kernel}, {kind} {dtype}", run, taken
        yield (
            f"{kernel}, any constellation float64",
            lambda y, kernel=kernel: llr_bruteforce(y, constellation.points, noise_var, kernel=kernel),
            "complex128",
        )


def others(constellation: Constellation, noise_var: float) -> Iterator[tuple[str, Demap, str]]:
    """The libraries that are installed, commpy always."""
    commpy = modem(constellation)
    yield COMMPY, lambda y: commpy.demodulate(y, "soft", noise_var), "complex128"
    if find_spec("sionna") is not None:
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
        mapping = importlib.import_module("sionna.phy.mapping")
        n0 = torch.tensor(noise_var, dtype=torch.float32)
        for method, name in SIONNA.items():
            demapper = mapping.Demapper(method, "qam", constellation.bits_per_symbol, device="cpu")

            def run(y: Symbols, demapper: Any = demapper) -> NDArray[Any]:
                with torch.inference_mode():
                    llr: NDArray[Any] = demapper(torch.from_numpy(y)[None], n0)[0].numpy()
                return llr

            yield name, run, "complex64"
    if find_spec("komm") is not None:
        komm = importlib.import_module("komm")
        points = komm.Constellation(constellation.points[:, np.newaxis])
        labels = komm.NaturalLabeling(constellation.bits_per_symbol)
        yield (
            "komm, exact",  # its LLR is log P0/P1
            lambda y: -labels.marginalize(points.posteriors(y, noise_var)),
            "complex128",
        )


def best_rates(candidates: dict[str, tuple[Callable[[], Any], int]], rounds: int) -> dict[str, float]:
    """LLRs a second of each: the best of ``rounds``; candidates are a call and the LLRs it makes."""
    best = dict.fromkeys(candidates, 0.0)
    calls = {}
    for name, (call, _) in candidates.items():
        call()
        started = time.perf_counter()
        call()
        calls[name] = max(1, round(SHORTEST / (time.perf_counter() - started)))
    order = list(candidates)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            call, made = candidates[name]
            started = time.perf_counter()
            for _ in range(calls[name]):
                call()
            rate = calls[name] * made / (time.perf_counter() - started)
            best[name] = max(best[name], rate)
    return best


def hear(order: int, count: int, seed: int) -> tuple[Symbols, float]:
    """Symbols of a QAM as received on AWGN, and N0."""
    rng = np.random.default_rng(seed)
    noise_var = 10 ** (-ESN0_DB[order] / 10)
    noise = (rng.standard_normal(count) + 1j * rng.standard_normal(count)) * np.sqrt(noise_var / 2)
    return qam(order).points[rng.integers(0, order, count)] + noise, noise_var


def measure(order: int, symbols: int, rounds: int, seed: int) -> dict[str, float]:
    """Check every demapper of one order, then time it."""
    constellation = qam(order)
    width = constellation.bits_per_symbol
    received, noise_var = hear(order, symbols, seed)
    candidates: dict[str, tuple[Callable[[], Any], int]] = {}
    for name, run, taken in (*own(constellation, noise_var), *others(constellation, noise_var)):
        # What holds a metric for every point is given what suits its cache, commpy what it does in a second.
        separable = name.startswith(available_kernels()) and "any" not in name
        largest = 64 if name == COMMPY else symbols if separable else 2**11
        y = received[:largest].astype(taken)
        check(name, run(y[:64]), y[:64], constellation, noise_var)
        candidates[name] = (lambda run=run, y=y: run(y), y.size * width)  # type: ignore[misc]
    source = np.ones(symbols * width // 2, dtype=np.complex64)
    candidates[FLOOR] = (lambda: np.copy(source.view(np.float32)), symbols * width)
    return best_rates(candidates, rounds)


def check(
    name: str, llr: NDArray[Any], received: Symbols, constellation: Constellation, noise_var: float
) -> None:
    """Exit unless the LLRs are those of log-sum-exp, or for max-log within the log of a group of it."""
    exact = llr_bruteforce(received, constellation.points, noise_var, clip=600.0)
    clipped = np.clip(exact, -100, 100)
    rounding = 1e-2 if received.dtype == np.complex64 else 1e-8
    allowed = np.log(constellation.order / 2) if "max-log" in name else rounding
    error = min(np.abs(llr.ravel() - wanted).max() for wanted in (exact, clipped))
    if error > allowed:
        sys.exit(f"{name} at {constellation.order}-QAM is off by {error:.3g}")


def ratios(rates: dict[int, dict[str, float]]) -> list[tuple[str, int, float, bool]]:
    """What is compared, the order, the ratio and whether it is as asked."""
    rows = []
    for order, rate in rates.items():
        exact, single = rate["numba, exact float64"], rate["numba, max-log float32"]
        for name, rated, least in (
            (COMMPY, exact, 1000.0),
            (SIONNA["app"], exact, 8.0),
            (SIONNA["maxlog"], single, 40.0),
        ):
            if name in rate:
                kind = "exact float64" if rated == exact else "max-log float32"
                ratio = rated / rate[name]
                rows.append((f"{kind} over {name} (asked: {least:g})", order, ratio, ratio >= least))
        below = rate[FLOOR] / single
        rows.append(("memory floor over max-log float32 (asked: at most 12)", order, below, below <= 12))
    return rows


def main() -> int:
    """Measure, print, and tell whether all that is asked for was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--symbols", type=int, default=2**16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for package in ("numba", "sionna", "komm"):
        if find_spec(package) is None:
            print(f"{package} is not installed: its rows are missing\n")

    rates = {order: measure(order, options.symbols, options.rounds, options.seed) for order in ORDERS}
    print(f"LLR/s, one thread, {options.symbols} symbols a call, best of {options.rounds} rounds\n")
    print("| demapper | " + " | ".join(f"{order}-QAM" for order in ORDERS) + " |")
    print("|---|" + "---:|" * len(ORDERS))
    for name in rates[ORDERS[0]]:
        print(f"| {name} | " + " | ".join(f"{rates[order][name]:.2e}" for order in ORDERS) + " |")
    if "numba" not in available_kernels():
        return 0
    rows = ratios(rates)
    print("\n| ratio | " + " | ".join(f"{order}-QAM" for order in ORDERS) + " |")
    print("|---|" + "---:|" * len(ORDERS))
    for title in dict.fromkeys(row[0] for row in rows):
        cells = {
            order: f"{ratio:,.1f}{'' if met else ' MISSED'}"
            for name, order, ratio, met in rows
            if name == title
        }
        print(f"| {title} | " + " | ".join(cells.get(order, "") for order in ORDERS) + " |")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
