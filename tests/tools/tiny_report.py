"""Reports of tiny bundles: measured at three Es/N0, once in a process, and stretched over any grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import numpy as np

from tools.tiny_bundle import write_tiny_bundle
from twophase.sim.results.figures import Compared, Report
from twophase.sim.results.report_json import channel_text, make_report
from twophase.sim.settings import SENTENCE_BASELINES, ChannelName, Settings, Workers
from twophase.sim.sweep.job import make_job
from twophase.sim.sweep.measure import measure
from twophase.sim.theory.decision import Verdict

BASELINES = ("conv", "ldpc", "classify-and-send")
MEASURED_DB = (0.0, 6.0, 12.0)


class _AtSnr(Protocol):
    esn0_db: float


_Entry = TypeVar("_Entry", bound=_AtSnr)


def tiny_report(
    grid: Sequence[float] = tuple(map(float, range(21))),
    *,
    text: bool = False,
    header: bool = True,
    modes_report: bool = False,
    channel: ChannelName = "awgn",
    baselines: Sequence[str] = BASELINES,
    compare: int = 1,
    scatter: bool = True,
    classes: Sequence[str] = tuple("abcd"),
    verdict: Verdict = "PASS",
) -> Report:
    """A report with points at the Es/N0 of ``grid`` in dB.

    ``text``: of a text link, with all its baselines; ``header``: all modes in use, sent in a header,
    and not one at a time, by the SNR; ``modes_report``: each mode by itself, too.  Only what the report says
    depends on ``channel``; ``baselines`` and the number of other bundles, ``compare``, are those that it
    shows; ``scatter``: with received symbols; ``verdict`` is that of all points.
    """
    whole = _measured(text, header)
    shown = [entry for entry in whole.baselines if entry.name in (*baselines, *SENTENCE_BASELINES)]
    points = [
        replace(
            point,
            baselines={entry.name: point.baselines[entry.name] for entry in shown},
            best_fixed=point.best_fixed if modes_report else None,
            confusion=point.confusion if len(classes) == 4 else _confusion(len(classes)),
            references={name: replace(r, verdict=verdict) for name, r in point.references.items()},
            stop_reason=f"precision reached: gap +-0.047{place}",
        )
        for place, point in enumerate(_stretched(whole.points, grid))
    ]
    modes = [replace(mode, points=tuple(_stretched(mode.points, grid))) for mode in whole.modes or ()]
    report = replace(
        whole,
        verdict=verdict,
        advice="about 180 samples would decide" if verdict == "UNDECIDED" else None,
        quality=replace(whole.quality, warnings=() if verdict == "PASS" else ("overfitted: 97 % & 55 %",)),
        remarks=["the receiver mistook the mode of up to 3 % of the frames (0 dB)"] * (verdict != "PASS"),
        grid=list(grid),
        channel=channel,
        channel_text=channel_text(channel, "symbol"),
        classes=list(classes),
        baselines=shown,
        scatter=_stretched(whole.scatter, sorted({grid[0], grid[len(grid) // 2], grid[-1]}))
        if scatter
        else [],
        points=points,
        modes=tuple(modes) if modes_report else None,
    )
    return replace(report, compare=[_other(report, number) for number in range(compare)])


def _stretched(entries: Sequence[_Entry], grid: Sequence[float]) -> list[_Entry]:
    """What was measured at the lowest, middle or highest SNR, at every place of a grid."""
    places = np.rint(np.linspace(0, len(entries) - 1, len(grid))).astype(int)
    return [replace(entries[place], esn0_db=snr) for place, snr in zip(places, grid, strict=True)]


def _confusion(classes: int) -> list[list[int]]:
    return (98 * np.eye(classes, dtype=int) + 2 * np.eye(classes, k=1, dtype=int)).tolist()


def _other(report: Report, number: int) -> Compared:
    other = report.compared(f"other-{number + 1}")
    points = [replace(point, accuracy=point.accuracy - 0.01 * (number + 1)) for point in other.points]
    return replace(other, bundle=f"runs/{other.name}/bundle", points=tuple(points))


@cache
def _measured(text: bool, header: bool) -> Report:
    settings = Settings(
        trials=2,
        csi="pilot",
        precision=0.005,
        codes=("conv", "ldpc"),
        baselines=("classify-and-send", *(SENTENCE_BASELINES if text else ())),
    )
    with TemporaryDirectory() as folder:
        router = "content" if header else "snr"
        bundle = write_tiny_bundle(Path(folder) / "tiny" / "bundle", router=router, text=text)
        job = make_job(bundle, None, settings)
        parts = job.open()
        once = replace(job, settings=replace(settings, precision=None))
        measured = measure(once, parts, MEASURED_DB, Workers(), modes_report=True)
        command = "tp-sim --bundle runs/tiny/bundle --csi pilot --precision 0.005"
        return make_report(command, replace(job, bundle=Path("runs/tiny/bundle")), parts[1], measured)
