"""Counts of a sweep to figures with intervals, to what theory says of the same points, and to the verdict.

The verdict says whether what is deployed works as trained, in three states.  A point passes if, for EVERY
soft reference, the one-sided 95 % lower confidence bound of (deployed - soft) accuracy is not below minus the
tolerance; it fails if, for one, the upper bound is below that, at 95 % over all points and references
together (Bonferroni); else it is undecided.  The whole passes if every point does and fails if one does.
Because all must pass, a system that is worse than the tolerance somewhere passes no more often than that one
point does, however many points there are (an intersection-union test: no correction for multiplicity is
needed).  One that is worse nowhere fails in at most 5 % of all reports.  Too few samples are undecided: a
bound that is not shown is neither granted nor held against the link.

How often a point passes with a true gap of exactly minus the tolerance was computed.  Single trials, exact
multinomial sums over 100 to 3000 samples, gaps of -1, -2 and -5 points, 0 to 3 % of the samples differing the
other way: at most 4.95 %.  At -2 points, with 0, 0.5, 1 and 3 % the other way: 1.8, 3.5, 3.4, 2.9 % at 200
samples; 1.7, 3.5, 3.6, 3.7 % at 540; 3.8, 4.1, 4.0, 4.0 % at 1000; 3.5, 4.6, 4.4, 4.4 % at 3000.  Twenty
trials of a sample, simulated for five shapes of discordance, to one side and to both: at most 4.3 %.  The
bound is approximate; these figures, not a theorem, are what it rests on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import VerificationError
from twophase.link.modes import Mode, ModeTable
from twophase.link.noise import esn0_db_to_ebn0_db, esn0_db_to_noise_var, noise_var_to_esn0_db
from twophase.sim.channel.radio import pilot_symbols
from twophase.sim.counts import GAIN_BINS_DB, SystemCounts, Tally, tally_digest
from twophase.sim.results.figures import BaselineFigures, LinkFigures, Point, ReferenceFigures
from twophase.sim.settings import Settings
from twophase.sim.theory.decision import Verdict, decide, overall
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.rates import (
    ber_for_usage,
    bicm_mutual_information,
    capacity,
    cm_mutual_information,
    qam_ber,
)
from twophase.sim.theory.statistics import clopper_pearson, paired_gap, wilson_by_sample

__all__ = [
    "advice",
    "baseline_figures",
    "frame_symbols",
    "link_figures",
    "point_results",
    "remarks_on",
    "verdict_of",
    "verdict_reason",
]


def point_results(
    tallies: Sequence[Tally],
    modes: ModeTable,
    classes: int,
    settings: Settings,
    reasons: Sequence[str] | None = None,
) -> list[Point]:
    """Figures of each SNR point; ``reasons`` say why each ended, by default as all trials were made.

    VerificationError if the noise that was drawn has not the variance that the axis says.
    """
    why = ["trials asked for"] * len(tallies) if reasons is None else reasons
    # A point that the grid names twice is one comparison.
    comparisons = len({tally.esn0_db for tally in tallies}) * max(1, len(tallies[0].references))
    return [
        _point(tally, modes, classes, settings, reason, comparisons)
        for tally, reason in zip(tallies, why, strict=True)
    ]


def _point(
    tally: Tally, modes: ModeTable, classes: int, settings: Settings, reason: str, comparisons: int
) -> Point:
    hard = tally.deployed.correct / tally.trials
    return Point(
        **vars(link_figures(tally, modes, classes, settings)),
        references={
            name: _reference(counts, tally.trials, hard, modes, settings, comparisons)
            for name, counts in tally.references.items()
        },
        baselines={
            name: baseline_figures(
                counts.correct / tally.trials, hard, counts.symbols / counts.sent, counts.energy
            )
            for name, counts in tally.baselines.items()
        },
        samples=len(hard),
        trials=tally.trials,
        llr_zeros=tally.llr_zeros.tolist(),
        llr_ones=tally.llr_ones.tolist(),
        llr_expected_ones=tally.llr_expected.tolist(),
        confusion=tally.confusion.tolist(),
        counts=_integers(tally),
        counts_sha256=tally_digest(tally),
        stop_reason=reason,
    )


def link_figures(tally: Tally, modes: ModeTable, classes: int, settings: Settings) -> LinkFigures:
    """Figures of the deployed link by itself; arguments of :func:`point_results`."""
    deployed = tally.deployed
    hard = deployed.correct / tally.trials
    sent = deployed.frames.total()
    payload = sum(count * modes[mode].symbols for (mode, _), count in deployed.frames.items()) / sent
    header = sum(count * length for (_, length), count in deployed.frames.items()) / sent
    pilots = tally.pilots / sent
    information = sum(count * modes[mode].information_bits for (mode, _), count in deployed.frames.items())
    noiseless = int(tally.noiseless_correct.sum()) / (len(hard) * tally.transmissions)
    mode_errors = deployed.mode_errors / sent
    by_mode = _by_mode(deployed)
    delivered = _delivered(tally, modes, classes, settings)
    return LinkFigures(
        esn0_db=tally.esn0_db,
        ebn0_db=float(esn0_db_to_ebn0_db(tally.esn0_db, information / sent / (payload + header + pilots))),
        accuracy_hard=float(hard.mean()),
        accuracy_hard_ci=wilson_by_sample(hard),
        accuracy_by_mode={
            modes.names[mode]: deployed.correct_by_mode[mode] / count for mode, count in by_mode.items()
        },
        accuracy_noiseless=noiseless,
        label_bound=label_accuracy(noiseless, delivered, classes),
        label_delivered=delivered,
        ber=tally.bit_errors / tally.bits_sent,
        ber_ci=clopper_pearson(tally.bit_errors, tally.bits_sent),
        **_theories(tally, modes, settings),
        bit_errors=tally.bit_errors,
        bits_sent=tally.bits_sent,
        codeword_error_rate=tally.codeword_errors / tally.codewords_sent,
        codeword_errors=tally.codeword_errors,
        codewords_sent=tally.codewords_sent,
        mode_error_rate=mode_errors,
        header_error_rate=mode_errors if header else None,
        mean_abs_llr=tally.abs_llr / tally.llrs,
        llrs_replaced=tally.llrs_replaced,
        bits_per_sample=information / sent,
        header_bits_per_sample=(len(modes) - 1).bit_length() if header else 0,
        symbols_per_sample=payload + header + pilots,
        payload_symbols_per_sample=payload,
        header_symbols_per_sample=header,
        pilot_symbols_per_sample=pilots,
        measured_esn0_db=_measured_esn0_db(tally),
        **_information_rates(tally, modes, settings),
        symbol_energy=deployed.energy,
        mode_usage={modes.names[mode]: count / sent for mode, count in by_mode.items()},
    )


def _reference(
    counts: SystemCounts,
    trials: int,
    hard: NDArray[np.float64],
    modes: ModeTable,
    settings: Settings,
    comparisons: int,
) -> ReferenceFigures:
    soft, frames = counts.correct / trials, counts.frames
    gap, decision = paired_gap(hard - soft), decide(hard - soft, settings.tolerance, comparisons)
    symbols = sum(
        count * frame_symbols(modes[mode], header, settings) for (mode, header), count in frames.items()
    )
    return ReferenceFigures(
        accuracy=float(soft.mean()),
        accuracy_ci=wilson_by_sample(soft),
        gap=gap.gap,
        gap_ci=gap.interval,
        gap_lower_bound=gap.lower_bound,
        gap_upper_bound=decision.upper_bound,
        symbols_per_sample=symbols / frames.total(),
        symbol_energy=counts.energy,
        verdict=decision.verdict,
        samples_to_decide=decision.samples,
    )


def baseline_figures(
    accuracy: NDArray[np.float64], hard: NDArray[np.float64], symbols: float, energy: float
) -> BaselineFigures:
    """Figures of another design against the deployed link.

    ``accuracy`` and ``hard`` are the shares of the trials in which each sample was classified correctly, by
    that design and by the link, shape (samples,); symbols are per sample, energy per symbol before scaling.
    """
    gap = paired_gap(accuracy - hard)
    return BaselineFigures(
        accuracy=float(accuracy.mean()),
        accuracy_ci=wilson_by_sample(accuracy),
        difference=gap.gap,
        difference_ci=gap.interval,
        symbols_per_sample=symbols,
        symbol_energy=energy,
    )


def _measured_esn0_db(tally: Tally) -> float:
    """Es/N0 of what was really on the air: energy of the symbols sent over that of the noise drawn.

    The stream is scaled to unit average energy over all samples, so that of the symbols sent is one but for
    rounding; under estimates that vary it is one in every trial.  The mean of n values |noise|^2 is N0 with a
    relative standard deviation of 1 / sqrt(n); beyond seven of them, which happens once in 10^11, something
    is wrong: VerificationError.
    """
    signal = tally.signal_power / tally.signal_count
    noise = tally.noise_power / tally.noise_count
    expected = float(esn0_db_to_noise_var(tally.esn0_db))
    if abs(signal - 1) > 1e-9:
        raise VerificationError(
            f"energy at {tally.esn0_db:g} dB",
            [f"the symbols sent have {signal:.9g} on average, not 1, over {tally.signal_count} symbols"],
        )
    if abs(noise / expected - 1) > 7 / math.sqrt(tally.noise_count):
        raise VerificationError(
            f"noise at {tally.esn0_db:g} dB",
            [f"its variance is {noise:.6g}, not {expected:.6g}, over {tally.noise_count} values"],
        )
    return float(noise_var_to_esn0_db(noise / signal))


def _integers(tally: Tally) -> dict[str, int]:
    """The counts that a report can be held against by eye; the digest stands for all of them."""
    text, others = tally.text, tally.references | tally.baselines
    return {
        "trials": tally.trials,
        "correct": int(tally.deployed.correct.sum()),
        **{f"correct_{name}": int(counts.correct.sum()) for name, counts in others.items()},
        **({} if text is None else {"correct_text": int(text.correct.sum()), "intact_text": text.intact}),
        "mode_errors": tally.deployed.mode_errors,
        "bit_errors": tally.bit_errors,
        "bits_sent": tally.bits_sent,
        "codeword_errors": tally.codeword_errors,
        "codewords_sent": tally.codewords_sent,
        "noiseless_correct": int(tally.noiseless_correct.sum()),
    }


def _by_mode(counts: SystemCounts) -> Counter[int]:
    """Frames sent in each mode in use, in the order of the modes."""
    frames: Counter[int] = Counter()
    for (mode, _), count in sorted(counts.frames.items()):
        frames[mode] += count
    return frames


def frame_symbols(mode: Mode, header: int, settings: Settings) -> int:
    """Symbols of a frame of this mode after a header of so many, pilots included."""
    data = mode.symbols + header
    return data + int(pilot_symbols(settings, data))


def _delivered(tally: Tally, modes: ModeTable, classes: int, settings: Settings) -> float:
    """Probability that an ideal sender delivers the label in frames as long as those that were sent."""
    if tally.gains:
        lengths_met = {kind: frame_symbols(modes[kind[0]], kind[1], settings) for kind in tally.gains}
        met = sum(
            float(counts @ simplex_success(classes, lengths_met[kind], tally.esn0_db + GAIN_BINS_DB))
            for kind, counts in tally.gains.items()
        )
        return min(1.0, met / tally.deployed.frames.total())
    lengths: Counter[int] = Counter()
    for (mode, header), count in tally.deployed.frames.items():
        lengths[frame_symbols(modes[mode], header, settings)] += count
    air = settings.channel, settings.coherence, settings.rician_k_db, settings.delay_spread_ns
    delivered = sum(
        count * float(simplex_success(classes, length, tally.esn0_db, *air))
        for length, count in lengths.items()
    )
    return min(1.0, delivered / lengths.total())


def _information_rates(tally: Tally, modes: ModeTable, settings: Settings) -> dict[str, float]:
    """Bits per payload symbol: capacity, and mutual information of the constellations as the modes mix them.

    For points that are sent equally often, and gains that the receiver knows.
    """
    forms: dict[str, Callable[..., NDArray[np.float64]]] = {
        "capacity": lambda order, *air: capacity(*air),
        "cm_mi": cm_mutual_information,
        "bicm_mi": bicm_mutual_information,
    }
    symbols = {number: int(histogram.sum()) for number, histogram in tally.histograms.items()}
    total = sum(symbols.values())
    return {
        name: sum(
            count / total * _rate(tally, number, settings, partial(form, modes[number].order), tally.esn0_db)
            for number, count in symbols.items()
        )
        for name, form in forms.items()
    }


def _theories(tally: Tally, modes: ModeTable, settings: Settings) -> dict[str, float]:
    """Closed forms of the BER, averaged over the bits of all modes.

    As if every point were sent equally often; and for the points as they were sent, from a constellation
    shrunk by sqrt(E).
    """
    effective_db = tally.esn0_db + float(noise_var_to_esn0_db(tally.deployed.energy))
    bits, uniform, used = [], [], []
    for number, histogram in tally.histograms.items():
        order = modes[number].order
        bits.append(int(histogram.sum()) * modes[number].bits_per_symbol)
        uniform.append(_rate(tally, number, settings, partial(qam_ber, order), tally.esn0_db))
        used.append(_rate(tally, number, settings, partial(ber_for_usage, histogram, order), effective_db))
    return {
        name: sum(rate * count for rate, count in zip(rates, bits, strict=True)) / sum(bits)
        for name, rates in (("ber_theory", uniform), ("ber_theory_usage", used))
    }


def _rate(
    tally: Tally,
    number: int,
    settings: Settings,
    closed_form: Callable[..., NDArray[np.float64]],
    esn0_db: float,
) -> float:
    """A closed form on the channel, or averaged over the gains that the mode met if it was chosen by them."""
    if not tally.gains:
        return float(closed_form(esn0_db, settings.channel, settings.rician_k_db))
    met = sum(counts for (mode, _), counts in tally.gains.items() if mode == number)
    return float(met @ closed_form(esn0_db + GAIN_BINS_DB, "awgn") / np.sum(met))


def verdict_of(points: Sequence[Point]) -> Verdict:
    """``FAIL`` if a point fails, ``PASS`` if all pass, else ``UNDECIDED``."""
    return overall(point.verdict for point in points)


def verdict_reason(points: Sequence[Point], tolerance: float) -> str:
    """What the verdict says, in one line: the claim, at which SNRs, how surely, and against what."""
    verdict, names = verdict_of(points), list(points[0].references)
    only = "" if "learning" in names else " only, there is no learning reference"
    allowed = f"{100 * tolerance:g} percentage points below soft"
    level = "one-sided 95 % at each" if len(points) > 1 else "one-sided 95 %"
    if verdict == "PASS":
        where = f"all {len(points)} SNRs" if len(points) > 1 else f"{points[0].esn0_db:g} dB"
        return f"deployed at most {allowed} at {where}, {level}; against: {', '.join(names)}{only}"
    there = [point for point in points if point.verdict == verdict]
    shown = ", ".join(f"{point.esn0_db:g}" for point in there[:8]) + (", ..." if len(there) > 8 else "")
    where = f"{len(there)} of {len(points)} SNRs ({shown} dB)"
    against = [name for name in names if any(point.references[name].verdict == verdict for point in there)]
    said = (
        f"deployed more than {allowed} at {where}, shown at 95 % over all SNRs and references"
        if verdict == "FAIL"
        else f"neither shown nor refuted that deployed is at most {allowed} at {where}, {level}"
    )
    return f"{said}; against: {', '.join(against)}{only}"


def advice(points: Sequence[Point], tolerance: float) -> str | None:
    """Of an undecided verdict: how many samples would decide, and what to do, in one line; else None.

    It is decided as soon as one comparison that looks worse than the tolerance is shown to be, or, where none
    does, when the last is shown not to be.
    """
    if verdict_of(points) != "UNDECIDED":
        return None
    entries = [entry for point in points for entry in point.references.values()]
    open_ones = [entry for entry in entries if entry.verdict == "UNDECIDED"]
    worse = [entry.samples_to_decide for entry in open_ones if entry.gap < -tolerance]
    needed = [count for count in worse or [entry.samples_to_decide for entry in open_ones] if count]
    # Rounded away from zero, so that it is enough.
    passing = math.ceil(-1000 * min(entry.gap_lower_bound for entry in entries)) / 1000
    wider = f"--tolerance {passing:g} would PASS now" if passing < 1 else "no --tolerance would PASS now"
    if not needed or not (worse or len(needed) == len(open_ones)):
        return f"no number of samples like these; {wider}"
    return (
        f"about {min(needed) if worse else max(needed):,} samples like these {points[0].samples}, from a "
        f"larger test part, new data (--data) or the folds of a cross-validation; {wider}"
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
