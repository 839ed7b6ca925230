"""An .npz gives its arrays, or one line that names file, row and rule."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twophase.link.errors import ArtifactError, InputError
from twophase.training.data import Task
from twophase.training.tasks import load_task

LABELS = np.arange(40) % 2
NAMED = np.where(LABELS == 0, "cat", "ant")
FEATURES = np.arange(120.0).reshape(40, 3)


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    """What a file of ``save`` holds."""
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def load(folder: Path, **arrays: Any) -> Task:
    np.savez(folder / "own.npz", **arrays)
    return load_task("npz", folder / "own.npz")


def test_features_are_drawn_and_stay_as_they_are(tmp_path: Path) -> None:
    task = load(tmp_path, input=FEATURES, label=LABELS)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [32, 4, 4]
    assert task.classes == ("0", "1")
    assert task.input_shape == (3,)
    whole = torch.cat([task.train.features, task.validation.features, task.test.features])
    assert sorted(whole[:, 0].tolist()) == FEATURES[:, 0].tolist()
    assert torch.equal(task.train.features[:, 0] / 3 % 2, task.train.labels.float())
    assert task.augment(whole, 1.0, torch.Generator()) is whole


def test_pixels_stay_as_they_are_and_images_can_be_varied(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
    images[0, 0, 0] = 255
    task = load(tmp_path, input=images, label=LABELS)
    assert task.input_shape == (5, 4)
    assert task.dtype == "uint8"
    assert max(float(part.features.max()) for part in (task.train, task.validation, task.test)) == 255
    varied = task.augment(task.test.features, 0.5, torch.Generator().manual_seed(0))
    assert not torch.equal(varied, task.test.features)


@pytest.mark.parametrize(
    ("label", "classes", "names", "first"),
    [
        (NAMED, None, ("ant", "cat"), 1),
        (NAMED, ["cat", "ant"], ("cat", "ant"), 0),
        (LABELS.astype(np.uint8), ["cat", "ant"], ("cat", "ant"), 0),
        (LABELS * 8 + 2, None, ("2", "10"), 0),
        (LABELS * 8.0 + 2, None, ("2", "10"), 0),
        (np.where(LABELS == 0, " cat", "e\u0301"), [" cat ", "\u00e9"], ("cat", "\u00e9"), 0),
    ],
)
def test_classes_are_named_or_follow_from_the_labels(
    tmp_path: Path, label: Any, classes: Any, names: tuple[str, ...], first: int
) -> None:
    split = np.array(["train", " train"] * 15 + ["validation"] * 5 + ["test"] * 5)
    given = {} if classes is None else {"classes": np.array(classes)}
    task = load(tmp_path, input=FEATURES, label=label, split=split, **given)
    assert task.classes == names
    assert task.train.labels[:2].tolist() == [first, 1 - first]
    assert torch.equal(task.train.features, torch.tensor(FEATURES[:30], dtype=torch.float32))


@pytest.mark.parametrize(
    ("name", "array", "rule", "value"),
    [
        ("input", FEATURES.astype(complex), "as input real numbers", "complex128 of shape (40, 3)"),
        ("input", FEATURES[:, 0], "as input real numbers", "float64 of shape (40,)"),
        ("input", FEATURES[:39], "as many labels as inputs, 39", 40),
        ("input", np.where(FEATURES == 9, 1e39, FEATURES), "finite in float32 (row 3)", None),
        ("label", LABELS + 0.5, "as label whole numbers or strings ('PATH', row 0)", 0.5),
        ("label", np.where(LABELS == 0, "", "a"), "none of them blank", None),
        ("classes", np.array(["a"]), "only labels of its classes ('PATH', row 1)", 1),
        ("classes", np.array(["a", "a"]), "classes with different names", None),
        ("classes", np.array([1, 2]), "as classes strings of shape (classes,)", None),
        ("split", np.array(["train"] * 39), "as split 40 strings", None),
        ("split", np.array(["train"] * 39 + ["dev"]), "as split ('PATH', row 39)", "dev"),
        ("id", LABELS, "leave others out with --ignore id", "id"),
        ("labels", LABELS, "the arrays input and label", ["input", "labels"]),
    ],
)
def test_what_breaks_a_rule_is_named(tmp_path: Path, name: str, array: Any, rule: str, value: Any) -> None:
    arrays = {"input": FEATURES, "label": LABELS} | {name: array}
    if name == "labels":
        del arrays["label"]
    with pytest.raises(InputError) as caught:
        load(tmp_path, **arrays)
    assert caught.value.name == "data"
    assert rule.replace("PATH", str(tmp_path / "own.npz")) in caught.value.rule
    assert value is None or caught.value.value == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"own\.npz' is missing"),
        (b"no archive", r"is no readable \.npz archive: it is no zip file"),
        (saved(np.save, FEATURES), "holds a single array"),
        (saved(np.savez, input=FEATURES, label=np.array([{}] * 40, dtype=object)), "no readable"),
        (saved(np.savez, input=FEATURES, label=LABELS)[:500], "no readable"),
    ],
    ids=["missing", "no zip", "npy", "pickled", "cut off"],
)
def test_files_that_are_no_archives_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        load_task("npz", path)
