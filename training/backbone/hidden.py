"""Hidden states below the tuned layers: computed once, kept on disk, read through memory maps.

An entry is a folder named by a hash of everything that its numbers depend on: ``states.npy`` (rows, C)
float32, one row for each token in the order of the batches; ``starts.npy`` and ``lengths.npy``, the rows of
each text; ``meta.json``, written with them, with the hash of each.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import atomic_folder, read_json, sha256_of, write_json
from twophase.training.backbone.layers import Stack, Tokens, longest_first, mean_pool

__all__ = ["HiddenStates", "compute_hidden", "entry_folder", "open_hidden"]

FORMAT = "twophase-hidden"
VERSION = 1
ARRAYS = ("states.npy", "starts.npy", "lengths.npy")
BATCH_TOKENS = 2048
"""Tokens of a batch: few enough for the processor's caches."""
ROOM = 64 << 20
"""Bytes that a disk must keep free next to the states."""


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of all texts; of a frozen backbone, one row each: the mean over its tokens."""

    states: NDArray[np.float32]
    """(rows, C), on disk."""
    starts: NDArray[np.int64]
    """(n,): first row of each text."""
    lengths: NDArray[np.int64]
    """(n,): its rows."""

    def batch(self, members: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Hidden states (batch, longest, C) and mask."""
        lengths = self.lengths[members]
        mask = np.arange(lengths.max()) < lengths[:, None]
        rows = np.zeros((*mask.shape, self.states.shape[1]), dtype=np.float32)
        for number, (start, length) in enumerate(zip(self.starts[members], lengths, strict=True)):
            rows[number, :length] = self.states[start : start + length]
        return torch.from_numpy(rows), torch.from_numpy(mask.astype(np.int64))


def entry_folder(cache: Path, fingerprint: str, layers: int, pooled: bool, tokens: Tokens) -> Path:
    """Where the hidden states of these tokens, after so many layers of that backbone, are kept.

    Token ids and mask stand for texts, tokenizer and longest length: states depend on nothing else of them.
    """
    digest = hashlib.sha256(json.dumps([VERSION, fingerprint, layers, pooled, tokens.ids.shape]).encode())
    digest.update(np.ascontiguousarray(tokens.ids).data)
    digest.update(np.ascontiguousarray(tokens.mask).data)
    return cache / "hidden" / digest.hexdigest()[:32]


def compute_hidden(
    folder: Path,
    lower: Stack,
    tokens: Tokens,
    width: int,
    pooled: bool,
    device: torch.device,
    terminal: Terminal,
) -> None:
    """Compute the hidden states of all texts and put them on disk; whole or not at all.

    ``lower`` lies on ``device`` and gives states of ``width`` components; ``pooled`` keeps only each text's
    mean over its tokens.  InputError where the disk has too little room or cannot be written.
    """
    lengths = np.ones_like(tokens.lengths) if pooled else tokens.lengths
    _check_room(folder, 4 * width * int(lengths.sum()) + 16 * len(lengths))
    starts = np.zeros(len(lengths), dtype=np.int64)
    row = 0
    done, total = 0, int(tokens.lengths.sum())
    with (
        atomic_folder(folder) as temporary,
        terminal.progress("hidden states", total) as progress,
        torch.inference_mode(),
    ):
        with (temporary / ARRAYS[0]).open("wb") as stream:
            shape = (int(lengths.sum()), width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for members in longest_first(tokens.lengths, np.arange(len(lengths)), BATCH_TOKENS):
                ids, mask = (values.to(device) for values in tokens.batch(members))
                states = lower(ids, mask)
                if pooled:
                    states = mean_pool(states, mask)[:, None]
                    mask = mask[:, :1]
                kept = states[mask.bool()].cpu().numpy()  # the rows of one text stay together
                stream.write(np.ascontiguousarray(kept, dtype=np.float32).data)
                starts[members] = row + np.cumsum(lengths[members]) - lengths[members]
                row += len(kept)
                done += int(tokens.lengths[members].sum())
                progress.show(done=done)
        np.save(temporary / ARRAYS[1], starts)
        np.save(temporary / ARRAYS[2], lengths)
        files = {name: sha256_of(temporary / name) for name in ARRAYS}
        write_json(temporary / "meta.json", {"format": FORMAT, "version": VERSION, "files": files})


def open_hidden(folder: Path) -> HiddenStates | None:
    """What is kept in ``folder``, None if there is nothing; ArtifactError if it is truncated or altered."""
    if not folder.is_dir():
        return None
    try:
        meta = read_json(folder / "meta.json")
        if {name: sha256_of(folder / name) for name in ARRAYS} != meta["files"]:
            raise ValueError("a hash differs")
        states, starts, lengths = (
            np.load(folder / name, mmap_mode="r" if name == ARRAYS[0] else None) for name in ARRAYS
        )
    except (ArtifactError, OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(
            f"the hidden states in '{folder}' are truncated or altered: delete that folder"
        ) from error
    return HiddenStates(states, starts, lengths)


def _check_room(folder: Path, needed: int) -> None:
    standing = next(path for path in folder.parents if path.is_dir())
    free = shutil.disk_usage(standing).free
    if free < needed + ROOM:
        raise InputError(
            "TWOPHASE_CACHE",
            f"lie on a disk with room for {needed / 1e6:.0f} MB of hidden states",
            f"{folder.parent} ({free / 1e6:.0f} MB free)",
        )
