"""What is simulated: the deployed pair and the soft references that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.modem import Transmission
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.link.runtime import FeatureTransmitter, Receiver, Reception, SoftTransmitter

__all__ = [
    "HardSender",
    "Listener",
    "SoftReference",
    "SoftSender",
    "System",
    "load_system",
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
