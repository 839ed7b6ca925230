"""A task: samples or sentences, labels and a split, with one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from twophase.link.errors import InputError
from twophase.link.input_scale import InputDtype, InputScale, measure, spread

__all__ = ["Split", "Task", "TextTask", "Texts", "check_parts", "random_affine", "unchanged"]


@dataclass(frozen=True)
class Split:
    """Samples of one part of the data."""

    features: Tensor
    """(n, *input_shape), float32."""
    labels: Tensor
    """(n,), int64."""
    teacher: Tensor | None = None
    """(n, classes): class probabilities by another classifier, from which a link may learn; None if there is
    none."""

    def __post_init__(self) -> None:
        tensors = {"features": (self.features, torch.float32), "labels": (self.labels, torch.int64)}
        if self.teacher is not None:
            tensors["teacher"] = (self.teacher, torch.float32)
        for name, (values, dtype) in tensors.items():
            if not isinstance(values, Tensor) or values.dtype != dtype:
                found = values.dtype if isinstance(values, Tensor) else type(values)
                raise InputError(name, f"be a tensor of {dtype}", found)
            if not torch.isfinite(values).all():
                raise InputError(name, "be finite", "an array with NaN or infinity")
        if self.features.dim() < 2:
            raise InputError("features", "have shape (n, ...)", tuple(self.features.shape))
        if self.labels.shape != self.features.shape[:1]:
            raise InputError("labels", f"have shape ({len(self.features)},)", tuple(self.labels.shape))
        if self.teacher is not None and (self.teacher.dim() != 2 or len(self.teacher) != len(self.features)):
            raise InputError(
                "teacher", f"have shape ({len(self.features)}, classes)", tuple(self.teacher.shape)
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same samples on another device."""
        teacher = None if self.teacher is None else self.teacher.to(device)
        return Split(self.features.to(device), self.labels.to(device), teacher)

    def take(self, members: NDArray[np.int64]) -> Split:
        """Only the samples of these numbers, in this order."""
        teacher = None if self.teacher is None else self.teacher[members]
        return Split(self.features[members], self.labels[members], teacher)


@dataclass(frozen=True)
class Texts:
    """Sentences of one part of the data."""

    texts: tuple[str, ...]
    """None of them blank."""
    labels: NDArray[np.int64]
    """(n,)."""

    def __post_init__(self) -> None:
        if not isinstance(self.texts, tuple):
            raise InputError("texts", "be a tuple of strings", type(self.texts))
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype != np.int64:
            found = getattr(self.labels, "dtype", type(self.labels))
            raise InputError("labels", "be an array of int64", found)
        if self.labels.shape != (len(self.texts),):
            raise InputError("labels", f"have shape ({len(self.texts)},)", self.labels.shape)
        for number, text in enumerate(self.texts):
            if not isinstance(text, str) or not text.strip():
                raise InputError("texts", f"hold strings that are not blank (number {number})", text)
            if not _is_unicode(text):
                raise InputError("texts", f"hold no lone surrogates (number {number})", text[:40])

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, members: NDArray[np.int64]) -> Texts:
        """Only the sentences of these numbers, in this order."""
        return Texts(tuple(self.texts[number] for number in members), self.labels[members])


def unchanged(features: Tensor, _strength: float, _generator: torch.Generator) -> Tensor:
    """The augmentation that does nothing."""
    return features


@dataclass(frozen=True)
class Task:
    """A classification task.  The test split is for ``eval.npz`` alone: training never looks at it."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    augment: Callable[[Tensor, float, torch.Generator], Tensor] = unchanged
    """Random variation of a batch of features: (features, strength, generator) -> features."""
    dtype: InputDtype = "float32"
    """What the features are in the user's data: ``uint8`` of whole numbers 0..255."""
    scaling: Literal["auto", "each", "one", "none"] = "auto"
    """How the transmitter scales the features (:func:`twophase.link.input_scale.measure`): each, all by one
    scale, or not at all.  ``auto``: one for samples of several axes and of ``uint8``, else each."""

    def __post_init__(self) -> None:
        _check_classes(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's features."""
        return tuple(self.train.features.shape[1:])

    def input_scale(self) -> InputScale:
        """Units of the features and how they are scaled, measured on the training part."""
        features = self.train.features.cpu().numpy()
        if self.scaling == "none":
            mean, deviation = spread(features, one=False)
            return InputScale(mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))
        images = self.dtype == "uint8" or features.ndim > 2
        return measure(features, self.dtype, one=images if self.scaling == "auto" else self.scaling == "one")


@dataclass(frozen=True)
class TextTask:
    """A classification task of sentences.  Training never looks at the test split."""

    name: str
    classes: tuple[str, ...]
    train: Texts
    validation: Texts
    test: Texts
    citation: str = ""
    """What to cite where results on these sentences are published."""

    def __post_init__(self) -> None:
        _check_classes(self.classes)
        check_parts(self)


def check_parts(task: Task | TextTask) -> None:
    """Whether the parts of a task fit its classes and one another.

    A ``Task`` does not look at its parts by itself, so that the test split can be kept from training.

    Raises
    ------
    InputError
        If a part is empty or of a wrong type, has a label that is no class, samples of another shape or a
        teacher of other classes, or if training sees one class alone.
    """
    kind: type[Split] | type[Texts] = Split if isinstance(task, Task) else Texts
    classes = len(task.classes)
    for name in ("train", "validation", "test"):
        part = getattr(task, name)
        if not isinstance(part, kind):
            raise InputError(name, f"be of the type {kind.__name__}", type(part))
        _check_labels(name, np.asarray(part.labels), classes)
        if not isinstance(part, Split) or not isinstance(task, Task):
            continue
        shape = tuple(part.features.shape[1:])
        if shape != task.input_shape:
            raise InputError(name, f"have samples of shape {task.input_shape}, as train has", shape)
        if task.dtype == "uint8" and not bool(((part.features >= 0) & (part.features <= 255)).all()):
            raise InputError(name, "have features in 0..255, as dtype says", "others")
        if part.teacher is not None and part.teacher.shape[1] != classes:
            raise InputError(name, f"have a teacher of {classes} classes", part.teacher.shape[1])
    if len(np.unique(np.asarray(task.train.labels))) < 2:
        raise InputError("train", "have samples of at least 2 classes", 1)


def _check_classes(classes: tuple[str, ...]) -> None:
    if not isinstance(classes, tuple) or not all(isinstance(name, str) and name.strip() for name in classes):
        raise InputError("classes", "be a tuple of names", classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError("classes", "be at least 2 different names", classes)


def _check_labels(part: str, labels: NDArray[np.int64], classes: int) -> None:
    if not len(labels):
        raise InputError(part, "hold at least one sample", 0)
    if labels.min() < 0 or labels.max() >= classes:
        worst = int(labels.min() if labels.min() < 0 else labels.max())
        raise InputError(part, f"have labels in 0..{classes - 1}, the numbers of the classes", worst)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def random_affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, shift and scale each image at random, with bilinear interpolation and zeros outside.

    At strength 1 the standard deviations are 0.25 rad of rotation, 3 % of the width of shift and 8 % of
    scale.

    Parameters
    ----------
    images
        (batch, height, width).
    strength
        Multiplies all three.
    """
    draws = torch.randn(len(images), 4, generator=generator).to(images.device) * strength
    angle, scale, shift = 0.25 * draws[:, 0], 1 + 0.08 * draws[:, 1], 0.06 * draws[:, 2:]
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    grid = F.affine_grid(
        torch.cat([matrix, shift[:, :, None]], 2), [len(images), 1, *images.shape[1:]], align_corners=False
    )
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
