"""How long one sample takes at each end: torch eager, ONNX Runtime, and the edge runtime around it.

    python benchmarks/latency.py runs/digits [runs/second ...] [--calls 1000] [--seed 0]

Takes runs with their bundles, ``bundle`` and ``bundle-int8``, each with its ``ort/``, where they are.

torch eager     the run's program, ``torch.export.load(...).module()``, in inference mode
raw session     ``InferenceSession.run`` on arrays that lie ready
edge runtime    ``Transmitter.send`` and ``Receiver.receive``, from a sample to a result, checks included

All on one thread at batch 1, in turn and each round in another order, so that the ratios hold within one run.
Before anything is timed, all must give the same codewords for the float graphs.  Prints a table in Markdown:
p50 and p99 in microseconds, mean ± standard deviation over the runs, and how many times faster than torch the
p50 is, in the mean and in the slowest run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from twophase.export.graphs.torch_program import load_program
from twophase.link.errors import LinkError
from twophase.link.graphs import MODE_REQUEST, GraphOptions
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.receiver import Receiver
from twophase.link.transmitter import Transmitter

Values = dict[str, NDArray[Any]]
Call = Callable[[int], Any]
"""Processes the sample of a number."""

OUTPUTS = {
    "tx": ["mode", "indices", "bits", "symbols", "bit_count", "symbol_count"],
    "rx": ["logits", "indices"],
}
WARM_UP = 100
POOL = 256
"""Samples that the calls go through."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, one for each seed")
    parser.add_argument("--calls", type=int, default=1000, help="timed calls of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.calls < 200:
        parser.error("--calls must be at least 200: a 99th percentile of fewer says nothing")
    torch.set_num_threads(1)
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    try:
        for number, run in enumerate(arguments.runs):
            rng = np.random.default_rng([arguments.seed, number])
            for end, calls in ends(run, rng).items():
                times = measure(calls, arguments.calls, rng)
                for name, entry in times.items():
                    middle, late = np.percentile(entry, (50, 99))
                    taken.setdefault((end, name), []).append((float(middle), float(late)))
    except LinkError as error:
        parser.error(str(error))
    print(
        f"{len(arguments.runs)} run(s), {arguments.calls} calls of each, batch 1, one thread; microseconds\n"
    )
    print("| end | what | p50 | p99 | times faster than torch eager | slowest run |")
    print("|---|---|---|---|---|---|")
    for (end, name), entries in taken.items():
        eager = [middle for middle, _ in taken[end, "torch eager"]]
        if len(entries) < len(eager):
            raise SystemExit(f"'{name}' is not in every run: give runs with the same bundles")
        ratios = [base / middle for base, (middle, _) in zip(eager, entries, strict=True)]
        middles, lates = (spread([entry[place] for entry in entries]) for place in (0, 1))
        told = "" if name == "torch eager" else f"{statistics.mean(ratios):.1f} | {min(ratios):.1f}"
        print(f"| {end} | {name} | {middles} | {lates} | {told or ' | '} |")


def ends(run: Path, rng: np.random.Generator) -> dict[str, dict[str, Call]]:
    """What is to be timed at either end of a run's link."""
    link = load_manifest(run, "run")
    features, snr_db = samples(run, rng)
    bundles = {"float32": run / "bundle"}
    if (run / "bundle-int8").is_dir():
        bundles["int8"] = run / "bundle-int8"
    feeds = [transmitter_feed(link, features, snr_db, row) for row in range(POOL)]
    tx: dict[str, Call] = {"torch eager": program(run, "tx", feeds)}
    modes, llr = heard(run / "bundle", features, snr_db, rng)
    rx_feeds = [{"llr": llr[row : row + 1], "mode": modes[row : row + 1]} for row in range(POOL)]
    rx: dict[str, Call] = {"torch eager": program(run, "rx", rx_feeds)}
    for name, bundle in bundles.items():
        manifest = load_manifest(bundle, "bundle")
        formats = [GraphOptions()]
        if "ort/tx.ort" in manifest.files:
            formats.append(GraphOptions(format="ort"))
        tx[f"{name}, raw session"] = raw(bundle / "tx.onnx", OUTPUTS["tx"], feeds)
        rx[f"{name}, raw session"] = raw(bundle / "rx.onnx", OUTPUTS["rx"], rx_feeds)
        for options in formats:
            what = f"{name}, edge runtime" + (" on .ort" if options.format == "ort" else "")
            tx[what] = sender(Transmitter(bundle, manifest=manifest, options=options), features, snr_db)
            rx[what] = listener(Receiver(bundle, manifest=manifest, options=options), llr, modes)
    check(tx, rx)
    return {"tx": tx, "rx": rx}


def samples(run: Path, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``POOL`` samples of the test split, with SNRs of -5 to 20 dB."""
    with np.load(run / "eval.npz") as data:
        features = data["input"].astype(np.float32)
    rows = rng.integers(0, len(features), POOL)
    return features[rows], rng.uniform(-5, 20, POOL).astype(np.float32)


def transmitter_feed(
    link: Manifest, features: NDArray[np.float32], snr_db: NDArray[np.float32], row: int
) -> Values:
    """Inputs of the transmitter, in its order; it is left to the router to choose."""
    feed: Values = {"input": features[row : row + 1], "snr_db": snr_db[row : row + 1]}
    return feed | {MODE_REQUEST: np.array([-1])} if len(link.modes) > 1 else feed


def heard(
    bundle: Path, features: NDArray[np.float32], snr_db: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Modes and LLRs of the samples: Gaussian ones, of the sign of the bits that were sent."""
    sent = Transmitter(bundle).send(features, snr_db)
    used = np.arange(sent.bits.shape[1]) < sent.bit_count[:, np.newaxis]
    llr = 4.0 * (2.0 * sent.bits - 1.0) + rng.normal(0, np.sqrt(8.0), sent.bits.shape)
    return sent.mode, np.where(used, llr, 0).astype(np.float32)


def program(run: Path, name: str, feeds: list[Values]) -> Call:
    """A saved program, run by torch operation by operation."""
    path = run / "programs" / f"{name}.pt2"
    module = load_program(path).module()
    tensors = [[torch.from_numpy(value) for value in feed.values()] for feed in feeds]

    def call(number: int) -> list[NDArray[Any]]:
        with torch.inference_mode():
            return [value.numpy() for value in module(*tensors[number])]

    return call


def raw(path: Path, outputs: list[str], feeds: list[Values]) -> Call:
    """A graph in ONNX Runtime, on arrays that lie ready."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda number: session.run(outputs, feeds[number])


def sender(transmitter: Transmitter, features: NDArray[np.float32], snr_db: NDArray[np.float32]) -> Call:
    """The edge runtime's transmitter."""
    estimates = snr_db.tolist()
    return lambda number: transmitter.send(features[number], estimates[number])


def listener(receiver: Receiver, llr: NDArray[np.float32], modes: NDArray[np.int64]) -> Call:
    """The edge runtime's receiver."""
    numbers = modes.tolist()
    return lambda number: receiver.receive(llr[number], numbers[number])


def check(tx: dict[str, Call], rx: dict[str, Call]) -> None:
    """Stop unless the float systems give the same codewords, but for rare ties of float32."""
    for end, calls, of_torch in (("tx", tx, 1), ("rx", rx, 2)):
        wanted = [calls["torch eager"](row)[of_torch] for row in range(POOL)]
        for name in (name for name in calls if name.startswith("float32")):
            given = [codewords(calls[name](row)) for row in range(POOL)]
            wrong = sum(not np.array_equal(*pair) for pair in zip(given, wanted, strict=True))
            if wrong > POOL // 100:
                raise SystemExit(f"{end}: '{name}' gives other codewords than torch in {wrong} of {POOL}")


def codewords(result: Any) -> NDArray[Any]:
    """Codeword indices of the ``OUTPUTS`` of a graph or of a result of the edge runtime."""
    found: NDArray[Any] = result[1] if isinstance(result, list) else result.indices
    return found


def measure(calls: dict[str, Call], count: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Microseconds of each call."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count + WARM_UP):
        number = int(rng.integers(POOL))
        for name in rng.permutation(list(calls)):
            call = calls[name]
            start = time.perf_counter()
            call(number)
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: np.array(times[WARM_UP:]) for name, times in taken.items()}


def spread(values: list[float]) -> str:
    """Mean, and standard deviation where there are several."""
    mean = f"{statistics.mean(values):.0f}"
    return f"{mean} ± {statistics.stdev(values):.0f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
