"""The whole transmitter on the sentences of the test split: against torch, against the head, and in batches.

Features are real numbers: torch and ONNX Runtime, and a sentence alone and in a padded batch, may differ in
their last digits, and where the head rounds them to its grid one of them may fall to the other side.  How
many sentences that gives another index is counted; more than ``ALLOWED_SHARE`` is a failure.  After the
features nothing may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.export.compare.inputs import spread_db
from twophase.export.compare.tally import Count
from twophase.export.graphs.run import OnnxRuntime, Values, joined, rows_of
from twophase.export.graphs.signature import FEATURES, signature_of
from twophase.link.graphs import MODE_REQUEST
from twophase.link.listing import read_listed
from twophase.link.manifest import TOKENIZER_FILE, Manifest
from twophase.link.sentences import Sentences
from twophase.link.text import TextEncoder

__all__ = [
    "ALLOWED_SHARE",
    "TORCH_TOLERANCE",
    "WholeRunner",
    "allowed",
    "decided",
    "problems_of_tokenizer",
    "rows_apart",
    "unlike_head",
]

TORCH_TOLERANCE = 1e-4
"""Largest difference of a feature between torch and ONNX Runtime, over the largest magnitude of one."""

ALLOWED_SHARE = 0.01
"""Share of sentences that may get another index where features differ by rounding errors; one always may."""

_BATCH = 32
"""Sentences of a padded batch."""

_EACH_MODE = 16
"""Sentences that are sent in each mode."""


def allowed(count: int) -> int:
    """How many of so many sentences may get another index."""
    return max(1, int(ALLOWED_SHARE * count))


class WholeRunner:
    """A transmitter that takes token ids, and its head, of the bytes of both.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot load one.
    """

    def __init__(self, whole: bytes, head: bytes, manifest: Manifest) -> None:
        self._whole = OnnxRuntime(whole)
        self.head = OnnxRuntime(head)
        self._sent = signature_of(manifest.head_file, manifest).output_names
        self.modes = len(manifest.modes)

    def alone(
        self, sentences: Sentences, progress: Callable[[int], None] = lambda done: None
    ) -> tuple[Values, NDArray[np.float32]]:
        """Send each sentence by itself, unpadded, in the mode that the routing gives it, from -5 to 20 dB.

        Returns what is sent, by name, and the features, shape (n, C); ``progress`` is given how many are
        done.
        """
        snr_db = spread_db(len(sentences))
        parts = []
        for row in range(len(sentences)):
            progress(row)
            parts.append(self.run(sentences.alone(row) | {"snr_db": snr_db[row : row + 1]}))
        return joined([part for part, _ in parts]), np.concatenate([features for _, features in parts])

    def run(self, feed: Values) -> tuple[Values, NDArray[np.float32]]:
        """What is sent, and the features."""
        sent = self._whole.read([*self._sent, FEATURES], feed)
        features = sent.pop(FEATURES)
        return sent, features

    def run_head(self, feed: Values) -> Values:
        """What the head sends for features."""
        return self.head.read(self._sent, feed)

    def padded(self, sentences: Sentences) -> list[tuple[Values, NDArray[np.float32]]]:
        """Ids and mask of padded batches of the test split, and the features that they give."""
        batches = []
        for start in range(0, len(sentences), _BATCH):
            feed = sentences.padded(np.arange(start, min(start + _BATCH, len(sentences))))
            snr_db = np.zeros(len(feed["input_ids"]), dtype=np.float32)
            batches.append((feed, self.run(feed | {"snr_db": snr_db})[1]))
        return batches


def unlike_head(
    runner: WholeRunner, sentences: Sentences, sent: Values, features: NDArray[np.float32]
) -> tuple[int, list[str]]:
    """What the whole sends in another way than the head does for its features.

    ``sent`` and ``features`` are what ``WholeRunner.alone`` gave; the first sentences are sent in each mode
    besides.  Returns how many transmissions were compared, and one sentence for each output that differs.
    """
    snr_db = spread_db(len(sentences))
    pairs = [
        (
            rows_of(sent, slice(row, row + 1)),
            runner.run_head({"input": features[row : row + 1], "snr_db": snr_db[row : row + 1]}),
        )
        for row in range(len(sentences))
    ]
    requests = np.arange(runner.modes)
    for row in range(min(_EACH_MODE, len(sentences)) if len(requests) > 1 else 0):
        tokens = {
            name: np.repeat(value, len(requests), axis=0) for name, value in sentences.alone(row).items()
        }
        routed: Values = {"snr_db": np.repeat(snr_db[row], len(requests)), MODE_REQUEST: requests}
        ours, given = runner.run(tokens | routed)
        pairs.append((ours, runner.run_head({"input": given} | routed)))
    ours, theirs = (joined(list(side)) for side in zip(*pairs, strict=True))
    problems = []
    for name, value in ours.items():
        differs = (value != theirs[name]).reshape(len(value), -1).any(axis=1)
        if differs.any():
            problems.append(
                f"'{name}' is not what the head gives for 'features' in {differs.sum()} of {len(differs)} "
                "transmissions"
            )
    return len(ours["mode"]), problems


def decided(head: OnnxRuntime, features: NDArray[np.float32], manifest: Manifest) -> list[Values]:
    """Modes and indices that a head gives for features, from -5 to 20 dB: as routed, then in each mode."""
    feeds: list[Values] = [{"input": features, "snr_db": spread_db(len(features))}]
    if len(manifest.modes) > 1:
        feeds += [{**feeds[0], MODE_REQUEST: np.array([mode])} for mode in range(len(manifest.modes))]
    return [head.read(["mode", "indices"], feed) for feed in feeds]


def rows_apart(ones: list[Values], others: list[Values]) -> tuple[NDArray[np.bool_], Count]:
    """Samples that get another mode or index anywhere, shape (n,), and indices compared."""
    apart = np.zeros(len(ones[0]["mode"]), dtype=bool)
    count = Count()
    for one, other in zip(ones, others, strict=True):
        differs = one["indices"] != other["indices"]
        apart |= (one["mode"] != other["mode"]) | differs.any(axis=1)
        count.compared += int(((one["indices"] >= 0) | (other["indices"] >= 0)).sum())
        count.different += int(differs.sum())
    return apart, count


def problems_of_tokenizer(folder: Path, sentences: Sentences, manifest: Manifest) -> list[str]:
    """Whether the tokenizer of a run or bundle encodes the texts to their ids: one sentence if it does not.

    Raises
    ------
    ArtifactError, InputError
        If the file is altered or no tokenizer, or a text is none that a link may be given.
    PackageError
        If ``tokenizers`` is not installed.
    """
    assert manifest.front is not None
    content = read_listed(folder, TOKENIZER_FILE, manifest.files)
    encoder = TextEncoder(folder / TOKENIZER_FILE, manifest.front.max_length, content)
    ids, mask = encoder.encode_all(sentences.texts)
    given = [row[:length] for row, length in zip(ids, mask.sum(axis=1), strict=True)]
    wanted = [row[:length] for row, length in zip(sentences.input_ids, sentences.lengths, strict=True)]
    pairs = zip(given, wanted, strict=True)
    unlike = [number for number, (one, other) in enumerate(pairs) if not np.array_equal(one, other)]
    if not unlike:
        return []
    first = unlike[0]
    return [
        f"it gives other ids than 'input_ids' for {len(unlike)} of {len(sentences)} sentences, first for "
        f"number {first}: {_shown(given[first])} instead of {_shown(wanted[first])}"
    ]


def _shown(ids: NDArray[Any]) -> str:
    values = ids.tolist()
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
