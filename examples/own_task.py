"""Two tasks of one's own, one of features and one of texts.

    cd examples
    tp-train --task own_task:spirals
    tp-train --task own_task:commands

Such a function takes nothing, or ``data``, the path that ``--data`` names, and returns a ``Task`` or a
``TextTask``.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from twophase.training.data import Split, Task, Texts, TextTask
from twophase.training.tasks.split import stratified


def spirals() -> Task:
    """Points on three spirals, (x, y) in 0..1, and on which one each lies."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 500)
    radius = rng.uniform(0.1, 1, len(labels))
    angle = 3 * radius + 2 * np.pi / 3 * labels + rng.normal(0, 0.1, len(labels))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    whole = Split(torch.tensor((1 + points) / 2, dtype=torch.float32), torch.tensor(labels))
    train, validation, test = map(whole.take, stratified(labels))
    return Task("spirals", ("first", "second", "third"), train, validation, test)


COMMANDS = {
    "light": ("turn the light {how}", "the lamp should be {how}", "it is dark, make it {how}"),
    "heating": ("set the heating to {how}", "I am cold, make it {how}", "the radiator should be {how}"),
    "music": ("play something {how}", "I want to hear something {how}", "put on a {how} song"),
}
HOW = {
    "light": ("on", "off", "brighter", "dimmer", "warm", "blue"),
    "heating": ("warm", "twenty degrees", "low", "high", "off", "warmer"),
    "music": ("quiet", "loud", "new", "old", "sad", "cheerful"),
}
WHERE = ("in the kitchen", "upstairs", "in the hall", "in my room", "everywhere", "for the baby")


def commands() -> TextTask:
    """What somebody says to a house, about the light, the heating or the music."""
    classes = tuple(COMMANDS)
    said = [
        (f"{phrase.format(how=how)} {where}, please", label)
        for label, name in enumerate(classes)
        for phrase, how, where in product(COMMANDS[name], HOW[name], WHERE)
    ]
    texts, labels = zip(*said, strict=True)
    whole = Texts(texts, np.array(labels))
    train, validation, test = map(whole.take, stratified(whole.labels))
    return TextTask("commands", classes, train, validation, test)
