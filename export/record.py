"""What the manifest of a bundle tells of its export, under ``provenance.export``."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from onnx import ModelProto

from twophase.export.compare import EXCUSED_MARGIN, POSTERIOR_MARGIN, TOLERANCE, Tally
from twophase.export.exactness.proof import ExactProof
from twophase.export.listing import mode_listing
from twophase.export.prove import HardProof
from twophase.link.manifest import Manifest

__all__ = ["export_record"]

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

    Parameters
    ----------
    transmitter
        The transmitter from features on, as it is in the bundle.
    proof
        Its proof.
    tallies
        What was compared with torch, by graph.
    manifest
        The link, with the routing of the bundle.
    random_inputs, seed
        Of the comparison.
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
