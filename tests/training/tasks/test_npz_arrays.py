"""An .npz gives its arrays, or one line that names file, row and rule."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twophase.link.errors import ArtifactError, InputError
from twophase.training.data import Task
from twophase.training.tasks import load_task

LABELS = np.arange(40) % 2
FEATURES = np.arange(120.0).reshape(40, 3)


def load(folder: Path, **arrays: Any) -> Task:
    np.savez(folder / "own.npz", **arrays)
    task = load_task("npz", folder / "own.npz")
    assert isinstance(task, Task)
    return task


def test_features_are_drawn_and_stay_as_they_are(tmp_path: Path) -> None:
    task = load(tmp_path, input=FEATURES, label=LABELS)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [32, 4, 4]
    assert task.classes == ("0", "1")
    assert task.input_shape == (3,)
    whole = torch.cat([task.train.features, task.validation.features, task.test.features])
    assert sorted(whole[:, 0].tolist()) == FEATURES[:, 0].tolist()
    assert torch.equal(task.train.features[:, 0] / 3 % 2, task.train.labels.float())
    assert task.augment(whole, 1.0, torch.Generator()) is whole


def test_pixels_are_scaled_and_images_can_be_varied(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
    images[0, 0, 0] = 255
    task = load(tmp_path, input=images, label=LABELS)
    assert task.input_shape == (5, 4)
    assert max(float(part.features.max()) for part in (task.train, task.validation, task.test)) == 1.0
    varied = task.augment(task.test.features, 0.5, torch.Generator().manual_seed(0))
    assert varied.shape == task.test.features.shape
    assert not torch.equal(varied, task.test.features)


@pytest.mark.parametrize(
    ("label", "classes", "names", "first"),
    [
        (np.where(LABELS == 0, "cat", "ant"), None, ("ant", "cat"), 1),
        (np.where(LABELS == 0, "cat", "ant"), np.array(["cat", "ant"]), ("cat", "ant"), 0),
        (LABELS.astype(np.uint8), np.array(["cat", "ant"]), ("cat", "ant"), 0),
        (LABELS * 8 + 2, None, ("2", "10"), 0),
    ],
)
def test_classes_are_named_or_follow_from_the_labels(
    tmp_path: Path, label: Any, classes: Any, names: tuple[str, ...], first: int
) -> None:
    split = np.array(["train"] * 30 + ["validation"] * 5 + ["test"] * 5)
    given = {} if classes is None else {"classes": classes}
    task = load(tmp_path, input=FEATURES, label=label, split=split, **given)
    assert task.classes == names
    assert task.train.labels[:2].tolist() == [first, 1 - first]
    assert torch.equal(task.train.features, torch.tensor(FEATURES[:30], dtype=torch.float32))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"input": FEATURES.astype(complex)},
            "have as input real numbers of shape (n, ...) ('PATH'), not 'complex128",
        ),
        (
            {"input": FEATURES[:, 0]},
            "have as input real numbers of shape (n, ...) ('PATH'), not 'float64 of shape (40,)'",
        ),
        ({"input": FEATURES[:, :0]}, "have as input real numbers"),
        ({"input": FEATURES[:39]}, "have as many labels as inputs, 39 ('PATH'), not 40"),
        ({"input": np.where(FEATURES == 6, np.inf, FEATURES)}, "finite in float32 (row 2) ('PATH')"),
        ({"input": np.where(FEATURES == 9, 1e39, FEATURES)}, "finite in float32 (row 3) ('PATH')"),
        (
            {"label": LABELS.astype(float)},
            "have as label whole numbers or strings of shape (n,) ('PATH'), not 'float64",
        ),
        ({"label": np.array(1)}, "have as label whole numbers or strings"),
        ({"label": np.where(LABELS == 0, "", "a")}, "none of them blank"),
        ({"label": LABELS * 0}, "have at least 2 classes ('PATH'), not ('0',)"),
        ({"label": np.arange(40) // 35}, "have at least 10 rows of each class ('PATH'), not '5 of 1'"),
        ({"classes": np.array(["a"])}, "have only labels of its classes ('PATH', row 1), not 1"),
        ({"classes": np.array(["a", "a"])}, "have classes with different names"),
        (
            {"classes": np.array(["a", "b", "c"])},
            "have at least 10 rows of each class ('PATH'), not '0 of c'",
        ),
        ({"classes": np.array([1, 2])}, "have as classes strings of shape (classes,)"),
        ({"split": np.array(["train"] * 39)}, "have as split 40 strings ('PATH'), not"),
        ({"split": np.array(["train", "test"] * 20)}, "not 'none for validation'"),
        ({"split": np.array(["train"] * 39 + ["dev"])}, "as split ('PATH', row 39), not 'dev'"),
        (
            {"split": np.array(["validation", "train"] * 19 + ["test"] * 2)},
            "training rows have, too ('PATH', row 0), not '0'",
        ),
    ],
)
def test_what_breaks_a_rule_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, **({"input": FEATURES, "label": LABELS} | changed))
    assert message.replace("PATH", str(tmp_path / "own.npz")) in str(caught.value)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hold the arrays input and label .* not \['input', 'labels'\]"):
        load(tmp_path, input=FEATURES, labels=LABELS)


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(ArtifactError, match=r"own\.npz' is missing"):
        load_task("npz", path)
    for content in (b"", b"no archive", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"is no readable \.npz archive"):
            load_task("npz", path)
    with path.open("wb") as stream:
        np.save(stream, FEATURES)
    with pytest.raises(ArtifactError, match="is a single array"):
        load_task("npz", path)
    with pytest.raises(ArtifactError, match="no readable"):
        load(tmp_path, input=FEATURES, label=np.array([{}] * 40, dtype=object))
    load(tmp_path, input=FEATURES, label=LABELS)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "beside the arrays")
    assert load_task("npz", path).name == "npz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="no readable"):
        load_task("npz", path)
