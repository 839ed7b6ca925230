"""``tp-sim``: measure a bundle over a simulated radio channel and say whether it works as trained."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twophase.link.command import Terminal, require, run_command
from twophase.link.errors import InputError
from twophase.link.escape import visible
from twophase.link.options import option_of
from twophase.link.typed import Threads
from twophase.sim.settings import (
    SENTENCE_BASELINES,
    BaselineName,
    CodeName,
    ErrorPlace,
    KernelName,
    KnownSnr,
    Options,
    Settings,
    Workers,
)

if TYPE_CHECKING:
    from twophase.sim.sweep.job import Job

__all__ = ["SimArguments", "main"]

_DESCRIPTION = """\
Measure an exported link over a simulated radio channel: accuracy of the deployed ONNX graphs and of
the soft references under the same noise, bit, codeword and header errors, which mode is used when,
theory, how good the link is, and a verdict. Writes report.html, report.json, report.csv and figures.
Exit status: 0 PASS, 1 FAIL, 2 bad input, 3 UNDECIDED (too few samples to show either). An interrupted
sweep resumes from its finished blocks when the same command is given again.

Examples:
  tp-sim                                      the newest bundle under runs/, 0 to 20 dB
  tp-sim --snr -5:2.5:20 --channel rayleigh   other points, fading
  tp-sim --channel rician --rician-k-db 3 --coherence 12   a gain for each 12 symbols of the air
  tp-sim --channel rayleigh --coherence sample   block fading: one gain for a whole frame
  tp-sim --channel tdl-c --delay-spread-ns 300   OFDM over a tapped delay line of TR 38.901
  tp-sim --channel rayleigh --coherence sample --csi pilot --pilots 2   gains estimated from pilots
  tp-sim --code conv ldpc --baseline classify-and-send   other designs, at equal symbols
  tp-sim --bundle runs/reviews/bundle         a text link, the sentences themselves as a baseline
  tp-sim --data mine.csv                      its accuracy on sentences of your own (text, label)
  tp-sim --precision 0.02 --max-trials 500    as many trials as two points ask for
  tp-sim --trials 100 --workers 2             two processes; the report is the same
  tp-sim --scheduler tcp://host:8786          the workers of a Dask cluster
  tp-sim --semi-analytic                      expected accuracy of hard decisions, no noise drawn
  tp-sim --compare runs/a/bundle runs/b/bundle   bundles side by side
  tp-sim --replay runs/digits/sim/report.json   measure again and compare every count
  tp-sim --modes-report                       every mode by itself against the adaptive link
  tp-sim --mode 64x16qam                      one mode for every sample
  tp-sim --router-snr-error 3                 the transmitter takes Es/N0 for 3 dB too high
  tp-sim --router-snr-error 0 2               both ends err, each by itself, by 2 dB (deviation)
  tp-sim --header ideal                       the receiver knows the mode for free, for comparison
  tp-sim --demapper commpy --snr 10 --trials 1   cross-reading with scikit-commpy (slow)
"""


@dataclass(frozen=True)
class SimArguments(Options):
    """Options of tp-sim: those of each point, and what else it takes."""

    snr: str = "0:20"
    """Es/N0 in dB: START:STOP (step 1), START:STEP:STOP, or one number; STOP is included."""
    router_snr_error: tuple[float, ...] = (0.0,)
    """BIAS [JITTER] in dB: how much too high the transmitter takes Es/N0, and the standard deviation of both
    ends' estimates, independent of each other and afresh for every frame."""
    router_snr_error_at: ErrorPlace = "transmitter"
    """Whose estimate is wrong: the transmitter's, or one and the same estimate at both ends."""
    known_snr: KnownSnr | None = None
    """Which Es/N0 both ends choose the mode by: the mean, or that of the sample's block. Default: block where
    a gain holds for a whole sample and is known (--csi perfect), mean elsewhere and with --semi-analytic."""
    code: tuple[CodeName | Literal["none"], ...] = ("none",)
    """Channel codes around the index bits, each a baseline, in as many symbols by a larger constellation
    where there is one: conv (K = 7), ldpc (5G NR base graph 2), rate 1/2, decoded softly."""
    baseline: tuple[BaselineName | Literal["auto", "none"], ...] = ("auto",)
    """Other designs as curves: classify-and-send decides at the transmitter and sends the label by the best
    short code for the same number of symbols. On sentences also: no-channel, the backbone's own classifier;
    tfidf, the label that TF-IDF decides for, sent like that; text, the sentence itself, compressed and coded.
    Default (auto): these three where the samples hold the sentences (a text link's eval.npz), else none."""
    modes_report: bool = False
    """Sweep every mode by itself, too, and compare: adds modes.png."""
    semi_analytic: bool = False
    """Compute the expected accuracy under hard decisions from exact error laws, without drawing noise:
    semianalytic.json, .csv and .png; no verdict."""
    compare: tuple[Path, ...] = ()
    """Further bundles whose curves are laid over; without --bundle the first of them is the one reported
    on."""
    replay: Path | None = None
    """A report.json: measure again what it says, and name everything that differs. Takes no other option
    but --bundle and --data, for where these lie now, --workers and --scheduler. Exit status: 0 all equal, 1
    not."""
    bundle: Path | None = None
    """Folder of the bundle. Default: the newest bundle/ in runs/; one in INT8 (bundle-int8/) by name."""
    data: Path | None = None
    """An .npz with arrays 'input' and 'label' in place of the bundle's test split; for a text link also a
    .csv in UTF-8 with columns 'text' and 'label' (names of classes or numbers)."""
    out: Path | None = None
    """Folder for the report. Default: 'sim' next to the bundle, 'sim-int8' next to one called bundle-int8."""
    kernel: KernelName | Literal["auto"] = "auto"
    """What computes LLRs and decodes: NumPy, or numba where it is installed (auto)."""
    workers: Threads = 1
    """Processes that share the work; the report does not depend on it."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers do the work; they must see the bundle under the same path."""


_SECTIONS = {
    "Channel": "channel",
    "What the receiver knows": "csi",
    "Reception": "demapper",
    "Trials": "trials",
    "Es/N0, and what both ends take it for": "snr",
    "Baselines": "code",
    "Kinds of report": "modes_report",
    "Files": "bundle",
    "Where it runs": "kernel",
}


_STATUS = {"PASS": 0, "FAIL": 1, "UNDECIDED": 3}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``tp-sim``; returns the exit status."""
    return run_command(
        "tp-sim", SimArguments, _simulate, _DESCRIPTION, argv, sections=_SECTIONS, positional="bundle"
    )


def _simulate(arguments: SimArguments) -> int:
    # Imported late, cheap ones first: --help must not wait for them, nor a mistyped option for commpy.
    from twophase.link.manifest import newest
    from twophase.link.noise import snr_grid
    from twophase.sim.channel.radio import check_radio

    if arguments.replay is not None:
        return _replay(arguments)
    settings = _settings(arguments)
    check_radio(settings)
    grid = [float(point) for point in snr_grid(arguments.snr)]
    _require_packages()
    compare = list(arguments.compare)
    bundle = arguments.bundle or (compare.pop(0) if compare else newest(Path("runs"), "bundle"))
    out = arguments.out or _next_to(bundle)

    from twophase.sim.report.page import REPORT_PAGE, render, require_writable, write_report
    from twophase.sim.report.tables import quality_lines, summary, tables
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
    shifts = manifest.input.shifts(samples.features)
    warnings = [f"warning: the samples are unlike the training data: {shift}" for shift in shifts]
    for warning in warnings:
        Terminal().say(warning)
    if arguments.semi_analytic:
        from twophase.sim.analytic.report import run_semi_analytic
        from twophase.sim.packages import versions

        origin = {
            "command": _command(arguments, job, out),
            "versions": versions(),
            "bundle": str(bundle),
            "bundle_sha256": job.bundle_sha256,
            "data": str(job.data),
            "data_sha256": job.data_sha256,
        }
        table = run_semi_analytic(system, manifest.task, samples, grid, settings, out, origin=origin)
        print(visible(table, "\n"))  # noqa: T201
        return 0

    from twophase.sim.results.report_json import make_report
    from twophase.sim.sweep.measure import clear_blocks, measure

    workers = Workers(arguments.workers, arguments.scheduler)
    measured = measure(job, (system, manifest, samples), grid, workers, out, arguments.modes_report)
    entries = []
    for name, other, parts in zip(_labels(compare), others, opened, strict=True):
        theirs = measure(other, parts, grid, workers, out)
        entries.append(make_report("", other, parts[1], theirs).compared(name))
    report = make_report(_command(arguments, job, out), job, manifest, measured, entries)
    write_report(out, render(report))
    clear_blocks(out, [job, *others])
    shown = ["\n\n".join(["\n".join(quality_lines(report)), *tables(report)]), *summary(report), *warnings]
    print(visible("\n".join([*shown, f"report: {out / REPORT_PAGE}"]), "\n"))  # noqa: T201
    if settings.demapper == "commpy":
        replaced = sum(tally.llrs_replaced for tally in measured.link)
        total = sum(tally.llrs_total for tally in measured.link)
        print(f"commpy could not give {replaced} of {total} LLRs; the exact kernel's stood in")  # noqa: T201
    return _STATUS[report.verdict]


def _require_packages() -> None:
    """PackageError for what the base install does not have."""
    from twophase.link.plotting import require_matplotlib
    from twophase.sim.packages import require_scikit_commpy

    for package in ("scipy", "jinja2", "filelock"):
        require(package, "sim", "tp-sim")
    require_scikit_commpy()
    require_matplotlib("sim", "tp-sim")


def _replay(arguments: SimArguments) -> int:
    """Measure again what a report says, and print what differs."""
    allowed = {"replay", "workers", "scheduler", "bundle", "data"}
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.name not in allowed and value != entry.default:
            raise InputError(entry.name, "be left out with --replay, which takes it from the report", value)
    _require_packages()
    assert arguments.replay is not None

    from twophase.sim.results.replay import replay, shown

    workers = Workers(arguments.workers, arguments.scheduler)
    differences, counted = replay(arguments.replay, arguments.bundle, arguments.data, workers)
    for line in shown(differences):
        print(visible(line))  # noqa: T201
    verdict = f"{len(differences)} differ" if differences else "all equal"
    print(f"replay of {visible(str(arguments.replay))}: {counted} values compared, {verdict}")  # noqa: T201
    return 1 if differences else 0


def _labels(bundles: list[Path]) -> list[str]:
    """Names of bundles: their runs' where the folder is called bundle, else its own; paths if two agree."""
    names = [path.resolve().parent.name if path.name == "bundle" else path.name for path in bundles]
    return names if len(set(names)) == len(names) else [str(path) for path in bundles]


def _settings(arguments: SimArguments) -> Settings:
    """The settings with what the command line spells otherwise."""
    from twophase.sim.packages import usable_kernel

    error = arguments.router_snr_error
    if len(error) not in (1, 2):
        raise InputError("router_snr_error", "be BIAS or BIAS JITTER, in dB", list(error))
    if arguments.mode is not None and any(error):
        raise InputError("router_snr_error", "be left out with --mode, which asks no router", list(error))
    if arguments.modes_report and arguments.mode is not None:
        raise InputError("mode", "be left to the router with --modes-report", arguments.mode)
    if arguments.semi_analytic and (arguments.modes_report or arguments.compare):
        raise InputError("semi_analytic", "stand without --modes-report and --compare", True)
    # A block's own where its gain is known, unless nobody could average over it.
    known = arguments.coherence == "sample" and arguments.csi == "perfect" and not arguments.semi_analytic
    settings = Settings(
        **{entry.name: getattr(arguments, entry.name) for entry in fields(Options)},
        known_snr=arguments.known_snr or ("block" if known else "mean"),
        codes=_names("code", arguments.code),
        baselines=_names("baseline", arguments.baseline),
        snr_error_bias_db=error[0],
        snr_error_jitter_db=error[1] if len(error) > 1 else 0.0,
        snr_error_at=arguments.router_snr_error_at,
    )
    _refuse_idle(arguments)
    return replace(settings, kernel=usable_kernel(arguments.kernel))


def _refuse_idle(arguments: SimArguments) -> None:
    """Refuse options that would change nothing in this combination: whoever gives them expects otherwise."""
    drawing = ("code", "baseline", "workers", "scheduler", "demapper", "precision", "trials", "tolerance")
    defaults = {entry.name: entry.default for entry in fields(arguments)}
    for names, used, when in (
        (("rician_k_db",), arguments.channel == "rician", "unless --channel rician is given"),
        (("delay_spread_ns",), arguments.channel.startswith("tdl"), "unless --channel is tdl-a or tdl-c"),
        (("pilots", "estimator"), arguments.csi == "pilot", "unless --csi pilot is given"),
        (("max_trials",), arguments.precision is not None, "unless --precision is given"),
        (drawing, not arguments.semi_analytic, "with --semi-analytic"),
    ):
        for name in names:
            value = getattr(arguments, name)
            if not used and value != defaults[name]:
                shown = ", ".join(value) if isinstance(value, tuple) else value
                raise InputError(name, f"be left out {when}", shown)


def _names(option: str, names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Names without the words for none and for the default, which stand alone."""
    for word in ("none", "auto"):
        if word in names and len(names) > 1:
            raise InputError(option, f"be '{word}' or names, not both", ", ".join(names))
    return tuple(name for name in names if name not in ("none", "auto"))


def _next_to(bundle: Path) -> Path:
    """Where the report on a bundle goes: one in INT8 does not replace that of the run's other bundle."""
    return bundle.parent / ("sim-int8" if bundle.name == "bundle-int8" else "sim")


def _command(arguments: SimArguments, job: Job, out: Path) -> str:
    """The command that repeats a report; how the work was shared is left out, as nothing depends on it.

    Options at their defaults are left out but for bundle, grid, channel, trials and seed.
    """
    always = {"snr", "channel", "trials", "seed"}
    left_out = {"bundle", "out", "workers", "scheduler", "replay", "kernel"}
    words = ["tp-sim", "--bundle", str(job.bundle)]
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if entry.name in left_out or (value == entry.default and entry.name not in always):
            continue
        option = option_of(entry.name)
        if value is True:
            words.append(option)
        elif isinstance(value, tuple):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    return shlex.join([*words, "--kernel", job.settings.kernel, "--out", str(out)])
