"""A user's own images or other features, from an ``.npz`` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twophase.link.archives import array_names, read_arrays
from twophase.training.data import Split, Task, random_affine, unchanged
from twophase.training.tasks.split import Rows, partition

__all__ = ["npz_arrays"]

Array = NDArray[np.generic]


def npz_arrays(path: Path) -> Task:
    """The samples of an ``.npz`` file with the arrays ``input`` and ``label``.

    ``input``, (n, ...), of numbers; of ``uint8`` it is divided by 255, as pixels are.  ``label``, (n,), of
    names or whole numbers.  ``classes``: their names; without it those that occur, in order.  ``split``,
    (n,), says ``train``, ``validation`` or ``test``; without it the rows are drawn, stratified 80 : 10 : 10,
    seed 0.  Images, (n, height, width), are varied by ``random_affine`` where augmentation is wanted.
    InputError names file, row and rule where one is broken.
    """
    arrays = _read(path)
    rows = Rows(path, "row", range(len(arrays["label"]) if arrays["label"].ndim else 0))
    features = _features(rows, arrays["input"])
    labels, classes = _labelled(rows, arrays["label"], arrays.get("classes"))
    if len(features) != len(labels):
        raise rows.fault(f"have as many labels as inputs, {len(features)}", len(labels))
    stated = arrays.get("split")
    if stated is not None and (stated.dtype.kind != "U" or stated.shape != labels.shape):
        raise rows.fault(f"have as split {len(labels)} strings", _described(stated))
    members = partition(rows, labels, classes, None if stated is None else stated.tolist())
    whole = Split(torch.from_numpy(features), torch.from_numpy(labels))
    augment = random_affine if features.ndim == 3 else unchanged
    train, validation, test = map(whole.take, members)
    return Task("npz", classes, train, validation, test, augment)


def _read(path: Path) -> dict[str, Array]:
    arrays = read_arrays(path, only=("input", "label", "classes", "split"))
    if not {"input", "label"} <= arrays.keys():
        raise Rows(path, "row", ()).fault("hold the arrays input and label", sorted(array_names(path)))
    return arrays


def _features(rows: Rows, values: Array) -> NDArray[np.float32]:
    if values.dtype.kind not in "buif" or values.ndim < 2 or 0 in values.shape:
        raise rows.fault("have as input real numbers of shape (n, ...)", _described(values))
    with np.errstate(over="ignore"):  # seen below
        features = np.ascontiguousarray(values, dtype=np.float32)
    if values.dtype == np.uint8:
        features /= 255
    finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise rows.fault(f"have only numbers that are finite in float32 (row {row})", "NaN or infinity")
    return features


def _labelled(rows: Rows, values: Array, named: Array | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each row's class, and the names of the classes."""
    if values.dtype.kind not in "iuU" or values.ndim != 1:
        raise rows.fault("have as label whole numbers or strings of shape (n,)", _described(values))
    if named is not None and (named.dtype.kind != "U" or named.ndim != 1):
        raise rows.fault("have as classes strings of shape (classes,)", _described(named))
    if named is None:
        found, labels = np.unique(values, return_inverse=True)
        names = tuple(str(name) for name in found.tolist())
    else:
        names = tuple(named.tolist())
        known = named if values.dtype.kind == "U" else np.arange(len(named))
        strange = ~np.isin(values, known)
        if strange.any():
            row = int(np.argmax(strange))
            raise rows.fault("have only labels of its classes", values[row].item(), row)
        order = np.argsort(known, kind="stable")
        labels = order[np.searchsorted(known, values, sorter=order)]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise rows.fault("have classes with different names, none of them blank", names)
    return labels.astype(np.int64), names


def _described(values: Array) -> str:
    return f"{values.dtype} of shape {values.shape}"
