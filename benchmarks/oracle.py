"""Whether a change kept every number: losses, graphs, symbols and counts of reference jobs, to the last bit.

``record`` runs the jobs and writes what they gave; ``check`` runs them again and names everything that
differs.  The jobs call the commands, so that nothing here depends on how the packages are laid out.

    python benchmarks/oracle.py record benchmarks/oracle.json
    python benchmarks/oracle.py check benchmarks/oracle.json

Training in floating point gives the same bits only on processors for which torch takes the same kernels.
The record names the one that it was made on; elsewhere ``check`` runs the jobs, compares nothing and exits
with 3: to compare there, ``record`` an earlier commit first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TRAIN = {
    "digits": ("--epochs", "60", "--alignment-start-epoch", "25"),
    "content": ("--router", "content", "--epochs", "16", "--alignment-start-epoch", "8"),
    "reviews": (
        *("--task", "reviews", "--samples", "400", "--tune-epochs", "1"),
        *("--epochs", "8", "--alignment-start-epoch", "4"),
    ),
}
CODED = ("--code", "conv", "ldpc", "--baseline", "classify-and-send")
SIMULATE = {
    "digits": {
        "awgn": ("--snr", "-5:5:20", "--trials", "2"),
        "rayleigh-pilots": (
            *("--snr", "0:10:10", "--trials", "2", "--channel", "rayleigh", "--coherence", "sample"),
            *("--csi", "pilot", "--pilots", "2"),
        ),
        "rayleigh-block": (
            *("--snr", "5", "--trials", "2", "--channel", "rayleigh", "--coherence", "sample"),
            *("--demapper", "maxlog", "--kernel", "numpy"),
        ),
        "tdl-c": ("--snr", "0:10:10", "--trials", "2", "--channel", "tdl-c"),
        "coded": ("--snr", "0:10:10", "--trials", "2", *CODED),
        "semi-analytic": ("--snr", "0:10:20", "--semi-analytic"),
        "modes": ("--snr", "5", "--trials", "1", "--modes-report", "--router-snr-error", "0", "2"),
    },
    "content": {
        "awgn": ("--snr", "-5:10:15", "--trials", "2"),
        "rayleigh-pilots": (
            *("--snr", "5", "--trials", "2", "--channel", "rayleigh", "--coherence", "sample"),
            *("--csi", "pilot", "--noise-estimate", "pilot"),
        ),
    },
    "reviews": {"awgn": ("--snr", "0:10:10", "--trials", "2")},
}
"""By task and name: the sweeps whose counts are recorded."""

NOT_COMPARED = ("seconds",)
"""Entries of ``metrics.jsonl`` that tell of the machine."""
TEXTS = ("stop_reason", "counts_sha256", "verdict")
"""Entries of a point that are no numbers; what ``counts_sha256`` stands for is compared itself."""
RENAMED = {"baselines": "companions"}
"""Entries of a point that were recorded under another name."""
DERIVED = ("classify_and_send", "label_delivered")
"""Entries of a point that follow from those that are recorded."""


def run(environment: dict[str, str], package: str, *words: object, failures: tuple[int, ...] = ()) -> None:
    """Run one of the commands; stop if it fails."""
    command = [sys.executable, "-m", f"twophase.{package}", *map(str, words)]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, *failures):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    shown = " ".join(map(str, words))
    print(f"{time.monotonic() - begun:6.1f} s  {package} {shown[:100]}", file=sys.stderr)


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def of_training(folder: Path) -> dict[str, Any]:
    """Every logged value of every epoch."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {
        str(record["epoch"]): sha256(
            json.dumps(
                {name: value for name, value in record.items() if name not in NOT_COMPARED}, sort_keys=True
            ).encode()
        )
        for record in records
    }


def of_bundle(folder: Path) -> dict[str, Any]:
    """The bytes of its graphs, the golden hash of its symbols, and what the exporter measured."""
    manifest = json.loads((folder / "link.json").read_text())
    graphs = {path.name: sha256(path.read_bytes()) for path in sorted(folder.glob("*.onnx"))}
    return graphs | {
        "symbols": manifest["conformance"]["symbols_sha256"],
        "accuracy": manifest["accuracy"]["correct"],
        "table": manifest["routing"]["table"],
    }


def of_points(path: Path) -> dict[str, Any]:
    """A hash of each figure of each point, and the counts as they are."""
    content = json.loads(path.read_text())
    points = {f"{point['esn0_db']:g} dB": of_point(point) for point in content["points"]}
    for mode in content.get("modes", ()):
        for point in mode["points"]:
            points[f"{mode.get('mode', mode.get('name'))} {point['esn0_db']:g} dB"] = of_point(point)
    return points


def of_point(point: dict[str, Any]) -> dict[str, Any]:
    """Each entry under its recorded name."""
    return {
        RENAMED.get(name, name): value
        if name == "counts"
        else sha256(json.dumps(_recorded(name, value), sort_keys=True).encode())[:16]
        for name, value in point.items()
        if name not in (*TEXTS, *DERIVED)
    }


def _recorded(name: str, value: Any) -> Any:
    """As it was recorded: references passed or not, and had no bound but the lower one."""
    if name != "references":
        return value
    derived = ("verdict", "gap_upper_bound", "samples_to_decide")
    return {
        reference: {entry: found for entry, found in figures.items() if entry not in derived}
        | {"pass": figures["verdict"] == "PASS"}
        for reference, figures in value.items()
    }


def measure(work: Path) -> dict[str, Any]:
    """Run every job."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found: dict[str, Any] = {}
    for task, options in TRAIN.items():
        folder = work / task
        run(environment, "training", "--out", folder, "--seed", 0, *options)
        run(environment, "export", "--run", folder, "--random-inputs", 2000)
        found[f"{task} training"] = of_training(folder)
        found[f"{task} bundle"] = of_bundle(folder / "bundle")
        for name, words in SIMULATE[task].items():
            out = work / f"{task}-{name}"
            run(environment, "sim", "--bundle", folder / "bundle", "--out", out, *words, failures=(1, 3))
            file = "semianalytic.json" if name == "semi-analytic" else "report.json"
            found[f"{task} {name}"] = of_points(out / file)
    return found


def environment_of() -> dict[str, str]:
    """What the bits of a training depend on besides the code."""
    import numpy
    import onnxruntime
    import torch

    return {
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
    }


def _processor() -> str:
    """Model name of the processor, where the system says it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """One line for everything that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for name in [*before, *(name for name in after if name not in before)]:
            where = f"{place} / {name}" if place else name
            if name not in after or name not in before:
                lines.append(f"{where}: only {'before' if name in before else 'now'}")
            else:
                lines += differences(before[name], after[name], where)
        return lines
    return [] if before == after else [f"{place}: {before} before, {after} now"]


def main() -> None:
    """Record or check."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--work", type=Path, help="folder that keeps runs and reports")
    arguments = parser.parse_args()
    here = environment_of()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(arguments.work or Path(temporary))
    if arguments.action == "record":
        content = {"environment": here, "found": found}
        arguments.file.write_text(json.dumps(content, indent=1) + "\n")
        return
    recorded = json.loads(arguments.file.read_text())
    if recorded["environment"] != here:
        print(f"recorded with {recorded['environment']}, here is {here}: the bits were not compared")
        raise SystemExit(3)
    lines = differences(recorded["found"], json.loads(json.dumps(found)))
    for line in lines:
        print(line)
    print(f"{len(lines)} differ" if lines else "all equal")
    raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    main()
