"""The verdict on a sweep: whether what is deployed works as trained.

A point passes if, for EVERY soft reference, the one-sided 95 % lower confidence bound of
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

from twophase.sim.results.figures import Point

__all__ = ["remarks_on", "verdict_of", "verdict_reason"]


def verdict_of(points: Sequence[Point]) -> str:
    """``"PASS"`` if every point passes, else ``"FAIL"``."""
    return "PASS" if all(point.verdict == "PASS" for point in points) else "FAIL"


def verdict_reason(points: Sequence[Point], tolerance: float) -> str:
    """What the verdict says, in one line: the claim, where it holds or fails, and against what."""
    claim = f"deployed - soft >= {0 - 100 * tolerance:g} points"
    names = list(points[0].references)
    only = "" if "learning" in names else " only, there is no learning reference"
    failed = [point for point in points if point.verdict != "PASS"]
    if not failed:
        where = f"at all {len(points)} points" if len(points) > 1 else f"at {points[0].esn0_db:g} dB"
        return f"{claim} {where}, one-sided 95 %; against: {', '.join(names)}{only}"
    shown = ", ".join(f"{point.esn0_db:g}" for point in failed[:8]) + (", ..." if len(failed) > 8 else "")
    against = [name for name in names if not all(point.references[name].passes for point in points)]
    return (
        f"{claim} is not shown at {len(failed)} of {len(points)} points ({shown} dB), one-sided 95 %; "
        f"against: {', '.join(against)}{only}"
    )


MODE_ERRORS_REMARKED = 0.01
"""Share of frames with a mistaken mode from which a report remarks on it."""


def remarks_on(points: Sequence[Point], tolerance: float) -> list[str]:
    """What a reader should know apart from the verdict, one sentence each; none where all is as it should be.

    The verdict asks whether the deployed system is worse than a soft one.  That the aligned model does better
    deployed than on its soft path is no reason to fail, but it says that the surrogate of the training does
    not stand for what is deployed.  Points where modes are mistaken say nothing about that.
    """
    rate, where = max((point.mode_error_rate, point.esn0_db) for point in points)
    remarks = []
    if rate > MODE_ERRORS_REMARKED:
        remarks.append(
            f"the receiver mistook the mode of up to {100 * rate:.0f} % of the frames ({where:g} dB); the "
            "soft references are told it, so that the gap holds what that costs"
        )
    sure = [point for point in points if point.mode_error_rate <= MODE_ERRORS_REMARKED]
    return remarks + _alignment_remarks(sure, tolerance)


def _alignment_remarks(points: Sequence[Point], tolerance: float) -> list[str]:
    if not points or "aligned" not in points[0].references:
        return []
    gaps = [(point.references["aligned"].gap, point.esn0_db) for point in points]
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
