"""``tp-export``: from a trained run to a proved ONNX bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from twophase.link.command import Terminal, require, run_command
from twophase.link.errors import InputError
from twophase.link.escape import visible
from twophase.link.typed import Seed, check_fields, within

if TYPE_CHECKING:
    from twophase.export.artefacts.write import Extras

__all__ = ["ExportArguments", "main"]

_RUNS = Path("runs")
_FOLDERS = {"float32": "bundle", "int8": "bundle-int8"}
"""Where in the run the bundle of a precision goes; tp-sim takes the newest of those in float32 by itself."""

_DESCRIPTION = """Freeze a trained run to ONNX, prove that its transmitter is hard, and write the bundle.

Examples:
  tp-export                                      the newest run under runs/, to its folder bundle/
  tp-export --run runs/digits --out link-v1      a named run, to another folder
  tp-export --router table --hysteresis-db 1.5   a readable table in the router's place
  tp-export --header rm14                        another code for the header of a content router
  tp-export --precision int8                     INT8 weights, to the folder bundle-int8/
  tp-export --ort --web                          also ONNX Runtime's own format and a web page
  tp-export --add --web                          a page for the bundle there, without a proof"""


@dataclass(frozen=True)
class ExportArguments:
    """What to export, where to, and how thoroughly to compare."""

    run: Path | None = None
    """Folder of a finished tp-train run. Default: the newest under runs/."""
    out: Path | None = None
    """Folder of the bundle; an older bundle there is replaced, anything else is refused. Default: bundle/ or
    bundle-int8/ in the run."""
    precision: Literal["float32", "int8"] = "float32"
    """What the weights of transmitter and receiver are stored and multiplied in; int8 is proved and compared
    with float32, which is proved first."""
    ort: bool = False
    """Also write transmitter and receiver in ONNX Runtime's own format, to the folder ort/ of the bundle."""
    web: bool = False
    """Also write a page that runs the link in a browser, to the folder web/; needs npm, once."""
    add: bool = False
    """Make what --ort and --web ask for in a finished bundle, --out or that of the run. Nothing is proved
    anew; the hashes are checked."""
    router: Literal["trained", "table"] = "trained"
    """Who chooses the mode: the trained router, or a look-up of the run's table by SNR in its place."""
    hysteresis_db: float | None = None
    """How far in dB an SNR estimate may leave a step of a table before the mode changes. Default: the run's,
    or 1 for a table that takes a router's place."""
    header: str = "auto"
    """Code that signals a mode chosen by content: plain, repeat2 to repeat16, rm12, hamming84, rm14, rm15 or
    rm16; auto: as the run planned it for each SNR."""
    random_inputs: Annotated[int, within(0, 100_000_000)] = 100_000
    """Random inputs on which torch and ONNX Runtime are compared, besides the whole test split."""
    seed: Seed = 0
    """Seed of the random inputs."""

    def __post_init__(self) -> None:
        check_fields(self)


_SECTIONS = {
    "Folders": "run",
    "Contents": "precision",
    "Choice of the mode (several modes)": "router",
    "Comparison with torch": "random_inputs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tp-export``; returns the exit status."""
    return run_command(
        "tp-export",
        ExportArguments,
        _export,
        _DESCRIPTION,
        argv,
        sections=_SECTIONS,
        positional="run",
        extra="train",
    )


def _export(arguments: ExportArguments) -> int:
    from twophase.export.options import check_target, exported_routing
    from twophase.link.manifest import load_manifest, newest

    if arguments.add:
        return _add(arguments)
    run = arguments.run if arguments.run is not None else newest(_RUNS, "run")
    out = arguments.out if arguments.out is not None else run / _FOLDERS[arguments.precision]
    manifest = load_manifest(run, "run")
    if arguments.web and manifest.front is not None:
        raise InputError("web", "be left out for a link that takes text, which no page runs", str(run))
    exported_routing(manifest, arguments.router, arguments.hysteresis_db, arguments.header)
    check_target(out)
    for package in ("torch", "onnx", "onnxscript", "jinja2"):
        require(package, "train", "tp-export")
    if manifest.front is not None:
        require("tokenizers", "text", "tp-export")
    from twophase.export.build import build_bundle
    from twophase.export.report import report
    from twophase.link.quality import trained_quality

    extras = _extras(arguments)
    with Terminal().progress() as progress:
        summary = build_bundle(
            run,
            out,
            arguments.random_inputs,
            arguments.seed,
            progress.show,
            router=arguments.router,
            hysteresis_db=arguments.hysteresis_db,
            header=arguments.header,
            precision=arguments.precision,
            extras=extras,
        )
    sys.stdout.write(visible(report(summary), "\n"))
    for warning in trained_quality(summary.manifest.training).warnings():
        print(f"tp-export: warning: {warning}", file=sys.stderr)  # noqa: T201
    return 0


def _extras(arguments: ExportArguments) -> Extras:
    from twophase.export.artefacts.write import Extras

    if not arguments.web:
        return Extras(ort=arguments.ort)
    from twophase.export.artefacts.web import fetch_runtime

    return Extras(ort=arguments.ort, web=fetch_runtime())


def _add(arguments: ExportArguments) -> int:
    """Make in a finished bundle what it does not have yet."""
    from twophase.link.manifest import load_manifest, newest

    if not (arguments.ort or arguments.web):
        raise InputError("add", "go with --ort or --web, which it makes", True)
    allowed = {"run", "out", "precision", "ort", "web", "add"}
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.name not in allowed and value != entry.default:
            raise InputError(entry.name, "be left out with --add, which exports nothing anew", value)
    bundle = arguments.out
    if bundle is None:
        bundle = (arguments.run or newest(_RUNS, "run")) / _FOLDERS[arguments.precision]
    if load_manifest(bundle, "bundle", ()).front is not None and arguments.web:
        raise InputError("web", "be left out for a link that takes text, which no page runs", str(bundle))
    for package in ("onnx", "jinja2"):
        require(package, "train", "tp-export")
    from twophase.export.artefacts.write import add_artefacts

    with Terminal().progress() as progress:
        add_artefacts(bundle, _extras(arguments), progress.show)
    sys.stdout.write(f"bundle: {visible(str(bundle))}\n")
    return 0
