"""A made-up report with everything that one can hold, and figures that look like those of a real link.

Nothing is simulated: curves follow simple formulas, counts are drawn from a seed.  Only the shape counts,
and that figures of one point fit one another (counts to rates, values inside their intervals).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, expit

SAMPLES = 540
CLASSES = tuple("0123456789")
COMPANIONS = {
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
    channel: str = "awgn",
    classes: tuple[str, ...] = CLASSES,
    companions: tuple[str, ...] = tuple(COMPANIONS),
    compare: int = 1,
    scatter: bool = True,
    closed_forms: bool = True,
    header: bool = True,
    failing: bool = False,
    modes_report: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Content of a ``report.json``.

    Parameters
    -----
    grid
        Es/N0 of the points in dB.
    channel
        Its name; only the report's words depend on it.
    classes
        Names of the classes.
    companions
        Names of the systems shown beside the link.
    compare
        Number of other bundles.
    scatter
        Whether there are received samples.
    closed_forms
        Whether theory, mutual information and bound are known, as they are not on every channel.
    header
        Whether the mode is told in a header.
    failing
        Whether the deployed link falls behind at low SNR.
    modes_report
        Whether each mode was swept by itself, too.
    seed
        Of the counts.
    """
    rng = np.random.default_rng(seed)
    points = [_point(snr, classes, companions, closed_forms, header, failing, rng) for snr in grid]
    verdict = "PASS" if all(point["verdict"] == "PASS" for point in points) else "FAIL"
    shown = sorted({grid[0], grid[len(grid) // 2], grid[-1]})
    content = {
        "verdict": verdict,
        "remarks": ["the receiver mistook the mode of up to 3 % of the frames (0 dB)"] if failing else [],
        "task": "digits",
        "command": f"tp-sim --bundle runs/digits/bundle --snr 0:20 --channel {channel} --out runs/digits/sim",
        "versions": {"python": "3.11.7", "twophase-link": "0.1.0", "numpy": "2.4.6"},
        "seed": seed,
        "bundle": "runs/digits/bundle",
        "bundle_sha256": "0123456789abcdef" * 4,
        "data": "runs/digits/bundle/eval.npz",
        "channel": channel,
        "coherence": "symbol",
        "known_snr": "mean",
        "demapper": "exact",
        "kernel": "numba",
        "router": "table",
        "header": "coded",
        "mode": None,
        "signalling": "mode chosen by a router that sees content and SNR and told in a coded header",
        "estimates": "both ends know the Es/N0 exactly",
        "csi_text": "the receiver estimates each block's gain from 2 pilots (MMSE) and knows N0",
        "router_snr_error": {"bias_db": 0.0, "jitter_db": 0.0, "at": "transmitter"},
        "settings": {
            "channel": channel,
            "coherence": "symbol",
            "csi": "pilot",
            "pilots": 2,
            "estimator": "mmse",
            "codes": list(companions),
            "precision": 0.005,
            "max_trials": 320,
            "seed": seed,
        },
        "trials": 20,
        "samples": SAMPLES,
        "tolerance": 0.02,
        "classes": list(classes),
        "mode_table": [
            {
                "mode": name,
                "codebook": size.bit_length() - 2,
                "codebook_size": size,
                "tokens": tokens,
                "order": order,
                "bits": tokens * (size.bit_length() - 1),
                "symbols": symbols,
            }
            for name, size, tokens, order, symbols in _MODES
        ],
        "references": [
            _reference_entry("learning", "best model of the learning phase on its soft path"),
            _reference_entry("aligned", "the deployed model on its soft path, with the deployed receiver"),
        ],
        "training": {
            "method": "two-phase",
            "epochs": 250,
            "train_snr_db": [-6.0, 18.0],
            "deployed": {"a": 1},
        },
        "companions": [{"name": name, "description": COMPANIONS.get(name, name)} for name in companions],
        "llr_edges": _LLR_EDGES.tolist(),
        "compare": [_compared(number, grid) for number in range(compare)],
        "scatter": [{"esn0_db": snr, "groups": _groups(snr, rng)} for snr in shown] if scatter else [],
        "points": points,
    }
    return content | ({"modes": _fixed_modes(points)} if modes_report else {})


def _fixed_modes(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each mode at each point; puts the best one into the point."""
    entries = []
    for name, size, tokens, order, symbols in _MODES:
        needed = 8 * math.log10(order) - math.log2(tokens)
        figures = [
            {
                "esn0_db": point["esn0_db"],
                "accuracy": 0.99 - 0.5 * float(expit((needed - 2 - point["esn0_db"]) / 2.2)),
                "accuracy_noiseless": 0.988,
            }
            for point in points
        ]
        bits = tokens * (size.bit_length() - 1)
        entries.append({"mode": name, "symbols": symbols, "bits": bits, "points": figures})
    for place, point in enumerate(points):
        best = max(entries, key=lambda entry: float(entry["points"][place]["accuracy"]))
        difference = point["accuracy_hard"] - best["points"][place]["accuracy"]
        point["best_fixed"] = {
            "mode": best["mode"],
            "symbols": best["symbols"],
            "accuracy": best["points"][place]["accuracy"],
            "difference": difference,
            "difference_ci": [difference - 0.006, difference + 0.006],
        }
    return entries


def _reference_entry(name: str, description: str) -> dict[str, Any]:
    files = {"soft": f"soft_{name}.onnx", "rx": f"rx_{name}.onnx"}
    return {"name": name, "description": description, **files, "temperature": 0.7}


def _point(
    snr: float,
    classes: tuple[str, ...],
    companions: tuple[str, ...],
    closed_forms: bool,
    header: bool,
    failing: bool,
    rng: np.random.Generator,
) -> dict[str, Any]:
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
    lowest = min(references, key=lambda name: references[name]["gap"])
    capacity = math.log2(1 + 10 ** (snr / 10))
    cm = min(capacity, math.log2(order) * math.tanh(capacity / math.log2(order)))
    confusion = np.array(
        [rng.multinomial(SAMPLES // len(classes) * trials, row) for row in _confused(len(classes), hard)]
    )
    zeros, ones, expected = _llr_counts(snr, order, sent, rng)
    return {
        "esn0_db": snr,
        "ebn0_db": snr - 10 * math.log10(bits / (payload + head + _PILOTS)),
        "verdict": "PASS" if all(entry["pass"] for entry in references.values()) else "FAIL",
        "accuracy_hard": hard,
        "accuracy_hard_ci": _interval(hard),
        "gap_reference": lowest,
        "accuracy_soft": references[lowest]["accuracy"],
        "gap": references[lowest]["gap"],
        "gap_ci": references[lowest]["gap_ci"],
        "references": references,
        "companions": {name: _companion(name, hard, snr, payload + head + _PILOTS) for name in companions},
        "accuracy_by_mode": {name: hard for name in usage},
        "accuracy_noiseless": clean,
        "label_bound": clean - 0.3 * float(expit(-(snr + 8) / 1.6)) if closed_forms else None,
        "ber": errors / sent,
        "ber_ci": [
            max(0.0, (errors - 2 * math.sqrt(errors + 1)) / sent),
            (errors + 2 * math.sqrt(errors + 1)) / sent,
        ],
        "ber_theory": ber * 0.97 if closed_forms else None,
        "ber_theory_usage": ber if closed_forms else None,
        "bit_errors": errors,
        "bits_sent": sent,
        "codeword_error_rate": min(1.0, 2.7 * ber),
        "codeword_errors": int(2.7 * ber * 1000),
        "codewords_sent": 1000,
        "mode_error_rate": 0.02 * float(expit(-snr)) if header else 0.0,
        "header_error_rate": 0.02 * float(expit(-snr)) if header else None,
        "mean_abs_llr": min(100.0, 1.5 * 10 ** (snr / 10)),
        "llrs_replaced": 0,
        "bits_per_sample": bits,
        "header_bits_per_sample": 3 if header else 0,
        "symbols_per_sample": payload + head + _PILOTS,
        "payload_symbols_per_sample": payload,
        "header_symbols_per_sample": head,
        "pilot_symbols_per_sample": _PILOTS,
        "symbol_energy": 0.98,
        "measured_esn0_db": snr + 0.003,
        "mode_usage": usage,
        "capacity": capacity if closed_forms else None,
        "cm_mi": cm if closed_forms else None,
        "bicm_mi": 0.96 * cm if closed_forms else None,
        "llr_zeros": zeros.tolist(),
        "llr_ones": ones.tolist(),
        "llr_expected_ones": expected.tolist(),
        "confusion": confusion.tolist(),
        "samples": SAMPLES,
        "trials": trials,
        "stop_reason": f"precision reached: gap +-0.{4700 + 10 * int(snr):05d}",
    }


def _usage(snr: float) -> dict[str, float]:
    """Two neighbouring modes, the larger alphabet the more the higher the SNR."""
    place = min(max(snr / 5, 0.0), len(_MODES) - 1.0)
    low = min(int(place), len(_MODES) - 2)
    shares = {_MODES[low][0]: 1 - (place - low), _MODES[low + 1][0]: place - low}
    return {name: share for name, share in shares.items() if share > 0}


def _interval(value: float, half: float = 0.009) -> list[float]:
    return [max(0.0, value - 1.3 * half), min(1.0, value + 0.7 * half)]


def _soft(hard: float, gap: float, fails: bool) -> dict[str, Any]:
    gap = gap - 0.03 if fails else gap
    return {
        "accuracy": hard - gap,
        "accuracy_ci": _interval(hard - gap),
        "gap": gap,
        "gap_ci": [gap - 0.008, gap + 0.009],
        "gap_lower_bound": gap - 0.0065,
        "symbols_per_sample": 7.0,
        "symbol_energy": 0.6,
        "pass": gap - 0.0065 >= -0.02,
    }


def _companion(name: str, hard: float, snr: float, symbols: float) -> dict[str, Any]:
    coded = {"conv": -0.06 * float(expit(3 - snr)), "ldpc": -0.08 * float(expit(2 - snr))}
    difference = coded.get(name, 0.002)
    return {
        "accuracy": hard + difference,
        "accuracy_ci": _interval(hard + difference),
        "symbols_per_sample": symbols + (0.5 if name == "ldpc" else 0.0),
        "difference": difference,
        "difference_ci": [difference - 0.008, difference + 0.008],
    }


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


def _groups(snr: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    by_name = {mode[0]: mode for mode in _MODES}
    groups = []
    for name in _usage(snr):
        order = by_name[name][3]
        side = np.arange(math.isqrt(order)) * 2.0 - math.isqrt(order) + 1
        reference = np.array([(re, im) for re in side for im in side]) / math.sqrt(2 * (order - 1) / 3)
        sent = reference[rng.integers(0, order, 300)]
        received = sent + rng.normal(0, math.sqrt(0.5 * 10 ** (-snr / 10)), sent.shape)
        groups.append(
            {"mode": name, "order": order, "received": received.tolist(), "reference": reference.tolist()}
        )
    return groups


def _compared(number: int, grid: tuple[float, ...]) -> dict[str, Any]:
    points = []
    for snr in grid:
        accuracy = 0.97 - 0.01 * number - 0.4 * float(expit(-(snr + 3 - number) / 2))
        points.append(
            {
                "esn0_db": snr,
                "accuracy": accuracy,
                "accuracy_ci": _interval(accuracy),
                "symbols_per_sample": 6.0 + number,
            }
        )
    name = f"other-{number + 1}"
    return {
        "name": name,
        "bundle": f"runs/{name}/bundle",
        "verdict": "FAIL" if number else "PASS",
        "points": points,
    }
