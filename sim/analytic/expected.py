"""Expected accuracy under hard decisions, from the exact law of the noise instead of drawn noise.

The receiver is that of ``--demapper hard``: each LLR is the clip with the sign of the nearest point's bit.
What it decides then depends on the decided word alone, and the accuracy of a sample is the probability of the
received words for which the decided class is the sample's own:

    accuracy = mean over samples of  sum over words r of  P(r | sent word) 1[class(r) = label].

For a mode whose words have at most :attr:`Limits.table_bits` bits the sum is done in full ("exact"); for
longer ones over the likeliest words, and the rest is sampled by its exact law ("stratified",
:mod:`twophase.sim.analytic.words`).  Samples that send the same word share its law.

Energy is charged as in :mod:`twophase.sim.frames`: the stream is divided by sqrt(E) of its own measured
energy, so its points see N0 E at the axis' Es/N0.

The mode of every sample must be known to both ends: what a header or a disagreement of the ends costs is no
part of this law, and neither is a channel estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.modem import Transmission, group_by_mode
from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import Samples
from twophase.sim.analytic.laws import codeword_success, word_law
from twophase.sim.analytic.words import Strata, WordClasses, class_probabilities, stratified_probabilities
from twophase.sim.frames import transmit
from twophase.sim.receiver import SnrEstimates, point_key
from twophase.sim.settings import Settings
from twophase.sim.system import System
from twophase.sim.theory.statistics import CONFIDENCE, Interval, wilson_by_sample

__all__ = ["ExpectedPoint", "Limits", "check_semi_analytic", "expected_accuracy"]

_Float = NDArray[np.float64]

_STREAM = 2
"""Tells the generator of a tail from those of noise and of estimates."""


@dataclass(frozen=True)
class Limits:
    """How much is looked at."""

    table_bits: int = 20
    """Channel bits of a word up to which all received words are looked at; 2**bits receiver runs, once."""
    evaluations: int = 40_000
    """Received words that are looked at for each mode and SNR where the words are longer."""

    def __post_init__(self) -> None:
        if not 0 <= self.table_bits <= 24:
            raise InputError("table_bits", "lie in 0..24", self.table_bits)
        if self.evaluations < 100:
            raise InputError("evaluations", "be at least 100", self.evaluations)


@dataclass(frozen=True, eq=False)
class ExpectedPoint:
    """Expected accuracy at one SNR."""

    esn0_db: float
    accuracy: float
    """Mean over the samples of the probability that they are classified correctly; a tail that nothing was
    drawn from counts as wrong."""
    interval: Interval
    """Where the exact expectation over the noise for THESE samples lies: a point where all modes are exact;
    else at the level of :data:`~twophase.sim.theory.statistics.CONFIDENCE`, with what is not
    resolved at its upper end."""
    bounds: Interval
    """Where it lies for certain: the heads alone, and with every tail counted as right."""
    population: Interval
    """Interval of the accuracy over samples to come
    (:func:`~twophase.sim.theory.statistics.wilson_by_sample`)."""
    expectation: _Float
    """Probability of each sample to be classified correctly, shape (samples,)."""
    methods: dict[str, str]
    """``"exact"`` or ``"stratified"`` for each mode in use."""
    shares: dict[str, float]
    """Share of the samples sent in each mode."""
    symbols_per_sample: float
    energy: float
    """E, average energy per symbol before scaling."""
    codeword_error_rate: float
    """Share of the codewords that are decided wrong; exact, for all lengths of words."""
    unresolved: float
    """Probability of what was received and neither looked at nor drawn from, mean over the samples."""
    evaluations: int
    """Words that the receiving graph was run on for this point and for none before it."""

    @property
    def half_width(self) -> float:
        """Half of the width of :attr:`interval`."""
        return (self.interval[1] - self.interval[0]) / 2


def expected_accuracy(
    system: System,
    samples: Samples,
    grid: Sequence[float],
    settings: Settings,
    limits: Limits | None = None,
) -> list[ExpectedPoint]:
    """Expected accuracy of the deployed link at each Es/N0 in dB of ``grid``.

    Of the settings channel, coherence, forced mode, header and seed count; the demapper is ``hard`` whatever
    is named, and trials are none.  InputError if the settings have no such law (:func:`check_semi_analytic`)
    or the ends would take different modes, ArtifactError if the transmitter sends what its mode does not
    allow.
    """
    check_semi_analytic(system, settings)
    bounds = limits or Limits()
    receivers = {
        number: WordClasses(system.receiver, system.modes, number, system.llr_clip)
        for number in range(len(system.modes))
    }
    return [_point(system, samples, esn0_db, settings, bounds, receivers) for esn0_db in grid]


def check_semi_analytic(system: System, settings: Settings) -> None:
    """Refuse with InputError what has no exact law: called before anything is computed.

    That is a frequency-selective channel, a receiver that estimates its gains or N0, or a mode that comes in
    a header or follows from estimates that vary, or differ between the ends.
    """
    where = "for --semi-analytic"
    if settings.channel not in ("awgn", "rayleigh", "rician"):
        raise InputError("channel", f"be awgn, rayleigh or rician {where}", settings.channel)
    if settings.csi != "perfect":
        raise InputError("csi", f"be perfect {where}: its law has known gains", settings.csi)
    if settings.noise_estimate != "known":
        raise InputError("noise_estimate", f"be known {where}", settings.noise_estimate)
    if settings.mode is not None:
        system.modes.find(settings.mode)
        return
    if system.routing.tells_mode and settings.header != "ideal":
        rule = f"be ideal {where}, or one --mode be named: a header that may fail is no part of the law"
        raise InputError("header", rule, settings.header)
    if settings.known_snr == "block":
        rule = f"be mean {where}, or one --mode be named: the mode would follow each block's gain"
        raise InputError("known_snr", rule, settings.known_snr)
    if settings.snr_error_jitter_db > 0:
        raise InputError("router_snr_error", f"have no jitter {where}", settings.snr_error_jitter_db)


def _point(
    system: System,
    samples: Samples,
    esn0_db: float,
    settings: Settings,
    limits: Limits,
    receivers: dict[int, WordClasses],
) -> ExpectedPoint:
    modes = system.modes
    sent = _send(system, samples, esn0_db, settings)
    energy = _energy(sent, modes)
    noise_var = float(esn0_db_to_noise_var(esn0_db)) * energy
    asked = sum(receiver.asked for receiver in receivers.values())
    total = len(samples.labels)
    expectation = np.zeros(total)
    methods, shares = {}, {}
    wrong = codewords = 0.0
    accuracy = certain = possible = variance = unresolved = 0.0
    for mode, rows in group_by_mode(sent.mode, modes):
        number = int(sent.mode[rows[0]])
        name, receiver = modes.names[number], receivers[number]
        shares[name] = len(rows) / total
        law = word_law(mode, noise_var, settings.channel, settings.coherence, settings.rician_k_db)
        words, word_of = np.unique(sent.symbols[rows, : mode.symbols], axis=0, return_inverse=True)
        word_of = word_of.reshape(-1)
        # How often each word is sent for each label, as a share of all samples.
        usage = np.zeros((len(words), system.classes))
        np.add.at(usage, (word_of, samples.labels[rows]), 1 / total)
        missed = 1.0 - codeword_success(law, mode, words)
        wrong += float(np.bincount(word_of) @ missed.sum(axis=1))
        codewords += missed.shape[1] * len(rows)
        if mode.channel_bits <= limits.table_bits:
            methods[name] = "exact"
            probability = class_probabilities(law, receiver.table(), words, system.classes)
            right = float((usage * probability).sum())
            accuracy, certain, possible = accuracy + right, certain + right, possible + right
        else:
            methods[name] = "stratified"
            rng = np.random.default_rng(
                np.random.SeedSequence(settings.seed, spawn_key=(point_key(esn0_db), number, 0, _STREAM))
            )
            share = usage.sum(axis=1)
            strata = stratified_probabilities(
                law, receiver.of, words, share, system.classes, limits.evaluations, rng
            )
            probability = strata.probabilities
            head = float((usage * strata.head).sum())
            certain, possible = certain + head, possible + head + float(share @ strata.tail)
            accuracy += float((usage * probability).sum())
            variance += _variance(strata, usage)
            unresolved += float(share @ strata.unresolved)
        expectation[rows] = probability[word_of, samples.labels[rows]]
    half = float(ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return ExpectedPoint(
        esn0_db=float(esn0_db),
        accuracy=accuracy,
        # A tail is drawn from or unresolved; neither reaches beyond what is certain, up to rounding.
        interval=(
            min(accuracy, max(certain, accuracy - half)),
            max(accuracy, min(possible, accuracy + half + unresolved)),
        ),
        bounds=(certain, possible),
        population=wilson_by_sample(expectation.clip(0.0, 1.0)),
        expectation=expectation,
        methods=methods,
        shares=shares,
        symbols_per_sample=float(sent.symbol_count.mean()),
        energy=energy,
        codeword_error_rate=wrong / codewords,
        unresolved=unresolved,
        evaluations=sum(receiver.asked for receiver in receivers.values()) - asked,
    )


def _send(system: System, samples: Samples, esn0_db: float, settings: Settings) -> Transmission:
    """What the transmitter sends; refused if the receiver takes another mode."""
    forced = None if settings.mode is None else system.modes.find(settings.mode)
    if forced is not None:
        settings = replace(settings, known_snr="mean")
    estimates = SnrEstimates(esn0_db, len(samples.labels), system.routing, settings)
    transmitter_db, receiver_db = estimates.of_trial(0)
    sent = transmit(system.transmitter, samples.features, transmitter_db, system.modes, forced)
    if forced is None and settings.header != "ideal":
        believed = system.routing.received_mode(receiver_db, None, len(system.modes))
        if not np.array_equal(believed, sent.mode):
            rule = "leave both ends the same mode for --semi-analytic (see --router-snr-error-at both)"
            raise InputError("router_snr_error", rule, settings.snr_error_bias_db)
    return sent


def _energy(sent: Transmission, modes: ModeTable) -> float:
    """Average energy per symbol of all that is sent, as :func:`twophase.sim.frames.modulate` charges it."""
    total = 0.0
    for mode, rows in group_by_mode(sent.mode, modes):
        total += float((np.abs(qam(mode.order).points[sent.symbols[rows, : mode.symbols]]) ** 2).sum())
    return total / float(sent.symbol_count.sum())


def _variance(strata: Strata, usage: _Float) -> float:
    """Variance of the accuracy of all samples that the tails' draws leave.

    A draw for a word of class c is worth the share of that word's samples whose label is c.  One draw worth
    nothing and one worth everything are added to each word's: the variance never vanishes because rare
    classes happened to stay away (A. Agresti and B. A. Coull, "Approximate is better than exact for interval
    estimation of binomial proportions", The American Statistician 52, 1998).
    """
    share = usage.sum(axis=1)
    drawn = strata.counts.sum(axis=1)
    worth = usage / share[:, np.newaxis]
    mean = ((worth * strata.counts).sum(axis=1) + 1) / (drawn + 2)
    square = ((worth**2 * strata.counts).sum(axis=1) + 1) / (drawn + 2)
    some = drawn > 0
    spread = (share * strata.tail) ** 2 * (square - mean**2) / np.maximum(drawn, 1)
    return float(spread[some].sum())
