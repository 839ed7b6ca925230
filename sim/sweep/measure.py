"""One bundle measured over a grid: the link, and with ``--modes-report`` every mode by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.files import lock_file
from twophase.link.manifest import Manifest
from twophase.link.samples import Samples
from twophase.sim.baselines.designs import descriptions
from twophase.sim.counts import Tally
from twophase.sim.results.figures import Ceiling, Scatter, ScatterGroup
from twophase.sim.results.quality import ceiling_of
from twophase.sim.results.text import TextFacts, described, text_facts
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.executors import open_executor
from twophase.sim.sweep.job import Job
from twophase.sim.sweep.schedule import run_sweep, sweep_progress
from twophase.sim.sweep.stopping import StopRule
from twophase.sim.sweep.store import BlockStore, Form
from twophase.sim.system import System

__all__ = ["Measured", "Opened", "clear_blocks", "measure", "scatter_of"]

Opened = tuple[System, Manifest, Samples]

_log = logging.getLogger(__name__)

_BLOCKS = ".blocks"
"""Folder of finished blocks in that of the report; removed when the report is written."""

_SCATTERED = 400
"""Symbols of a mode that are shown at one Es/N0."""

_locks: dict[Path, ExitStack] = {}
"""Of the folders that this process works in."""
_measured: set[Path] = set()
"""Folders of blocks of sweeps that this process has finished: to take those up is no resumption."""


@dataclass(frozen=True)
class Measured:
    """Counts of a whole sweep."""

    link: list[Tally]
    """Of the link, by point of the grid."""
    reasons: list[str]
    """Why each of these points ended."""
    modes: list[list[Tally]]
    """Of every mode by itself, [mode][point]; empty unless asked for."""
    scatter: list[Scatter]
    """Received symbols at lowest, middle and highest Es/N0."""
    baselines: dict[str, str]
    """Names and descriptions."""
    text: TextFacts = field(default_factory=TextFacts)
    """What is known of the sentences of a text link."""
    ceiling: Ceiling | None = None
    """The accuracy without a channel, where the samples hold it."""


def measure(
    job: Job,
    opened: Opened,
    grid: Sequence[float],
    workers: Workers,
    out: Path | None = None,
    modes_report: bool = False,
) -> Measured:
    """Measure a bundle at every point of a grid of Es/N0 in dB.

    Finished blocks are kept in the folder ``out`` of the report, if any, until :func:`clear_blocks`.  Until
    then, or an error, no other process can measure into it (InputError), unless its file system has no locks.
    """
    system, manifest, samples = opened
    settings = job.settings
    text = text_facts(job, manifest, system, samples)
    names = ["", *(system.modes.names if modes_report else ())]
    # A point that the grid names twice is measured once.
    points = list(dict.fromkeys((name, esn0_db) for name in names for esn0_db in grid))
    rule = StopRule(settings.trials, settings.precision, settings.max_trials)
    store = None
    if out is not None:
        _lock(out)
        store = _store(out, job, _form(opened, settings))
    if store is not None and store.folder not in _measured and (kept := _kept(store)):
        _log.warning("taking up an interrupted run: %d finished blocks are there already", kept)
    try:
        with sweep_progress() as progress, open_executor(job, workers) as executor:
            # commpy takes long to import: other processes meanwhile make themselves ready.
            scatter = scatter_of(system, samples, grid, settings)
            results = run_sweep(points, rule, executor, store, progress)
    except BaseException:
        if store is not None and (kept := _kept(store)):
            _log.warning("%d finished blocks are kept; the same command goes on from there", kept)
        if out is not None:
            _unlock(out)
        raise
    if store is not None:
        _measured.add(store.folder)
    return Measured(
        link=[results["", esn0_db][0] for esn0_db in grid],
        reasons=[results["", esn0_db][1] for esn0_db in grid],
        modes=[[results[name, esn0_db][0] for esn0_db in grid] for name in names[1:]],
        scatter=scatter,
        baselines=descriptions(settings, system.modes, system.classes) | described(text.text),
        text=text,
        ceiling=ceiling_of(samples, settings),
    )


def scatter_of(system: System, samples: Samples, grid: Sequence[float], settings: Settings) -> list[Scatter]:
    """A few received symbols of each mode at lowest, middle and highest Es/N0."""
    from twophase.sim.point import PointSimulator

    ordered = sorted(set(grid))
    entries = []
    for esn0_db in sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]}):
        seen = PointSimulator(system, samples, esn0_db, settings).look(_SCATTERED)
        groups = [
            ScatterGroup(
                mode=system.modes.names[number],
                order=system.modes[number].order,
                received=[(round(point.real, 4), round(point.imag, 4)) for point in points],
                reference=[(point.real, point.imag) for point in qam(system.modes[number].order).points],
            )
            for number, points in sorted(seen.items())
        ]
        entries.append(Scatter(esn0_db, tuple(groups)))
    return entries


def _kept(store: BlockStore) -> int:
    return sum(1 for _ in store.folder.glob("*.npz"))


def clear_blocks(out: Path, jobs: Iterable[Job]) -> None:
    """Remove the finished blocks next to a report that holds them all now; those of other sweeps stay."""
    for job in jobs:
        store = _store(out, job)
        store.clear()
        _measured.discard(store.folder)
    _unlock(out)


def _lock(out: Path) -> None:
    """Keep other processes out of a folder; who measures several bundles into it locks it once."""
    folder = (out / _BLOCKS).resolve()
    if folder in _locks:
        return
    lock = ExitStack()
    try:
        lock.enter_context(lock_file(folder / ".lock"))
    except BlockingIOError as error:
        raise InputError("out", "not be in use by another tp-sim that is running", str(out)) from error
    except OSError as error:
        raise InputError("out", f"be a folder that can be written ({error.strerror})", str(out)) from error
    _locks[folder] = lock


def _unlock(out: Path) -> None:
    folder = (out / _BLOCKS).resolve()
    if folder in _locks:
        _locks.pop(folder).close()
        with suppress(OSError):  # blocks of other sweeps stay
            folder.rmdir()


def _store(out: Path, job: Job, form: Form | None = None) -> BlockStore:
    return BlockStore(out / _BLOCKS, job.key(), form)


def _form(opened: Opened, settings: Settings) -> Form:
    system, _, samples = opened
    return Form(
        samples=len(samples.labels),
        classes=system.classes,
        orders=tuple(mode.order for mode in system.modes),
        references=tuple(reference.name for reference in system.references),
        baselines=tuple(descriptions(settings, system.modes, system.classes)),
    )
