"""``tp-sim``: measure a bundle over a simulated radio channel and say whether it works as trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.command import run_command
from twophase.sim.settings import ChannelName, DemapperName, Settings

if TYPE_CHECKING:
    from twophase.link.manifest import Manifest
    from twophase.sim.sweep import Tally
    from twophase.sim.system import Samples, System

__all__ = ["SimArguments", "main"]

_DESCRIPTION = """\
Measure an exported link over a simulated radio channel: accuracy of the deployed ONNX graphs and of the soft
references under the same noise, bit and codeword errors, theory, and a verdict. Writes report.html,
report.json, report.csv and accuracy.png. Exit status: 0 PASS, 1 FAIL, 2 bad input.

Examples:
  tp-sim                                      the newest bundle under runs/, 0 to 20 dB
  tp-sim --snr -5:2.5:20 --channel rayleigh   other points, fading
  tp-sim --bundle runs/digits/bundle --trials 100 --seed 1
  tp-sim --demapper commpy --snr 10 --trials 1   cross-reading with scikit-commpy's demodulator (slow)
"""


@dataclass(frozen=True)
class SimArguments:
    """Options of tp-sim."""

    snr: str = "0:20"
    """Es/N0 in dB: START:STOP (step 1), START:STEP:STOP, or one number; STOP is included."""
    channel: ChannelName = "awgn"
    """AWGN, or flat Rayleigh fading with an independent gain per symbol that the receiver knows."""
    demapper: DemapperName = "exact"
    """LLRs: exact, max-log, or scikit-commpy's own soft demodulator (slow; for cross-reading)."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise."""
    seed: int = 0
    """Seed of gains and noise; the same seed gives the same report."""
    bundle: Path | None = None
    """Folder of the bundle. Default: the newest under runs/."""
    data: Path | None = None
    """An .npz with arrays 'input' and 'label' in place of the bundle's test split."""
    out: Path | None = None
    """Folder for the report. Default: 'sim' beside the bundle."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one and still pass: 0.02 is two points."""


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tp-sim``; returns the exit status."""
    return run_command("tp-sim", SimArguments, _simulate, _DESCRIPTION, argv)


def _simulate(arguments: SimArguments) -> int:
    # Imported late, cheap ones first: --help must not wait for them, nor a mistyped option for commpy.
    from twophase.link.noise import snr_grid
    from twophase.sim.packages import require_scikit_commpy

    settings = Settings(
        channel=arguments.channel,
        demapper=arguments.demapper,
        trials=arguments.trials,
        seed=arguments.seed,
        tolerance=arguments.tolerance,
    )
    grid = [float(point) for point in snr_grid(arguments.snr)]
    require_scikit_commpy()
    bundle = arguments.bundle or _newest_bundle()
    out = arguments.out or bundle.parent / "sim"
    data = arguments.data or bundle / "eval.npz"

    from twophase.link.files import sha256_of
    from twophase.link.manifest import MANIFEST_NAME
    from twophase.sim.system import load_samples, load_system

    system, manifest = load_system(bundle)
    # The manifest holds the hash of every other file.
    identity = sha256_of(bundle / MANIFEST_NAME)
    samples = load_samples(data, manifest.input_shape, len(manifest.classes))

    from twophase.sim.report import REPORT_PAGE, render, require_writable, write_report
    from twophase.sim.results import verdict_reason
    from twophase.sim.tables import result_table

    require_writable(out)
    tallies = _sweep(system, samples, grid, settings)
    report = _report(arguments, settings, (bundle, identity), data, out, manifest, tallies)
    write_report(out, render(report))

    print(result_table(report))  # noqa: T201
    print(  # noqa: T201
        f"bundle: {bundle}; {settings.channel}, {settings.demapper} LLRs, {report['samples']} samples x "
        f"{settings.trials} trials, seed {settings.seed}"
    )
    if settings.demapper == "commpy":
        replaced = sum(tally.llrs_replaced for tally in tallies)
        total = sum(tally.llrs_total for tally in tallies)
        print(f"commpy could not give {replaced} of {total} LLRs; the exact kernel's stood in")  # noqa: T201
    print(f"verdict: {report['verdict']} ({verdict_reason(report['points'], settings.tolerance)})")  # noqa: T201
    for remark in report["remarks"]:
        print(f"remark: {remark}")  # noqa: T201
    print(f"report: {out / REPORT_PAGE}")  # noqa: T201
    return 0 if report["verdict"] == "PASS" else 1


def _newest_bundle() -> Path:
    from twophase.link.errors import ArtifactError
    from twophase.link.manifest import MANIFEST_NAME

    pattern = f"runs/*/bundle/{MANIFEST_NAME}"
    # A name with a dot in front is a run set aside or being written; glob matches it all the same.
    paths = [path for path in Path().glob(pattern) if not path.parts[1].startswith(".")]
    try:
        found = sorted(paths, key=lambda path: (path.stat().st_mtime, str(path)))
    except OSError as error:
        raise ArtifactError(f"'{error.filename}' cannot be read: {error.strerror}") from error
    if not found:
        raise ArtifactError(
            f"no bundle here: '{pattern}' must match a file; tp-train, then tp-export, make one"
        )
    return found[-1].parent


def _sweep(system: System, samples: Samples, grid: list[float], settings: Settings) -> list[Tally]:
    with _progress(len(grid) * settings.trials) as (say, advance):
        say("loading scikit-commpy")
        from twophase.sim.sweep import simulate_point

        tallies = []
        for esn0_db in grid:
            say(f"{esn0_db:g} dB")
            tallies.append(simulate_point(system, samples, esn0_db, settings, advance))
    return tallies


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Progress bar on stderr if that is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield (lambda _: None), (lambda: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>21}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield (lambda text: bar.update(task, description=text)), (lambda: bar.advance(task))


def _report(
    arguments: SimArguments,
    settings: Settings,
    identified: tuple[Path, str],
    data: Path,
    out: Path,
    manifest: Manifest,
    tallies: list[Tally],
) -> dict[str, Any]:
    """Content of ``report.json``."""
    from dataclasses import asdict

    from twophase.sim.packages import versions
    from twophase.sim.results import point_results, remarks_on, verdict_of

    bundle, identity = identified
    points = point_results(tallies, manifest.modes, len(manifest.classes), settings)
    return {
        "verdict": verdict_of(points),
        "remarks": remarks_on(points, settings.tolerance),
        "task": manifest.task,
        "command": _command(arguments, bundle, out),
        "versions": versions(),
        "seed": settings.seed,
        "bundle": str(bundle),
        "bundle_sha256": identity,
        "data": str(data),
        "channel": settings.channel,
        "demapper": settings.demapper,
        "trials": settings.trials,
        "samples": len(tallies[0].correct),
        "tolerance": settings.tolerance,
        "classes": list(manifest.classes),
        "references": [asdict(reference) for reference in manifest.references],
        "training": manifest.training,
        "points": points,
    }


def _command(arguments: SimArguments, bundle: Path, out: Path) -> str:
    """The command that repeats this report, every option spelled out."""
    import shlex

    words = ["tp-sim", "--bundle", str(bundle), "--snr", arguments.snr, "--channel", arguments.channel]
    words += [
        "--demapper",
        arguments.demapper,
        "--trials",
        str(arguments.trials),
        "--seed",
        str(arguments.seed),
    ]
    words += ["--tolerance", str(arguments.tolerance)]
    words += ["--data", str(arguments.data)] if arguments.data else []
    return shlex.join([*words, "--out", str(out)])


if __name__ == "__main__":
    sys.exit(main())
