"""What a report on a text link says beside the link: front end, ceiling, and the sentences themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twophase.link.manifest import Manifest
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import Samples
from twophase.sim.counts import Tally
from twophase.sim.settings import Settings
from twophase.sim.sweep.job import Job
from twophase.sim.system import HardSender
from twophase.sim.theory.statistics import paired_gap, wilson_by_sample

__all__ = ["add_text", "described", "text_entries"]

Entries = dict[str, Any]


def text_entries(job: Job, manifest: Manifest, sender: HardSender, samples: Samples) -> Entries:
    """Entries ``front``, ``ceiling`` and ``text`` of ``report.json``; none for a link without a front.

    Raises
    ------
    ArtifactError, PackageError
        As :func:`twophase.sim.front.check_front`.
    """
    entries: Entries = {}
    if samples.sentences is None or manifest.front is None:
        return entries
    from twophase.sim.baselines.text import EVERY, TEXT, column_of, most_frequent
    from twophase.sim.baselines.text_source import FIELD_BITS, messages_of, source_of
    from twophase.sim.front import check_front

    sentences, settings = samples.sentences, job.settings
    entries["front"] = check_front(job.started_in / job.bundle, manifest, sender, samples, settings.seed)
    if "no-channel" in settings.baselines:
        right = (sentences.without_link == samples.labels).astype(np.float64)
        entries["ceiling"] = {
            "name": "no channel",
            "description": "the classifier that the backbone was tuned with, on the sentence itself",
            "accuracy": float(right.mean()),
            "accuracy_ci": wilson_by_sample(right),
        }
    if TEXT in settings.baselines:
        messages = messages_of(sentences)
        bits = [len(message) for message in messages]
        used = Counter(source_of(message) for message in messages)
        entries["text"] = {
            "bits_per_sentence": float(np.mean(bits)),
            "bits_shortest": min(bits),
            "bits_longest": max(bits),
            "field_bits": FIELD_BITS,
            "sources": {name: used[name] for name in sorted(used)},
            "table": column_of(settings),
            "every": EVERY,
            "otherwise": manifest.classes[most_frequent(samples.labels)],
        }
    return entries


def described(entries: Mapping[str, Any]) -> dict[str, str]:
    """Name and description of the sentences among the systems beside the link, if they are sent."""
    if "text" not in entries:
        return {}
    entry = entries["text"]
    shares = ", ".join(f"{name} {count}" for name, count in entry["sources"].items())
    return {
        "text": (
            f"the sentence itself without loss, {entry['bits_per_sentence']:.0f} bits on average (source "
            f"codes: {shares}), behind the channel code and constellation that deliver 99 % of all sentences "
            f"at this Es/N0 over {_AIRS[entry['table']]} in the fewest symbols; what arrives intact is "
            "classified as without a channel, what does not is taken for the most frequent class, "
            f"{entry['otherwise']}; in every {entry['every']}th trial, on gains and noise of its own"
        )
    }


_AIRS = {"awgn": "AWGN", "rayleigh": "Rayleigh fading by the symbol"}


def add_text(
    points: Sequence[dict[str, Any]], tallies: Sequence[Tally], entries: Entries, settings: Settings
) -> Entries:
    """Put the sentences into each point, as a companion and as ``text``.

    Parameters
    ----------
    points
        Entries of the link, altered in place.
    tallies
        Its counts.
    entries
        What :func:`text_entries` gave.
    settings
        How the sweep was run.

    Returns
    -------
    dict
        The entries with the ranges over all points.
    """
    if "text" not in entries:
        return entries
    from twophase.sim.baselines.text import scheme_at

    bits = entries["text"]["bits_per_sentence"]
    for point, tally in zip(points, tallies, strict=True):
        assert tally.text is not None
        counts, hard = tally.text, tally.deployed.correct / tally.trials
        accuracy = counts.correct / counts.trials
        gap = paired_gap(accuracy - hard)
        symbols = counts.symbols / (counts.trials * len(hard))
        snr = 1 / float(esn0_db_to_noise_var(tally.esn0_db))
        bound = bits / float(np.log2(1 + snr))
        point["companions"]["text"] = {
            "accuracy": float(accuracy.mean()),
            "accuracy_ci": wilson_by_sample(accuracy),
            "difference": gap.gap,
            "difference_ci": gap.interval,
            "symbols_per_sample": symbols,
            "symbol_energy": counts.energy_sum / counts.trials,
        }
        adapts = settings.known_snr == "block"
        point["text"] = {
            "scheme": None if adapts else scheme_at(tally.esn0_db, entries["text"]["table"]).name,
            "intact": counts.intact / (counts.trials * len(hard)),
            "trials": counts.trials,
            "symbols": symbols,
            "ratio": symbols / point["symbols_per_sample"],
            "bound_symbols": bound,
            "bound_ratio": bound / point["symbols_per_sample"],
        }
    ranges = {
        name: [min(point["text"][name] for point in points), max(point["text"][name] for point in points)]
        for name in ("ratio", "bound_ratio", "intact")
    }
    return entries | {"text": entries["text"] | ranges}
