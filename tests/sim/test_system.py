"""Opening a bundle: what is wrong is named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.tiny_bundle import CLASSES, write_tiny_bundle
from twophase.link.errors import ArtifactError
from twophase.sim.system import load_system


def test_a_bundle_opens_with_its_references(bundle: Path) -> None:
    system, manifest = load_system(bundle)
    assert [reference.name for reference in system.references] == ["learning", "aligned"]
    # Each reference has its own receiver, as trained: what is deployed cannot vouch for itself.
    assert len({id(entry.receiver) for entry in (system, *system.references)}) == 3
    assert (system.classes, system.llr_clip, manifest.task) == (CLASSES, 100.0, "tiny")


def test_a_bundle_without_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no soft reference"):
        load_system(write_tiny_bundle(tmp_path / "bundle", references=()))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("tx.onnx", lambda path: path.unlink()),
        ("rx_learning.onnx", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("eval.npz", lambda path: path.write_bytes(b"p" + path.read_bytes()[1:])),
        (
            "link.json",
            lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99})),
        ),
    ],
)
def test_a_damaged_bundle_is_refused(name: str, harm, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    harm(folder / name)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        load_system(folder)
