"""Measure the adaptive link: does it pay, who should route, what happens when the SNR is wrong.

    python benchmarks/adaptive.py --seeds 5 --jobs 2                    trains, exports, simulates
    python benchmarks/adaptive.py --part ablation --seeds 2 --jobs 2    one term off at a time
    python benchmarks/adaptive.py --search float --out runs/float       the transmitter in float32
    python benchmarks/adaptive.py --part bound                          what 14 symbols can do in block fading

The main part trains the digits link once with a router over the SNR and once with one over the content, for
each seed, deploys the first also by its measured table, and sends each bundle over AWGN and block Rayleigh
fading (one gain per sample, of which both ends know the SNR), -5 to 20 dB, every fixed mode beside it.
Seed 0 of the default router is left in ``runs/digits-adaptive``.  It prints, mean ± standard deviation over
seeds:

1. The deployed link against its targets at each SNR: accuracy, symbols, the best fixed mode of the same or
   larger number of symbols, the gap to the soft references, the send-the-label bound.
2. Routers against one another: accuracy and symbols, header errors.
3. Links whose ends are told a wrong SNR: 3 dB too high or low at the transmitter or at both ends, and
   independent errors of 0.5 and 2 dB at each end; with and without the hysteresis of the table, with a header
   whose length follows from the SNR and with one of fixed length.

The ablation, with other codebooks beside it, trains 100 epochs and is read on the validation split.  The test
split is read by tp-sim alone; nothing is chosen by it.  Finished runs are kept and not repeated, so that an
interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from runs import call, spread, train_once
from twophase.link.manifest import load_manifest
from twophase.link.routing import SnrTable
from twophase.sim.theory.label_bound import label_accuracy, simplex_success

CHANNELS: dict[str, tuple[str, ...]] = {
    "AWGN": ("--channel", "awgn"),
    "block Rayleigh": ("--channel", "rayleigh", "--coherence", "sample"),
}
LINKS = ("table", "snr", "content", "content, ideal header")
ROUTER_SEEDS = 3
"""The comparison of routers and the wrong SNRs take no more seeds than this."""
SHOWN_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
WRONG: dict[str, tuple[object, ...]] = {
    "right SNR": (),
    "transmitter +3 dB": ("--router-snr-error", 3),
    "transmitter -3 dB": ("--router-snr-error", -3),
    "both ends +3 dB": ("--router-snr-error", 3, "--router-snr-error-at", "both"),
    "both ends -3 dB": ("--router-snr-error", -3, "--router-snr-error-at", "both"),
    "jitter 0.5 dB at each end": ("--router-snr-error", 0, 0.5),
    "jitter 2 dB at each end": ("--router-snr-error", 0, 2),
}
DEPLOYED: dict[str, tuple[str, tuple[str, ...]]] = {
    "table": ("table", ()),
    "table without hysteresis": ("table", ("--router", "table", "--hysteresis-db", "0")),
    "content": ("content", ()),
    "content with rm14": ("content", ("--header", "rm14")),
}
"""Links that are told a wrong SNR: the run's router, and options of tp-export."""
ABLATED: dict[str, tuple[str, ...]] = {
    "all terms": (),
    "no rate cost": ("--lambda-rate", "0"),
    "no load balance": ("--lambda-balance", "0"),
    "no gate noise": ("--router-noise", "0"),
    "no consistency": ("--lambda-consistency", "0"),
    "no entropy bonus": ("--lambda-entropy", "0"),
    "no commitment": ("--lambda-commitment", "0"),
    "no bridge": ("--no-bridge",),
    "router focus 0.7": ("--router-focus", "0.7"),
    "codebooks of 4, 16, 64": ("--codebook-sizes", "4", "16", "64", "--tokens", "24", "7", "2"),
    "codebooks of 16, 64, 256": ("--codebook-sizes", "16", "64", "256", "--tokens", "12", "5", "2"),
}
SHORT = ("--epochs", "100", "--alignment-start-epoch", "35")
"""The ablation trains less than the preset."""
Report = dict[str, Any]


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("main", "ablation", "bound"), default="main")
    parser.add_argument("--search", choices=("grid", "float"), default="grid")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/adaptive"))
    arguments = parser.parse_args()
    if arguments.part == "bound":
        _print_bound(esn0_db=0.0, clean=0.987, symbols=14.0)
        return
    seeds = range(arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.part == "ablation":
            cells = [(name, seed) for name in ABLATED for seed in seeds]
            made = list(pool.map(lambda cell: _ablate(*cell, arguments.search, arguments.out), cells))
            _print_ablation(dict(zip(cells, made, strict=True)))
            return
        search = ("--search", arguments.search)
        found = list(pool.map(lambda seed: _measure(seed, search, arguments.out, arguments.trials), seeds))
    for channel in CHANNELS:
        _print_targets(channel, [reports[channel, "targets"] for reports in found])
    for channel in CHANNELS:
        _print_routers(channel, found[:ROUTER_SEEDS])
    _print_wrong(found[:ROUTER_SEEDS])


def _measure(seed: int, search: tuple[str, str], out: Path, trials: int) -> dict[tuple[str, str], Report]:
    """All reports of a seed by channel and link; wrong SNRs under their names over AWGN."""
    shown = seed == 0 and "grid" in search
    runs = {"table": Path("runs/digits-adaptive") if shown else out / f"table-{seed}"}
    if seed < ROUTER_SEEDS:
        runs |= {"snr": out / f"snr-{seed}", "content": out / f"content-{seed}"}
    for router, run in runs.items():
        if not (run / "link.json").is_file():
            if router == "snr":
                # The same weights: only what is made of them at the end differs.
                shutil.copytree(
                    runs["table"], run, ignore=shutil.ignore_patterns("bundle", "sim*"), dirs_exist_ok=True
                )
                call("training", "--out", run, "--resume", "--router", "snr", *search)
            else:
                call("training", "--seed", seed, "--out", run, "--router", router, *search)
        if not (run / "bundle" / "link.json").is_file():
            call("export", "--run", run, "--random-inputs", 100_000 if seed == 0 else 20_000)
    reports = {}
    for channel, over in CHANNELS.items():
        reports[channel, "targets"] = _simulate(runs["table"], "-5:20", trials, *over, "--modes-report")
        for link in LINKS if seed < ROUTER_SEEDS else ():
            run, ideal = runs[link.split(",")[0]], ("--header", "ideal") if "ideal" in link else ()
            reports[channel, link] = _simulate(run, "-5:5:20", trials, *over, *ideal)
    if seed >= ROUTER_SEEDS:
        return reports
    reports["block Rayleigh", "table, mean SNR known"] = _simulate(
        runs["table"], "-5:5:20", trials, *CHANNELS["block Rayleigh"], "--known-snr", "mean"
    )
    for name, (router, options) in DEPLOYED.items():
        bundle = runs[router] / f"bundle-{name.replace(' ', '-')}" if options else runs[router] / "bundle"
        if not (bundle / "link.json").is_file():
            call("export", "--run", runs[router], "--random-inputs", 2000, *options, "--out", bundle)
        for error, words in _errors(name).items():
            reports[name, error] = _simulate(runs[router], "-5:5:20", trials, *words, bundle=bundle.name)
    return reports


def _simulate(run: Path, snr: str, trials: int, *options: object, bundle: str = "bundle") -> Report:
    words = "".join(letter if letter.isalnum() else "_" for letter in "".join(map(str, (snr, *options))))
    folder = run / f"sim-{bundle}-{words}"
    if not (folder / "report.json").is_file():
        call(
            "sim", "--bundle", run / bundle, f"--snr={snr}", "--trials", trials, *options, "--out", folder,
            failures=(1,),
        )  # fmt: skip
    report: Report = json.loads((folder / "report.json").read_text())
    return report


def _print_targets(channel: str, reports: Sequence[Report]) -> None:
    print(f"\n### {channel}\n")
    print(
        "| Es/N0 (dB) | deployed | min | symbols | best fixed mode of as many symbols or more | "
        "difference (points), worst seed | lowest gap to soft (points), worst seed | label bound |"
    )
    print("|---" * 8 + "|")
    worst = worst_mean = worst_gap = 100.0
    for number, first in enumerate(reports[0]["points"]):
        points = [report["points"][number] for report in reports]
        hard = [point["accuracy_hard"] for point in points]
        best = [point["best_fixed"] for point in points]
        difference = [100 * entry["difference"] for entry in best]
        gaps = [100 * point["gap"] for point in points]
        worst, worst_gap = min(worst, *difference), min(worst_gap, *gaps)
        worst_mean = min(worst_mean, statistics.mean(difference))
        if first["esn0_db"] % 5 and first["esn0_db"] not in (-2.0, 2.0, 8.0):
            continue
        print(
            f"| {first['esn0_db']:g} | {spread(hard)} | {min(hard):.4f} | "
            f"{spread([point['symbols_per_sample'] for point in points])} | "
            f"{spread([entry['accuracy'] for entry in best])} | "
            f"{statistics.mean(difference):+.2f}, {min(difference):+.2f} | "
            f"{statistics.mean(gaps):+.2f}, {min(gaps):+.2f} | "
            f"{statistics.mean(point['label_bound'] for point in points):.4f} |"
        )
    fewer = [
        1 - _at(report, 20)["symbols_per_sample"] / _at(report, 0)["symbols_per_sample"] for report in reports
    ]
    verdicts = [point["verdict"] for report in reports for point in report["points"]]
    total = len(reports[0]["points"])
    print(
        f"\n{total} SNRs, {len(reports)} seeds: difference to the best fixed mode, mean over seeds, at worst"
    )
    print(f"{worst_mean:+.2f} points, in the worst seed {worst:+.2f}")
    print(
        f"worst gap to a soft reference {worst_gap:+.2f}, PASS at {verdicts.count('PASS')} of {len(verdicts)}"
    )
    print(f"symbols at 20 dB against 0 dB: {100 * min(fewer):.0f} % fewer in the worst seed")


def _print_routers(channel: str, found: Sequence[dict[tuple[str, str], Report]]) -> None:
    print(f"\n### Routers, {channel}: accuracy / symbols per sample, header included\n")
    print(
        "| link | " + " | ".join(f"{snr:g} dB" for snr in SHOWN_DB) + " | mode error rate, worst SNR | PASS |"
    )
    print("|---" * (len(SHOWN_DB) + 3) + "|")
    for link in (*LINKS, "table, mean SNR known"):
        if (channel, link) in found[0]:
            _print_row(link, [reports[channel, link] for reports in found])


def _print_wrong(found: Sequence[dict[tuple[str, str], Report]]) -> None:
    print("\n### Wrong SNR, AWGN: accuracy / symbols per sample, header included\n")
    print(
        "| link: error | "
        + " | ".join(f"{snr:g} dB" for snr in SHOWN_DB)
        + " | mode error rate, worst SNR | PASS |"
    )
    print("|---" * (len(SHOWN_DB) + 3) + "|")
    for link in DEPLOYED:
        for error in _errors(link):
            _print_row(f"{link}: {error}", [reports[link, error] for reports in found])


def _errors(link: str) -> dict[str, tuple[object, ...]]:
    """The wrong SNRs that a link is tried with; an estimate that stays the same needs no hysteresis."""
    return {name: words for name, words in WRONG.items() if "without" not in link or "jitter" in name}


def _print_row(name: str, reports: Sequence[Report]) -> None:
    cells = []
    for snr in SHOWN_DB:
        points = [_at(report, snr) for report in reports]
        symbols = statistics.mean(point["symbols_per_sample"] for point in points)
        cells.append(f"{spread([point['accuracy_hard'] for point in points])} / {symbols:.1f}")
    errors = max(point["mode_error_rate"] for report in reports for point in report["points"])
    verdicts = [point["verdict"] for report in reports for point in report["points"]]
    print(
        f"| {name} | " + " | ".join(cells) + f" | {errors:.4f} | {verdicts.count('PASS')}/{len(verdicts)} |"
    )


def _at(report: Report, snr: float) -> Report:
    found: Report = next(point for point in report["points"] if point["esn0_db"] == snr)
    return found


def _print_bound(esn0_db: float, clean: float, symbols: float) -> None:
    """Who knows each block's gain and sends the label in the best length for it, at a mean length.

    The best lengths maximise P(delivered) minus a price for each symbol; the price is found by bisection.
    """
    gain = np.geomspace(1e-4, 30.0, 1500)
    share = np.exp(-gain) * np.gradient(gain)
    share /= share.sum()
    lengths = np.arange(200)
    sent = [simplex_success(10, int(length), esn0_db + 10 * np.log10(gain)) for length in lengths[1:]]
    delivered = np.vstack([np.full(gain.size, 0.1), *sent])
    low, high = 1e-6, 1.0
    for _ in range(60):
        price = float(np.sqrt(low * high))
        best = (delivered - price * lengths[:, np.newaxis]).argmax(axis=0)
        mean = float(lengths[best] @ share)
        low, high = (price, high) if mean > symbols else (low, price)
    reached = float(delivered[best, np.arange(gain.size)] @ share)
    print(f"block Rayleigh, {esn0_db:g} dB, {mean:.2f} symbols on average: label delivered {reached:.4f},")
    print(f"accuracy {label_accuracy(clean, reached, 10):.4f} for a classifier of {clean:g}")


def _ablate(name: str, seed: int, search: str, out: Path) -> Path:
    return train_once(out / "ablation", name, seed, [*SHORT, "--search", search, *ABLATED[name]])


def _print_ablation(runs: dict[tuple[str, int], Path]) -> None:
    """Validation accuracy and payload symbols of the table and of the router itself."""
    print("| | router of | " + " | ".join(f"{snr:g} dB" for snr in SHOWN_DB) + " | all modes, mean | H_vq |")
    print("|---" * (len(SHOWN_DB) + 4) + "|")
    for name in dict.fromkeys(name for name, _ in runs):
        folders = [folder for (entry, _), folder in runs.items() if entry == name]
        manifests = [load_manifest(folder, "run") for folder in folders]
        for kind in ("table", "snr"):
            cells: list[list[tuple[float, int]]] = []
            for manifest in manifests:
                training = manifest.training
                table = manifest.routing.table if kind == "table" else SnrTable(
                    tuple(training["router_table"]["thresholds_db"]), tuple(training["router_table"]["modes"])
                )  # fmt: skip
                points, accuracies = training["validation_esn0_db"], training["validation_accuracy_of_modes"]
                cells.append(
                    [
                        (accuracies[mode][points.index(snr)], manifest.modes[mode].symbols)
                        for snr, mode in zip(SHOWN_DB, table.choose(SHOWN_DB).tolist(), strict=True)
                    ]
                )
            shown = [
                f"{spread([cell[0] for cell in column])} / {statistics.mean(cell[1] for cell in column):.1f}"
                for column in zip(*cells, strict=True)
            ]
            every = [float(np.mean(entry.training["validation_accuracy_of_modes"])) for entry in manifests]
            entropy = [entry.training["deployed"]["vq_entropy"] for entry in manifests]
            used = "/".join(f"{statistics.mean(column):.2f}" for column in zip(*entropy, strict=True))
            print(f"| {name} | {kind} | " + " | ".join(shown) + f" | {spread(every)} | {used} |")


if __name__ == "__main__":
    main()
