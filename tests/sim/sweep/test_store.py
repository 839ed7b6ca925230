"""Finished blocks on disk: whole, absent, or noticed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tools.toy_sweep import ToyCounts, ToyTask, from_arrays, same, to_arrays, toy_store
from twophase.link.errors import ArtifactError, InputError
from twophase.sim.sweep.blocks import Block
from twophase.sim.sweep.store import KEY_NAME, BlockStore

BLOCK = Block("", 2.5, 5, 3)


def _counts(block: Block = BLOCK) -> ToyCounts:
    return ToyTask()(block)


def _file(store: BlockStore) -> Path:
    (found,) = store.folder.glob("*.npz")
    return found


def test_a_block_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "blocks")
    assert store.load(BLOCK) is None
    store.save(BLOCK, _counts())
    back = toy_store(tmp_path / "blocks").load(BLOCK)
    assert back is not None
    assert same(back, _counts())
    # No temporary name is left, and the key can be read.
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([_file(store).name, KEY_NAME])


def test_every_field_of_a_block_tells_it_from_others_and_a_sweep_may_have_any_name(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    store.save(BLOCK, _counts())
    others = [Block("x", 2.5, 5, 3), Block("", 2.0, 5, 3), Block("", 2.5, 0, 3), Block("", 2.5, 5, 2)]
    assert [store.load(other) for other in others] == [None] * 4
    blocks = [Block(name, 0.0, 0, 1) for name in ("", "../x", "a/b", "x" * 300, "\0", "ü 64QAM")]
    for block in blocks:
        store.save(block, _counts(block))
    assert all((found := store.load(block)) and same(found, _counts(block)) for block in blocks)
    assert [path.name for path in tmp_path.iterdir()] == [store.folder.name]


def test_damage_anywhere_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = toy_store(tmp_path)
    store.save(BLOCK, _counts())
    path = _file(store)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    removed = 0
    for place in rng.choice(len(whole), 60, replace=False):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        caplog.clear()
        back = store.load(BLOCK)
        # A flipped bit in what an archive does not use (a date) leaves the counts whole.
        assert back is None or same(back, _counts())
        if back is None:
            assert not path.exists()
            assert "its block runs again" in caplog.text
            removed += 1
    assert removed > 30
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert store.load(BLOCK) is None
        assert not path.exists()


def test_a_file_is_not_taken_for_another_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = toy_store(tmp_path)
    other = Block("", 2.5, 0, 3)
    store.save(BLOCK, _counts())
    moved = _file(store).read_bytes()
    store.clear()
    store.save(other, _counts(other))
    _file(store).write_bytes(moved)
    with caplog.at_level(logging.WARNING):
        assert store.load(other) is None
    assert "digest" in caplog.text


def test_a_file_holds_the_arrays_alone_and_no_objects(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    store.save(BLOCK, _counts())
    path = _file(store)
    with np.load(path) as archive:
        # NumPy 1.26 takes what it does not know for an array.
        assert set(archive.files) == {*to_arrays(_counts()), "sha256"}
    objects = {"trials": np.array([ToyTask()], dtype=object)}
    other = BlockStore(tmp_path / "other", "{}", lambda counts: objects, from_arrays)
    with pytest.raises(InputError, match="'trials' must"):
        other.save(BLOCK, _counts())
    assert not (tmp_path / "other").exists()
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=True, **objects)
    assert store.load(BLOCK) is None


def test_counts_of_another_form_run_again(tmp_path: Path) -> None:
    def other_form(arrays: object) -> ToyCounts:
        raise KeyError("deployed")

    toy_store(tmp_path).save(BLOCK, _counts())
    assert BlockStore(tmp_path, "{}", to_arrays, other_form).load(BLOCK) is None
    # The file is gone, so that it is not read in vain again.
    assert toy_store(tmp_path).load(BLOCK) is None


def test_keys_lie_apart_and_are_cleared_apart(tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    one, other = toy_store(folder, json.dumps({"seed": 1})), toy_store(folder, json.dumps({"seed": 2}))
    one.save(BLOCK, _counts())
    assert other.load(BLOCK) is None
    other.save(BLOCK, _counts())
    assert json.loads((other.folder / KEY_NAME).read_text()) == {"seed": 2}
    one.clear()
    assert one.load(BLOCK) is None
    assert other.load(BLOCK) is not None
    other.clear()
    assert not folder.exists()
    other.clear()


def test_a_failing_disk_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    store = toy_store(tmp_path / "blocks")
    store.save(BLOCK, _counts())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.raises(ArtifactError, match="Input/output error"):
            store.load(BLOCK)
    assert store.load(BLOCK) is not None
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="be writable"):
        toy_store(tmp_path / "file").save(BLOCK, _counts())
