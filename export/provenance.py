"""What the manifest of a bundle says of its export, under ``provenance.export``."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from onnx import ModelProto

from twophase.export.compare.tally import EXCUSED_MARGIN, POSTERIOR_MARGIN, TOLERANCE, Tally
from twophase.export.proof.exact import ExactProof
from twophase.export.proof.hard import HardProof
from twophase.link.manifest import Manifest
from twophase.link.routing import table_lines

__all__ = ["export_record", "listing_lines", "mode_listing"]


def mode_listing(manifest: Manifest, usage: dict[float, dict[int, int]]) -> list[dict[str, Any]]:
    """What the manifest of a bundle says of the choice of the mode.

    Where a header signals the mode: for each SNR of ``usage`` the header, the symbols per sample and the
    share of each mode.  Otherwise: for each step of the table where it begins and ends (None: nowhere), its
    mode and its symbols.  ``usage`` counts samples by Es/N0 in dB and by the mode that the router chose.
    """
    modes, routing = manifest.modes, manifest.routing
    if not routing.tells_mode:
        return [
            {
                "from_db": low if math.isfinite(low) else None,
                "to_db": high if math.isfinite(high) else None,
                "mode": modes.names[mode],
                "symbols": modes[mode].symbols,
            }
            for mode, (low, high) in (
                (mode, routing.table.bounds(step)) for step, mode in enumerate(routing.table.modes)
            )
        ]
    listing = []
    for esn0_db, counts in sorted(usage.items()):
        code = routing.header_code(esn0_db, len(modes))
        assert code is not None
        total = sum(counts.values())
        listing.append(
            {
                "esn0_db": esn0_db,
                "header": code.name,
                "header_symbols": code.symbols,
                "payload_symbols": sum(modes[mode].symbols * count for mode, count in counts.items()) / total,
                "shares": {modes.names[mode]: count / total for mode, count in sorted(counts.items())},
            }
        )
    return listing


def listing_lines(manifest: Manifest, usage: dict[float, dict[int, int]]) -> list[str]:
    """The same as lines of text, under a heading."""
    routing = manifest.routing
    if not routing.tells_mode:
        held = f", hysteresis {routing.hysteresis_db:g} dB" if routing.router == "table" else ""
        return [
            f"mode by the SNR that each end estimates (router: {routing.router}{held}; no header)",
            *table_lines(routing.table, manifest.modes),
            *_remarks(manifest),
        ]
    lines = ["mode by content, signalled in a header (test split; header + payload symbols per sample)"]
    for entry in mode_listing(manifest, usage):
        shares = sorted(entry["shares"].items(), key=lambda item: -item[1])
        chosen = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares)
        lines.append(
            f"{entry['esn0_db']:>6g} dB   {entry['header']:<9} {entry['header_symbols']:>3} + "
            f"{entry['payload_symbols']:<5.2f}   {chosen}"
        )
    return lines


def _remarks(manifest: Manifest) -> list[str]:
    """What a table does that its lines do not show."""
    table, hysteresis_db = manifest.routing.table, manifest.routing.hysteresis_db
    if len(manifest.modes) > 1 and len(table.modes) == 1:
        return ["one mode at every SNR: a larger --table-tolerance, or longer training, makes others usable"]
    widths = [high - low for low, high in map(table.bounds, range(len(table.modes)))]
    narrow = [
        manifest.modes.names[mode]
        for mode, width in zip(table.modes, widths, strict=True)
        if width < hysteresis_db
    ]
    if not narrow:
        return []
    return [f"narrower than the hysteresis, which a wandering SNR steps over: {', '.join(narrow)}"]


_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch", "twophase-link")


def export_record(
    transmitter: ModelProto,
    proof: HardProof,
    tallies: Mapping[str, Tally],
    manifest: Manifest,
    random_inputs: int,
    seed: int,
) -> dict[str, Any]:
    """The record.  Rounding errors differ between machines, so they stay out.

    ``transmitter`` is the graph from features on, as it is in the bundle, and ``proof`` its proof;
    ``tallies`` are of what was compared with torch, by graph.
    """
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "opset": next(entry.version for entry in transmitter.opset_import if entry.domain in ("", "ai.onnx")),
        "ir_version": transmitter.ir_version,
        "proof": {
            "nodes_scanned": proof.nodes,
            "integer_nodes": proof.integer_nodes,
            "codewords": proof.codewords,
            "combinations": proof.combinations,
            "snr_points": proof.mode.snr_points,
            "request_pairs": proof.mode.request_pairs,
            "exact": None if proof.exact is None else _exact_record(proof.exact),
            "random_inputs": random_inputs,
            "seed": seed,
            "excused_margin": EXCUSED_MARGIN,
            "posterior_margin": POSTERIOR_MARGIN,
            "tolerance": TOLERANCE,
        },
        "modes": mode_listing(manifest, tallies[manifest.head_file].usage),
        "compared": {
            name: {
                "samples": tally.samples,
                "samples_of_mode": {
                    str(mode): count for mode, count in sorted(tally.samples_of_mode.items())
                },
                "indices": {what: asdict(count) for what, count in tally.counts.items()},
                "modes": {what: asdict(count) for what, count in tally.mode_counts.items()},
            }
            for name, tally in tallies.items()
        },
    }


def _exact_record(proof: ExactProof) -> dict[str, Any]:
    tightest = proof.tightest
    return {
        "nodes": proof.nodes,
        "sums": len(proof.sums),
        "tightest": None if tightest is None else asdict(tightest),
        "given_the_mode": proof.mode,
    }
