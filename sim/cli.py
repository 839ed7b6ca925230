"""``tp-sim``: measure a bundle over a simulated radio channel and say whether it works as trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twophase.link.command import run_command
from twophase.sim.settings import (
    ChannelName,
    CoherenceName,
    DemapperName,
    ErrorPlace,
    HeaderName,
    KnownSnr,
    Settings,
)

if TYPE_CHECKING:
    from twophase.sim.counts import Tally
    from twophase.sim.system import Samples, System

__all__ = ["SimArguments", "main"]

_DESCRIPTION = """\
Measure an exported link over a simulated radio channel: accuracy of the deployed ONNX graphs and of the soft
references under the same noise, bit, codeword and header errors, which mode is used when, theory, and a
verdict. Writes report.html, report.json, report.csv and figures. Exit status: 0 PASS, 1 FAIL, 2 bad input.

Examples:
  tp-sim                                      the newest bundle under runs/, 0 to 20 dB
  tp-sim --snr -5:2.5:20 --channel rayleigh   other points, fading
  tp-sim --channel rayleigh --coherence sample   block fading: one gain for a whole frame, whose SNR is known
  tp-sim --bundle runs/digits/bundle --trials 100 --seed 1
  tp-sim --modes-report                       every mode by itself beside the adaptive link
  tp-sim --mode 64x16qam                      one mode for every sample
  tp-sim --router-snr-error 3                 the transmitter takes Es/N0 for 3 dB more than it is
  tp-sim --router-snr-error 0 2               both ends err, independently, by 2 dB standard deviation
  tp-sim --header ideal                       the receiver is told the mode for free, for comparison
  tp-sim --demapper commpy --snr 10 --trials 1   cross-reading with scikit-commpy's demodulator (slow)
"""


@dataclass(frozen=True)
class SimArguments:
    """Options of tp-sim."""

    snr: str = "0:20"
    """Es/N0 in dB: START:STOP (step 1), START:STEP:STOP, or one number; STOP is included."""
    channel: ChannelName = "awgn"
    """AWGN, or flat Rayleigh fading with gains that the receiver knows."""
    coherence: CoherenceName = "symbol"
    """How long a gain of the Rayleigh channel holds: a symbol, or all of a sample's, header included."""
    known_snr: KnownSnr | None = None
    """Which Es/N0 both ends choose the mode by: the mean, or that of the sample's block. Default: block where
    a gain holds for a whole sample, mean elsewhere."""
    demapper: DemapperName = "exact"
    """LLRs: exact, max-log, or scikit-commpy's own soft demodulator (slow; for cross-reading)."""
    header: HeaderName = "coded"
    """How the receiver learns the mode: as the link does it, or told for free ('ideal', for comparison)."""
    mode: str | None = None
    """One mode for every sample, known to both ends, by name (64x16qam) or number. Default: the router's."""
    modes_report: bool = False
    """Sweep every mode by itself, too, and compare: adds modes.png."""
    router_snr_error: tuple[float, ...] = (0.0,)
    """BIAS [JITTER] in dB: how much too high the transmitter takes Es/N0, and the standard deviation of both
    ends' estimates, independent of each other and afresh for every frame."""
    router_snr_error_at: ErrorPlace = "transmitter"
    """Whose estimate is wrong: the transmitter's, or one and the same estimate at both ends."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise."""
    seed: int = 0
    """Seed of gains, noise and estimates; the same seed gives the same report."""
    bundle: Path | None = None
    """Folder of the bundle. Default: the newest bundle/ in runs/; one in INT8 (bundle-int8/) by name."""
    data: Path | None = None
    """An .npz with arrays 'input' and 'label' in place of the bundle's test split."""
    out: Path | None = None
    """Folder for the report. Default: 'sim' beside the bundle, 'sim-int8' beside one called bundle-int8."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one and still pass: 0.02 is two points."""


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tp-sim``; returns the exit status."""
    return run_command("tp-sim", SimArguments, _simulate, _DESCRIPTION, argv)


def _simulate(arguments: SimArguments) -> int:
    # Imported late, cheap ones first: --help must not wait for them, nor a mistyped option for commpy.
    from twophase.link.noise import snr_grid
    from twophase.sim.packages import require_scikit_commpy

    settings = _settings(arguments)
    grid = [float(point) for point in snr_grid(arguments.snr)]
    require_scikit_commpy()
    bundle = arguments.bundle or _newest_bundle()
    out = arguments.out or _beside(bundle)
    data = arguments.data or bundle / "eval.npz"

    from twophase.link.files import sha256_of
    from twophase.link.manifest import MANIFEST_NAME
    from twophase.sim.system import load_samples, load_system

    system, manifest = load_system(bundle)
    if settings.mode is not None:
        manifest.modes.find(settings.mode)
    # The manifest holds the hash of every other file.
    identity = sha256_of(bundle / MANIFEST_NAME)
    samples = load_samples(data, manifest.input_shape, len(manifest.classes))

    from twophase.sim.report import render, require_writable, write_report

    require_writable(out)
    adaptive, fixed = _sweep(system, samples, grid, settings, arguments.modes_report)

    from twophase.sim.record import report_content

    report = report_content(arguments, settings, (bundle, identity), data, out, manifest, adaptive, fixed)
    write_report(out, render(report))
    _print_report(report, out)
    if settings.demapper == "commpy":
        replaced = sum(tally.llrs_replaced for tally in adaptive)
        total = sum(tally.llrs_total for tally in adaptive)
        print(f"commpy could not give {replaced} of {total} LLRs; the exact kernel's stood in")  # noqa: T201
    return 0 if report["verdict"] == "PASS" else 1


def _settings(arguments: SimArguments) -> Settings:
    from twophase.link.errors import InputError

    error = arguments.router_snr_error
    if len(error) not in (1, 2):
        raise InputError("router_snr_error", "be BIAS or BIAS JITTER, in dB", list(error))
    if arguments.mode is not None and any(error):
        raise InputError("router_snr_error", "be left out with --mode, which asks no router", list(error))
    if arguments.modes_report and arguments.mode is not None:
        raise InputError("mode", "be left to the router with --modes-report", arguments.mode)
    return Settings(
        channel=arguments.channel,
        coherence=arguments.coherence,
        known_snr=arguments.known_snr or ("block" if arguments.coherence == "sample" else "mean"),
        demapper=arguments.demapper,
        header=arguments.header,
        mode=arguments.mode,
        snr_error_bias_db=error[0],
        snr_error_jitter_db=error[1] if len(error) > 1 else 0.0,
        snr_error_at=arguments.router_snr_error_at,
        trials=arguments.trials,
        seed=arguments.seed,
        tolerance=arguments.tolerance,
    )


def _beside(bundle: Path) -> Path:
    """Where the report on a bundle goes: one in INT8 does not replace that of the run's other bundle."""
    return bundle.parent / ("sim-int8" if bundle.name == "bundle-int8" else "sim")


def _newest_bundle() -> Path:
    """The newest that tp-export wrote by default.  An INT8 one stands beside it and is taken by name only."""
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


def _sweep(
    system: System, samples: Samples, grid: list[float], settings: Settings, modes_report: bool
) -> tuple[list[Tally], list[list[Tally]]]:
    """Counts of the link at each point, and with ``modes_report`` of every mode by itself."""
    sweeps = 1 + (len(system.modes) if modes_report else 0)
    with _progress(sweeps * len(grid) * settings.trials) as (say, advance):
        say("loading scikit-commpy")
        from twophase.sim.modes_report import sweep_modes
        from twophase.sim.sweep import simulate_point

        adaptive = []
        for esn0_db in grid:
            say(f"{esn0_db:g} dB")
            adaptive.append(simulate_point(system, samples, esn0_db, settings, advance))
        if not modes_report:
            return adaptive, []
        say("fixed modes")
        return adaptive, sweep_modes(system, samples, grid, settings, advance)


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


def _print_report(report: dict[str, Any], out: Path) -> None:
    from twophase.sim.report import REPORT_PAGE
    from twophase.sim.tables import best_fixed_table, result_table, usage_table
    from twophase.sim.verdict import verdict_reason
    from twophase.sim.words import channel_text

    tables = [result_table(report)]
    tables += [usage_table(report)] if len(report["mode_table"]) > 1 else []
    tables += [best_fixed_table(report)] if "modes" in report else []
    channel = channel_text(report["channel"], report["coherence"])
    lines = [
        f"bundle: {report['bundle']}; {channel}, {report['demapper']} LLRs, {report['samples']} samples x "
        f"{report['trials']} trials, seed {report['seed']}",
        f"signalling: {report['signalling']}; {report['estimates']}",
        f"verdict: {report['verdict']} ({verdict_reason(report['points'], report['tolerance'])})",
        *(f"remark: {remark}" for remark in report["remarks"]),
        f"report: {out / REPORT_PAGE}",
    ]
    print("\n\n".join(tables))  # noqa: T201
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
