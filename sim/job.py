"""What a worker needs to measure a block of trials, wherever it runs: where the link is and how to try it.

A job is small and can be sent to another process; what it names is opened there, once, and checked against
the hashes that it was made with, so that no worker measures anything else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.errors import ArtifactError
from twophase.link.files import sha256_of
from twophase.link.manifest import MANIFEST_NAME, Manifest, load_manifest
from twophase.sim.counts import Tally
from twophase.sim.packages import code_sha256, versions
from twophase.sim.settings import Settings
from twophase.sim.system import Samples, System, load_samples, load_system
from twophase.sim.work.blocks import Block

if TYPE_CHECKING:
    from twophase.sim.sweep import PointSimulator

__all__ = ["Job", "make_job"]

_NO_MATTER = ("trials", "precision", "max_trials", "tolerance")
"""Settings that the counts of one trial do not depend on."""


@dataclass(frozen=True)
class Job:
    """One bundle, its samples and how they are sent; call it with a block to measure that."""

    bundle: Path
    bundle_sha256: str
    """Of the manifest, which holds the hash of every other file."""
    data: Path
    data_sha256: str
    settings: Settings
    started_in: Path = Path()
    """Folder that relative paths are seen from: a worker may have been started elsewhere."""

    def __call__(self, block: Block) -> Tally:
        """Counts of a block of trials.

        Raises
        ------
        ArtifactError
            If bundle or samples are not those that the job was made for.
        """
        return _simulator(self, block.sweep, block.esn0_db).run(range(block.first, block.first + block.count))

    def prepare(self) -> None:
        """Import and open what the first block would wait for; errors as :meth:`open`."""
        import twophase.sim.sweep  # noqa: F401 - commpy takes long to import

        _open(self)

    def key(self) -> str:
        """Everything that the counts of a block depend on, as JSON text."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _NO_MATTER}
        content: dict[str, Any] = {
            "bundle": self.bundle_sha256,
            "data": self.data_sha256,
            "settings": settings,
            "versions": versions(),
            "code": code_sha256(),
        }
        return json.dumps(content, sort_keys=True)

    def open(self) -> tuple[System, Manifest, Samples]:
        """The link, its manifest and the samples.

        Raises
        ------
        ArtifactError
            If they cannot be read or are not those that the job was made for.
        InputError
            If the samples do not fit the link, or the mode that is asked for does not exist.
        """
        bundle, data = self.started_in / self.bundle, self.started_in / self.data
        system, manifest = load_system(bundle)
        samples = load_samples(data, manifest.input_shape, len(manifest.classes))
        for path, expected in ((bundle / MANIFEST_NAME, self.bundle_sha256), (data, self.data_sha256)):
            if sha256_of(path) != expected:
                raise ArtifactError(f"'{path}' was altered since this run began")
        if self.settings.mode is not None:
            manifest.modes.find(self.settings.mode)
        return system, manifest, samples


def make_job(bundle: Path, data: Path | None, settings: Settings) -> Job:
    """A job on the files as they are now; without ``data`` on the bundle's evaluation split.

    Raises
    ------
    ArtifactError
        If a file is missing or cannot be read.
    """
    data = data or bundle / "eval.npz"
    manifest = bundle / MANIFEST_NAME
    if not manifest.is_file():
        load_manifest(bundle, "bundle")  # which says what there is instead
    return Job(bundle, _hash(manifest), data, _hash(data), settings, Path.cwd())


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is missing") from error
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror or error}") from error


# One process measures one job at a time, and the blocks of a point one after another.
_opened: dict[Job, tuple[System, Samples]] = {}
_current: dict[tuple[Job, str, float], PointSimulator] = {}


def _simulator(job: Job, sweep: str, esn0_db: float) -> PointSimulator:
    """The simulator of a point; that of the last one is kept, with what it has transmitted."""
    from twophase.sim.sweep import PointSimulator

    place = (job, sweep, esn0_db)
    if place not in _current:
        system, samples = _open(job)
        settings = job.settings
        if sweep:
            # A mode by itself, for comparison: references and companions are the link's.
            system = replace(system, references=())
            settings = replace(settings, mode=sweep, codes=(), baselines=())
        _current.clear()
        _current[place] = PointSimulator(system, samples, esn0_db, settings)
    return _current[place]


def _open(job: Job) -> tuple[System, Samples]:
    """What the job names; that of the last job is kept."""
    if job not in _opened:
        system, _, samples = job.open()
        _opened.clear()
        _opened[job] = (system, samples)
    return _opened[job]
