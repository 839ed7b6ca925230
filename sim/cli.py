"""``tp-sim``: measure a bundle over a simulated radio channel and say whether it works as trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from twophase.link.command import run_command
from twophase.sim.settings import (
    SENTENCE_BASELINES,
    BaselineName,
    ChannelName,
    CodeName,
    CoherenceName,
    CsiName,
    DemapperName,
    ErrorPlace,
    EstimatorName,
    HeaderName,
    KernelName,
    KnownSnr,
    NoiseEstimateName,
    Settings,
    Workers,
)

__all__ = ["SimArguments", "main"]

_DESCRIPTION = """\
Measure an exported link over a simulated radio channel: accuracy of the deployed ONNX graphs and of the soft
references under the same noise, bit, codeword and header errors, which mode is used when, theory, and a
verdict. Writes report.html, report.json, report.csv and figures. Exit status: 0 PASS, 1 FAIL, 2 bad input.
An interrupted sweep resumes from its finished blocks when the same command is given again.

Examples:
  tp-sim                                      the newest bundle under runs/, 0 to 20 dB
  tp-sim --snr -5:2.5:20 --channel rayleigh   other points, fading
  tp-sim --channel rician --rician-k-db 3 --coherence 12   a gain for each 12 symbols of the air
  tp-sim --channel rayleigh --coherence sample   block fading: one gain for a whole frame, whose SNR is known
  tp-sim --channel tdl-c --delay-spread-ns 300   OFDM over a tapped delay line of TR 38.901
  tp-sim --channel rayleigh --coherence sample --csi pilot --pilots 2   gains estimated from counted pilots
  tp-sim --code conv ldpc --baseline classify-and-send   other designs beside the link, at equal symbols
  tp-sim --bundle runs/reviews/bundle         a text link, with the sentences themselves beside it
  tp-sim --data mine.csv                      its accuracy on sentences of your own (columns text and label)
  tp-sim --precision 0.02 --max-trials 500    as many trials as two points ask for
  tp-sim --trials 100 --workers 2             two processes; the report is the same
  tp-sim --scheduler tcp://host:8786          the workers of a Dask cluster
  tp-sim --semi-analytic                      expected accuracy of hard decisions, no noise drawn
  tp-sim --compare runs/a/bundle runs/b/bundle   bundles side by side
  tp-sim --replay runs/digits/sim/report.json   measure again and compare every count
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
    """AWGN; flat Rayleigh or Rician fading; tdl-a, tdl-c: frequency-selective fading of TR 38.901 under
    OFDM."""
    coherence: CoherenceName | int = "symbol"
    """How long a flat gain holds: a symbol, N symbols of the air, or all of a sample's, header included."""
    rician_k_db: float = 6.0
    """Rician channel: power of the direct path over that of the scattered ones, in dB."""
    delay_spread_ns: float = 300.0
    """tdl channels: root mean square delay spread in ns."""
    csi: CsiName = "perfect"
    """What the receiver takes the gains for: the truth, an estimate from pilots, or 1 (none)."""
    pilots: int = 2
    """--csi pilot: pilot symbols in each block of equal gain (tdl: in 12 subcarriers); they count as
    symbols."""
    estimator: EstimatorName = "mmse"
    """--csi pilot: least squares, or minimum mean square error with the channel's statistics known."""
    noise_estimate: NoiseEstimateName = "known"
    """What the receiver takes the noise variance for: the truth, or the residuals at the pilots."""
    noise_mismatch_db: float = 0.0
    """By how much the receiver takes the noise variance too high, in dB."""
    known_snr: KnownSnr | None = None
    """Which Es/N0 both ends choose the mode by: the mean, or that of the sample's block. Default: block where
    a gain holds for a whole sample and is known (--csi perfect), mean elsewhere and with --semi-analytic."""
    demapper: DemapperName = "exact"
    """LLRs: exact, max-log, hard decisions, or scikit-commpy's own soft demodulator (slow; for
    cross-reading)."""
    kernel: KernelName | Literal["auto"] = "auto"
    """What computes LLRs and decodes: NumPy, or numba where it is installed (auto)."""
    code: tuple[CodeName | Literal["none"], ...] = ("none",)
    """Channel codes around the index bits, each a curve beside the link's, in as many symbols by a larger
    constellation where there is one: conv (K = 7), ldpc (5G NR base graph 2), rate 1/2, decoded softly."""
    baseline: tuple[BaselineName | Literal["auto", "none"], ...] = ("auto",)
    """Other designs as curves: classify-and-send decides at the transmitter and sends the label by the best
    short code for the same number of symbols. On sentences also: no-channel, the backbone's own classifier;
    tfidf, the label that TF-IDF decides for, sent like that; text, the sentence itself, compressed and coded.
    Default (auto): these three where the samples hold the sentences (a text link's eval.npz), else none."""
    header: HeaderName = "coded"
    """How the receiver learns the mode: as the link does it, or told for free ('ideal', for comparison)."""
    mode: str | None = None
    """One mode for every sample, known to both ends, by name (64x16qam) or number. Default: the router's."""
    modes_report: bool = False
    """Sweep every mode by itself, too, and compare: adds modes.png."""
    semi_analytic: bool = False
    """Compute the expected accuracy under hard decisions from exact error laws, without drawing noise:
    semianalytic.json, .csv and .png; no verdict."""
    compare: tuple[Path, ...] = ()
    """Further bundles whose curves are laid over; without --bundle the first of them is the one reported
    on."""
    router_snr_error: tuple[float, ...] = (0.0,)
    """BIAS [JITTER] in dB: how much too high the transmitter takes Es/N0, and the standard deviation of both
    ends' estimates, independent of each other and afresh for every frame."""
    router_snr_error_at: ErrorPlace = "transmitter"
    """Whose estimate is wrong: the transmitter's, or one and the same estimate at both ends."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise; with --precision at first."""
    precision: float | None = None
    """Go on until the half-width of the 95 % interval of the gap or of the accuracy, whichever is narrower,
    is at most this (0.02 is two points), until more trials cannot help, or until --max-trials."""
    max_trials: int = 1000
    """Most trials of a point with --precision."""
    seed: int = 0
    """Seed of gains, noise and estimates; the same seed gives the same report."""
    workers: int = 1
    """Processes that share the work; the report does not depend on it."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers do the work; they must see the bundle under the same path."""
    bundle: Path | None = None
    """Folder of the bundle. Default: the newest bundle/ in runs/; one in INT8 (bundle-int8/) by name."""
    data: Path | None = None
    """An .npz with arrays 'input' and 'label' in place of the bundle's test split; for a text link also a
    .csv in UTF-8 with columns 'text' and 'label' (names of classes or numbers)."""
    out: Path | None = None
    """Folder for the report. Default: 'sim' beside the bundle, 'sim-int8' beside one called bundle-int8."""
    replay: Path | None = None
    """A report.json: measure again what it says, and tell everything that differs. Takes no other option
    but --bundle and --data, for where these lie now, --workers and --scheduler. Exit status: 0 all equal, 1
    not."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one and still pass: 0.02 is two points."""


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tp-sim``; returns the exit status."""
    return run_command("tp-sim", SimArguments, _simulate, _DESCRIPTION, argv)


def _simulate(arguments: SimArguments) -> int:
    # Imported late, cheap ones first: --help must not wait for them, nor a mistyped option for commpy.
    from twophase.link.manifest import newest
    from twophase.link.noise import snr_grid
    from twophase.sim.channel.radio import check_radio
    from twophase.sim.packages import require_scikit_commpy

    if arguments.replay is not None:
        return _replay(arguments)
    settings = _settings(arguments)
    check_radio(settings)
    grid = [float(point) for point in snr_grid(arguments.snr)]
    require_scikit_commpy()
    compare = list(arguments.compare)
    bundle = arguments.bundle or (compare.pop(0) if compare else newest(Path("runs"), "bundle"))
    out = arguments.out or _beside(bundle)

    from twophase.sim.report.write import render, require_writable, write_report
    from twophase.sim.sweep.job import default_baselines, make_job

    if arguments.baseline == ("auto",) and not arguments.semi_analytic:
        settings = replace(settings, baselines=default_baselines(bundle, arguments.data))
    job = make_job(bundle, arguments.data, settings)
    # Of other bundles the accuracy alone is shown.
    labels = tuple(name for name in settings.baselines if name not in SENTENCE_BASELINES)
    others = [make_job(folder, arguments.data, replace(settings, baselines=labels)) for folder in compare]
    system, manifest, samples = job.open()
    opened = [other.open() for other in others]
    require_writable(out)
    if arguments.semi_analytic:
        from twophase.sim.analytic.report import run_semi_analytic
        from twophase.sim.packages import versions
        from twophase.sim.results.report_json import command_of

        origin = {
            "command": command_of(arguments, job, out),
            "versions": versions(),
            "bundle": str(bundle),
            "bundle_sha256": job.bundle_sha256,
            "data": str(job.data),
            "data_sha256": job.data_sha256,
        }
        told = run_semi_analytic(system, manifest.task, samples, grid, settings, out, origin=origin)
        print(told)  # noqa: T201
        return 0

    from twophase.sim.results.report_json import command_of, compared, report_content
    from twophase.sim.sweep.measure import clear_blocks, measure

    workers = Workers(arguments.workers, arguments.scheduler)
    measured = measure(job, (system, manifest, samples), grid, workers, out, arguments.modes_report)
    entries = []
    for name, other, parts in zip(_labels(compare), others, opened, strict=True):
        theirs = measure(other, parts, grid, workers, out)
        entries.append(compared(name, report_content("", other, parts[1], theirs)))
    report = report_content(command_of(arguments, job, out), job, manifest, measured, entries)
    write_report(out, render(report))
    clear_blocks(out, [job, *others])
    _print_report(report, out)
    if settings.demapper == "commpy":
        replaced = sum(tally.llrs_replaced for tally in measured.link)
        total = sum(tally.llrs_total for tally in measured.link)
        print(f"commpy could not give {replaced} of {total} LLRs; the exact kernel's stood in")  # noqa: T201
    return 0 if report["verdict"] == "PASS" else 1


def _replay(arguments: SimArguments) -> int:
    """Measure again what a report says; tell what differs."""
    from twophase.link.errors import InputError
    from twophase.sim.packages import require_scikit_commpy

    allowed = {"replay", "workers", "scheduler", "bundle", "data"}
    for entry in fields(arguments):
        if entry.name not in allowed and getattr(arguments, entry.name) != entry.default:
            rule = "be left out with --replay, which takes it from the report"
            raise InputError(entry.name, rule, getattr(arguments, entry.name))
    require_scikit_commpy()
    assert arguments.replay is not None

    from twophase.sim.results.replay import replay, shown

    workers = Workers(arguments.workers, arguments.scheduler)
    differences, counted = replay(arguments.replay, arguments.bundle, arguments.data, workers)
    for line in shown(differences):
        print(line)  # noqa: T201
    verdict = f"{len(differences)} differ" if differences else "all equal"
    print(f"replay of {arguments.replay}: {counted} values compared, {verdict}")  # noqa: T201
    return 1 if differences else 0


def _labels(bundles: list[Path]) -> list[str]:
    """Names of bundles: their runs' where the folder is called bundle, else its own; paths if two agree."""
    names = [path.resolve().parent.name if path.name == "bundle" else path.name for path in bundles]
    return names if len(set(names)) == len(names) else [str(path) for path in bundles]


def _settings(arguments: SimArguments) -> Settings:
    from twophase.link.errors import InputError

    error = arguments.router_snr_error
    if len(error) not in (1, 2):
        raise InputError("router_snr_error", "be BIAS or BIAS JITTER, in dB", list(error))
    if arguments.mode is not None and any(error):
        raise InputError("router_snr_error", "be left out with --mode, which asks no router", list(error))
    if arguments.modes_report and arguments.mode is not None:
        raise InputError("mode", "be left to the router with --modes-report", arguments.mode)
    if arguments.semi_analytic and (arguments.modes_report or arguments.compare):
        raise InputError("semi_analytic", "stand without --modes-report and --compare", True)
    settings = Settings(
        channel=arguments.channel,
        coherence=arguments.coherence,
        rician_k_db=arguments.rician_k_db,
        delay_spread_ns=arguments.delay_spread_ns,
        csi=arguments.csi,
        pilots=arguments.pilots,
        estimator=arguments.estimator,
        noise_estimate=arguments.noise_estimate,
        noise_mismatch_db=arguments.noise_mismatch_db,
        known_snr=arguments.known_snr or _known_snr(arguments),
        demapper=arguments.demapper,
        codes=tuple(name for name in _listed("code", arguments.code) if name != "none"),
        baselines=tuple(
            name for name in _listed("baseline", arguments.baseline) if name != "none" and name != "auto"
        ),
        header=arguments.header,
        mode=arguments.mode,
        snr_error_bias_db=error[0],
        snr_error_jitter_db=error[1] if len(error) > 1 else 0.0,
        snr_error_at=arguments.router_snr_error_at,
        trials=arguments.trials,
        precision=arguments.precision,
        max_trials=arguments.max_trials,
        seed=arguments.seed,
        tolerance=arguments.tolerance,
    )
    _refuse_idle(arguments)
    from twophase.sim.packages import usable_kernel

    return replace(settings, kernel=usable_kernel(arguments.kernel))


def _refuse_idle(arguments: SimArguments) -> None:
    """Refuse options that would change nothing in this combination: whoever gives them expects otherwise.

    Raises
    ------
    InputError
        If one of them is not at its default.
    """
    from twophase.link.errors import InputError

    drawing = ("code", "baseline", "workers", "scheduler", "demapper", "precision", "trials", "tolerance")
    for names, used, when in (
        (("rician_k_db",), arguments.channel == "rician", "unless --channel rician is given"),
        (("delay_spread_ns",), arguments.channel.startswith("tdl"), "unless --channel is tdl-a or tdl-c"),
        (("pilots", "estimator"), arguments.csi == "pilot", "unless --csi pilot is given"),
        (("max_trials",), arguments.precision is not None, "unless --precision is given"),
        (drawing, not arguments.semi_analytic, "with --semi-analytic"),
    ):
        for entry in fields(arguments):
            value = getattr(arguments, entry.name)
            if not used and entry.name in names and value != entry.default:
                shown = ", ".join(value) if isinstance(value, tuple) else value
                raise InputError(entry.name, f"be left out {when}", shown)


def _known_snr(arguments: SimArguments) -> KnownSnr:
    """The default: a block's own where its gain is known, unless nobody could average over it."""
    known = arguments.coherence == "sample" and arguments.csi == "perfect"
    return "block" if known and not arguments.semi_analytic else "mean"


Name = TypeVar("Name", bound=str)


def _listed(option: str, names: tuple[Name, ...]) -> tuple[Name, ...]:
    from twophase.link.errors import InputError

    for word in ("none", "auto"):
        if word in names and len(names) > 1:
            raise InputError(option, f"be '{word}' or names, not both", ", ".join(names))
    return names


def _beside(bundle: Path) -> Path:
    """Where the report on a bundle goes: one in INT8 does not replace that of the run's other bundle."""
    return bundle.parent / ("sim-int8" if bundle.name == "bundle-int8" else "sim")


def _print_report(report: dict[str, Any], out: Path) -> None:
    from twophase.sim.report.tables import (
        best_fixed_table,
        companions_table,
        result_table,
        samples_word,
        text_lines,
        text_table,
        usage_table,
    )
    from twophase.sim.report.write import REPORT_PAGE
    from twophase.sim.results.verdict import verdict_reason

    tables = [result_table(report)]
    tables += [companions_table(report)] if report["companions"] else []
    tables += [text_table(report)] if "text" in report else []
    tables += [usage_table(report)] if len(report["mode_table"]) > 1 else []
    tables += [best_fixed_table(report)] if "modes" in report else []
    lines = [
        f"bundle: {report['bundle']}; {report['channel_text']}, {report['demapper']} LLRs, "
        f"{report['samples']} {samples_word(report)} x {_span(report)} trials, seed {report['seed']}",
        f"receiver: {report['csi_text']}",
        f"signalling: {report['signalling']}; {report['estimates']}",
        *text_lines(report),
        f"verdict: {report['verdict']} ({verdict_reason(report['points'], report['tolerance'])})",
        *(f"remark: {remark}" for remark in report["remarks"]),
        *(
            f"beside it: {entry['name']}, {entry['verdict']} ({entry['bundle']})"
            for entry in report["compare"]
        ),
        f"report: {out / REPORT_PAGE}",
    ]
    print("\n\n".join(tables))  # noqa: T201
    print("\n".join(lines))  # noqa: T201


def _span(report: dict[str, Any]) -> str:
    """Trials of the points: one number, or the fewest and the most."""
    trials = [point["trials"] for point in report["points"]]
    return f"{trials[0]}" if len(set(trials)) == 1 else f"{min(trials)} to {max(trials)}"


if __name__ == "__main__":
    sys.exit(main())
