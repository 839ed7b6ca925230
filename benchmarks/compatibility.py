"""Which versions of ONNX Runtime load a bundle and reproduce its conformance vectors.

    python benchmarks/compatibility.py runs/digits/bundle runs/digits/bundle-int8 --environments FOLDER

Makes a virtual environment in FOLDER for each version, unless it is there, with that ONNX Runtime and a NumPy
that it was built for, and nothing else.  In each, ``compatibility_probe.py`` runs every set of vectors, from
the ONNX graphs and from ``ort/`` where a bundle has it; the outputs are judged here.  Then the edge runtime
of this working tree sends and receives the same samples there one by one.  Prints a table in Markdown.

``newest`` is what pip installs if it is not told a version.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.export.artefacts.conformance import read_set, replay
from twophase.export.graphs.run import GraphRunError
from twophase.link.errors import ArtifactError, LinkError
from twophase.link.manifest import Manifest, load_manifest

VERSIONS = ("1.15.1", "1.17.3", "1.20.1", "1.31.1", "newest")
FIRST_FOR_NUMPY_2 = (1, 19)
PROBE = Path(__file__).with_name("compatibility_probe.py")
PACKAGE = Path(__file__).parents[1] / "link"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--environments", type=Path, required=True, help="folder that keeps them")
    parser.add_argument("--versions", nargs="+", default=VERSIONS)
    arguments = parser.parse_args()
    try:
        manifests = [load_manifest(bundle, "bundle") for bundle in arguments.bundles]
        for bundle, manifest in zip(arguments.bundles, manifests, strict=True):
            if manifest.conformance is None:
                raise ArtifactError(f"'{bundle}' has no conformance vectors: export it again")
    except LinkError as error:
        parser.error(str(error))
    print(
        "| ONNX Runtime | Python | NumPy | bundle | graphs | loaded | vectors | golden hash | edge runtime |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for version in arguments.versions:
        python = environment(arguments.environments, version)
        for bundle, manifest in zip(arguments.bundles, manifests, strict=True):
            for kind in ("onnx", *(["ort"] if "ort/tx.ort" in manifest.files else [])):
                print(row(python, bundle, manifest, kind), flush=True)


def environment(folder: Path, version: str) -> Path:
    """The interpreter of an environment with that ONNX Runtime; made if it is not there."""
    home = folder / f"onnxruntime-{version}"
    python = home / "bin" / "python"
    if not (home / "complete").is_file():
        venv.create(home, clear=True, with_pip=True)
        words = ["onnxruntime"] if version == "newest" else [f"onnxruntime=={version}"]
        if version != "newest" and tuple(map(int, version.split(".")[:2])) < FIRST_FOR_NUMPY_2:
            words.append("numpy<2")
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"onnxruntime {version} cannot be installed: {done.stderr.strip()[-500:]}")
        (home / "complete").touch()
    return python


def row(python: Path, bundle: Path, manifest: Manifest, kind: str) -> str:
    """One line of the table."""
    search = "float search" if manifest.grid is None else "integer grid"
    name = f"{'/'.join(bundle.resolve().parts[-2:])}: {manifest.precision}, {search}"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        plan = write_plan(folder, bundle, manifest, kind)
        ran = probe(python, "graphs", folder)
        if "error" in ran:
            raise SystemExit(f"the probe fails in {python}: {ran['error']}")
        versions = ran["versions"]
        cells = [versions["onnxruntime"], versions["python"], versions["numpy"], name, kind]
        if ran["not_loaded"]:
            reasons = "; ".join(dict.fromkeys(map(shortened, ran["not_loaded"].values())))
            return told([*cells, f"{' and '.join(ran['not_loaded'])}: no: {reasons}", "", "", ""])
        problems = replay(stored(folder, ran["failed"]), bundle, manifest)
        hashes = [text for text in problems if text.startswith("the symbol stream")]
        rest = [text for text in problems if text not in hashes]
        edge = judge_runtime(folder, probe(python, "runtime", folder), plan, bundle, manifest)
    return told(
        [*cells, "yes", "; ".join(rest) or "all reproduced", "; ".join(hashes) or "equal", edge or "equal"]
    )


def shortened(message: str) -> str:
    """An error of ONNX Runtime without paths, signatures of C++ and the numbers of its categories."""
    message = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", message)
    message = re.sub(r"Load model from \S+ failed: ?", "", message)
    return re.sub(r"\S*\.cc:\d+ (.*\)|\w+) (?=[A-Z])", "", message)


def told(cells: list[str]) -> str:
    """Cells as a line of Markdown."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def write_plan(folder: Path, bundle: Path, manifest: Manifest, kind: str) -> dict[str, Any]:
    """What the probe needs, without ONNX."""
    sets = []
    for number, entry in enumerate(conformance_sets(manifest)):
        inputs, outputs = read_set(bundle, entry)
        np.savez(folder / f"inputs_{number}.npz", **inputs)
        sets.append({"graph": entry.graph, "outputs": list(outputs)})
    files = {"onnx": "{}.onnx", "ort": "ort/{}.ort"}[kind]
    graphs = {f"{end}.onnx": str((bundle / files.format(end)).resolve()) for end in ("tx", "rx")}
    plan = {"bundle": str(bundle.resolve()), "format": kind, "graphs": graphs, "sets": sets}
    (folder / "plan.json").write_text(json.dumps(plan))
    return plan


def conformance_sets(manifest: Manifest) -> tuple[Any, ...]:
    """The sets of vectors of a bundle."""
    return () if manifest.conformance is None else manifest.conformance.sets


def probe(python: Path, what: str, folder: Path) -> dict[str, Any]:
    """Run the probe; its result, or what it ended with.

    The package is put on the path as it is: an old environment needs no installer for it.
    """
    (folder / "path" / "twophase").mkdir(parents=True, exist_ok=True)
    link = folder / "path" / "twophase" / "link"
    if not link.exists():
        link.symlink_to(PACKAGE, target_is_directory=True)
    (folder / "result.json").unlink(missing_ok=True)
    done = subprocess.run(
        [str(python), "-B", str(PROBE), what, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "path")},
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def stored(folder: Path, failed: dict[str, str]) -> Any:
    """What ``conformance.replay`` calls: the outputs that the probe wrote, in order."""
    number = iter(range(1 << 30))

    def run(graph: str, outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        place = next(number)
        if str(place) in failed:
            raise GraphRunError(failed[str(place)])
        with np.load(folder / f"outputs_{place}.npz") as arrays:
            return [arrays[name] for name in outputs]

    return run


def judge_runtime(
    folder: Path, result: dict[str, Any], plan: dict[str, Any], bundle: Path, manifest: Manifest
) -> str:
    """What the edge runtime gave in another way than it is stored; empty if nothing."""
    if "error" in result:
        return str(result["error"])
    problems = []
    if manifest.conformance is None or result["symbols_sha256"] != manifest.conformance.symbols_sha256:
        problems.append("another symbol stream")
    stored_sets = [entry for entry in conformance_sets(manifest) if entry.graph == "rx.onnx"]
    wanted = [read_set(bundle, entry)[1]["logits"].argmax(-1).tolist() for entry in stored_sets]
    if result["decided"] != wanted:
        problems.append("other decisions")
    return ", ".join(problems)


if __name__ == "__main__":
    main()
