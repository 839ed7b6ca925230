"""Counts of a sweep to figures with intervals, theory beside them, and a verdict.

The verdict.  A point passes if, for EVERY soft reference, the one-sided 95 % lower confidence bound of
(deployed - soft) accuracy is not below minus the tolerance.  The whole passes if every point does.  Because
all must pass, a system that is worse than the tolerance somewhere passes no more often than that one point
does, however many points there are (an intersection-union test: no correction for multiplicity is needed).
Too few samples fail: a bound that is not shown is not granted.

How often that is, with a true gap of exactly minus the tolerance, was computed.  Single trials, exact
multinomial sums over 100 to 3000 samples, gaps of -1, -2 and -5 points, 0 to 3 % of the samples differing
the other way: at most 4.95 %.  At -2 points, with 0, 0.5, 1 and 3 % the other way: 1.8, 3.5, 3.4, 2.9 % at
200 samples; 1.7, 3.5, 3.6, 3.7 % at 540; 3.8, 4.1, 4.0, 4.0 % at 1000; 3.5, 4.6, 4.4, 4.4 % at 3000.  Twenty
trials of a sample, simulated for five shapes of discordance, to one side and to both: at most 4.3 %.  The
bound is approximate; these figures, not a theorem, are what stands behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_db_to_ebn0_db, noise_var_to_esn0_db
from twophase.sim.settings import ChannelName, Settings
from twophase.sim.statistics import clopper_pearson, paired_gap, wilson_by_sample
from twophase.sim.sweep import Tally
from twophase.sim.theory import ber_for_usage, label_accuracy, qam_ber, simplex_success

__all__ = ["point_results", "remarks_on", "verdict_of", "verdict_reason"]

Point = dict[str, Any]


def point_results(
    tallies: Sequence[Tally], modes: ModeTable, classes: int, settings: Settings
) -> list[Point]:
    """Entries of ``points`` in ``report.json``, one for each tally.

    Parameters
    ----------
    tallies
        Counts of each SNR point.
    modes
        All modes of the link.
    classes
        Number of classes of the task.
    settings
        How the sweep was run: its channel chooses the closed forms, its tolerance is the verdict's.
    """
    return [_point(tally, modes, classes, settings) for tally in tallies]


def verdict_of(points: Sequence[Point]) -> str:
    """``"PASS"`` if every point passes, else ``"FAIL"``."""
    return "PASS" if all(point["verdict"] == "PASS" for point in points) else "FAIL"


def verdict_reason(points: Sequence[Point], tolerance: float) -> str:
    """What the verdict says, in one line: the claim, where it holds or fails, and against what."""
    claim = f"deployed - soft >= {0 - 100 * tolerance:g} points"
    names = list(points[0]["references"])
    only = "" if "learning" in names else " only, there is no learning reference"
    failed = [point for point in points if point["verdict"] != "PASS"]
    if not failed:
        where = f"at all {len(points)} points" if len(points) > 1 else f"at {points[0]['esn0_db']:g} dB"
        return f"{claim} {where}, one-sided 95 %; against: {', '.join(names)}{only}"
    shown = ", ".join(f"{point['esn0_db']:g}" for point in failed[:8]) + (", ..." if len(failed) > 8 else "")
    against = [name for name in names if not all(point["references"][name]["pass"] for point in points)]
    return (
        f"{claim} is not shown at {len(failed)} of {len(points)} points ({shown} dB), one-sided 95 %; "
        f"against: {', '.join(against)}{only}"
    )


def remarks_on(points: Sequence[Point], tolerance: float) -> list[str]:
    """What a reader should know beside the verdict, one sentence each; none where all is as it should be.

    The verdict asks whether the deployed system is worse than a soft one.  That the aligned model does better
    deployed than on its soft path is no reason to fail, but it says that the surrogate of the training does
    not stand for what is deployed.
    """
    if "aligned" not in points[0]["references"]:
        return []
    gaps = [(point["references"]["aligned"]["gap"], point["esn0_db"]) for point in points]
    largest, at = max(gaps, key=lambda entry: abs(entry[0]))
    if not abs(largest) > tolerance:
        return []
    lowest, lowest_at = min(gaps)
    end = (
        "though the deployed one is not worse"
        if lowest >= -tolerance
        else "and the deployed one is the worse"
        if lowest == largest
        else f"and the deployed one is worse by up to {0 - 100 * lowest:.1f} points ({lowest_at:g} dB)"
    )
    return [
        f"the aligned model's soft path differs by up to {100 * abs(largest):.1f} points ({at:g} dB): "
        f"soft surrogate and deployed system are not aligned, {end}"
    ]


def _point(tally: Tally, modes: ModeTable, classes: int, settings: Settings) -> Point:
    hard = tally.correct / tally.trials
    references = {name: _reference(tally, name, hard, settings.tolerance) for name in tally.reference_correct}
    lowest = min(references, key=lambda name: float(references[name]["gap"]))
    shares = _shares(tally)
    information = sum(share * modes[number].information_bits for number, share in shares.items())
    symbols = sum(share * modes[number].symbols for number, share in shares.items())
    noiseless = float(tally.noiseless_correct.mean())
    delivered = sum(
        share * float(simplex_success(classes, modes[number].symbols, tally.esn0_db, settings.channel))
        for number, share in shares.items()
    )
    return {
        "esn0_db": tally.esn0_db,
        "ebn0_db": float(esn0_db_to_ebn0_db(tally.esn0_db, information / symbols)),
        "verdict": "PASS" if all(entry["pass"] for entry in references.values()) else "FAIL",
        "accuracy_hard": float(hard.mean()),
        "accuracy_hard_ci": wilson_by_sample(hard),
        # Of one and the same reference, the one with the lowest gap; each has its own figures below.
        "gap_reference": lowest,
        "accuracy_soft": references[lowest]["accuracy"],
        "gap": references[lowest]["gap"],
        "gap_ci": references[lowest]["gap_ci"],
        "references": references,
        "accuracy_noiseless": noiseless,
        "label_bound": label_accuracy(noiseless, min(1.0, delivered), classes),
        "ber": tally.bit_errors / tally.bits_sent,
        "ber_ci": clopper_pearson(tally.bit_errors, tally.bits_sent),
        "ber_theory": _theory_uniform(tally, modes, settings.channel),
        "ber_theory_usage": _theory_usage(tally, modes, settings.channel),
        "bit_errors": tally.bit_errors,
        "bits_sent": tally.bits_sent,
        "codeword_error_rate": tally.codeword_errors / tally.codewords_sent,
        "codeword_errors": tally.codeword_errors,
        "codewords_sent": tally.codewords_sent,
        "mean_abs_llr": tally.abs_llr / tally.bits_sent,
        "llrs_replaced": tally.llrs_replaced,
        "bits_per_sample": information,
        "symbols_per_sample": symbols,
        "symbol_energy": tally.energy,
        "mode_usage": _usage(shares, modes),
        "samples": len(tally.correct),
        "trials": tally.trials,
    }


def _reference(tally: Tally, name: str, hard: NDArray[np.float64], tolerance: float) -> dict[str, Any]:
    soft = tally.reference_correct[name] / tally.trials
    gap = paired_gap(hard - soft)
    return {
        "accuracy": float(soft.mean()),
        "accuracy_ci": wilson_by_sample(soft),
        "gap": gap.gap,
        "gap_ci": gap.interval,
        "gap_lower_bound": gap.lower_bound,
        "symbol_energy": tally.reference_energy[name],
        "pass": gap.lower_bound >= -tolerance,
    }


def _shares(tally: Tally) -> dict[int, float]:
    """Share of the samples that each mode in use has."""
    numbers, counts = np.unique(tally.mode, return_counts=True)
    return {int(number): int(count) / tally.mode.size for number, count in zip(numbers, counts, strict=True)}


def _usage(shares: dict[int, float], modes: ModeTable) -> dict[str, float]:
    """Shares by name; two codebooks of one size share a name."""
    usage: dict[str, float] = {}
    for number, share in shares.items():
        usage[modes[number].name] = usage.get(modes[number].name, 0.0) + share
    return usage


def _theory_uniform(tally: Tally, modes: ModeTable, channel: ChannelName) -> float:
    """Closed form as if every point were sent equally often, averaged over the bits of all modes."""
    rates = {
        number: float(qam_ber(modes[number].order, tally.esn0_db, channel)) for number in tally.histograms
    }
    return _bit_average(tally, modes, rates)


def _theory_usage(tally: Tally, modes: ModeTable, channel: ChannelName) -> float:
    """Closed form for the points as they were sent, from a constellation shrunk by sqrt(E)."""
    effective_db = tally.esn0_db + float(noise_var_to_esn0_db(tally.energy))
    rates = {
        number: float(ber_for_usage(histogram, modes[number].order, effective_db, channel))
        for number, histogram in tally.histograms.items()
    }
    return _bit_average(tally, modes, rates)


def _bit_average(tally: Tally, modes: ModeTable, rates: dict[int, float]) -> float:
    bits = {
        number: int(histogram.sum()) * modes[number].bits_per_symbol
        for number, histogram in tally.histograms.items()
    }
    return sum(rates[number] * bits[number] for number in rates) / sum(bits.values())
