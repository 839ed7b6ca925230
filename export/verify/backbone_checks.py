"""Checks of a bundle that takes text: what stands ahead of the head, and that the head stands after it."""

from __future__ import annotations

import numpy as np

from twophase.export.backbone.compare import (
    WholeRunner,
    allowed,
    decided,
    problems_of_tokenizer,
    rows_apart,
    unlike_head,
)
from twophase.export.backbone.merge import unlike_proved
from twophase.export.compare.tally import TOLERANCE
from twophase.export.graphs.run import GraphRunError
from twophase.export.graphs.signature import FEATURES, WHOLE_FILE
from twophase.export.verify.bundle import Bundle, Finding
from twophase.link.manifest import EVAL_FILE, TOKENIZER_FILE

__all__ = ["contained", "takes_text", "text_to_symbols", "tokenizer"]

_PADDED = 64
"""Sentences that are run in padded batches too."""


def takes_text(bundle: Bundle) -> bool:
    """Whether the transmitter takes text."""
    return bundle.manifest.front is not None


def contained(bundle: Bundle) -> Finding:
    """``tx.onnx`` is the head, which the other checks prove, after what makes features of tokens alone."""
    view, head = bundle.view(WHOLE_FILE), bundle.model(bundle.manifest.head_file)
    problems = [f"'{WHOLE_FILE}': {problem}" for problem in unlike_proved(view, head, bundle.manifest)]
    nodes = len(head.graph.node)
    ahead = len(view.model.graph.node) - nodes
    return Finding(
        problems, f"all {nodes} nodes of {bundle.manifest.head_file}; {ahead} ahead see tokens alone"
    )


def tokenizer(bundle: Bundle) -> Finding:
    """The tokenizer gives the token ids of the test split for its texts."""
    sentences = bundle.sentences
    problems = [
        f"'{TOKENIZER_FILE}': {problem}"
        for problem in problems_of_tokenizer(bundle.folder / TOKENIZER_FILE, sentences, bundle.manifest)
    ]
    return Finding(
        problems, f"{len(sentences):,} sentences, {int(sentences.lengths.sum()):,} tokens as recorded"
    )


def text_to_symbols(bundle: Bundle) -> Finding:
    """Each sentence by itself gives the features of the test split, and sends what the head sends for them.

    Features are those of the machine that exported, up to rounding errors that change few indices.
    """
    manifest, sentences = bundle.manifest, bundle.sentences
    whole, head = (bundle.graph_bytes(file) for file in (WHOLE_FILE, manifest.head_file))
    runner = WholeRunner(whole, head, manifest)
    sent, features = runner.alone(sentences)
    if not np.isfinite(features).all():
        raise GraphRunError(f"'{WHOLE_FILE}' gives NaN or infinity in '{FEATURES}'")
    compared, problems = unlike_head(runner, sentences, sent, features)
    recorded = bundle.samples.features
    error = np.abs(features - recorded)
    if (error > TOLERANCE * (1.0 + np.abs(recorded))).any():
        problems.append(
            f"'{FEATURES}' differ by up to {error.max():.1e} from 'input' of '{EVAL_FILE}', "
            f"tolerance {TOLERANCE:g}"
        )
    some = sentences.first(_PADDED)
    padded = np.concatenate([values for _, values in runner.padded(some)])
    counted = []
    for what, ones, others in (
        ("recorded", features, recorded),
        ("in a padded batch", features[: len(some)], padded),
    ):
        apart, _ = rows_apart(*(decided(runner.head, values, manifest) for values in (ones, others)))
        different, count = int(apart.sum()), len(apart)
        counted.append(f"{different} of {count:,} with other indices than {what}")
        if different > allowed(count):
            problems.append(f"{counted[-1]}; {allowed(count)} may")
    how = "bit for bit as recorded" if not error.any() else f"within {error.max():.1e} of those recorded"
    return Finding(
        [f"'{WHOLE_FILE}': {problem}" for problem in problems],
        f"features {how}; {compared:,} transmissions as the head's; {'; '.join(counted)}",
    )
