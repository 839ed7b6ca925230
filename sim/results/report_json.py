"""Content of ``report.json``: what was measured, how, with what, and the command that repeats it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from twophase.link.manifest import Manifest
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.sim.channel.tdl import simulated_spread_ns
from twophase.sim.counts import LLR_EDGES
from twophase.sim.packages import versions
from twophase.sim.results.figures import Compared, Described, ModeEntry, Point, Report, SnrError, as_json
from twophase.sim.results.modes import mode_figures, with_best_fixed
from twophase.sim.results.points import advice, point_results, remarks_on, verdict_of
from twophase.sim.results.quality import quality_of, with_ceiling
from twophase.sim.results.text import with_text
from twophase.sim.settings import ChannelName, CoherenceName, Settings
from twophase.sim.sweep.job import Job
from twophase.sim.sweep.measure import Measured

__all__ = ["channel_text", "csi_text", "estimates_text", "json_text", "make_report", "signalling_text"]


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
    """Who chooses the mode and what it costs to signal it; one sentence without a full stop."""
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


_SAME = ("seed", "channel", "kernel", "coherence", "known_snr", "demapper", "header", "tolerance")
"""Settings that stand among the entries of a report as well."""


def make_report(
    command: str, job: Job, manifest: Manifest, measured: Measured, others: Sequence[Compared] = ()
) -> Report:
    """Everything that a report shows; ``others`` are the bundles that are laid over."""
    settings, adaptive, fixed = job.settings, measured.link, measured.modes
    modes, classes = manifest.modes, len(manifest.classes)
    points = point_results(adaptive, modes, classes, settings, measured.reasons)
    if fixed:
        points = with_best_fixed(points, adaptive, fixed, modes, settings)
    text = measured.text.text
    if text is not None:
        points, text = with_text(points, adaptive, text, settings)
    ceiling = measured.ceiling
    points = with_ceiling(points, ceiling, classes)
    same: dict[str, Any] = {name: getattr(settings, name) for name in _SAME}
    return Report(
        **same,
        verdict=verdict_of(points),
        advice=advice(points, settings.tolerance),
        quality=quality_of(points, ceiling, manifest.training),
        remarks=_remarks(points, manifest, settings),
        task=manifest.task,
        command=command,
        versions=versions(),
        bundle=str(job.bundle),
        bundle_sha256=job.bundle_sha256,
        data=str(job.data),
        data_sha256=job.data_sha256,
        settings=settings,
        grid=[point.esn0_db for point in points],
        channel_text=channel_text(
            settings.channel, settings.coherence, settings.rician_k_db, settings.delay_spread_ns
        ),
        csi_text=csi_text(settings),
        router=manifest.routing.router,
        mode=None if settings.mode is None else modes.names[modes.find(settings.mode)],
        signalling=signalling_text(manifest.routing, modes, settings),
        router_snr_error=SnrError(
            settings.snr_error_bias_db, settings.snr_error_jitter_db, settings.snr_error_at
        ),
        estimates=estimates_text(settings),
        trials=max(point.trials for point in points),
        samples=points[0].samples,
        classes=list(manifest.classes),
        mode_table=[
            ModeEntry(
                mode=name,
                codebook=mode.codebook,
                codebook_size=mode.codebook_size,
                tokens=mode.tokens,
                order=mode.order,
                bits=mode.information_bits,
                symbols=mode.symbols,
            )
            for name, mode in zip(modes.names, modes, strict=True)
        ],
        references=manifest.references,
        baselines=[Described(name, said) for name, said in measured.baselines.items()],
        llr_edges=LLR_EDGES.tolist(),
        scatter=measured.scatter,
        compare=others,
        training=manifest.training,
        points=points,
        front=measured.text.front,
        ceiling=ceiling,
        text=text,
        modes=mode_figures(fixed, modes, classes, settings) if fixed else None,
    )


def _remarks(points: Sequence[Point], manifest: Manifest, settings: Settings) -> list[str]:
    remarks = remarks_on(points, settings.tolerance)
    if settings.header == "ideal" and settings.mode is None and len(manifest.modes) > 1:
        remarks.append("the receiver was told the mode free of charge (--header ideal), as no real one is")
    remarks += _precision_remarks(points, settings)
    apart = settings.snr_error_jitter_db > 0 and settings.snr_error_at == "transmitter"
    if apart and manifest.routing.hysteresis_db > 0:
        remarks.append(
            "the ends hold their steps by hysteresis, each by itself: the samples of a trial hang together, "
            "and the intervals, made for independent samples, are too short"
        )
    return remarks


def _precision_remarks(points: Sequence[Point], settings: Settings) -> list[str]:
    """Where the precision that was asked for is not reached, and what would help."""
    missed = [point for point in points if not point.stop_reason.startswith("precision reached")]
    if settings.precision is None or not missed:
        return []
    limited = sum(point.stop_reason.startswith("limited by samples") for point in missed)
    remedy = "more samples (--data) would" if limited else "a higher --max-trials may"
    first = missed[0]
    return [
        f"the precision of {100 * settings.precision:g} points is not reached at {len(missed)} of "
        f"{len(points)} points ({first.stop_reason} at {first.esn0_db:g} dB); {remedy} help"
    ]


def json_text(report: Report) -> str:
    """``report.json``: indented, but the numbers of a list on one line: histograms and samples are long."""
    text = json.dumps(as_json(report), indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"


# A string cannot match: JSON escapes the ends of its lines.
_NUMBERS = re.compile(r"\[\n\s+[-+.\deE]+(?:,\n\s+[-+.\deE]+)*\n\s+\]")
