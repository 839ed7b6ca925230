"""The baselines by name: what each is, and those that a sweep asks for.

What is no system on the link's air is made elsewhere: the ceiling without a channel
(:mod:`twophase.sim.results.text`), and the sentences, which :mod:`twophase.sim.baselines.text` sends.
"""

from __future__ import annotations

from typing import get_args

from twophase.link.errors import InputError
from twophase.link.modes import ModeTable
from twophase.link.sentences import Sentences
from twophase.sim.baselines.base import Baseline
from twophase.sim.baselines.coded import CodedBaseline, coded_description
from twophase.sim.baselines.label import LabelSender, label_description
from twophase.sim.settings import SENTENCE_BASELINES, BaselineName, Settings
from twophase.sim.system import System

__all__ = ["descriptions", "make_baselines"]


def make_baselines(
    settings: Settings, system: System, header_symbols: int = 0, sentences: Sentences | None = None
) -> tuple[Baseline, ...]:
    """Make the baselines that the settings ask for, codes first.

    Parameters
    ----------
    settings
        Its ``codes``, ``baselines`` and ``kernel`` are used.
    system
        The deployed link; its receiver also classifies what the coded baselines decode.
    header_symbols
        Widest header of the deployed link: a label may use a frame's header symbols as well.
    sentences
        What the samples are features of, where a baseline needs them.

    Raises
    ------
    InputError
        If a name is unknown, a mode has more bits than a code can take, or a baseline lacks its sentences.
    """
    made: list[Baseline] = [CodedBaseline(name, system, settings.kernel) for name in settings.codes]
    longest = header_symbols + system.modes.max_symbols
    for name in settings.baselines:
        if name not in get_args(BaselineName):
            raise InputError("baseline", "be " + ", ".join(map(repr, get_args(BaselineName))), name)
        if name in SENTENCE_BASELINES and sentences is None:
            raise InputError("baseline", "be left out where the samples hold no sentences", name)
        if name == "classify-and-send":
            made.append(LabelSender(system.classes, longest))
        elif name == "tfidf" and sentences is not None:
            made.append(LabelSender(system.classes, longest, sentences.tfidf))
    return tuple(made)


def descriptions(settings: Settings, modes: ModeTable, classes: int) -> dict[str, str]:
    """Name and description of each of :func:`make_baselines`, in its order; nothing is built."""
    labels = [name for name in settings.baselines if name in ("classify-and-send", "tfidf")]
    return {name: coded_description(name, modes) for name in settings.codes} | {
        name: label_description(name, classes) for name in labels
    }
