"""What is simulated: the deployed pair and the soft references that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twophase.link.errors import ArtifactError
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter
from twophase.sim.folding import FoldedReceiver, check_sizes

__all__ = ["SoftReference", "System", "load_system"]


@dataclass(frozen=True)
class SoftReference:
    """A soft system with its own receiver, sent through the same air as the deployed one."""

    name: str
    description: str
    transmitter: SoftTransmitter
    receiver: FoldedReceiver


@dataclass(frozen=True)
class System:
    """A deployed link and what it is compared with."""

    modes: ModeTable
    routing: Routing
    classes: int
    llr_clip: float
    transmitter: FeatureTransmitter
    receiver: FoldedReceiver
    references: tuple[SoftReference, ...]


def load_system(bundle: Path, threads: int = 1) -> tuple[System, Manifest]:
    """Open a bundle; every file is checked against its hash, and graphs for what they would take.

    Raises
    ------
    ArtifactError
        If the bundle is unreadable, incomplete, altered, of another version, or names no soft reference.
    """
    manifest = load_manifest(bundle, "bundle")
    if not manifest.references:
        raise ArtifactError("the bundle names no soft reference, so there is nothing to hold it against")
    for file in dict.fromkeys((*manifest.graph_files, "tx.onnx")):
        check_sizes(bundle, file, manifest)
    deployed = "rx.onnx"
    files = {deployed, *(reference.rx for reference in manifest.references)}
    receivers = {file: FoldedReceiver(bundle, threads, file, manifest) for file in files}
    references = [
        SoftReference(
            name=reference.name,
            description=reference.description,
            transmitter=SoftTransmitter(bundle, reference.soft, threads, manifest=manifest),
            receiver=receivers[reference.rx],
        )
        for reference in manifest.references
    ]
    system = System(
        modes=manifest.modes,
        routing=manifest.routing,
        classes=len(manifest.classes),
        llr_clip=manifest.llr_clip,
        transmitter=FeatureTransmitter(bundle, threads, manifest=manifest),
        receiver=receivers[deployed],
        references=tuple(references),
    )
    return system, manifest
