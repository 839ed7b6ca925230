"""GLUE SST-2, from a hub."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from twophase.link.command import require
from twophase.link.errors import ArtifactError, first_line
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import held_out

__all__ = ["sst2"]

NAME, PART = "nyu-mll/glue", "sst2"
CLASSES = ("negative", "positive")
CITATION = (
    "Socher, R. et al. (2013). Recursive Deep Models for Semantic Compositionality Over a Sentiment "
    "Treebank. EMNLP. Wang, A. et al. (2019). GLUE: A Multi-Task Benchmark and Analysis Platform for Natural "
    "Language Understanding. ICLR."
)
VALIDATION_ONE_IN = 20
MOST_VALIDATION = 2000

_TIMEOUT_S = 10.0


def sst2() -> TextTask:
    """The 67,349 phrases that GLUE trains with, and the 872 sentences that it validates with.

    GLUE keeps the labels of its own test sentences to itself.  Its validation sentences are therefore the
    test split here, and the validation split is 5 % of its training phrases, at most 2,000, stratified,
    seed 0.
    """
    trained, tested = _loaded()
    rest, validation = held_out(trained.labels, min(len(trained) // VALIDATION_ONE_IN, MOST_VALIDATION))
    return TextTask("sst2", CLASSES, trained.take(rest), trained.take(validation), tested, CITATION)


def _loaded() -> tuple[Texts, Texts]:
    datasets = require("datasets", "sst2", "the task 'sst2'")
    reachable = _reachable(datasets.config.HF_ENDPOINT)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        with contextlib.nullcontext() if reachable else _offline(datasets.config):
            parts = datasets.load_dataset(NAME, PART)
        return _texts(parts["train"]), _texts(parts["validation"])
    except Exception as error:
        why = first_line(error) if reachable else f"the hub {datasets.config.HF_ENDPOINT} is not reachable"
        raise ArtifactError(
            f"the data set '{NAME}', '{PART}', cannot be loaded: {why} (the task 'reviews' needs no hub)"
        ) from error


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers; asked once, where ``load_dataset`` would try for a minute."""
    from huggingface_hub import HfApi

    with contextlib.suppress(Exception):  # of whichever HTTP library the hub's client is made with
        HfApi(endpoint=endpoint).dataset_info(NAME, timeout=_TIMEOUT_S)
        return True
    return False


@contextlib.contextmanager
def _offline(settings: Any) -> Iterator[None]:
    """Let ``datasets`` look only in its cache."""
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def _texts(part: Any) -> Texts:
    return Texts(tuple(part["sentence"]), np.asarray(part["label"], dtype=np.int64))
