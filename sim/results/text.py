"""What a report on a text link adds: the check of the backbone, and the sentences as a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from twophase.link.manifest import Manifest
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import Samples
from twophase.sim.counts import Tally
from twophase.sim.results.figures import BackboneCheck, Point, TextFigures, TextPoint
from twophase.sim.results.points import baseline_figures
from twophase.sim.settings import Settings
from twophase.sim.sweep.job import Job
from twophase.sim.system import System

__all__ = ["TextFacts", "described", "text_facts", "with_text"]


@dataclass(frozen=True)
class TextFacts:
    """What is known of a text link before the sweep; nothing of another link."""

    front: BackboneCheck | None = None
    text: TextFigures | None = None


def text_facts(job: Job, manifest: Manifest, system: System, samples: Samples) -> TextFacts:
    """Check the backbone, and say what the sentences are; errors of that check."""
    sentences, settings = samples.sentences, job.settings
    if sentences is None or manifest.front is None:
        return TextFacts()
    from twophase.sim.baselines.text import EVERY, TEXT, column_of, most_frequent
    from twophase.sim.baselines.text_source import FIELD_BITS, messages_of, source_of
    from twophase.sim.front import check_front

    text = None
    checked = check_front(job.started_in / job.bundle, manifest, system.transmitter, samples, settings.seed)
    if TEXT in settings.baselines:
        messages = messages_of(sentences)
        bits = [len(message) for message in messages]
        used = Counter(source_of(message) for message in messages)
        text = TextFigures(
            bits_per_sentence=float(np.mean(bits)),
            bits_shortest=min(bits),
            bits_longest=max(bits),
            field_bits=FIELD_BITS,
            sources={name: used[name] for name in sorted(used)},
            table=column_of(settings),
            every=EVERY,
            otherwise=manifest.classes[most_frequent(samples.labels)],
        )
    return TextFacts(checked, text)


def described(text: TextFigures | None) -> dict[str, str]:
    """Name and description of the sentences among the baselines, if they are sent."""
    if text is None:
        return {}
    shares = ", ".join(f"{name} {count}" for name, count in text.sources.items())
    return {
        "text": (
            f"the sentence itself without loss, {text.bits_per_sentence:.0f} bits on average (source "
            f"codes: {shares}), behind the channel code and constellation that deliver 99 % of all sentences "
            f"at this Es/N0 over {_AIRS[text.table]} in the fewest symbols; what arrives intact is "
            "classified as without a channel, what does not is taken for the most frequent class, "
            f"{text.otherwise}; in every {text.every}th trial, on gains and noise of its own"
        )
    }


_AIRS = {"awgn": "AWGN", "rayleigh": "Rayleigh fading by the symbol"}


def with_text(
    points: Sequence[Point], tallies: Sequence[Tally], text: TextFigures, settings: Settings
) -> tuple[list[Point], TextFigures]:
    """Put the sentences into each point, as a baseline and as ``text``; and the ends of their figures."""
    from twophase.sim.baselines.text import scheme_at

    completed, entries = [], []
    for point, tally in zip(points, tallies, strict=True):
        assert tally.text is not None
        counts, hard = tally.text, tally.deployed.correct / tally.trials
        symbols = counts.symbols / (counts.trials * len(hard))
        snr = 1 / float(esn0_db_to_noise_var(tally.esn0_db))
        bound = text.bits_per_sentence / float(np.log2(1 + snr))
        adapts = settings.known_snr == "block"
        entry = TextPoint(
            scheme=None if adapts else scheme_at(tally.esn0_db, text.table).name,
            intact=counts.intact / (counts.trials * len(hard)),
            trials=counts.trials,
            symbols=symbols,
            ratio=symbols / point.symbols_per_sample,
            bound_symbols=bound,
            bound_ratio=bound / point.symbols_per_sample,
        )
        figures = baseline_figures(
            counts.correct / counts.trials, hard, symbols, counts.energy_sum / counts.trials
        )
        completed.append(replace(point, text=entry, baselines=point.baselines | {"text": figures}))
        entries.append(entry)

    def ends(values: list[float]) -> tuple[float, float]:
        return min(values), max(values)

    return completed, replace(
        text,
        ratio=ends([entry.ratio for entry in entries]),
        bound_ratio=ends([entry.bound_ratio for entry in entries]),
        intact=ends([entry.intact for entry in entries]),
    )
