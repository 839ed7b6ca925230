"""A made-up report with everything that one can hold, and figures that look like those of a real link.

Nothing is simulated: curves follow simple formulas, counts are drawn from a seed.  Only the shape counts,
and that figures of one point fit one another (counts to rates, values inside their intervals).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, expit

from twophase.link.manifest import Reference
from twophase.sim.results.figures import (
    BackboneCheck,
    BaselineFigures,
    BestFixed,
    Ceiling,
    Compared,
    ComparedPoint,
    Described,
    ModeEntry,
    ModeFigures,
    ModePoint,
    Point,
    ReferenceFigures,
    Report,
    Scatter,
    ScatterGroup,
    SnrError,
    TextFigures,
    TextPoint,
)
from twophase.sim.results.report_json import channel_text
from twophase.sim.settings import ChannelName, Settings
from twophase.sim.theory.statistics import Interval

SAMPLES = 540
CLASSES = tuple("0123456789")
BASELINES = {
    "conv": "the index bits through the code 133/171 of rate 1/2, soft Viterbi decoder",
    "ldpc": "the index bits through the LDPC code of TS 38.212, base graph 2, belief propagation",
    "classify-and-send": "the label that the transmitter decides on, by a short code of as many symbols",
}
_MODES = (
    ("2x4qam", 2, 48, 4, 24),
    ("2x16qam", 2, 48, 16, 12),
    ("4x16qam", 4, 14, 16, 7),
    ("16x16qam", 16, 3, 16, 3),
    ("16x64qam", 16, 3, 64, 2),
)
_POSITIVE = (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
_PILOTS = 2.0
_LLR_EDGES = np.array([*(-edge for edge in reversed(_POSITIVE)), 0.0, *_POSITIVE])


def fake_report(
    grid: tuple[float, ...] = tuple(float(snr) for snr in range(0, 21)),
    *,
    channel: ChannelName = "awgn",
    classes: tuple[str, ...] = CLASSES,
    baselines: tuple[str, ...] = tuple(BASELINES),
    compare: int = 1,
    scatter: bool = True,
    header: bool = True,
    failing: bool = False,
    modes_report: bool = False,
    seed: int = 0,
) -> Report:
    """A whole report with points at the Es/N0 of ``grid`` in dB.

    Of the ``channel`` only the words depend.  ``baselines`` are names of other designs, ``compare`` is the
    number of other bundles; ``scatter``: with received samples; ``header``: the mode is sent in a header;
    ``failing``: the deployed link is worse at low SNR; ``modes_report``: each mode was swept by itself, too.
    """
    rng = np.random.default_rng(seed)
    points = [_point(snr, classes, baselines, header, failing, rng) for snr in grid]
    verdict = "PASS" if all(point.verdict == "PASS" for point in points) else "FAIL"
    shown = sorted({grid[0], grid[len(grid) // 2], grid[-1]})
    modes = None
    if modes_report:
        modes = _fixed_modes(points)
        points = [
            replace(point, best_fixed=_best_fixed(place, point, modes)) for place, point in enumerate(points)
        ]
    csi = "the receiver estimates each block's gain from 2 pilots (MMSE) and knows N0"
    return Report(
        verdict=verdict,
        remarks=["the receiver mistook the mode of up to 3 % of the frames (0 dB)"] if failing else [],
        task="digits",
        command=f"tp-sim --bundle runs/digits/bundle --snr 0:20 --channel {channel} --out runs/digits/sim",
        versions={"python": "3.11.7", "twophase-link": "0.1.0", "numpy": "2.4.6"},
        seed=seed,
        bundle="runs/digits/bundle",
        bundle_sha256="0123456789abcdef" * 4,
        data="runs/digits/bundle/eval.npz",
        data_sha256="fedcba9876543210" * 4,
        settings=Settings(channel=channel, csi="pilot", precision=0.005, max_trials=320, seed=seed),
        grid=list(grid),
        channel=channel,
        channel_text=channel_text(channel, "symbol"),
        csi_text=csi,
        kernel="numba",
        coherence="symbol",
        known_snr="mean",
        demapper="exact",
        router="table",
        header="coded",
        mode=None,
        signalling="mode chosen by a router that sees content and SNR and told in a coded header",
        router_snr_error=SnrError(0.0, 0.0, "transmitter"),
        estimates="both ends know the Es/N0 exactly",
        trials=20,
        samples=SAMPLES,
        tolerance=0.02,
        classes=list(classes),
        mode_table=[
            ModeEntry(
                name, size.bit_length() - 2, size, tokens, order, tokens * (size.bit_length() - 1), symbols
            )
            for name, size, tokens, order, symbols in _MODES
        ],
        references=[
            Reference(name, text, f"soft_{name}.onnx", f"rx_{name}.onnx", 0.7)
            for name, text in (
                ("learning", "best model of the learning phase on its soft path"),
                ("aligned", "the deployed model on its soft path, with the deployed receiver"),
            )
        ],
        baselines=[Described(name, BASELINES.get(name, name)) for name in baselines],
        llr_edges=_LLR_EDGES.tolist(),
        scatter=[Scatter(snr, _groups(snr, rng)) for snr in shown] if scatter else [],
        compare=[_compared(number, grid) for number in range(compare)],
        training={
            "method": "two-phase",
            "epochs": 250,
            "train_snr_db": [-6.0, 18.0],
            "deployed": {"a": 1},
        },
        points=points,
        modes=modes,
    )


def with_sentences(report: Report, table: str = "awgn") -> Report:
    """The same of a text link, with the sentences themselves as a baseline.

    By the ``table`` of Rayleigh fading each block's gain chooses the scheme.
    """
    points = []
    for point in report.points:
        own, bound = point.symbols_per_sample, 400 / math.log2(1 + 10 ** (point.esn0_db / 10))
        scheme = "LDPC 1/2 over QPSK" if table == "awgn" else None
        text = TextPoint(scheme, 0.995, 2, 1.6 * bound, 1.6 * bound / own, bound, bound / own)
        figures = _baseline("text", point.accuracy_hard, point.esn0_db, 1.6 * bound)
        points.append(replace(point, text=text, baselines=point.baselines | {"text": figures}))
    return replace(
        report,
        points=points,
        baselines=[*report.baselines, Described("text", "the sentences themselves, compressed and coded")],
        front=BackboneCheck(SAMPLES, 0, 7 * SAMPLES, 0, {mode[0]: 0 for mode in _MODES}),
        ceiling=Ceiling("no channel", "the backbone's own classifier", 0.991, _interval(0.991)),
        text=TextFigures(
            400.0, 90, 801, 9, {"deflate": 40, "huffman": 500}, table, 10, "0", (30.0, 90.0), (19.0, 56.0)
        ),
    )


def _fixed_modes(points: list[Point]) -> tuple[ModeFigures, ...]:
    """Each mode at each point."""
    entries = []
    for name, size, tokens, order, symbols in _MODES:
        needed = 8 * math.log10(order) - math.log2(tokens)
        reached = [0.99 - 0.5 * float(expit((needed - 2 - point.esn0_db) / 2.2)) for point in points]
        figures = tuple(
            ModePoint(point.esn0_db, accuracy, _interval(accuracy), 0.988, 0.99, 0.01, 0.02, 1.0)
            for point, accuracy in zip(points, reached, strict=True)
        )
        entries.append(ModeFigures(name, symbols, tokens * (size.bit_length() - 1), figures))
    return tuple(entries)


def _best_fixed(place: int, point: Point, modes: tuple[ModeFigures, ...]) -> BestFixed:
    best = max(modes, key=lambda entry: entry.points[place].accuracy)
    accuracy = best.points[place].accuracy
    difference = point.accuracy_hard - accuracy
    return BestFixed(best.mode, best.symbols, accuracy, difference, (difference - 0.006, difference + 0.006))


def _point(
    snr: float,
    classes: tuple[str, ...],
    baselines: tuple[str, ...],
    header: bool,
    failing: bool,
    rng: np.random.Generator,
) -> Point:
    usage = _usage(snr)
    by_name = {mode[0]: mode for mode in _MODES}
    payload = sum(share * by_name[name][4] for name, share in usage.items())
    head = (2.0 if snr > 6 else 5.0) if header else 0.0
    bits = sum(share * by_name[name][2] * math.log2(by_name[name][1]) for name, share in usage.items())
    order = max(by_name[name][3] for name in usage)
    clean = 0.9875
    hard = clean - 0.5 * float(expit(-(snr + 6) / 2.2)) - (0.05 * float(expit(1 - snr)) if failing else 0)
    ber = float(0.8 * 0.5 * erfc(math.sqrt(1.5 * 10 ** (snr / 10) / (order - 1))))
    trials = int(20 * 2 ** rng.integers(0, 4))
    sent = int(SAMPLES * trials * payload * math.log2(order))
    errors = int(rng.binomial(sent, ber))
    references = {
        "learning": _soft(hard, 0.004 + 0.006 * float(expit(2 - snr)), failing and snr < 3),
        "aligned": _soft(hard, -0.0004 * math.cos(snr), failing and snr < 2),
    }
    capacity = math.log2(1 + 10 ** (snr / 10))
    cm = min(capacity, math.log2(order) * math.tanh(capacity / math.log2(order)))
    confusion = np.array(
        [rng.multinomial(SAMPLES // len(classes) * trials, row) for row in _confused(len(classes), hard)]
    )
    zeros, ones, expected = _llr_counts(snr, order, sent, rng)
    mistaken = 0.02 * float(expit(-snr))
    spread = 2 * math.sqrt(errors + 1)
    return Point(
        esn0_db=snr,
        ebn0_db=snr - 10 * math.log10(bits / (payload + head + _PILOTS)),
        accuracy_hard=hard,
        accuracy_hard_ci=_interval(hard),
        accuracy_by_mode={name: hard for name in usage},
        accuracy_noiseless=clean,
        label_bound=clean - 0.3 * float(expit(-(snr + 8) / 1.6)),
        ber=errors / sent,
        ber_ci=(max(0.0, (errors - spread) / sent), (errors + spread) / sent),
        ber_theory=ber * 0.97,
        ber_theory_usage=ber,
        bit_errors=errors,
        bits_sent=sent,
        codeword_error_rate=min(1.0, 2.7 * ber),
        codeword_errors=int(2.7 * ber * 1000),
        codewords_sent=1000,
        mode_error_rate=mistaken if header else 0.0,
        header_error_rate=mistaken if header else None,
        mean_abs_llr=min(100.0, 1.5 * 10 ** (snr / 10)),
        llrs_replaced=0,
        bits_per_sample=bits,
        header_bits_per_sample=3 if header else 0,
        symbols_per_sample=payload + head + _PILOTS,
        payload_symbols_per_sample=payload,
        header_symbols_per_sample=head,
        pilot_symbols_per_sample=_PILOTS,
        measured_esn0_db=snr + 0.003,
        capacity=capacity,
        cm_mi=cm,
        bicm_mi=0.96 * cm,
        symbol_energy=0.98,
        mode_usage=usage,
        references=references,
        baselines={name: _baseline(name, hard, snr, payload + head + _PILOTS) for name in baselines},
        samples=SAMPLES,
        trials=trials,
        llr_zeros=zeros.tolist(),
        llr_ones=ones.tolist(),
        llr_expected_ones=expected.tolist(),
        confusion=confusion.tolist(),
        counts={"trials": trials},
        counts_sha256="",
        stop_reason=f"precision reached: gap +-0.{4700 + 10 * int(snr):05d}",
    )


def _usage(snr: float) -> dict[str, float]:
    """Two neighbouring modes, the larger alphabet the more the higher the SNR."""
    place = min(max(snr / 5, 0.0), len(_MODES) - 1.0)
    low = min(int(place), len(_MODES) - 2)
    shares = {_MODES[low][0]: 1 - (place - low), _MODES[low + 1][0]: place - low}
    return {name: share for name, share in shares.items() if share > 0}


def _interval(value: float, half: float = 0.009) -> Interval:
    return max(0.0, value - 1.3 * half), min(1.0, value + 0.7 * half)


def _soft(hard: float, gap: float, fails: bool) -> ReferenceFigures:
    gap = gap - 0.03 if fails else gap
    bound = gap - 0.0065
    ends = gap - 0.008, gap + 0.009
    return ReferenceFigures(
        hard - gap, _interval(hard - gap), gap, ends, bound, 7.0, 0.6, passes=bound >= -0.02
    )


def _baseline(name: str, hard: float, snr: float, symbols: float) -> BaselineFigures:
    coded = {"conv": -0.06 * float(expit(3 - snr)), "ldpc": -0.08 * float(expit(2 - snr))}
    difference = coded.get(name, 0.002)
    accuracy = hard + difference
    ends = difference - 0.008, difference + 0.008
    length = symbols + (0.5 if name == "ldpc" else 0.0)
    return BaselineFigures(accuracy, _interval(accuracy), difference, ends, length, 1.0)


def _confused(classes: int, accuracy: float) -> NDArray[np.float64]:
    """Rows of probabilities: what is wrong is mostly a neighbour."""
    rows = np.eye(classes) * accuracy
    for row in range(classes):
        rows[row, (row + 1) % classes] += 0.7 * (1 - accuracy)
        rows[row, (row + 3) % classes] += 0.3 * (1 - accuracy)
    return rows / rows.sum(axis=1, keepdims=True)


def _llr_counts(
    snr: float, order: int, bits: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """LLRs of antipodal bits in Gaussian noise, which are calibrated: mean m, variance 2 m."""
    mean = 6 * 10 ** (snr / 10) / (order - 1) + 0.5
    count = min(bits, 20_000)
    counted = []
    expected = np.zeros(len(_LLR_EDGES) - 1)
    for sign in (-1, 1):
        drawn = np.clip(rng.normal(sign * mean, math.sqrt(2 * mean), count), -99.9, 99.9)
        counted.append(np.histogram(drawn, _LLR_EDGES)[0])
        expected += np.histogram(drawn, _LLR_EDGES, weights=expit(drawn))[0]
    return counted[0], counted[1], expected


def _groups(snr: float, rng: np.random.Generator) -> tuple[ScatterGroup, ...]:
    by_name = {mode[0]: mode for mode in _MODES}
    groups = []
    for name in _usage(snr):
        order = by_name[name][3]
        side = np.arange(math.isqrt(order)) * 2.0 - math.isqrt(order) + 1
        reference = np.array([(re, im) for re in side for im in side]) / math.sqrt(2 * (order - 1) / 3)
        sent = reference[rng.integers(0, order, 300)]
        received = sent + rng.normal(0, math.sqrt(0.5 * 10 ** (-snr / 10)), sent.shape)
        groups.append(ScatterGroup(name, order, received.tolist(), reference.tolist()))
    return tuple(groups)


def _compared(number: int, grid: tuple[float, ...]) -> Compared:
    points = []
    for snr in grid:
        accuracy = 0.97 - 0.01 * number - 0.4 * float(expit(-(snr + 3 - number) / 2))
        points.append(ComparedPoint(snr, 6.0 + number, accuracy, _interval(accuracy)))
    name, verdict = f"other-{number + 1}", "FAIL" if number else "PASS"
    return Compared(name, f"runs/{name}/bundle", "0" * 64, verdict, tuple(points))
