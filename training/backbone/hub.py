"""Models of a hub, fetched once into the hub library's own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twophase.link.errors import ArtifactError, InputError, first_line

__all__ = ["fetch"]

FILES = (
    *("config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)
"""What a backbone is made of; weights in other formats stay where they are."""

TIMEOUT_S = 10.0


def fetch(name: str) -> Path:
    """The folder with a model of the hub; one that was fetched before needs no network.

    Raises
    ------
    ArtifactError
        If it can neither be fetched nor found in the cache.
    InputError
        If the hub has no such model.
    """
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
