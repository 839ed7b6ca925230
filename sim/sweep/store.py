"""Finished blocks on disk, so that an interrupted sweep takes up where it stopped.

Everything that a result depends on, as text, is the key; its SHA-256 names the folder.  Blocks of another
bundle, seed or channel are therefore never mixed up: they lie elsewhere.  The file of a block is whole or
absent, and it holds a digest of its arrays, for a file can be damaged later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.archives import read_arrays
from twophase.link.errors import InputError, first_line
from twophase.link.files import atomic_path, read_plain, write_text
from twophase.sim.counts import GAIN_BINS_DB, LLR_EDGES, SystemCounts, Tally, tally_arrays, tally_from_arrays
from twophase.sim.sweep.job import Block

__all__ = ["KEY_NAME", "BlockStore", "Form"]

KEY_NAME = "key.json"
"""What the blocks of a folder depend on, for who wants to know whose they are."""

_DIGEST = "sha256"
_LARGEST = 1 << 28
"""Bytes of a file of counts."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """What counts of a link have in common.  A digest shows damage; whoever alters a file makes it anew."""

    samples: int
    classes: int
    orders: tuple[int, ...]
    """Constellation points of each mode."""
    references: tuple[str, ...]
    baselines: tuple[str, ...]

    def fits(self, counts: Tally, block: Block) -> bool:
        """Whether counts of a block have it, so that they can be added to others."""
        systems = (counts.deployed, *counts.references.values(), *counts.baselines.values())
        right = [counts.noiseless_correct, *(entry.correct for entry in systems)]
        right += [] if counts.text is None else [counts.text.correct]
        bins = [counts.llr_zeros, counts.llr_ones, counts.llr_expected]
        shaped: list[tuple[NDArray[Any], tuple[int, ...]]] = [(array, (self.samples,)) for array in right]
        shaped += [(array, (LLR_EDGES.size - 1,)) for array in bins]
        shaped += [(array, GAIN_BINS_DB.shape) for array in counts.gains.values()]
        shaped += [(counts.confusion, (self.classes, self.classes))]
        modes = set(range(len(self.orders)))
        used = {*counts.histograms, *(key[0] for entry in systems[:1] for key in entry.frames)}
        parts: tuple[Tally | SystemCounts, ...] = (counts, *systems)
        plain = (getattr(part, item.name) for part in parts for item in fields(part))
        return (
            (counts.trials, counts.esn0_db) == (block.count, block.esn0_db)
            and (block.sweep != "" or set(counts.references) == set(self.references))
            and set(counts.baselines) <= set(self.baselines)
            and used <= modes
            and all(array.shape == shape and (array >= 0).all() for array, shape in shaped)
            and all(array.shape == (self.orders[mode],) for mode, array in counts.histograms.items())
            and not any(isinstance(value, str) for value in plain)
        )


class BlockStore:
    """Counts of finished blocks under one key.  Only the process that merges them reads and writes here.

    The folders of all keys lie in ``folder``; it is made when the first block is kept.  The key is everything
    that a result depends on apart from the block: version, bundle, samples, settings.  Counts of another
    ``form`` are taken for damaged.
    """

    def __init__(self, folder: Path, key: str, form: Form | None = None) -> None:
        self._parent, self._key, self._form = folder, key, form
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()
        """Where the blocks of this key lie."""

    def load(self, block: Block) -> Tally | None:
        """Counts of a finished block; None if there are none.  A damaged file is removed, with a warning.

        ArtifactError if the file is there but the system does not let it be read.
        """
        path = self._path(block)
        if not path.exists():
            return None
        content = read_plain(path, self._parent, limit=_LARGEST)
        try:
            counts = tally_from_arrays(_checked(read_arrays(path, content), block))
            if self._form is not None and not self._form.fits(counts, block):
                raise ValueError("it holds counts of another form")
            return counts
        except Exception as error:  # noqa: BLE001 - damage shows as anything from a bad checksum to a syntax error
            _log.warning("'%s' is damaged (%s); its block runs again", path, first_line(error))
        path.unlink(missing_ok=True)
        return None

    def save(self, block: Block, counts: Tally) -> None:
        """Keep the counts of a finished block; InputError if they cannot be written (disk full and such)."""
        arrays = tally_arrays(counts)
        # Any: the keyword allow_pickle is of NumPy 2, an earlier one takes it for an array.
        content: dict[str, Any] = {**arrays, _DIGEST: np.array(_digest(arrays, block))}
        if not (self.folder / KEY_NAME).exists():
            write_text(self.folder / KEY_NAME, self._key)
        if self.folder.is_symlink() or self._parent.is_symlink():
            raise InputError("out", "hold no link where blocks are kept", str(self.folder))
        with atomic_path(self._path(block)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **content)

    def clear(self) -> None:
        """Remove all blocks of this key, once the sweep is finished; those of other keys stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # blocks of other keys are in it, or there never was one
            self._parent.rmdir()

    def _path(self, block: Block) -> Path:
        # A mode's name may hold what a file's name must not, hence the digest.
        name = hashlib.sha256(_spelled(block).encode()).hexdigest()[:24]
        return self.folder / f"{name}.npz"


def _checked(arrays: dict[str, NDArray[Any]], block: Block) -> dict[str, NDArray[Any]]:
    if str(arrays.pop(_DIGEST)) != _digest(arrays, block):
        raise ValueError("its digest is another one")
    return arrays


def _digest(arrays: Mapping[str, NDArray[Any]], block: Block) -> str:
    """Of the block, too, so that a renamed file is not taken for another block's."""
    state = hashlib.sha256(_spelled(block).encode())
    for name, array in sorted(arrays.items()):
        state.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _spelled(block: Block) -> str:
    return json.dumps(astuple(block))
