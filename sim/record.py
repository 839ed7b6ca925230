"""Content of ``report.json``: what was measured, how, with what, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.manifest import Manifest
from twophase.sim.counts import Tally
from twophase.sim.modes_report import add_best_fixed, mode_entries
from twophase.sim.packages import versions
from twophase.sim.results import point_results
from twophase.sim.settings import Settings
from twophase.sim.verdict import remarks_on, verdict_of
from twophase.sim.words import estimates_text, signalling_text

if TYPE_CHECKING:
    from twophase.sim.cli import SimArguments

__all__ = ["report_content"]


def report_content(
    arguments: SimArguments,
    settings: Settings,
    bundle: tuple[Path, str],
    data: Path,
    out: Path,
    manifest: Manifest,
    adaptive: Sequence[Tally],
    fixed: Sequence[Sequence[Tally]],
) -> dict[str, Any]:
    """Everything that a report shows.

    Parameters
    ----------
    arguments, settings
        What was asked for.
    bundle
        Its folder and the SHA-256 of its manifest.
    data, out
        Samples and folder of the report.
    manifest
        The bundle's.
    adaptive
        Counts of the link at each SNR.
    fixed
        Counts of every mode by itself, [mode][point]; empty without ``--modes-report``.
    """
    modes, classes = manifest.modes, len(manifest.classes)
    points = point_results(adaptive, modes, classes, settings)
    if fixed:
        add_best_fixed(points, adaptive, fixed, modes)
    remarks = remarks_on(points, settings.tolerance)
    if settings.header == "ideal" and settings.mode is None and len(modes) > 1:
        remarks.append("the receiver was told the mode free of charge (--header ideal), as no real one is")
    apart = settings.snr_error_jitter_db > 0 and settings.snr_error_at == "transmitter"
    if apart and manifest.routing.hysteresis_db > 0:
        remarks.append(
            "the ends hold their steps by hysteresis, each by itself: the samples of a trial hang together, "
            "and the intervals, made for independent samples, are too short"
        )
    folder, identity = bundle
    content = {
        "verdict": verdict_of(points),
        "remarks": remarks,
        "task": manifest.task,
        "command": _command(arguments, folder, out),
        "versions": versions(),
        "seed": settings.seed,
        "bundle": str(folder),
        "bundle_sha256": identity,
        "data": str(data),
        "channel": settings.channel,
        "coherence": settings.coherence,
        "known_snr": settings.known_snr,
        "demapper": settings.demapper,
        "router": manifest.routing.router,
        "header": settings.header,
        "mode": None if settings.mode is None else modes.names[modes.find(settings.mode)],
        "signalling": signalling_text(manifest.routing, modes, settings),
        "router_snr_error": {
            "bias_db": settings.snr_error_bias_db,
            "jitter_db": settings.snr_error_jitter_db,
            "at": settings.snr_error_at,
        },
        "estimates": estimates_text(settings),
        "trials": settings.trials,
        "samples": points[0]["samples"],
        "tolerance": settings.tolerance,
        "classes": list(manifest.classes),
        "mode_table": [
            {
                "mode": name,
                "codebook": mode.codebook,
                "codebook_size": mode.codebook_size,
                "tokens": mode.tokens,
                "order": mode.order,
                "bits": mode.information_bits,
                "symbols": mode.symbols,
            }
            for name, mode in zip(modes.names, modes, strict=True)
        ],
        "references": [asdict(reference) for reference in manifest.references],
        "training": manifest.training,
        "points": points,
    }
    return content | ({"modes": mode_entries(fixed, modes, classes, settings)} if fixed else {})


def _command(arguments: SimArguments, bundle: Path, out: Path) -> str:
    """The command that repeats this report, every option spelled out."""
    words = ["tp-sim", "--bundle", str(bundle), "--snr", arguments.snr, "--channel", arguments.channel]
    words += ["--coherence", arguments.coherence, "--demapper", arguments.demapper]
    words += ["--known-snr", arguments.known_snr] if arguments.known_snr is not None else []
    words += ["--header", arguments.header]
    words += ["--mode", arguments.mode] if arguments.mode is not None else []
    words += ["--router-snr-error", *map(str, arguments.router_snr_error)]
    words += ["--router-snr-error-at", arguments.router_snr_error_at]
    words += ["--modes-report"] if arguments.modes_report else []
    words += ["--trials", str(arguments.trials), "--seed", str(arguments.seed)]
    words += ["--tolerance", str(arguments.tolerance)]
    words += ["--data", str(arguments.data)] if arguments.data else []
    return shlex.join([*words, "--out", str(out)])
