"""The front end of a text link, run as it is deployed: sentences through the whole ``tx.onnx``.

What is simulated starts at the features.  They are those of the bundle's test split, which its exporter
computed with this very graph, or of a table of sentences, which are computed here.  Before a sweep
:func:`check_front` runs the whole graph on some of the test sentences and holds features and codeword
indices against what is simulated.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Manifest
from twophase.link.samples import Samples
from twophase.link.sentences import read_csv
from twophase.link.transmitter import FeatureTransmitter, Transmitter
from twophase.sim.results.figures import BackboneCheck

__all__ = ["MOST_DIFFERENT", "check_front", "csv_samples"]

CHECKED_SENTENCES = 300
"""How many sentences are checked: some 15 ms each."""
CHECKED_ESN0_DB = 10.0
"""What the transmitter is given; every mode is requested by its number."""
MOST_DIFFERENT = 0.01
"""Share of the indices that may differ."""


def csv_samples(bundle: Path, manifest: Manifest, path: Path) -> bytes:
    """A table of sentences, with columns ``text`` and ``label``, as an ``.npz`` of features and labels.

    Errors as of :func:`twophase.link.sentences.read_csv`; InputError, too, if the link takes no text, and
    PackageError if no tokenizer is installed.
    """
    if manifest.front is None:
        raise InputError("data", "be an .npz of features: this link takes no text", str(path))
    texts, labels = read_csv(path, manifest.classes)
    stream = io.BytesIO()
    np.savez(stream, input=_features(Transmitter(bundle, manifest=manifest), texts), label=labels)
    return stream.getvalue()


def check_front(
    bundle: Path, manifest: Manifest, transmitter: FeatureTransmitter, samples: Samples, seed: int
) -> BackboneCheck | None:
    """Entry ``front`` of ``report.json``; None if the link has no front or the samples no sentences.

    ``transmitter`` is that of the features on; ``seed`` chooses the sentences if there are more than
    :data:`CHECKED_SENTENCES`.  ArtifactError if more than 1 % of the indices differ, PackageError if no
    tokenizer is installed.
    """
    sentences = samples.sentences
    if manifest.front is None or sentences is None:
        return None
    order = np.random.default_rng(seed).permutation(len(sentences.texts))
    chosen = np.sort(order[:CHECKED_SENTENCES])
    texts = [sentences.texts[number] for number in chosen]
    deployed = _features(Transmitter(bundle, manifest=manifest), texts, "checking tx.onnx")
    simulated = samples.features[chosen]
    rows = np.flatnonzero((deployed != simulated).any(axis=1))
    by_mode = dict.fromkeys(manifest.modes.names, 0)
    for number, (name, mode) in enumerate(zip(by_mode, manifest.modes, strict=True)):
        if rows.size:
            first, second = (
                transmitter.send(values[rows], CHECKED_ESN0_DB, number).indices[:, : mode.tokens]
                for values in (deployed, simulated)
            )
            by_mode[name] = int(np.count_nonzero(first != second))
    different = sum(by_mode.values())
    total = len(chosen) * sum(mode.tokens for mode in manifest.modes)
    if different > MOST_DIFFERENT * total:
        raise ArtifactError(
            f"'tx.onnx' gives other features than are simulated for {rows.size} of {len(chosen)} sentences, "
            f"and {different} of {total} codeword indices differ (at most {MOST_DIFFERENT:.0%} may): what is "
            "simulated would not be what is deployed"
        )
    return BackboneCheck(len(chosen), int(rows.size), total, different, by_mode)


def _features(whole: Transmitter, texts: Sequence[str], what: str = "sentences") -> NDArray[np.float32]:
    """Features of each sentence, run by itself; shape (sentences, *input_shape)."""
    rows = []
    with Terminal().progress(what, len(texts)) as bar:
        for done, text in enumerate(texts, 1):
            rows.append(whole.features(text))
            bar.show(done=done)
    return np.concatenate(rows)
