"""Count where two runtimes send something different: torch, ONNX Runtime, onnx.reference, Node, WebAssembly.

    python benchmarks/exactness.py runs/digits                       one run, a million of everything
    python benchmarks/exactness.py runs/a runs/b --inputs 200000     several runs
    python benchmarks/exactness.py runs/digits --bundle bundle-int8  its bundle in 8 bits

For each run with a bundle it compares, against ONNX Runtime with its optimisations on:

inputs    random inputs through the whole transmitter, in random and in requested modes: torch (the run's
          saved program), ONNX Runtime without optimisations, each sample alone (a part of them), and
          onnx.reference (a part);
latents   random latents through the codebook search alone, cut out of the graph, on the grid of a grid
          link: torch, NumPy's definition of the search, ONNX Runtime without optimisations, onnx.reference;
borders   inputs found by halving the way between two test samples until two neighbours in float32 are left,
          of which one gets another codeword than the other: the hardest inputs that there are;
ties      latents that lie exactly between two codewords, and one unit beside that;
vectors   the bundle's conformance vectors, near ties among them, in each of these runtimes;
scripts   with --javascript: onnxruntime-node and onnxruntime-web (WebAssembly) through export/web/node, on
          the vectors and on that many inputs of the transmitter and LLRs of the receiver.

It prints a table for each run and ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.artefacts.conformance import replay
from twophase.export.compare.inputs import feature_batches, llr_batches
from twophase.export.graphs.run import OnnxReference, OnnxRuntime, Runner, Values
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import TorchProgram, load_program
from twophase.export.graphs.view import GraphView
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.link.graphs import MODE_REQUEST
from twophase.link.grid import grid_search
from twophase.link.manifest import EVAL_FILE, Manifest, load_manifest, program_file
from twophase.link.samples import load_split

INTEGERS = ["mode", "indices", "bits", "symbols", "bit_count", "symbol_count"]
ALONE = 2000
BORDERS = 2000
"""Pairs of test samples, in random modes, between which a border is looked for."""
HALVINGS = 70
"""Samples that are also sent by themselves."""
JAVASCRIPT = Path("export/web/node")


class Table:
    """Differences by what was compared, printed as one table."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.samples: Counter[str] = Counter()
        self.different: Counter[str] = Counter()

    def add(self, what: str, theirs: Values, ours: Values) -> None:
        """Compare arrays of the same names."""
        self.samples[what] += len(next(iter(ours.values())))
        for name, value in ours.items():
            self.compared[what] += value.size
            self.different[what] += int((theirs[name] != value).sum())

    def show(self) -> None:
        """Print it."""
        print("| compared with ONNX Runtime | samples | integers | different |")
        print("|---" * 4 + "|")
        for what, count in self.compared.items():
            print(f"| {what} | {self.samples[what]:,} | {count:,} | {self.different[what]:,} |")


def main() -> None:
    """Compare every run that was named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--bundle", default="bundle", help="folder of the bundle in each run")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--latents", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=100_000, help="how many of them in onnx.reference")
    parser.add_argument("--javascript", type=int, default=0, metavar="INPUTS")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    for run in arguments.runs:
        failed |= _compare(run, arguments)
    raise SystemExit(int(failed))


def _compare(run: Path, arguments: argparse.Namespace) -> bool:
    folder = run / arguments.bundle
    manifest = load_manifest(folder, "bundle")
    model = onnx.load(folder / "tx.onnx")
    searched = "integer grid" if manifest.grid is not None else "float32"
    print(f"\n### {run.name}/{arguments.bundle}: {manifest.precision}, search on {searched}\n", flush=True)
    table = Table()
    program = _program(run, manifest)
    _compare_inputs(run, manifest, program, model, table, arguments)
    _compare_borders(run, manifest, program, model, table, arguments.seed)
    proof, problems = prove_hard(model, manifest)
    if proof is None:
        raise SystemExit(f"'{folder}' is not proved hard: {problems[0]}")
    for index, search in _searches(manifest, proof.searches).items():
        _compare_latents(manifest, model, index, search, table, arguments)
    table.show()
    wrong = sum(table.different.values())
    print()
    for name, make in _runtimes().items():
        found = replay(_player(folder, make), folder, manifest)
        print(f"conformance vectors in {name}: {'; '.join(found) or 'all reproduced'}")
        wrong += len(found)
    if arguments.javascript:
        wrong += _run_scripts(folder, manifest, model, arguments)
    print(f"\n{'nothing differs' if not wrong else f'{wrong} DIFFERENCES'}", flush=True)
    return bool(wrong)


def _runtimes() -> dict[str, Callable[[ModelProto], Runner]]:
    return {
        "ONNX Runtime": OnnxRuntime,
        "ONNX Runtime without optimisations": partial(OnnxRuntime, optimised=False),
        "onnx.reference": OnnxReference,
    }


def _player(
    folder: Path, make: Callable[[ModelProto], Runner]
) -> Callable[[str, list[str], Values], list[NDArray[Any]]]:
    graphs: dict[str, Runner] = {}

    def run(graph: str, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        if graph not in graphs:
            graphs[graph] = make(onnx.load(folder / graph))
        return graphs[graph].run(outputs, feed)

    return run


def _program(run: Path, manifest: Manifest) -> TorchProgram:
    """The run's transmitter under torch."""
    trained = load_manifest(run, "run").routing.router
    return TorchProgram(
        load_program(run / program_file("tx.onnx")),
        signature_of("tx.onnx", manifest),
        None if manifest.routing.router == trained else manifest.routing.table,
    )


def _compare_inputs(
    run: Path,
    manifest: Manifest,
    program: TorchProgram,
    model: ModelProto,
    table: Table,
    arguments: argparse.Namespace,
) -> None:
    """Random inputs through the whole transmitter."""
    features = load_split(run / EVAL_FILE, manifest).features
    shipped, plain, reference = (make(model) for make in _runtimes().values())
    done = 0
    for batch in feature_batches(features, manifest, arguments.inputs, arguments.seed):
        if batch.source != "random":
            continue
        feed = batch.feed
        ours = _named(shipped, feed)
        table.add("inputs: torch", program.read(INTEGERS, feed), ours)
        table.add("inputs: ONNX Runtime without optimisations", _named(plain, feed), ours)
        if done < arguments.reference:
            table.add("inputs: onnx.reference", _named(reference, feed), ours)
        if done < ALONE:
            rows = [_named(shipped, _row(feed, row)) for row in range(len(batch.features))]
            joined = {name: np.concatenate([row[name] for row in rows]) for name in INTEGERS}
            table.add("inputs: each sample alone", joined, ours)
        done += len(batch.features)


def _compare_borders(
    run: Path, manifest: Manifest, program: TorchProgram, model: ModelProto, table: Table, seed: int
) -> None:
    """Neighbouring inputs on either side of a border between codewords."""
    features = load_split(run / EVAL_FILE, manifest).features
    shipped, plain, reference = (make(model) for make in _runtimes().values())
    rng = np.random.default_rng(seed)
    requests = rng.integers(0, len(manifest.modes), BORDERS)
    low, high = features[rng.integers(0, len(features), (2, BORDERS))]

    def feed_of(inputs: NDArray[np.float32], rows: NDArray[np.int64]) -> Values:
        feed: Values = {"input": inputs, "snr_db": np.zeros(len(inputs), dtype=np.float32)}
        return feed | ({MODE_REQUEST: requests[rows]} if len(manifest.modes) > 1 else {})

    every = np.arange(BORDERS)
    first = _named(shipped, feed_of(low, every))["indices"]
    crossed = (first != _named(shipped, feed_of(high, every))["indices"]).any(axis=1)
    rows = np.flatnonzero(crossed)
    low, high, first = low[rows], high[rows], first[rows]
    for _ in range(HALVINGS):
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        same = (_named(shipped, feed_of(middle, rows))["indices"] == first).all(axis=1)[:, np.newaxis]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    both = np.concatenate([rows, rows])
    ends = np.concatenate([low, high])
    feed = feed_of(ends, both)
    ours = _named(shipped, feed)
    alone = [_named(shipped, feed_of(ends[row : row + 1], both[row : row + 1])) for row in range(len(ends))]
    joined = {name: np.concatenate([part[name] for part in alone]) for name in INTEGERS}
    by_torch = [_torch_in_mode(program, feed, ours, mode) for mode in range(len(manifest.modes))]
    for what, theirs in (
        ("ONNX Runtime without optimisations", _named(plain, feed)),
        ("onnx.reference", _named(reference, feed)),
        ("each sample alone", joined),
    ):
        table.add(f"borders: {what}", theirs, ours)
    for theirs, mine in by_torch:
        if len(mine["mode"]):
            table.add("borders: torch", theirs, mine)


def _torch_in_mode(program: TorchProgram, feed: Values, ours: Values, mode: int) -> tuple[Values, Values]:
    """The samples of one mode under torch, whose program takes one request for all; and ours."""
    rows = np.flatnonzero(ours["mode"] == mode)
    mine = {name: ours[name][rows] for name in INTEGERS}
    if not len(rows):
        return mine, mine
    part = {name: value[rows] for name, value in feed.items()}
    if MODE_REQUEST in part:
        part[MODE_REQUEST] = part[MODE_REQUEST][:1]
    theirs = program.outputs(part)
    return {name: theirs[name] for name in INTEGERS}, mine


def _searches(manifest: Manifest, searches: tuple[ModeSearch, ...]) -> dict[int, ModeSearch]:
    """The search of each codebook."""
    found: dict[int, ModeSearch] = {}
    for mode, search in zip(manifest.modes, searches, strict=True):
        found.setdefault(mode.codebook, search)
    return found


def _compare_latents(
    manifest: Manifest,
    model: ModelProto,
    index: int,
    search: ModeSearch,
    table: Table,
    arguments: argparse.Namespace,
) -> None:
    """Random latents and ties through the search of one codebook."""
    view = GraphView(model)
    chosen = next(
        node.output[0]
        for node in view.model.graph.node
        if node.op_type == "ArgMax" and _reads(view, node.input[0], search.latents)
    )
    part = view.cut([search.latents], [chosen])
    shipped, plain, reference = (make(part) for make in _runtimes().values())
    weights = torch.from_numpy(search.weights.astype(np.float32).T.copy())
    offsets = torch.from_numpy(search.offsets.astype(np.float32))
    dim, count = manifest.link.embedding_dim, arguments.latents // len(manifest.codebooks)
    done = 0
    for kind, latents in _latents(manifest, index, search.tokens, dim, count, arguments.seed):
        ours = {"indices": shipped.run([chosen], {search.latents: latents})[0]}

        def compare(what: str, theirs: NDArray[Any], ours: Values = ours, kind: str = kind) -> None:
            table.add(f"{kind}: {what}", {"indices": theirs}, ours)

        scores = torch.nn.functional.linear(torch.from_numpy(latents), weights, offsets)
        compare("torch", scores.argmax(-1).numpy())
        compare("ONNX Runtime without optimisations", plain.run([chosen], {search.latents: latents})[0])
        if manifest.grid is not None:
            units = manifest.grid_codebook(index)
            compare("NumPy's whole numbers", grid_search(latents.astype(np.int64), units))
        if done < arguments.reference // len(manifest.codebooks) or kind == "ties":
            compare("onnx.reference", reference.run([chosen], {search.latents: latents})[0])
        done += len(latents) * search.tokens


def _latents(
    manifest: Manifest, index: int, tokens: int, dim: int, count: int, seed: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Latents in the unit of the graph, shape (batch, tokens, C): around codewords, anywhere, and ties."""
    rng = np.random.default_rng([seed, index])
    codebook = manifest.codebook(index)
    if manifest.grid is not None:
        codebook, limit = manifest.grid_codebook(index).astype(np.float64), manifest.grid.latent_limit
    for start in range(0, count, 2048 * tokens):
        batch = -(-min(2048 * tokens, count - start) // tokens)
        words = codebook[rng.integers(0, len(codebook), (batch, tokens))]
        spread = np.abs(codebook).max() * np.exp(rng.uniform(-3.0, 1.5, (batch, tokens, 1)))
        values = words * rng.integers(0, 2, (batch, tokens, 1)) + spread * rng.standard_normal(words.shape)
        if manifest.grid is not None:
            values = np.clip(np.rint(values), -limit, limit)
        yield "latents", values.astype(np.float32)
    if manifest.grid is not None:
        yield "ties", _ties(codebook.astype(np.int64), tokens, dim, limit)


def _ties(codebook: NDArray[np.int64], tokens: int, dim: int, limit: int) -> NDArray[np.float32]:
    """Around every midpoint of two codewords: the whole numbers beside it, ties wherever parity allows."""
    first, second = np.triu_indices(len(codebook), 1)
    middle = (codebook[first] + codebook[second]) / 2
    steps = np.concatenate([np.zeros((1, dim)), np.eye(dim), -np.eye(dim)])
    around = np.concatenate([np.floor(middle) + step for step in steps] + [np.ceil(middle)])
    missing = -len(around) % tokens
    padded = np.concatenate([around, np.zeros((missing, dim))])
    return np.clip(padded, -limit, limit).reshape(-1, tokens, dim).astype(np.float32)


def _reads(view: GraphView, scores: str, latents: str) -> bool:
    """Whether scores depend on a tensor."""
    stack, seen = [scores], set()
    while stack:
        name = stack.pop()
        if name == latents:
            return True
        node = view.producer(name)
        if node is not None and name not in seen:
            seen.add(name)
            stack.extend(node.input)
    return False


def _named(runner: Runner, feed: Values) -> Values:
    return dict(zip(INTEGERS, runner.run(INTEGERS, feed), strict=True))


def _row(feed: Values, row: int) -> Values:
    """One sample; a request for all samples stays."""
    return {
        name: value if name == MODE_REQUEST and len(value) == 1 else value[row : row + 1]
        for name, value in feed.items()
    }


def _run_scripts(folder: Path, manifest: Manifest, model: ModelProto, arguments: argparse.Namespace) -> int:
    """The vectors, and inputs with what ONNX Runtime makes of them, in both JavaScript runtimes."""
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        files = {"tx": Path(scratch) / "tx.npz", "rx": Path(scratch) / "rx.npz"}
        np.savez(files["tx"], **_sent(folder, manifest, model, arguments))
        np.savez(files["rx"], **_received(folder, manifest, arguments))
        for runtime in ("node", "wasm"):
            done = _node("conformance.mjs", folder, "--runtime", runtime)
            told = "all reproduced" if done.returncode == 0 else done.stdout + done.stderr
            print(f"conformance vectors in {runtime}: {told}")
            wrong += done.returncode != 0
            for side, file in files.items():
                done = _node("compare.mjs", folder, file, "--runtime", runtime, "--json")
                if done.returncode not in (0, 1):
                    raise SystemExit(done.stderr)
                result = json.loads(done.stdout)
                print(f"{runtime}, {side}.onnx, {result['samples']:,} samples: {result['differing']}", end="")
                print(f", largest error of a real output {result['error']:.1e}" if side == "rx" else "")
                wrong += sum(result["differing"].values())
    return wrong


def _node(*words: object) -> subprocess.CompletedProcess[str]:
    script, *rest = map(str, words)
    return subprocess.run(
        ["node", str(JAVASCRIPT / script), *rest], capture_output=True, text=True, check=False
    )


def _sent(
    folder: Path, manifest: Manifest, model: ModelProto, arguments: argparse.Namespace
) -> dict[str, NDArray[Any]]:
    """Inputs of the transmitter with a request each, and what ONNX Runtime sends."""
    features = load_split(folder / EVAL_FILE, manifest).features
    shipped = OnnxRuntime(model)
    parts: list[Values] = []
    modes = len(manifest.modes)
    for batch in feature_batches(features, manifest, arguments.javascript, arguments.seed + 1):
        if batch.source == "random":
            feed = {"input": batch.features, "snr_db": batch.snr_db}
            if modes > 1:
                request = -1 if batch.request is None else batch.request
                feed[MODE_REQUEST] = np.full(len(batch.features), request)
            parts.append(feed | _named(shipped, feed))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _received(folder: Path, manifest: Manifest, arguments: argparse.Namespace) -> dict[str, NDArray[Any]]:
    """LLRs and modes, and what ONNX Runtime makes of them."""
    shipped, outputs = OnnxRuntime(onnx.load(folder / "rx.onnx")), ["logits", "indices"]
    parts: list[Values] = []
    for llr, mode in llr_batches(manifest, arguments.javascript, arguments.seed + 1):
        feed = {"llr": llr, "mode": mode}
        parts.append(feed | dict(zip(outputs, shipped.run(outputs, feed), strict=True)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    main()
