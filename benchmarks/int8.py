"""What INT8 costs and saves: size, equal indices and decisions, accuracy, latency; float16 beside it.

    python benchmarks/int8.py runs/seed-0 runs/seed-1 [--trials 10] [--calls 2000]

For each run, tp-export makes ``bundle`` and ``bundle-int8`` in its folder if they are not there.  From the
float32 bundle two more systems are made, in memory, to tell whether float16 would earn a place:

float16 weights   the same weights of encoder and classifier stored in float16, cast to float32 where they are
                  used; biases stay, which float16 cannot hold on an integer grid
float16           both graphs in float16 throughout, by the converter that comes with ONNX Runtime

All systems are tried on the same inputs and through the same noise.  Accuracy is that of the package's
simulator on the test split; latency is measured one thread, one sample, the systems in turn, so that the
ratios hold within one run.  Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from runs import call
from twophase.export.compare.inputs import feature_batches
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.view import GraphView, serialize
from twophase.export.int8.calibrate import receptions
from twophase.export.int8.nodes import classifier_products, encoder_products
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.receiver import Receiver
from twophase.link.samples import Samples, load_samples
from twophase.link.transmitter import Transmitter
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings
from twophase.sim.system import System

SYSTEMS = ("float32", "int8", "float16 weights", "float16")
ESN0_DB = tuple(map(float, range(21)))


@dataclass(frozen=True)
class Pair:
    """A transmitter and a receiver."""

    tx: bytes
    rx: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.tx) + len(self.rx)


def bundles(run: Path) -> tuple[Path, Path]:
    """The float32 and the INT8 bundle of a run, made if they are not there."""
    folders = run / "bundle", run / "bundle-int8"
    for folder, precision in zip(folders, ("float32", "int8"), strict=True):
        if not (folder / "link.json").is_file():
            call("export", "--run", run, "--precision", precision)
    return folders


def half_weights(model: ModelProto, names: set[str]) -> ModelProto:
    """A copy with some weights in float16 behind a Cast."""
    result = ModelProto()
    result.CopyFrom(model)
    casts = []
    for tensor in result.graph.initializer:
        if tensor.name in names:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            wide = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values, f"{wide}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [wide], to=TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in result.graph.node]
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(result, full_check=True)
    return result


def pairs_of(run: Path) -> tuple[dict[str, Pair], Manifest]:
    """The systems of a run and the manifest of its float32 bundle."""
    plain, small = bundles(run)
    manifest = load_manifest(plain, "bundle")
    load_manifest(small, "bundle")
    tx, rx = onnx.load(plain / "tx.onnx"), onnx.load(plain / "rx.onnx")
    encoder = {product.node.input[1] for product in encoder_products(GraphView(tx))}
    classifier = {product.node.input[1] for product in classifier_products(GraphView(rx))}
    halves = [convert_float_to_float16(model, keep_io_types=True) for model in (tx, rx)]
    return {
        "float32": Pair(serialize(tx), serialize(rx)),
        "int8": Pair((small / "tx.onnx").read_bytes(), (small / "rx.onnx").read_bytes()),
        "float16 weights": Pair(
            serialize(half_weights(tx, encoder)), serialize(half_weights(rx, classifier))
        ),
        "float16": Pair(*map(serialize, halves)),
    }, manifest


def different_indices(
    pairs: dict[str, Pair], manifest: Manifest, features: NDArray[np.float32], inputs: int, seed: int
) -> tuple[dict[str, int], int]:
    """Indices other than those of float32, on the test split and random inputs, and indices compared."""
    sessions = {name: OnnxRuntime(pair.tx) for name, pair in pairs.items()}
    differ, compared = dict.fromkeys(pairs, 0), 0
    for batch in feature_batches(features, manifest, inputs, seed):
        (wanted,) = sessions["float32"].run(["indices"], batch.feed)
        compared += int((wanted >= 0).sum())
        for name, session in sessions.items():
            (got,) = session.run(["indices"], batch.feed)
            differ[name] += int((got != wanted).sum())
    return differ, compared


def different_decisions(
    pairs: dict[str, Pair], manifest: Manifest, features: NDArray[np.float32], seed: int
) -> tuple[dict[str, int], int]:
    """Classes other than those of float32 for the same LLRs: the test split in every mode, -5 to 20 dB."""
    snr_db = np.resize(np.arange(-5.0, 21.0, 5.0, dtype=np.float32), len(features))
    feed = receptions(
        onnx.load_model_from_string(pairs["float32"].tx),
        manifest,
        {"input": features, "snr_db": snr_db},
        seed,
    )
    classes = {name: OnnxRuntime(pair.rx).run(["logits"], feed)[0].argmax(1) for name, pair in pairs.items()}
    return {name: int((got != classes["float32"]).sum()) for name, got in classes.items()}, len(feed["mode"])


def accuracies(
    pair: Pair, manifest: Manifest, samples: Samples, trials: int, seed: int
) -> NDArray[np.float64]:
    """Accuracy at each of ``ESN0_DB``; all pairs meet the same noise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tx.onnx").write_bytes(pair.tx)
        (folder / "rx.onnx").write_bytes(pair.rx)
        system = System(
            modes=manifest.modes,
            routing=manifest.routing,
            classes=len(manifest.classes),
            llr_clip=manifest.llr_clip,
            transmitter=Transmitter(folder, manifest=manifest),
            receiver=Receiver(folder, manifest=manifest),
            references=(),
        )
        settings = Settings(trials=trials, seed=seed)
        tallies = [simulate_point(system, samples, esn0_db, settings) for esn0_db in ESN0_DB]
    right = [int(tally.deployed.correct.sum()) for tally in tallies]
    return np.array(right) / (trials * len(samples.labels))


def latencies(
    graphs: dict[str, bytes], outputs: list[str], feeds: list[Values], calls: int
) -> dict[str, float]:
    """Median microseconds of one call with one sample, the graphs in turn."""
    sessions = {name: OnnxRuntime(graph) for name, graph in graphs.items()}
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    warm_up = 50
    rng = np.random.default_rng(0)
    for number in range(calls + warm_up):
        feed = feeds[number % len(feeds)]
        for name in rng.permutation(list(graphs)):
            start = time.perf_counter()
            sessions[name].run(outputs, feed)
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: float(np.median(times[warm_up:])) for name, times in taken.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs of tp-train")
    parser.add_argument("--trials", type=int, default=10, help="times that each sample is sent at each SNR")
    parser.add_argument("--inputs", type=int, default=100_000, help="random inputs of the transmitter")
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each graph")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    losses: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SYSTEMS}
    plain: list[NDArray[np.float64]] = []
    print("| run | system | bytes | of float32 | other indices | other decisions | tx us | rx us | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for run in arguments.runs:
        pairs, manifest = pairs_of(run)
        samples = load_samples(run / "eval.npz", manifest.input_shape, len(manifest.classes))
        indices, sent = different_indices(pairs, manifest, samples.features, arguments.inputs, arguments.seed)
        decisions, decided = different_decisions(pairs, manifest, samples.features, arguments.seed)
        singles = [
            {"input": samples.features[place : place + 1], "snr_db": np.full(1, level, dtype=np.float32)}
            for place, level in enumerate(ESN0_DB)
        ]
        tx = latencies(
            {name: pair.tx for name, pair in pairs.items()}, ["mode", "symbols"], singles, arguments.calls
        )
        heard = receptions(
            onnx.load_model_from_string(pairs["float32"].tx),
            manifest,
            {name: np.concatenate([feed[name] for feed in singles]) for name in ("input", "snr_db")},
            arguments.seed,
        )
        rx = latencies(
            {name: pair.rx for name, pair in pairs.items()},
            ["logits", "indices"],
            [{name: value[[row]] for name, value in heard.items()} for row in range(len(heard["mode"]))],
            arguments.calls,
        )
        found = {
            name: accuracies(pair, manifest, samples, arguments.trials, arguments.seed)
            for name, pair in pairs.items()
        }
        plain.append(found["float32"])
        for name, pair in pairs.items():
            losses[name].append(100 * (found["float32"] - found[name]))
            ratio = (tx[name] + rx[name]) / (tx["float32"] + rx["float32"])
            print(
                f"| {run.name} | {name} | {pair.size} | {pair.size / pairs['float32'].size:.1%} "
                f"| {indices[name]} of {sent} | {decisions[name]} of {decided} "
                f"| {tx[name]:.0f} | {rx[name]:.0f} | {ratio:.2f} |",
                flush=True,
            )
    print(
        "\nAccuracy of float32 over the runs; points that the others lose (in brackets: in the worst run)\n"
    )
    others = SYSTEMS[1:]
    print(f"| Es/N0 in dB | float32 | {' | '.join(others)} |")
    print(f"|---|---|{'---|' * len(others)}")
    for point, esn0_db in enumerate(ESN0_DB):
        told = [
            f"{np.mean(column):+.3f} ({np.max(column):+.3f})"
            for column in ([loss[point] for loss in losses[name]] for name in others)
        ]
        mean = np.mean([values[point] for values in plain])
        print(f"| {esn0_db:g} | {mean:.4f} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
