"""Finished blocks on disk: whole, absent, or noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tools.toy_sweep import ToyTask, same
from twophase.link.errors import ArtifactError, InputError
from twophase.sim.counts import Tally, tally_arrays
from twophase.sim.sweep.job import Block
from twophase.sim.sweep.store import KEY_NAME, BlockStore, Form

BLOCK = Block("", 2.5, 5, 3)
COUNTS = ToyTask()(BLOCK)


def _file(store: BlockStore) -> Path:
    (found,) = store.folder.glob("*.npz")
    return found


def _comes_back(store: BlockStore, block: Block, counts: Tally) -> bool:
    back = store.load(block)
    return back is not None and same(back, counts)


def test_a_block_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "blocks", "{}")
    assert store.load(BLOCK) is None
    store.save(BLOCK, COUNTS)
    assert _comes_back(BlockStore(tmp_path / "blocks", "{}"), BLOCK, COUNTS)
    # No temporary name is left; a file holds the counts and nothing else.
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([_file(store).name, KEY_NAME])
    with np.load(_file(store)) as archive:
        assert set(archive.files) == {*tally_arrays(COUNTS), "sha256"}


def test_every_field_of_a_block_tells_it_from_others_and_a_sweep_may_have_any_name(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, "{}")
    store.save(BLOCK, COUNTS)
    others = [Block("x", 2.5, 5, 3), Block("", 2.0, 5, 3), Block("", 2.5, 0, 3), Block("", 2.5, 5, 2)]
    assert [store.load(other) for other in others] == [None] * 4
    blocks = [Block(name, 0.0, 0, 1) for name in ("", "../x", "a/b", "x" * 300, "\0", "ü 64QAM")]
    for block in blocks:
        store.save(block, ToyTask()(block))
    assert all(_comes_back(store, block, ToyTask()(block)) for block in blocks)
    assert [path.name for path in tmp_path.iterdir()] == [store.folder.name]


def test_damage_anywhere_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = BlockStore(tmp_path, "{}")
    store.save(BLOCK, COUNTS)
    path = _file(store)
    whole = path.read_bytes()
    rng, removed = np.random.default_rng(0), 0
    for place in rng.choice(len(whole), 60, replace=False):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :]
        )
        caplog.clear()
        back = store.load(BLOCK)
        # A flipped bit in what an archive does not use (a date) leaves the counts whole.
        assert same(back, COUNTS) if back is not None else "its block runs again" in caplog.text
        assert path.exists() == (back is not None)
        removed += back is None
    assert removed > 30
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert store.load(BLOCK) is None
        assert not path.exists()


def test_what_is_whole_but_not_these_counts_runs_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = BlockStore(tmp_path, "{}"), Block("", 2.5, 0, 3)
    store.save(other, ToyTask()(other))
    another_block = _file(store).read_bytes()
    store.clear()
    store.save(BLOCK, COUNTS)
    path = _file(store)
    path.write_bytes(another_block)
    assert store.load(BLOCK) is None
    assert "digest" in caplog.text
    # Objects, which could run anything, are never loaded.
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=True, trials=np.array([ToyTask()], dtype=object))
    assert store.load(BLOCK) is None
    # Counts of another version of this program have another form.
    store.save(BLOCK, COUNTS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("twophase.sim.sweep.store.tally_from_arrays", lambda arrays: arrays["absent"])
        assert store.load(BLOCK) is None
    assert not path.exists()


FORM = Form(samples=300, classes=0, orders=(4,), references=("soft",), baselines=())


@pytest.mark.parametrize(
    "forge",
    [
        lambda counts: setattr(counts.deployed, "correct", np.zeros(7, np.int64)),
        lambda counts: setattr(counts, "trials", 10**6),
        lambda counts: setattr(counts, "pilots", "many"),
        lambda counts: setattr(counts, "noiseless_correct", np.full(300, -1)),
        lambda counts: counts.histograms.update({9: np.zeros(4, np.int64)}),
        lambda counts: setattr(counts, "references", {"other": counts.deployed}),
    ],
)
def test_counts_of_another_form_run_again_though_their_digest_is_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, forge: Callable[[Tally], None]
) -> None:
    store = BlockStore(tmp_path, "{}", FORM)
    counts = ToyTask()(BLOCK)
    counts.esn0_db = BLOCK.esn0_db
    store.save(BLOCK, counts)
    assert _comes_back(store, BLOCK, counts)
    forge(counts)
    store.save(BLOCK, counts)
    assert store.load(BLOCK) is None
    assert "another form" in caplog.text


def test_nothing_is_read_or_written_through_a_link(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "blocks", "{}")
    store.save(BLOCK, COUNTS)
    path = _file(store)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="leads out of"):
        store.load(BLOCK)
    store.save(BLOCK, COUNTS)
    assert not path.is_symlink()
    assert Path("/dev/zero").is_char_device()
    other = BlockStore(tmp_path / "linked", "{}")
    (tmp_path / "linked").symlink_to(tmp_path / "blocks")
    with pytest.raises(InputError, match="hold no link where blocks are kept"):
        other.save(BLOCK, COUNTS)


def test_keys_lie_apart_and_are_cleared_apart(tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    one, other = BlockStore(folder, json.dumps({"seed": 1})), BlockStore(folder, json.dumps({"seed": 2}))
    one.save(BLOCK, COUNTS)
    assert other.load(BLOCK) is None
    other.save(BLOCK, COUNTS)
    assert json.loads((other.folder / KEY_NAME).read_text()) == {"seed": 2}
    one.clear()
    assert one.load(BLOCK) is None
    assert other.load(BLOCK) is not None
    other.clear()
    assert not folder.exists()
    other.clear()


def test_a_failing_disk_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, flags: int) -> int:
        raise OSError(5, "Input/output error", str(path))

    store = BlockStore(tmp_path / "blocks", "{}")
    store.save(BLOCK, COUNTS)
    with monkeypatch.context() as patched:
        patched.setattr("os.open", failing)
        with pytest.raises(ArtifactError, match="Input/output error"):
            store.load(BLOCK)
    assert store.load(BLOCK) is not None
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="be writable"):
        BlockStore(tmp_path / "file", "{}").save(BLOCK, COUNTS)
