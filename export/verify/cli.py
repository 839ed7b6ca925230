"""``tp-verify``: prove again, on the machine at hand, that a bundle is what it says, without torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.command import Terminal, folded, require, run_command
from twophase.link.errors import ArtifactError
from twophase.link.escape import visible
from twophase.link.typed import Seed, check_fields

if TYPE_CHECKING:
    from onnx import ModelProto

    from twophase.export.verify.audit import Audit
    from twophase.export.verify.bundle import Bundle
    from twophase.export.verify.checks import Check

__all__ = ["VerifyArguments", "main"]

_DESCRIPTION = """Check a bundle: hashes, ONNX standard, proofs that its transmitter is hard, every codeword
of every mode, conformance vectors on several runtimes, batches, threads, accuracy. Nothing is
written.
Exit status: 0 every check passes, 1 one fails, 2 bad input.

Examples:
  tp-verify                          the newest bundle under runs/
  tp-verify runs/digits/bundle       a named one
  tp-verify --quick                  without onnx.reference, accuracy and latency
  tp-verify --audit                  and how clearly codewords are chosen
  tp-verify --json > verified.json   for a program to read"""

_WORDS = {"pass": "PASS", "fail": "FAIL", "note": "note", "left out": "-"}


@dataclass(frozen=True)
class VerifyArguments:
    """What to check, and how."""

    bundle: Path | None = None
    """Folder of the bundle. Default: the newest under runs/."""
    json: bool = False
    """Print the result as JSON instead of a table."""
    quick: bool = False
    """Leave out onnx.reference, accuracy and latency; the table says so."""
    audit: bool = False
    """Measure margins between codewords on the test split, and what other arithmetics would change."""
    int8: Path | None = None
    """INT8 bundle of the same run, for --audit to compare with."""
    seed: Seed = 0
    """Seed of the audit's noise."""

    def __post_init__(self) -> None:
        check_fields(self)


_SECTIONS = {"What to check": "bundle", "Margins between codewords": "audit"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tp-verify``; returns the exit status."""
    return run_command(
        "tp-verify",
        VerifyArguments,
        _verify,
        _DESCRIPTION,
        argv,
        sections=_SECTIONS,
        positional="bundle",
        extra="verify",
    )


def _verify(arguments: VerifyArguments) -> int:
    from twophase.link.errors import InputError
    from twophase.link.manifest import newest

    if arguments.int8 is not None and not arguments.audit:
        raise InputError("int8", "go with --audit, which compares with it", str(arguments.int8))
    folder = arguments.bundle if arguments.bundle is not None else newest(Path("runs"), "bundle")
    for package in ("onnx", "onnxruntime", "jinja2"):
        require(package, "verify", "tp-verify")
    from twophase.export.verify.bundle import Bundle
    from twophase.export.verify.checks import SLOW, check_bundle

    with Terminal().progress("manifest and hashes") as progress:
        bundle = Bundle(folder)
        if bundle.manifest.front is not None:
            require("tokenizers", "text", "tp-verify")
        other = None if arguments.int8 is None else _int8_transmitter(bundle, arguments.int8)
        checks = list(check_bundle(bundle, SLOW if arguments.quick else (), progress.show))
        audit: Audit | None = None
        if arguments.audit:
            progress.show("audit")
            audit = _audit(bundle, other, arguments.seed, checks)
    passed = all(check.passed for check in checks)
    if arguments.json:
        sys.stdout.write(_as_json(folder, checks, audit, passed))
    else:
        sys.stdout.write(visible(_as_text(arguments, folder, checks, audit, passed), "\n"))
    return 0 if passed else 1


def _int8_transmitter(bundle: Bundle, folder: Path) -> ModelProto:
    """The transmitter of an INT8 bundle of the same link."""
    from twophase.export.verify.bundle import Bundle, CheckError
    from twophase.link.errors import InputError

    other = Bundle(folder)
    if other.manifest_problems:
        raise ArtifactError(other.manifest_problems[0])
    if other.manifest.precision != "int8":
        raise InputError("int8", "name an INT8 bundle", str(folder))
    same = ("link", "codebooks", "input_shape")
    if any(getattr(other.manifest, name) != getattr(bundle.manifest, name) for name in same):
        raise InputError("int8", f"name a bundle with the codebooks of '{bundle.folder}'", str(folder))
    try:
        other.view(other.manifest.head_file)
        return other.model(other.manifest.head_file)
    except CheckError as error:
        raise ArtifactError(f"'{folder}': {error}") from error


def _audit(bundle: Bundle, int8: ModelProto | None, seed: int, checks: list[Check]) -> Audit | None:
    """None if the checks that the audit stands on failed."""
    from twophase.export.graphs.run import GraphRunError
    from twophase.export.verify.audit import audit_margins
    from twophase.link.errors import first_line

    needed = ("ONNX checker", "mode", "codebook search")
    if not all(check.passed for check in checks if check.name in needed):
        return None
    model = bundle.model(bundle.manifest.head_file)
    try:
        return audit_margins(
            model, bundle.searches, bundle.manifest, bundle.samples.features, seed=seed, int8=int8
        )
    except GraphRunError as error:
        raise ArtifactError(f"the audit broke off: a graph does not run: {first_line(error)}") from error


def _as_json(folder: Path, checks: list[Check], audit: Audit | None, passed: bool) -> str:
    content: dict[str, Any] = {
        "bundle": str(folder),
        "verdict": "PASS" if passed else "FAIL",
        "checks": [asdict(check) for check in checks],
    }
    if audit is not None:
        content["audit"] = asdict(audit)
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _as_text(
    arguments: VerifyArguments, folder: Path, checks: list[Check], audit: Audit | None, passed: bool
) -> str:
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for check in checks:
        detail = check.problems[0] if check.problems else check.detail
        lines += folded([f"{_WORDS[check.state]:<5} {check.name:<{width}}  {detail}"], width + 8)
        lines += folded([f"{'':<{width + 8}}{problem}" for problem in check.problems[1:]], width + 8)
    if audit is not None:
        lines += ["", *audit.lines()]
    elif arguments.audit:
        lines += ["", "audit: left out, because the codebook search is not proved"]
    failed = sum(check.state == "fail" for check in checks)
    made = sum(check.state in ("pass", "fail") for check in checks)
    left_out = [check.name for check in checks if check.state == "left out"]
    counted = f"{made - failed} of {made} checks pass"
    counted += f"; left out: {', '.join(left_out)}" if left_out else ""
    lines += ["", f"bundle: {folder}", f"verdict: {'PASS' if passed else 'FAIL'} ({counted})"]
    return "\n".join(lines) + "\n"
