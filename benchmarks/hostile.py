"""Hostile input: altered bundles, odd command lines and kills, none of which may end in anything but a line.

Every command must end with 0, 1, 2, 3, 130 or 143 and at most one line of error, in time and in bounded
memory; it must never show a traceback, nor open what lies outside the bundle that it was given.  Each case
follows from the seed and its number, and is repeated by them:

    export PYTHONPATH=tests OMP_NUM_THREADS=1                         it alters the small bundles of the tests
    python benchmarks/hostile.py                                      as CI runs it
    python benchmarks/hostile.py --bundles 5000 --lines 1000 --kills 100     the long form
    python benchmarks/hostile.py --only bundle:17                     one case, with what it said

Needs a system with ``fork``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tools.tiny_bundle import write_tiny_bundle
from twophase.export.verify.cli import main as tp_verify
from twophase.link import manifest as manifests
from twophase.link.errors import LinkError
from twophase.link.receiver import Receiver
from twophase.link.transmitter import Transmitter

ALLOWED = {0, 1, 2, 3, 130, 143}
SECONDS = 90
"""A case that takes longer hangs."""
ROOM = 3 << 30
"""Bytes of address space that a case may take besides what is mapped at its start."""
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3.5, 1e308, -1e308, 10**18, 10**30, float("nan"), float("inf"), "", " ", "x" * 5000,
    "../canary", "/dev/zero", "a\nb", "\x1b[31m", "<script>", "\udcff", [], [[]], {}, {"a": {}}, [1e6], "1e6",
)  # fmt: skip
OPERATORS = (
    "Loop",
    "If",
    "Scan",
    "RandomUniform",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Range",
    "Nothing",
    "Conv",
)
OPTIONS = {
    "tp_sim": ("bundle", "snr", "trials", "seed", "data", "out", "channel", "csi", "pilots", "mode",
               "workers",
               "precision", "tolerance", "baseline", "code", "replay", "compare", "max-trials", "demapper"),
    "tp_verify": ("bundle", "seed", "int8", "json", "quick", "audit", "nonsense"),
    "tp_export": ("run", "out", "precision", "router", "hysteresis-db", "header", "random-inputs", "seed"),
    "tp_train": ("task", "data", "epochs", "samples", "tokens", "codebook-sizes", "qam-orders",
                 "embedding-dim",
                 "alignment-start-epoch", "temp-freeze-floor", "seed", "out", "batch-size", "threads"),
}  # fmt: skip
VALUES = (
    "-5:-", "", "-1", "0", "1", "3.5", "nan", "99999999999999999999", "a", "0:20", "20:0", "0:0:1", "::",

    "/dev/zero", "/dev/null", "/proc/self/mem", ".", "..", "\udcff", "x" * 300, "4 16", "all", "None",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What one case does in a process of its own, and how it is called."""

    name: str
    call: Callable[[], int]
    words: str


# --- altered bundles


def _altered(rng: random.Random, base: Path, folder: Path, canary: Path) -> str:
    """Copy a bundle and alter it; says how.  Most are signed anew, as who alters one would do."""
    shutil.copytree(base, folder)
    if rng.random() < 0.4:
        how = _alter_manifest(rng, folder, canary)
    else:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "link.json")
        path = rng.choice(files)
        kinds = [_alter_bytes, _replace_by_link]
        kinds += [_alter_graph] * 4 if path.suffix == ".onnx" else []
        kinds += [_alter_archive] * 4 if path.suffix == ".npz" else []
        how = rng.choice(kinds)(rng, path, canary) + f" of {path.relative_to(folder)}"
    if rng.random() < 0.8:
        _sign(folder)
        how += ", signed"
    return how


def _sign(folder: Path) -> None:
    """Hashes of the plain files, then the digest, where the manifest still has the form for it."""
    value = json.loads((folder / "link.json").read_text(encoding="utf-8"))
    files = value.get("files") if isinstance(value, dict) else None
    for name, entry in files.items() if isinstance(files, dict) else ():
        with contextlib.suppress(OSError, ValueError, TypeError):
            if isinstance(entry, dict) and stat.S_ISREG((folder / name).lstat().st_mode):
                content = (folder / name).read_bytes()
                entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if isinstance(value, dict):
        value["digest"] = manifests._digest(value)
    (folder / "link.json").write_text(json.dumps(value), encoding="utf-8")


def _alter_manifest(rng: random.Random, folder: Path, canary: Path) -> str:
    path = folder / "link.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    place: Any = value
    steps: list[Any] = []
    while isinstance(place, dict | list) and place and (not steps or rng.random() < 0.8):
        steps.append(rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place)))
        last, place = place, place[steps[-1]]
    new = rng.choice((*NASTY, str(canary), f"../{canary.name}"))
    kind = rng.choice(("set", "set", "set", "delete", "add", "file"))
    if kind == "set":
        last[steps[-1]] = new
    elif kind == "delete":
        del last[steps[-1]]
    elif kind == "add":
        value[str(rng.choice(("modes", "amplitudes", "training", "version")))] = new
    else:
        value["files"][rng.choice((str(canary), f"../{canary.name}", "/dev/zero"))] = {
            "sha256": hashlib.sha256(b"canary").hexdigest(),
            "bytes": 6,
        }
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"{kind} {steps} {str(new)[:30]!r}"


def _alter_bytes(rng: random.Random, path: Path, canary: Path) -> str:
    content = bytearray(path.read_bytes())
    if not content or rng.random() < 0.3:
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
        return "truncation"
    for _ in range(rng.choice((1, 1, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return "flipped bits"


def _replace_by_link(rng: random.Random, path: Path, canary: Path) -> str:
    path.unlink()
    target = rng.choice(("/dev/zero", "/dev/stdin", "/proc/kmsg", str(canary), path.name, "pipe", "folder"))
    if target == "pipe":
        os.mkfifo(path)
    elif target == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
    return f"link to {target}"


def _alter_graph(rng: random.Random, path: Path, canary: Path) -> str:
    model = onnx.load(path)
    graph = model.graph
    kind = rng.choice(("operator", "external", "bomb", "bomb", "dims", "weights", "rename", "drop"))
    tensor = rng.choice(graph.initializer)
    if kind == "operator":
        rng.choice(graph.node).op_type = rng.choice(OPERATORS)
    elif kind == "external":
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(
            key="location", value=rng.choice((str(canary), f"../{canary.name}", "eval.npz"))
        )
    elif kind == "bomb":
        graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "huge"))
        graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "one"))
        inputs = {"ConstantOfShape": ["huge"]}
        bomb = rng.choice(("ConstantOfShape", "Expand", "Tile"))
        nodes = [helper.make_node(bomb, inputs.get(bomb, ["one", "huge"]), ["filled"])]
        nodes += [helper.make_node("ReduceSum", ["filled"], ["summed"], keepdims=0)]
        nodes += list(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)
    elif kind == "dims":
        tensor.dims[:] = [rng.choice((0, 1, 1 << 40, 7))] * rng.randrange(4)
    elif kind == "weights":
        values = numpy_helper.to_array(tensor)
        factor = rng.choice((0, -1, 2, 1e30))
        with np.errstate(all="ignore"):
            scaled = (values * np.asarray(factor, dtype=np.float64)).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    elif kind == "rename":
        rng.choice([*graph.input, *graph.output]).name = "other"
    else:
        del graph.node[rng.randrange(len(graph.node))]
    path.write_bytes(model.SerializeToString())
    return f"graph, {kind}"


def _alter_archive(rng: random.Random, path: Path, canary: Path) -> str:
    kind = rng.choice(("bomb", "header", "no array", "twice", "dtype", "missing", "labels"))
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if kind in ("dtype", "missing", "labels"):
        name = "label" if kind == "labels" else rng.choice(sorted(arrays))
        if kind == "missing":
            del arrays[name]
        else:
            new = (np.array(["x"] * 3), np.zeros((3, 3), complex), np.full(9, np.nan), np.array(-5))
            arrays[name] = rng.choice(new)
        np.savez(path, **arrays)
        return f"archive, {kind}"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 64), }\n"
    shape = 10**30 if kind == "header" else 1 << 22
    head = text % shape
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, values in arrays.items():
            stream = io.BytesIO()
            np.save(stream, values)
            if name != "input" or kind == "twice":
                target.writestr(f"{name}.npy", stream.getvalue())
        if kind == "no array":
            target.writestr("input.npy", b"no array")
        elif kind == "twice":
            target.writestr("input.npy ", b"")
        else:
            with target.open("input.npy", "w", force_zip64=True) as member:
                member.write(array)
                for _ in range(256 if kind == "bomb" else 0):
                    member.write(bytes(1 << 22))
    return f"archive, {kind}"


def _both_ends(bundle: Path) -> int:
    """Open and use a bundle as a device does."""
    try:
        transmitter, receiver = Transmitter(bundle), Receiver(bundle)
        features = np.zeros((2, *transmitter.manifest.input_shape), np.float32)
        frame = transmitter.transmit(features, 5.0)
        receiver.decide(frame.iq, 0.1, 1.0, 5.0)
    except LinkError as error:
        sys.stderr.write(f"both ends: error: {error}\n")
        return error.exit_status
    return 0


def _bundle_case(number: int, seed: int, bases: dict[str, Path], work: Path, canary: Path) -> Case:
    rng = random.Random(f"{seed} bundle {number}")
    what = rng.choice(("verify", "sim", *["ends"] * 12))
    folder = work / f"bundle{number}"
    how = _altered(rng, bases["complete" if what == "verify" else "whole"], folder, canary)

    def call() -> int:
        os.chdir(folder)  # from where weights outside a graph would be loaded
        if what == "ends":
            return _both_ends(folder)
        if what == "verify":
            return tp_verify([str(folder), "--quick"])
        from twophase.sim.cli import main as tp_sim

        return tp_sim(["--bundle", str(folder), "--snr", "5", "--trials", "1", "--out", f"{folder}-sim"])

    return Case(f"bundle:{number}", call, f"{what}: {how}")


# --- command lines


def _line_case(number: int, seed: int, bases: dict[str, Path], work: Path) -> Case:
    rng = random.Random(f"{seed} line {number}")
    command = rng.choice(sorted(OPTIONS))
    words: list[str] = []
    for name in rng.sample(OPTIONS[command], rng.randrange(1, 4)):
        option = f"--{name}" if rng.random() < 0.9 else f"--{name}"[: rng.randrange(3, 9)]
        words += [option, *([rng.choice(VALUES)] if rng.random() < 0.85 else [])]
    if command == "tp_sim" and rng.random() < 0.7:
        words += ["--bundle", str(bases["whole"]), "--snr", "5", "--trials", "1"]
    if command == "tp_train":
        words += ["--task", "nothing"]  # what is refused for another reason is refused first, or for this one
    folder = work / f"line{number}"
    folder.mkdir()

    def call() -> int:
        import importlib

        os.chdir(folder)
        package = {"tp_sim": "sim.cli", "tp_verify": "export.verify.cli", "tp_export": "export.cli"}
        module = importlib.import_module(f"twophase.{package.get(command, 'training.cli')}")
        try:
            return int(module.main(words))
        except SystemExit as stop:
            return int(stop.code or 0)

    return Case(f"line:{number}", call, f"{command} {' '.join(map(ascii, words))[:90]}")


# --- running a case in a process of its own


def _watched(canary: Path) -> None:
    """Say on stderr when the canary, a pipe or an endless device is opened."""
    names = {str(canary), os.path.realpath(canary)}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in names or path in ("/dev/zero", "/proc/kmsg"):
            os.write(2, f"OPENED {path}\n".encode(errors="replace"))

    sys.addaudithook(hook)


def _start(case: Case, said: Path, canary: Path) -> int:
    """Fork; the child's process id."""
    if process := os.fork():
        return process
    status = 99
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, target in ((0, null), (1, null), (2, stream)):
            os.dup2(target, number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, errors="replace")  # noqa: SIM115
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _watched(canary)
        status = case.call()
    except BaseException:  # noqa: BLE001 - whatever it is, it is a fault
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    raise AssertionError


def _faults(status: int, text: str, seconds: float) -> list[str]:
    """What a case must not do, and did."""
    found = []
    if seconds > SECONDS:
        found.append(f"hangs: {seconds:.0f} s")
    elif status not in ALLOWED:
        found.append(f"status {status}")
    if "Traceback" in text:
        found.append("traceback")
    if "OPENED" in text:
        found.append("reads outside: " + text[text.index("OPENED") :].splitlines()[0])
    errors = [line for line in text.splitlines() if ": error:" in line]
    if len(errors) > 1 or (status == 2 and not errors):
        found.append(f"{len(errors)} lines of error")
    return found


def _run_all(
    cases: Iterator[Case], work: Path, canary: Path, at_once: int
) -> Iterator[tuple[Case, int, str, float]]:
    """Each case with its status, what it said on stderr, and its seconds; ``at_once`` of them at a time."""
    running: dict[int, tuple[Case, Path, float]] = {}
    waiting = iter(cases)
    more = True
    while running or more:
        while more and len(running) < at_once:
            case = next(waiting, None)
            if case is None:
                more = False
                break
            said = work / f"{case.name.replace(':', '')}.stderr"
            running[_start(case, said, canary)] = case, said, time.monotonic()
        for process, (case, said, begun) in list(running.items()):
            done, status = os.waitpid(process, os.WNOHANG)
            seconds = time.monotonic() - begun
            if not done and seconds > SECONDS:
                os.killpg(process, signal.SIGKILL)
                done, status = os.waitpid(process, 0)
            if done:
                del running[process]
                text = said.read_text(encoding="utf-8", errors="replace")
                yield case, os.waitstatus_to_exitcode(status), text, seconds
                said.unlink()
        time.sleep(0.005)


# --- kills


def _killed(number: int, seed: int, bundle: Path, out: Path, wanted: str) -> list[str]:
    """Interrupt a sweep again and again; it must end as it should, and the last one with the same counts."""
    rng = random.Random(f"{seed} kill {number}")
    words = [sys.executable, "-m", "twophase.sim", "--bundle", str(bundle), "--snr", "0:2:10"]
    words += ["--trials", "60", "--workers", str(rng.choice((1, 2))), "--out", str(out)]
    how = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, text = process.communicate(timeout=rng.uniform(0.3, 2.5))
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            _, text = process.communicate(timeout=SECONDS)
    status = process.returncode
    found = [] if status in ALLOWED or (how == signal.SIGKILL and status == -how) else [f"status {status}"]
    found += ["traceback"] if "Traceback" in text else []
    report = out / "report.json"
    if report.exists() and _counts_of(report) != wanted:
        found.append("a report with other counts")
    return found


def _counts_of(report: Path) -> str:
    """The points of a report, as text."""
    return json.dumps(json.loads(report.read_text(encoding="utf-8"))["points"], sort_keys=True)


# --- all of it


def main() -> int:
    """Run all cases, or one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("bundles", 300), ("lines", 100), ("kills", 20), ("seed", 0), ("at-once", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", help="one case, as 'bundle:17' or 'line:3'")
    arguments = parser.parse_args()
    begun = time.monotonic()
    bad: list[str] = []
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="twophase-hostile-") as name:
        work = Path(name).resolve()
        canary = work / "canary"
        canary.write_bytes(b"canary")
        bases = {"whole": write_tiny_bundle(work / "whole", samples=24), "complete": work / "complete"}
        # In a process of its own: torch, which makes it, must not be in those that are forked.
        make = "import pathlib, sys, tools.tiny_run as t; t.write_grid_bundle(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-W", "ignore", "-c", make, str(bases["complete"])], check=True)

        def cases() -> Iterator[Case]:
            for number in range(arguments.bundles):
                if arguments.only in (None, f"bundle:{number}"):
                    yield _bundle_case(number, arguments.seed, bases, work, canary)
            for number in range(arguments.lines):
                if arguments.only in (None, f"line:{number}"):
                    yield _line_case(number, arguments.seed, bases, work)

        for case, status, text, seconds in _run_all(cases(), work, canary, arguments.at_once):
            if seconds > 10 or arguments.only is not None:
                print(f"{case.name}: {seconds:.0f} s, {case.words}", flush=True)
            counted[f"{case.name.split(':')[0]} {status}"] += 1
            found = _faults(status, text, seconds)
            bad += [f"{case.name} ({case.words}): {'; '.join(found)}"] if found else []
            if arguments.only is not None:
                print(f"{case.words}\nstatus {status}, {seconds:.1f} s\n{text}")
            for left in work.glob(case.name.replace(":", "") + "*"):
                if left.is_dir():
                    shutil.rmtree(left)
        if arguments.kills and arguments.only is None:
            undisturbed = work / "undisturbed"
            words = [sys.executable, "-m", "twophase.sim", "--bundle", str(bases["whole"])]
            words += ["--snr", "0:2:10", "--trials", "60", "--out", str(undisturbed)]
            subprocess.run(words, check=False, capture_output=True)
            wanted = _counts_of(undisturbed / "report.json")
            for number in range(arguments.kills):
                found = _killed(number, arguments.seed, bases["whole"], work / f"out{number % 4}", wanted)
                counted[f"kill {'as it should' if not found else 'not so'}"] += 1
                bad += [f"kill:{number}: {'; '.join(found)}"] if found else []
    print(*(f"{what}: {count}" for what, count in sorted(counted.items())), sep="\n")
    print(*bad, sep="\n")
    print(f"{len(bad)} faults, {time.monotonic() - begun:.0f} s, seed {arguments.seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
