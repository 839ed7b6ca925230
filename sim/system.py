"""What is simulated: the deployed pair, the soft references beside it, and the samples they are tried on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError, InputError, first_line
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.modem import Transmission
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.link.runtime import FeatureTransmitter, Receiver, Reception, SoftTransmitter
from twophase.sim.sentences import Sentences, sentences_from

__all__ = [
    "HardSender",
    "Listener",
    "Samples",
    "SoftReference",
    "SoftSender",
    "System",
    "load_samples",
    "load_system",
    "npz_names",
]


class HardSender(Protocol):
    """As :class:`twophase.link.runtime.FeatureTransmitter`."""

    def send(self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Transmission:
        """Features to integers."""
        ...


class SoftSender(Protocol):
    """As :class:`twophase.link.runtime.SoftTransmitter`."""

    def send(
        self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
        """Features to modes and complex symbols."""
        ...


class Listener(Protocol):
    """As :class:`twophase.link.runtime.Receiver`."""

    def receive(self, llr: ArrayLike, mode: ArrayLike) -> Reception:
        """LLRs to class scores."""
        ...


@dataclass(frozen=True)
class SoftReference:
    """A soft system with its own receiver, sent through the same air as the deployed one."""

    name: str
    description: str
    sender: SoftSender
    listener: Listener


@dataclass(frozen=True)
class System:
    """A deployed link and what it is compared with."""

    modes: ModeTable
    routing: Routing
    classes: int
    llr_clip: float
    sender: HardSender
    listener: Listener
    references: tuple[SoftReference, ...]


@dataclass(frozen=True)
class Samples:
    """Features and their true classes."""

    features: NDArray[np.float32]
    """Shape (samples, *input_shape)."""
    labels: NDArray[np.int64]
    """Shape (samples,)."""
    sentences: Sentences | None = None
    """What they are features of, for a text task whose file says it."""


def load_system(bundle: Path, threads: int = 1) -> tuple[System, Manifest]:
    """Open a bundle; every file is checked against its hash, once.

    Raises
    ------
    ArtifactError
        If the bundle is unreadable, incomplete, altered, of another version, or names no soft reference.
    """
    try:
        manifest = load_manifest(bundle, "bundle")
    except OSError as error:
        raise ArtifactError(f"'{bundle}' cannot be read: {error.strerror or error}") from error
    if not manifest.references:
        raise ArtifactError("the bundle names no soft reference, so there is nothing to hold it against")
    deployed = "rx.onnx"
    listeners = {deployed: Receiver(bundle, threads, deployed, manifest=manifest)}
    references = []
    for reference in manifest.references:
        if reference.rx not in listeners:
            listeners[reference.rx] = Receiver(bundle, threads, reference.rx, manifest=manifest)
        references.append(
            SoftReference(
                name=reference.name,
                description=reference.description,
                sender=SoftTransmitter(bundle, reference.soft, threads, manifest=manifest),
                listener=listeners[reference.rx],
            )
        )
    system = System(
        modes=manifest.modes,
        routing=manifest.routing,
        classes=len(manifest.classes),
        llr_clip=manifest.llr_clip,
        sender=FeatureTransmitter(bundle, threads, manifest=manifest),
        listener=listeners[deployed],
        references=tuple(references),
    )
    return system, manifest


def load_samples(
    path: Path, input_shape: Sequence[int], classes: int, content: bytes | None = None
) -> Samples:
    """Read an ``.npz`` with arrays ``input``, (samples, *input_shape), and ``label``, (samples,).

    That of a text task holds the sentences, too: :mod:`twophase.sim.sentences`.

    Parameters
    ----------
    path
        Of the file.
    input_shape, classes
        The link's.
    content
        The file itself, if it lies in memory and ``path`` is what it was made from.

    Raises
    ------
    InputError
        If an array is missing, has another type or shape, is empty, not finite, or names a class that does
        not exist.
    ArtifactError
        If the file is missing or is no readable ``.npz``.
    """
    arrays = _read_npz(path, content)
    for name in ("input", "label"):
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise InputError("data", "hold the arrays 'input' and 'label'", f"{held} ({path})")
    features, labels = arrays["input"], arrays["label"]
    shape = tuple(input_shape)
    if features.dtype.kind not in "fiub":
        raise InputError("input", "be numbers", str(features.dtype))
    if features.ndim == 0 or features.shape[1:] != shape:
        raise InputError("input", f"have shape (samples, {', '.join(map(str, shape))})", features.shape)
    if len(features) == 0:
        raise InputError("input", "hold at least one sample", features.shape)
    with np.errstate(over="ignore"):
        values = features.astype(np.float32)
    # Looked at after the conversion: 1e300 is finite only before it.
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
        raise InputError("input", "be finite", f"NaN or infinity (first in sample {bad})")
    if labels.dtype.kind not in "iu":
        raise InputError("label", "be integers", str(labels.dtype))
    if labels.shape != (len(features),):
        raise InputError("label", f"have shape ({len(features)},), one per sample", labels.shape)
    if labels.min() < 0 or labels.max() >= classes:
        outlier = int(labels.min() if labels.min() < 0 else labels.max())
        raise InputError("label", f"lie in 0..{classes - 1}", outlier)
    return Samples(values, labels.astype(np.int64), sentences_from(arrays, len(values), classes))


def npz_names(path: Path) -> set[str]:
    """Names of the arrays of an ``.npz``, which are not read.

    Raises
    ------
    ArtifactError
        If the file is missing or is no readable ``.npz``.
    """
    with _opened(path, None) as archive:
        return set(archive.files)


def _read_npz(path: Path, content: bytes | None) -> dict[str, NDArray[np.generic]]:
    with _opened(path, content) as archive:
        return {name: archive[name] for name in archive.files}


@contextmanager
def _opened(path: Path, content: bytes | None) -> Iterator[NpzFile]:
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it holds a single array")
            with archive:
                yield archive
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is missing") from error
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # Damage surfaces as anything from a bad checksum to a syntax error in an array's header.
        raise ArtifactError(f"'{path}' is no readable .npz archive: {first_line(error)}") from error
