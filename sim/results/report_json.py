"""Content of ``report.json``: what was measured, how, with what, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.manifest import Manifest
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.sim.channel.tdl import simulated_spread_ns
from twophase.sim.counts import LLR_EDGES
from twophase.sim.packages import versions
from twophase.sim.results.figures import point_results
from twophase.sim.results.modes import add_best_fixed, mode_entries
from twophase.sim.results.text import add_text
from twophase.sim.results.verdict import remarks_on, verdict_of
from twophase.sim.settings import ChannelName, CoherenceName, Settings
from twophase.sim.sweep.job import Job
from twophase.sim.sweep.measure import Measured

if TYPE_CHECKING:
    from twophase.sim.cli import SimArguments

__all__ = [
    "channel_text",
    "command_of",
    "compared",
    "csi_text",
    "estimates_text",
    "report_content",
    "signalling_text",
]


def channel_text(
    channel: ChannelName,
    coherence: CoherenceName | int,
    rician_k_db: float = 6.0,
    delay_spread_ns: float = 300.0,
) -> str:
    """The channel's name; on a tapped delay line with the delay spread asked for and the simulated one."""
    if channel == "awgn":
        return "AWGN"
    if channel in ("tdl-a", "tdl-c"):
        simulated = simulated_spread_ns(channel, delay_spread_ns)
        return f"{channel.upper()} under OFDM, {delay_spread_ns:g} ns (simulated: {simulated:.0f} ns)"
    name = "Rayleigh" if channel == "rayleigh" else f"Rician ({rician_k_db:g} dB)"
    if coherence == "symbol":
        return f"flat {name} fading"
    if coherence == "sample":
        return f"{name} block fading"
    return f"{name} fading in blocks of {coherence} symbols"


def csi_text(settings: Settings) -> str:
    """What the receiver knows of the channel; one sentence without a full stop."""
    mismatch = settings.noise_mismatch_db
    noise = "the noise variance"
    if settings.noise_estimate == "pilot":
        noise = "a noise variance estimated from the pilots (from the first block of each frame)"
    if mismatch:
        noise += f", taken {abs(mismatch):g} dB too {'high' if mismatch > 0 else 'low'}"
    if settings.csi == "none":
        return f"the receiver takes every gain for 1 and knows {noise}"
    if settings.csi == "perfect":
        return f"the receiver knows every gain and {noise}"
    method = "least squares" if settings.estimator == "ls" else "minimum mean square error"
    of = "12 subcarriers" if settings.channel.startswith("tdl") else "equal gain"
    if settings.channel == "awgn" or settings.coherence == "sample":
        of = "a frame"
    return (
        f"the receiver estimates gains by {method} from {settings.pilots} pilot symbols in each block of "
        f"{of}, counted as symbols, and knows {noise}"
    ).replace("block of a frame", "frame")


def signalling_text(routing: Routing, modes: ModeTable, settings: Settings) -> str:
    """Who chooses the mode and what it costs to tell it; one sentence without a full stop."""
    if len(modes) == 1:
        return "one mode, nothing to choose or to tell"
    if settings.mode is not None:
        name = modes.names[modes.find(settings.mode)]
        return f"mode {name} for every sample, known to both ends; no header is sent"
    if settings.header == "ideal":
        return (
            f"mode chosen by {_ROUTERS[routing.router]} and told to the receiver free of charge: no header "
            "symbol is sent or counted, no mode is mistaken"
        )
    if routing.tells_mode:
        return (
            f"mode chosen by {_ROUTERS[routing.router]} and told in a coded header over QPSK; its symbols "
            "count, its errors happen"
        )
    held = f", with {routing.hysteresis_db:g} dB of hysteresis" if routing.hysteresis_db else ""
    return f"each end looks the mode up for its own estimate of Es/N0{held}; no header is sent"


_KNOWN = {"mean": "mean Es/N0", "block": "Es/N0 of each block"}
_ROUTERS = {
    "fixed": "no router",
    "content": "a router that sees content and SNR",
    "snr": "the SNR",
    "table": "a table over the SNR",
}


def estimates_text(settings: Settings) -> str:
    """Which Es/N0 the ends choose a mode by, and how wrong their estimates of it are."""
    if settings.mode is not None:
        return "nobody chooses by Es/N0"
    bias, jitter = settings.snr_error_bias_db, settings.snr_error_jitter_db
    known = "Es/N0" if settings.channel == "awgn" else _KNOWN[settings.known_snr]
    if not bias and not jitter:
        return f"both ends know the {known} exactly"
    shared = settings.snr_error_at == "both"
    parts = [f"{bias:+g} dB {'at both ends' if shared else 'at the transmitter'}"] if bias else []
    if jitter:
        whose = "shared by both ends" if shared else "independent at each end"
        parts.append(f"{jitter:g} dB standard deviation, {whose}")
    return f"error of the estimated {known}: " + "; ".join(parts)


def report_content(
    command: str,
    job: Job,
    manifest: Manifest,
    measured: Measured,
    others: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Everything that a report shows.

    Parameters
    ----------
    command
        The command that repeats it.
    job
        What was measured, and how.
    manifest
        The bundle's.
    measured
        Its counts.
    others
        Entries of ``compare``: other bundles beside this one, see :func:`compared`.
    """
    settings, adaptive, fixed = job.settings, measured.link, measured.modes
    modes, classes = manifest.modes, len(manifest.classes)
    points = point_results(adaptive, modes, classes, settings, measured.reasons)
    if fixed:
        add_best_fixed(points, adaptive, fixed, modes, settings)
    text = add_text(points, adaptive, measured.beside_text, settings)
    remarks = remarks_on(points, settings.tolerance)
    if settings.header == "ideal" and settings.mode is None and len(modes) > 1:
        remarks.append("the receiver was told the mode free of charge (--header ideal), as no real one is")
    remarks += _precision_remarks(points, settings)
    apart = settings.snr_error_jitter_db > 0 and settings.snr_error_at == "transmitter"
    if apart and manifest.routing.hysteresis_db > 0:
        remarks.append(
            "the ends hold their steps by hysteresis, each by itself: the samples of a trial hang together, "
            "and the intervals, made for independent samples, are too short"
        )
    content = {
        "verdict": verdict_of(points),
        "remarks": remarks,
        "task": manifest.task,
        "command": command,
        "versions": versions(),
        "seed": settings.seed,
        "bundle": str(job.bundle),
        "bundle_sha256": job.bundle_sha256,
        "data": str(job.data),
        "data_sha256": job.data_sha256,
        "settings": asdict(settings),
        "grid": [point["esn0_db"] for point in points],
        "channel": settings.channel,
        "channel_text": channel_text(
            settings.channel, settings.coherence, settings.rician_k_db, settings.delay_spread_ns
        ),
        "csi_text": csi_text(settings),
        "kernel": settings.kernel,
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
        "trials": max(point["trials"] for point in points),
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
        "companions": [{"name": name, "description": text} for name, text in measured.companions.items()],
        "llr_edges": LLR_EDGES.tolist(),
        "scatter": measured.scatter,
        "compare": list(others),
        "training": manifest.training,
        "points": points,
    }
    content |= text
    return content | ({"modes": mode_entries(fixed, modes, classes, settings)} if fixed else {})


def _precision_remarks(points: Sequence[dict[str, Any]], settings: Settings) -> list[str]:
    """Where the precision that was asked for is not reached, and what would help."""
    if settings.precision is None:
        return []
    missed = [point for point in points if not point["stop_reason"].startswith("precision reached")]
    if not missed:
        return []
    limited = sum(point["stop_reason"].startswith("limited by samples") for point in missed)
    remedy = "more samples (--data) would" if limited else "a higher --max-trials may"
    first = missed[0]
    return [
        f"the precision of {100 * settings.precision:g} points is not reached at {len(missed)} of "
        f"{len(points)} points ({first['stop_reason']} at {first['esn0_db']:g} dB); {remedy} help"
    ]


def compared(name: str, report: dict[str, Any]) -> dict[str, Any]:
    """A whole report as an entry of ``compare`` in another."""
    shown = ("esn0_db", "symbols_per_sample")
    return {
        "name": name,
        "bundle": report["bundle"],
        "bundle_sha256": report["bundle_sha256"],
        "verdict": report["verdict"],
        "points": [
            {key: point[key] for key in shown}
            | {"accuracy": point["accuracy_hard"], "accuracy_ci": point["accuracy_hard_ci"]}
            for point in report["points"]
        ],
    }


def command_of(arguments: SimArguments, job: Job, out: Path) -> str:
    """The command that repeats a report, every option spelled out that is not its default.

    Bundle, grid, channel, trials and seed are always spelled out; how the work was shared is not: the report
    does not depend on it.
    """
    always = {"snr", "channel", "trials", "seed"}
    left_out = {"bundle", "out", "workers", "scheduler", "replay", "kernel"}
    words = ["tp-sim", "--bundle", str(job.bundle)]
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.name in left_out or (value == entry.default and entry.name not in always):
            continue
        option = f"--{entry.name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, tuple):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    return shlex.join([*words, "--kernel", job.settings.kernel, "--out", str(out)])
