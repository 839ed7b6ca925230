"""``tp-export``: from a trained run to a proved ONNX bundle."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from twophase.link.command import run_command
from twophase.link.errors import InputError, PackageError

if TYPE_CHECKING:
    from twophase.export.bundle import BundleSummary

__all__ = ["ExportArguments", "main"]

_RUNS = Path("runs")

_DESCRIPTION = """Freeze a trained run to ONNX, prove that its transmitter is hard, and write the bundle.

Examples:
  tp-export                                    the newest run under runs/, to its folder bundle/
  tp-export --run runs/digits --out link-v1    a named run, to another folder"""


@dataclass(frozen=True)
class ExportArguments:
    """What to export, where to, and how thoroughly to compare."""

    run: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: the newest under runs/)")
    ] = None
    """Folder of a finished tp-train run."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: bundle/ in the run)")
    ] = None
    """Folder of the bundle; an older bundle there is replaced, anything else is refused."""
    random_inputs: int = 100_000
    """Random inputs on which torch and ONNX Runtime are compared, besides the whole test split."""
    seed: int = 0
    """Seed of the random inputs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tp-export``; returns the exit status."""
    return run_command("tp-export", ExportArguments, _export, _DESCRIPTION, argv)


def _export(arguments: ExportArguments) -> int:
    if arguments.random_inputs < 0:
        raise InputError("random-inputs", "be at least 0", arguments.random_inputs)
    if arguments.seed < 0:
        raise InputError("seed", "be at least 0", arguments.seed)
    from twophase.export.folders import check_target, newest_run
    from twophase.link.manifest import load_manifest

    run = arguments.run if arguments.run is not None else newest_run(_RUNS)
    out = arguments.out if arguments.out is not None else run / "bundle"
    load_manifest(run, "run")
    check_target(out)
    for package in ("torch", "onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise PackageError(
                f"tp-export needs '{package}', which cannot be imported ({error}): "
                "pip install 'twophase-link[train]'"
            ) from error
    from twophase.export.bundle import build_bundle

    with _progress() as progress:
        summary = build_bundle(run, out, arguments.random_inputs, arguments.seed, progress)
    sys.stdout.write(_report(summary))
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """The current step on stderr if that is a terminal; nothing otherwise."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("starting") as status:
        yield status.update


def _report(summary: BundleSummary) -> str:
    proof, manifest = summary.proof, summary.manifest
    lines = [f"{'graph':<20} {'kB':>8} {'sha256':<14} {'samples':>9} {'largest real error':>19}"]
    for name, tally in summary.tallies.items():
        entry = manifest.files[name]
        error = "integers only" if name == "tx.onnx" else f"{tally.largest_error:.1e}"
        samples = sum(tally.samples.values())
        lines.append(
            f"{name:<20} {entry['bytes'] / 1000:>8.1f} {entry['sha256'][:12]:<14} {samples:>9,} {error:>19}"
        )
    lines += ["", f"{'indices compared':<56} {'number':>12} {'different':>10} {'excused':>8}"]
    for name, tally in summary.tallies.items():
        for what, count in tally.counts.items():
            lines.append(
                f"{name + ': ' + what:<56} {count.compared:>12,} {count.different:>10,} {count.excused:>8,}"
            )
    tokens = max(mode.tokens for mode in manifest.modes)
    seen = summary.tallies["tx.onnx"].samples_of_mode
    lines += [
        "",
        f"codewords run through the cut: all {proof.codewords:,} of {len(manifest.modes)} mode(s) "
        f"at each of up to {tokens} tokens, {proof.combinations:,} rows",
        f"nodes: {proof.nodes:,} scanned, none random; "
        f"{proof.integer_nodes:,} behind the indices, all integers",
        f"modes met in the comparison: {len(seen)} of {len(manifest.modes)}",
        f"bundle: {summary.folder}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
