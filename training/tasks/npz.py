"""A user's own images or other features, from an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twophase.link.archives import array_names, read_arrays
from twophase.link.input_scale import InputDtype
from twophase.link.rows import Rows, described, label_numbers, plain
from twophase.training.data import Split, Task, random_affine, unchanged
from twophase.training.tasks.split import check_ignored, partition

__all__ = ["npz_arrays"]

Array = NDArray[np.generic]


def npz_arrays(path: Path, ignored: Collection[str] = ()) -> Task:
    """The samples of an ``.npz`` file with the arrays ``input`` and ``label``.

    ``input``, (n, ...), of numbers, in the user's units; of ``uint8``, 0..255, as pixels come.  ``label``,
    (n,), of names or whole numbers.  ``classes``: their names; without it those that occur, in order.
    ``split``, (n,), says ``train``, ``validation`` or ``test``; without it the rows are drawn, stratified
    80 : 10 : 10, seed 0.  Arrays of other names must be ``ignored``.  Images, (n, height, width), are varied
    by ``random_affine`` where augmentation is wanted.  InputError names file, row and rule where one is
    broken.
    """
    arrays = _read(path)
    rows = Rows(path, "row", range(len(arrays["label"]) if arrays["label"].ndim else 0))
    check_ignored(rows, sorted(array_names(path)), ("input", "label", "classes", "split"), ignored)
    features = _features(rows, arrays["input"])
    labels, classes = label_numbers(rows, arrays["label"], arrays.get("classes"))
    if len(features) != len(labels):
        raise rows.fault(f"have as many labels as inputs, {len(features)}", len(labels))
    stated = arrays.get("split")
    if stated is not None and (stated.dtype.kind != "U" or stated.shape != labels.shape):
        raise rows.fault(f"have as split {len(labels)} strings", described(stated))
    members = partition(
        rows, labels, classes, None if stated is None else [plain(p) for p in stated.tolist()]
    )
    whole = Split(torch.from_numpy(features), torch.from_numpy(labels))
    augment = random_affine if features.ndim == 3 else unchanged
    train, validation, test = map(whole.take, members)
    dtype: InputDtype = "uint8" if arrays["input"].dtype == np.uint8 else "float32"
    return Task("npz", classes, train, validation, test, augment, dtype)


def _read(path: Path) -> dict[str, Array]:
    arrays = read_arrays(path, only=("input", "label", "classes", "split"))
    if not {"input", "label"} <= arrays.keys():
        raise Rows(path, "row", ()).fault("hold the arrays input and label", sorted(array_names(path)))
    return arrays


def _features(rows: Rows, values: Array) -> NDArray[np.float32]:
    if values.dtype.kind not in "buif" or values.ndim < 2 or 0 in values.shape:
        rule = "have as input real numbers of shape (samples, features), or of more axes"
        raise rows.fault(rule, described(values))
    with np.errstate(over="ignore"):  # seen below
        features = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise rows.fault(f"have only numbers that are finite in float32 (row {row})", "NaN or infinity")
    return features
