"""What a worker needs to measure a block of trials, wherever it runs: where the link is and how to try it.

A job is small and can be sent to another process; what it names is opened there, once, and checked against
the hashes that it was made with, so that no worker measures anything else.

Blocks of trials are the unit that is run anywhere, kept, and resumed.  How trials are cut into blocks follows
from the stop rule alone, never from the number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.archives import array_names
from twophase.link.errors import ArtifactError, InputError, LinkError
from twophase.link.files import read_plain, sha256, sha256_of
from twophase.link.manifest import EVAL_FILE, MANIFEST_NAME, Manifest, load_manifest
from twophase.link.samples import Samples, load_samples
from twophase.link.sentences import SENTENCE_ARRAYS
from twophase.sim.counts import Tally
from twophase.sim.packages import code_sha256, versions
from twophase.sim.settings import SENTENCE_BASELINES, BaselineName, Settings
from twophase.sim.system import System, load_system

if TYPE_CHECKING:
    from twophase.sim.point import PointSimulator

__all__ = [
    "BLOCK_TRIALS",
    "Block",
    "Job",
    "Point",
    "WorkerError",
    "default_baselines",
    "make_job",
    "trial_blocks",
]

BLOCK_TRIALS = 5
"""Most trials of a block.  Sums of real numbers depend on it in their last digits, so it is no option."""

Point = tuple[str, float]
"""A sweep and its Es/N0 in dB."""


@dataclass(frozen=True)
class Block:
    """Some trials of one point."""

    sweep: str
    """Empty for the link as it is deployed, else the name of the one mode that is used."""
    esn0_db: float
    first: int
    """Number of the first trial."""
    count: int

    @property
    def point(self) -> Point:
        """What is measured."""
        return self.sweep, self.esn0_db

    @property
    def trials(self) -> range:
        """Numbers of the trials."""
        return range(self.first, self.first + self.count)


class WorkerError(LinkError):
    """A worker was killed or lost; finished blocks are kept."""


def trial_blocks(point: Point, first: int, stop: int) -> Iterator[Block]:
    """Trials ``first`` to ``stop - 1`` of a point in blocks of at most :data:`BLOCK_TRIALS`."""
    for start in range(first, stop, BLOCK_TRIALS):
        yield Block(*point, start, min(BLOCK_TRIALS, stop - start))


_NO_MATTER = ("trials", "precision", "max_trials", "tolerance")
"""Settings that the counts of one trial do not depend on."""


@dataclass(frozen=True)
class Job:
    """One bundle, its samples and how they are sent; call it with a block to measure that.

    It is pickled, sent to every worker and called there for many blocks, so what is costly to open is
    opened at the first call and kept, but not pickled.  What it gives depends on the block alone.
    """

    bundle: Path
    bundle_sha256: str
    """Of the manifest, which holds the hash of every other file."""
    data: Path
    data_sha256: str
    settings: Settings
    started_in: Path = Path()
    """Folder that relative paths are seen from: a worker may have been started elsewhere."""
    features: bytes | None = field(default=None, repr=False)
    """An ``.npz`` of what the front makes of a table of sentences, so that all workers send the same."""

    def __call__(self, block: Block) -> Tally:
        """Counts of a block of trials; errors as :meth:`open`."""
        return _simulator(self, block.sweep, block.esn0_db).run(block.trials)

    def prepare(self) -> None:
        """Import and open what the first block would wait for; errors as :meth:`open`."""
        import twophase.sim.point  # noqa: F401 - commpy takes long to import

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
        if self.features is not None:
            content["features"] = sha256(self.features).hexdigest()
        return json.dumps(content, sort_keys=True)

    def open(self) -> tuple[System, Manifest, Samples]:
        """The link, its manifest and the samples.

        ArtifactError if they cannot be read or are not those that the job was made for; InputError if the
        samples do not fit the link or the baselines, or there is no such mode.
        """
        bundle, data = self.started_in / self.bundle, self.started_in / self.data
        system, manifest = load_system(bundle)
        content = read_plain(data)
        samples = load_samples(data, manifest, self.features or content)
        for path, found, expected in (
            (bundle / MANIFEST_NAME, sha256_of(bundle / MANIFEST_NAME), self.bundle_sha256),
            (data, sha256(content).hexdigest(), self.data_sha256),
        ):
            if found != expected:
                raise ArtifactError(f"'{path}' was altered since this run began")
        needing = [name for name in self.settings.baselines if name in SENTENCE_BASELINES]
        if needing and samples.sentences is None:
            rule = "be left out where the samples hold no sentences, or not those of a text task's eval.npz"
            raise InputError("baseline", rule, ", ".join(needing))
        if self.settings.mode is not None:
            manifest.modes.find(self.settings.mode)
        return system, manifest, samples


def make_job(bundle: Path, data: Path | None, settings: Settings) -> Job:
    """A job on the files as they are now; without ``data`` on the bundle's evaluation split.

    A table of sentences (``.csv``) goes through the link's front end here, once, with the errors of
    :func:`twophase.sim.front.csv_samples`; ArtifactError if a file is missing or cannot be read.
    """
    data = data or bundle / EVAL_FILE
    manifest = bundle / MANIFEST_NAME
    if not manifest.exists():
        load_manifest(bundle, "bundle")  # which says what there is instead
    job = Job(bundle, sha256_of(manifest), data, sha256_of(data), settings, Path.cwd())
    if data.suffix.lower() != ".csv":
        return job
    from twophase.sim.front import csv_samples

    return replace(job, features=csv_samples(bundle, load_manifest(bundle, "bundle"), data))


def default_baselines(bundle: Path, data: Path | None) -> tuple[BaselineName, ...]:
    """The baselines of a link if none are named: for sentences all that needs them, else nothing.

    ArtifactError if the bundle is unreadable or of another version, or the samples cannot be read.
    """
    if load_manifest(bundle, "bundle", only=()).front is None:
        return ()
    path = data or bundle / EVAL_FILE
    if path.suffix.lower() == ".csv":
        return ()
    return SENTENCE_BASELINES if set(SENTENCE_ARRAYS) <= array_names(path) else ()


# One process measures one job at a time, and the blocks of a point one after another.
@lru_cache(maxsize=1)
def _simulator(job: Job, sweep: str, esn0_db: float) -> PointSimulator:
    """The simulator of a point; that of the last one is kept, with what it has transmitted."""
    from twophase.sim.point import PointSimulator

    system, samples = _open(job)
    settings = job.settings
    if sweep:
        # A mode by itself, for comparison: references and baselines are the link's.
        system = replace(system, references=())
        settings = replace(settings, mode=sweep, codes=(), baselines=())
    return PointSimulator(system, samples, esn0_db, settings)


@lru_cache(maxsize=1)
def _open(job: Job) -> tuple[System, Samples]:
    """What the job names; that of the last job is kept."""
    system, _, samples = job.open()
    return system, samples
