"""Samples of a split: features, true classes and, of a text task, the sentences; read once, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twophase.link.archives import read_arrays
from twophase.link.errors import ArtifactError, InputError
from twophase.link.listing import read_listed
from twophase.link.manifest import Manifest
from twophase.link.rows import Rows, as_known, label_numbers, plain
from twophase.link.sentences import WITHOUT_LINK, Sentences, classes_from, sentences_from

__all__ = ["Samples", "load_samples", "load_split"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features and their true classes."""

    features: NDArray[np.float32]
    """Shape (samples, *input_shape)."""
    labels: NDArray[np.int64]
    """Shape (samples,)."""
    sentences: Sentences | None = None
    """What they are features of, for a text task whose file says it."""
    without_link: NDArray[np.int64] | None = None
    """Classes that a classifier without a link decides for, shape (samples,), where the file says it."""


def load_split(path: Path, manifest: Manifest) -> Samples:
    """A split that training or export has written: of float32 and int64, with sentences where it takes text.

    Raises
    ------
    ArtifactError
        If the file is not the one that the manifest lists or is damaged, an array is missing, or a type,
        shape or value does not fit the manifest.
    """
    arrays = read_arrays(path, read_listed(path.parent, path.name, manifest.files))
    for name, wanted in (("input", np.dtype(np.float32)), ("label", np.dtype(np.int64))):
        if name in arrays and arrays[name].dtype != wanted:
            raise ArtifactError(f"'{name}' of '{path}' must be {wanted}, not {arrays[name].dtype}")
    arrays.setdefault("classes", np.array(manifest.classes))  # whose numbers the labels are
    try:
        samples = _samples(arrays, path, manifest)
        if manifest.front is not None and samples.sentences is not None:
            _check_length(samples.sentences, manifest.front.max_length)
    except InputError as error:
        raise ArtifactError(f"'{path}' is no split of this link: {error}") from error
    return samples


def _check_length(sentences: Sentences, max_length: int) -> None:
    longest = sentences.input_ids.shape[1]
    if longest > max_length:
        raise InputError("input_ids", f"have at most {max_length} tokens", longest)


def load_samples(path: Path, manifest: Manifest, content: bytes | None = None) -> Samples:
    """Read an ``.npz`` with arrays ``input``, (samples, *input_shape), and ``label``, (samples,).

    Labels are names of the link's classes, or whole numbers: in the array ``classes``, where the file has
    one, else those of the link's classes (:func:`twophase.link.rows.as_known`).  The file of a text task
    holds the sentences, too: :mod:`twophase.link.sentences`.  Of a file with an array ``split`` the rows of
    the part ``test`` are read.

    Parameters
    ----------
    path
        Of the file.
    manifest
        The link's.
    content
        The file itself, if it lies in memory and ``path`` is what it was made from.

    Raises
    ------
    InputError
        If an array is missing, has another type or shape, is empty, not finite, not in the link's units, or
        names a class that does not exist.
    ArtifactError
        If the file is missing or is no readable ``.npz``.
    """
    return _samples(_tested(read_arrays(path, content)), path, manifest)


def _tested(arrays: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Of a file that states a split the test part, which training has not seen."""
    parts, labels = arrays.get("split"), arrays.get("label")
    if parts is None or labels is None or parts.dtype.kind != "U" or parts.shape != labels.shape:
        return arrays
    tested = np.array([plain(part) == "test" for part in parts.tolist()], dtype=bool)
    taken = {name for name in ("input", "label") if name in arrays and len(arrays[name]) == len(tested)}
    return {name: values[tested] if name in taken else values for name, values in arrays.items()}


def _samples(arrays: dict[str, NDArray[np.generic]], path: Path, manifest: Manifest) -> Samples:
    shape, classes = manifest.input_shape, manifest.classes
    for name in ("input", "label"):
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise InputError("data", "hold the arrays 'input' and 'label'", f"{held} ({path})")
    features, labels = arrays["input"], arrays["label"]
    if features.ndim == 0 or features.shape[1:] != shape:
        raise InputError("input", f"have shape (samples, {', '.join(map(str, shape))})", features.shape)
    if len(features) == 0:
        raise InputError("input", "hold at least one sample", features.shape)
    if labels.shape != (len(features),):
        raise InputError("label", f"have shape ({len(features)},), one per sample", labels.shape)
    values = manifest.input.taken("input", features)
    rows = Rows(path, "row", range(len(labels)))
    numbers, names = label_numbers(rows, labels, arrays.get("classes"))
    numbers = as_known(rows, numbers, names, classes)
    without_link = None
    if WITHOUT_LINK in arrays:
        without_link = classes_from(WITHOUT_LINK, arrays[WITHOUT_LINK], len(values), len(classes))
    return Samples(values, numbers, sentences_from(arrays, len(values), len(classes)), without_link)
