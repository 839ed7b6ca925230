"""Hidden states on disk are those that the layers give, and damage to them is noticed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError, InputError
from twophase.training.backbone.hidden import HiddenStates, compute_hidden, entry_folder, open_hidden
from twophase.training.backbone.layers import SplitBackbone, Tokens, mean_pool, split_backbone, tokenize
from twophase.training.backbone.load import LoadedBackbone, load_backbone
from twophase.training.data import TextTask


class Made(NamedTuple):
    folder: Path
    parts: SplitBackbone
    tokens: Tokens
    states: HiddenStates


@pytest.fixture
def loaded(tiny_folder: Path) -> LoadedBackbone:
    return load_backbone(str(tiny_folder), 20)


def make(loaded: LoadedBackbone, task: TextTask, cache: Path, tuned: int = 1) -> Made:
    parts, tokens = split_backbone(loaded.model, tuned), tokenize(task, loaded.tokenizer_json, 20)
    folder = entry_folder(cache, loaded.fingerprint, parts.lower_layers, tuned == 0, tokens)
    assert open_hidden(folder) is None
    device = torch.device("cpu")
    compute_hidden(folder, parts.lower, tokens, 16, tuned == 0, device, Terminal(quiet=True))
    return Made(folder, parts, tokens, open_hidden(folder))


@pytest.mark.parametrize("tuned", [0, 1, 3])
def test_what_is_kept_is_what_the_layers_give(
    tuned: int, loaded: LoadedBackbone, text_task: TextTask, tmp_path: Path
) -> None:
    """Of a frozen backbone the means over the tokens."""
    _, parts, tokens, states = make(loaded, text_task, tmp_path, tuned)
    members = np.array([7, 3, 99, 0, 175])
    (kept, kept_mask), (ids, mask) = states.batch(members), tokens.batch(members)
    with torch.inference_mode():
        fresh = parts.lower(ids, mask)
    if tuned == 0:
        fresh, mask = mean_pool(fresh, mask)[:, None], torch.ones(5, 1, dtype=torch.int64)
    assert torch.equal(kept_mask, mask)
    torch.testing.assert_close(kept[mask.bool()], fresh[mask.bool()], atol=1e-5, rtol=0)
    assert not kept[~mask.bool()].any()
    assert isinstance(states.states, np.memmap)


def alter(folder: Path) -> None:
    states = np.load(folder / "states.npy")
    states[3, 2] += 1
    np.save(folder / "states.npy", states)


def test_damage_is_noticed_and_the_folder_named(
    loaded: LoadedBackbone, text_task: TextTask, tmp_path: Path
) -> None:
    made = make(loaded, text_task, tmp_path / "cache")
    damages: dict[str, Any] = {
        "truncated": lambda f: os.truncate(f / "states.npy", (f / "states.npy").stat().st_size - 64),
        "altered": alter,
        "other meta": lambda f: (f / "meta.json").write_text("[]"),
        "no starts": lambda f: (f / "starts.npy").unlink(),
    }
    for name, damage in damages.items():
        folder = Path(shutil.copytree(made.folder, tmp_path / name))
        damage(folder)
        with pytest.raises(ArtifactError, match=f"'{folder}' are truncated or altered: delete that folder"):
            open_hidden(folder)


def test_the_name_holds_all_that_the_states_depend_on(
    loaded: LoadedBackbone, text_task: TextTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, shorter = (tokenize(text_task, loaded.tokenizer_json, length) for length in (20, 6))
    assert shorter.cut == sum(length > 6 for length in tokens.lengths)
    assert shorter.lengths.max() == 6
    assert not caplog.records, "texts that are cut are counted without a warning"
    changed = replace(tokens, ids=tokens.ids + (tokens.ids == tokens.ids[3, 1]))
    first = {"fingerprint": "a", "layers": 1, "pooled": False, "tokens": tokens}
    for other in (
        {"fingerprint": "b"},
        {"layers": 2},
        {"pooled": True},
        {"tokens": shorter},
        {"tokens": changed},
    ):
        assert entry_folder(tmp_path, *(first | other).values()) != entry_folder(tmp_path, *first.values())


def test_too_little_room_or_an_interruption_leaves_nothing(
    loaded: LoadedBackbone, text_task: TextTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000_000))
        with pytest.raises(InputError, match=r"'TWOPHASE_CACHE' must lie on a disk with room for .* MB"):
            make(loaded, text_task, tmp_path)
    assert not list(tmp_path.iterdir())
    batch, calls = Tokens.batch, iter(range(9))

    def interrupted(self: Tokens, members: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return batch(self, members)

    monkeypatch.setattr("twophase.training.backbone.hidden.BATCH_TOKENS", 200)
    monkeypatch.setattr(Tokens, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(loaded, text_task, tmp_path)
    assert not list((tmp_path / "hidden").iterdir())
