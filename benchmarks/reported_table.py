"""The reported Before/After table, measured: single-phase annealing against two phases, on movie reviews.

    python benchmarks/reported_table.py --seeds 3 --jobs 2 --out runs/reported

The reported system: 9 latent tokens of 256 components, codebooks of 256, 1024 and 4096 words over 4, 16, 64
and 256-QAM, 30 epochs, alignment from epoch 20, 0..20 dB, softmax over squared bit distance, labels and no
distillation.  Its backbone was RoBERTa-base on SST-2; here MiniLM with its top two layers tuned stands in,
one tuning for each seed, and all systems of a seed learn from the features of the same tuned backbone.

Variants (``--variants``): ``one`` has the middle of the reported link alone, 256 words over 16-QAM, whose
entropies the reported thresholds speak of; ``rate`` is that at a constant learning rate of 1e-2; ``all`` has
all twelve modes.  Each is trained single-phase (1.0 -> 0.1) and in two phases (1.0 -> 0.7).

Prints a markdown table, mean ± standard deviation over seeds: best and last soft accuracy on the validation
split over the training SNRs; test accuracy of the digital system at 0, 5, 10, 20 dB, of the best and of the
last checkpoint; worst gap to its soft references in the same noise; entropies and mean |LLR| of the last
epoch.  Then the mean |LLR| by epoch, and a picture of each variant, of which the tables are a summary.  The
test split is read once by each deployed checkpoint.  Finished runs are kept, so that an interrupted benchmark
goes on.

The digital system is run as training leaves it for the exporter: the programs of transmitter and receiver,
and between them AWGN and the exact demapper of ``twophase.link``.  ``tp-export`` makes no bundle of most of
these runs, because their soft references, at 256 components and low temperature, are not the same to 1e-4 in
torch and in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from runs import call, spread
from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.files import atomic_path, write_json
from twophase.link.manifest import load_manifest

ONE_AT_A_TIME = Lock()
"""torch loads no two programs at once in one process."""
METHODS = {"single-phase": "single-phase 1.0 -> 0.1", "two-phase": "two-phase 1.0 -> 0.7"}
SHOWN_DB = (0.0, 5.0, 10.0, 20.0)
SHOWN_EPOCHS = (1, 5, 10, 15, 19, 20, 25, 30)
REPORTED = (
    *("--surrogate", "reported", "--search", "float", "--embedding-dim", "256", "--router", "snr"),
    *("--epochs", "30", "--alignment-start-epoch", "20", "--temp-freeze-floor", "0.7"),
    *("--train-snr-low-db", "0", "--train-snr-high-db", "20"),
    *("--lambda-entropy", "0.01", "--lambda-consistency", "0.5", "--no-bridge"),
)
ONE = ("--codebook-sizes", "256", "--tokens", "9", "--qam-orders", "16")
ALL = (
    "--codebook-sizes",
    "256",
    "1024",
    "4096",
    "--tokens",
    "9",
    "9",
    "9",
    "--qam-orders",
    "4",
    "16",
    "64",
    "256",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "one": ONE,
    "rate": (*ONE, "--learning-rate-schedule", "constant", "--learning-rate", "1e-2"),
    "all": ALL,
}


@dataclass(frozen=True)
class Cell:
    """One system to measure."""

    variant: str
    method: str
    seed: int
    deploy: str = "best"

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{self.variant}-{self.method}-{self.deploy}-{self.seed}"


def main() -> None:
    """Tune, train, export, simulate, then print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--variants", nargs="*", default=["one", "rate"], choices=VARIANTS)
    parser.add_argument("--tuned", type=Path, help="runs of the task reviews named SEED, if there are any")
    parser.add_argument("--out", type=Path, default=Path("runs/reported"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        _features(seed, arguments)
    chains = [
        Cell(variant, method, seed)
        for variant in arguments.variants
        for seed in range(arguments.seeds)
        for method in METHODS
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda cell: _measure(cell, arguments), chains))
    results = {cell: result for group in done for cell, result in group.items()}
    for variant in arguments.variants:
        _print_table(variant, results)
        _print_llr(variant, results)
        _draw(variant, results, arguments.out / f"{variant}.png")


def _features(seed: int, arguments: argparse.Namespace) -> Path:
    """The features of a tuned backbone as a file for the task ``npz``."""
    path: Path = arguments.out / f"features-{seed}.npz"
    if path.is_file():
        return path
    run = (arguments.tuned or arguments.out / "tuned") / str(seed)
    if not (run / "link.json").is_file():
        call("training", "--task", "reviews", "--seed", seed, "--out", run)
    parts = _splits(run)
    names = ("train", "validation", "test")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            input=np.concatenate([parts[name][0] for name in names]),
            label=np.concatenate([parts[name][1] for name in names]),
            split=np.repeat(names, [len(parts[name][1]) for name in names]),
            classes=np.array(["negative", "positive"]),
        )
    return path


def _splits(run: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and labels of each split of a run."""
    from safetensors.numpy import load_file

    from twophase.training.tasks import load_task

    state = json.loads((run / "checkpoints" / "features.json").read_text())
    features = load_file(run / "checkpoints" / state["weights"])["features"]
    task: Any = load_task("reviews")
    parts, start = {}, 0
    for name in ("train", "validation", "test"):
        labels = getattr(task, name).labels
        parts[name] = features[start : start + len(labels)], labels
        start += len(labels)
    return parts


def _measure(cell: Cell, arguments: argparse.Namespace) -> dict[Cell, dict[str, Any]]:
    """Train once, run the best and the last checkpoint."""
    found = {}
    for one in (cell, Cell(cell.variant, cell.method, cell.seed, "last")):
        run: Path = arguments.out / one.folder
        if not (run / "link.json").is_file():
            _train(one, cell, run, arguments)
        report = run / "accuracy.json"
        if not report.is_file():
            with ONE_AT_A_TIME:
                write_json(report, _accuracies(run, arguments.trials, one.seed))
        found[one] = {
            "points": json.loads(report.read_text()),
            "records": [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()],
        }
    return found


def _accuracies(run: Path, trials: int, seed: int) -> list[dict[str, Any]]:
    """Digital and soft systems of a run on its test split, at each SNR under the same noise."""
    import torch

    manifest = load_manifest(run, "run")

    def load(name: str) -> Any:
        return torch.export.load(run / "programs" / f"{name}.pt2").module()

    with np.load(run / "eval.npz") as arrays:
        features, labels = torch.from_numpy(arrays["input"]), arrays["label"]
    systems = {"hard": ("tx", "rx"), "aligned": ("soft", "rx"), "learning": ("soft_learning", "rx_learning")}
    several = len(manifest.modes) > 1
    points = []
    for esn0_db in SHOWN_DB:
        told = (features, torch.full((len(features),), esn0_db), *([torch.tensor([-1])] if several else []))
        right = dict.fromkeys(systems, 0)
        for name, (sender, listener) in systems.items():
            sent = load(sender)(*told)
            number = int(sent[0][0])  # these routers see the SNR alone
            mode, receive = manifest.modes[number], load(listener)
            if name == "hard":
                signal = qam(mode.order).modulate(sent[3][:, : mode.symbols].numpy())
            else:
                pairs = sent[1][:, : mode.symbols].detach().double().numpy()
                signal = pairs[..., 0] + 1j * pairs[..., 1]
            amplitude = float(np.sqrt(np.mean(np.abs(signal) ** 2)))
            noise_var = 10 ** (-esn0_db / 10)
            rng = np.random.default_rng([seed, int(esn0_db)])
            for _ in range(trials):
                noise = rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)
                received = signal / amplitude + np.sqrt(noise_var / 2) * noise
                llr = np.zeros((len(signal), manifest.modes.max_bits), dtype=np.float32)
                heard = llr_exact(received, qam(mode.order), noise_var, 1 / amplitude)
                llr[:, : mode.channel_bits] = heard
                logits = receive(torch.from_numpy(llr), torch.full((len(llr),), number))[0]
                right[name] += int((logits.argmax(1).numpy() == labels).sum())
        points.append({"esn0_db": esn0_db} | {n: count / trials / len(labels) for n, count in right.items()})
    return points


def _train(one: Cell, trained: Cell, run: Path, arguments: argparse.Namespace) -> None:
    if one != trained:
        source = arguments.out / trained.folder
        shutil.copytree(source, run, ignore=shutil.ignore_patterns("accuracy.json"))
        call("training", "--out", run, "--resume", "--deploy", one.deploy)
        return
    data = arguments.out / f"features-{one.seed}.npz"
    words = ("--task", "npz", "--data", data, "--seed", one.seed, "--method", one.method, "--out", run)
    call("training", *words, *REPORTED, *VARIANTS[one.variant])


def _print_table(variant: str, results: dict[Cell, dict[str, Any]]) -> None:
    columns = [f"hard {snr:g} dB" for snr in SHOWN_DB]
    print(f"\n### {variant}\n")
    print(
        "| method | deployed | best soft (val.) | last soft (val.) | "
        + " | ".join(columns)
        + " | worst gap (points) | H_vq | H_sym | mean LLR magnitude |"
    )
    print("|---" * (len(columns) + 8) + "|")
    for method, told in METHODS.items():
        for deploy in ("best", "last"):
            group = [
                result
                for cell, result in results.items()
                if (cell.variant, cell.method, cell.deploy) == (variant, method, deploy)
            ]
            soft = [[record["validation_accuracy_soft"] for record in entry["records"]] for entry in group]
            hard = [
                spread([entry["points"][place]["hard"] for entry in group]) for place in range(len(SHOWN_DB))
            ]
            gaps = [100 * min(map(_gap, entry["points"])) for entry in group]
            last = [entry["records"][-1] for entry in group]
            cells = [
                told, deploy,
                spread([max(values) for values in soft]), spread([values[-1] for values in soft]),
                *hard, f"{statistics.mean(gaps):.2f} (min {min(gaps):.2f})",
                *(_entries(last, name) for name in ("vq_entropy", "symbol_entropy", "mean_abs_llr")),
            ]  # fmt: skip
            print("| " + " | ".join(cells) + " |")


def _entries(records: list[dict[str, Any]], name: str) -> str:
    """Mean over seeds of each entry of a list: one for each codebook or mode."""
    columns = zip(*(record[name] for record in records), strict=True)
    return " / ".join(f"{statistics.mean(values):.2f}" for values in columns)


def _print_llr(variant: str, results: dict[Cell, dict[str, Any]]) -> None:
    """Mean |LLR| of the training passes by epoch, over all modes and seeds."""
    print("\nMean |LLR| after epoch " + ", ".join(map(str, SHOWN_EPOCHS)) + ":\n")
    for method, told in METHODS.items():
        group = [
            entry["records"]
            for cell, entry in results.items()
            if (cell.variant, cell.method, cell.deploy) == (variant, method, "best")
        ]
        shown = [_over(group, epoch, "mean_abs_llr") for epoch in SHOWN_EPOCHS if epoch <= len(group[0])]
        print(f"- {told}: " + ", ".join(f"{value:.1f}" for value in shown))


def _over(group: list[list[dict[str, Any]]], epoch: int, name: str) -> float:
    return statistics.mean(
        statistics.mean(np.atleast_1d(records[epoch - 1][name]).tolist()) for records in group
    )


def _draw(variant: str, results: dict[Cell, dict[str, Any]], path: Path) -> None:
    """Soft and hard accuracy, entropies and |LLR| of both methods over the epochs, one line for each seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), layout="constrained")
    FigureCanvasAgg(figure)
    rows = (
        ("accuracy (validation)", ("validation_accuracy_soft", "validation_accuracy_hard")),
        ("entropy of use (nats)", ("vq_entropy", "symbol_entropy")),
        ("mean |LLR|", ("mean_abs_llr",)),
    )
    panels = figure.subplots(len(rows), 2, sharex=True, sharey="row")
    for column, (method, told) in enumerate(METHODS.items()):
        groups = [
            entry["records"]
            for cell, entry in results.items()
            if (cell.variant, cell.method, cell.deploy) == (variant, method, "best")
        ]
        for row, (label, names) in enumerate(rows):
            axes = panels[row][column]
            for name, colour in zip(names, ("tab:orange", "tab:blue"), strict=False):
                for number, records in enumerate(groups):
                    values = [float(np.mean(record[name])) for record in records]
                    legend = name.removeprefix("validation_").replace("_", " ") if number == 0 else None
                    axes.plot([record["epoch"] for record in records], values, color=colour, label=legend)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
            axes.legend()
        panels[0][column].set_title(f"{told}, variant '{variant}'")
        panels[-1][column].set_xlabel("epoch")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _gap(point: dict[str, Any]) -> float:
    """Hard less the better of the soft references."""
    return float(point["hard"] - max(point["aligned"], point["learning"]))


if __name__ == "__main__":
    main()
