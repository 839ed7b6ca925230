"""Does the simulator measure what theory says?  Prints tables in Markdown; exits 1 if not.

    python benchmarks/theory.py [--bits 1000000] [--seed 0]

Bit error rates: random bits through modulation, the air of the simulator (commpy's seeded channels, or OFDM
over a tapped delay line) and nearest-point decisions, against the exact rates.  Bits of one symbol, and on a
delay line symbols of one frame, err together, so z is taken over frames.  The limit is |z| <= 4: with 56
points a correct simulator passes it in 99.6 % of all seeds (56 x 6.3e-5), while an SNR that is off by 0.2 dB
moves most points by more than 4.  All of them lie within 3 sigma in 86 % of all seeds.

Calibration: of the bits whose LLR falls into a bin as many must be one as the logistic function of their LLRs
says.  Bits of one symbol depend on each other even when their LLRs are known, so one of each is drawn.  Then
the chi-square over bins has a known law; its p is held above 1e-5 (false alarm 1.2e-4 for the twelve), and a
receiver that takes N0 half a dB too high must fall below it.  The same LLRs carry as many bits per symbol as
BICM mutual information says.

LLRs: the exact kernel against commpy's soft demodulator where that is finite, and against log-sum-exp over
all points in float64 everywhere, up to 40 dB and on fading.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions, llr_bruteforce, llr_exact
from twophase.sim.channel.commpy import CommpyDemapper
from twophase.sim.channel.radio import Arrival, Radio
from twophase.sim.settings import ChannelName, Settings
from twophase.sim.theory.rates import bicm_mutual_information, qam_ber

Z_LIMIT = 4.0
P_LIMIT = 1e-5
LLR_LIMIT = 1e-9
FRAME = 50  # symbols

AWGN_POINTS = {4: (0, 3, 6, 9), 16: (3, 8, 12, 16), 64: (8, 13, 18, 22), 256: (12, 18, 24, 28)}
FADING_POINTS: dict[ChannelName, tuple[int, ...]] = {
    "rayleigh": (0, 10, 20, 30),
    "rician": (0, 8, 16, 24),
    "tdl-a": (15,),
    "tdl-c": (15,),
}
FLAT: tuple[ChannelName, ...] = ("awgn", "rayleigh", "rician")
CALIBRATED = {4: 2, 16: 9, 64: 15, 256: 21}  # Es/N0 in dB
EDGES = np.array([-math.inf, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, math.inf])
MISMATCH_DB = 0.5

Row = tuple[object, ...]


def hear(
    order: int, settings: Settings, esn0_db: float, symbols: int, rng: np.random.Generator
) -> tuple[np.ndarray, Arrival]:
    """Random point numbers, (frames, FRAME) for at least so many symbols, and what arrives of them."""
    sent = rng.integers(0, order, (-(-symbols // FRAME), FRAME))
    radio = Radio(settings, esn0_db, rng)
    radio.draw(*sent.shape)
    return sent, radio.send(qam(order).points[sent])


def z_over_frames(measured: np.ndarray, expected: float) -> float:
    """How many standard errors the mean of the frames lies above what is expected of it."""
    return float((measured.mean() - expected) / (measured.std() / math.sqrt(measured.size)))


def measure_ber(
    order: int, channel: ChannelName, esn0_db: float, bits: int, rng: np.random.Generator
) -> tuple[int, int, float, float]:
    """Bit errors, bits sent, theory and z of one point."""
    constellation = qam(order)
    width = constellation.bits_per_symbol
    sent, arrival = hear(order, Settings(channel=channel), esn0_db, -(-bits // width), rng)
    decided = hard_decisions(arrival.received, constellation, arrival.gains)
    wrong = (symbols_to_bits(sent, width) != symbols_to_bits(decided, width)).sum(axis=1)
    theory = float(qam_ber(order, esn0_db, channel))
    return int(wrong.sum()), sent.size * width, theory, z_over_frames(wrong, width * FRAME * theory)


class Calibration:
    """LLRs of one channel, constellation and SNR beside the bits that were sent."""

    def __init__(
        self, order: int, settings: Settings, esn0_db: float, bits: int, rng: np.random.Generator
    ) -> None:
        width = qam(order).bits_per_symbol
        sent, arrival = hear(order, settings, esn0_db, -(-bits // width), rng)
        llr = llr_exact(arrival.received, qam(order), arrival.noise_var, arrival.gains)
        ones = symbols_to_bits(sent, width)
        carried = 1 - np.logaddexp(0.0, np.where(ones, -llr, llr)) / math.log(2)
        self.carried = width * carried.mean(axis=1)
        """Bits per symbol that the LLRs carry, by frame."""
        drawn = (np.arange(sent.size), rng.integers(0, width, sent.size))
        probability = expit(llr.reshape(-1, width)[drawn])
        place = np.digitize(llr.reshape(-1, width)[drawn], EDGES) - 1

        def count(weights: np.ndarray) -> np.ndarray:
            return np.bincount(place, weights=weights, minlength=EDGES.size - 1)

        self.bits = count(np.ones(sent.size))
        self.ones = count(ones.reshape(-1, width)[drawn])
        self.expected = count(probability)
        self.variance = count(probability * (1 - probability))

    def p_value(self) -> float:
        """Of the chi-square over bins; bins with less than ten expected surprises join a neighbour."""
        difference, variance = [0.0], [0.0]
        for excess, spread in zip(self.ones - self.expected, self.variance, strict=True):
            if variance[-1] >= 10:
                difference.append(0.0)
                variance.append(0.0)
            difference[-1] += excess
            variance[-1] += spread
        if variance[-1] < 10 and len(variance) > 1:
            difference[-2] += difference.pop()
            variance[-2] += variance.pop()
        statistic = sum(d * d / v for d, v in zip(difference, variance, strict=True))
        return float(chi2.sf(statistic, len(variance)))


def compare_llrs(
    order: int, channel: ChannelName, esn0_db: float, rng: np.random.Generator
) -> tuple[float, int, int, float]:
    """Difference from commpy, LLRs that it could not give, LLRs asked for, difference from brute force."""
    constellation = qam(order)
    demapper = CommpyDemapper()
    _, few = hear(order, Settings(channel=channel), esn0_db, 2400 // order, rng)
    # Clipped far out, so that little of the comparison is hidden.
    theirs = demapper(few.received, constellation, few.noise_var, few.gains, clip=500.0)
    ours = llr_exact(few.received, constellation, few.noise_var, few.gains, clip=500.0)
    _, many = hear(order, Settings(channel=channel), esn0_db, 20_000, rng)
    fast = llr_exact(many.received, constellation, many.noise_var, many.gains, clip=500.0)
    slow = llr_bruteforce(many.received, constellation.points, many.noise_var, many.gains, clip=500.0)
    return relative(ours, theirs), demapper.replaced, demapper.total, relative(fast, slow)


def relative(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference, relative to the larger of the value and one."""
    return float(np.max(np.abs(first - second) / np.maximum(1.0, np.abs(second))))


def print_table(head: str, rows: list[Row]) -> None:
    """A Markdown table; columns of the head are separated by bars."""
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")


def check_ber(bits: int, generators: Iterator[np.random.Generator]) -> bool:
    """Print all bit error rates; whether they agree."""
    rows: list[Row] = []
    all_z = []
    for order, awgn_points in AWGN_POINTS.items():
        for channel, points in {"awgn": awgn_points, **FADING_POINTS}.items():
            for esn0_db in points:
                errors, sent, theory, z = measure_ber(order, channel, esn0_db, bits, next(generators))
                all_z.append(abs(z))
                rate = f"{errors / sent:.4e}"
                rows.append((order, channel, esn0_db, sent, errors, rate, f"{theory:.4e}", f"{z:+.2f}"))
    print_table("QAM | channel | Es/N0 dB | bits | errors | BER | theory | z", rows)
    z = np.array(all_z)
    print(
        f"\n{np.sum(z <= 3)} of {z.size} points within 3 sigma; largest |z| {z.max():.2f} (limit {Z_LIMIT:g})"
    )
    print(f"sum of z^2 {np.sum(z**2):.1f}, p {chi2.sf(np.sum(z**2), z.size):.3f}")
    return bool(z.max() <= Z_LIMIT)


def check_calibration(bits: int, generators: Iterator[np.random.Generator]) -> bool:
    """Print calibration and carried information of the LLRs; whether they agree."""
    summary: list[Row] = []
    bins: list[Row] = []
    passed = True
    for order, esn0_db in CALIBRATED.items():
        for channel in FLAT:
            found = Calibration(order, Settings(channel=channel), esn0_db, bits, next(generators))
            off = Settings(channel=channel, noise_mismatch_db=MISMATCH_DB)
            p, control = found.p_value(), Calibration(order, off, esn0_db, bits, next(generators)).p_value()
            theory = float(bicm_mutual_information(order, esn0_db, channel))
            z = z_over_frames(found.carried, theory)
            passed &= p > P_LIMIT and control < P_LIMIT and abs(z) <= Z_LIMIT
            rates = (f"{found.carried.mean():.4f}", f"{theory:.4f}", f"{z:+.2f}")
            summary.append((order, channel, esn0_db, f"{p:.3f}", f"{control:.0e}", *rates))
            if order == 16:
                for place in np.flatnonzero(found.bits):
                    total = found.bits[place]
                    said, was = found.expected[place] / total, found.ones[place] / total
                    z_bin = (found.ones[place] - found.expected[place]) / math.sqrt(found.variance[place])
                    span = f"{EDGES[place]:g} to {EDGES[place + 1]:g}"
                    bins.append((channel, span, int(total), f"{said:.5f}", f"{was:.5f}", f"{z_bin:+.2f}"))
    head = f"QAM | channel | Es/N0 dB | p | p if N0 is taken {MISMATCH_DB:g} dB too high"
    print_table(f"{head} | BICM bits per symbol | theory | z", summary)
    print("\nBins of 16-QAM:")
    print_table("channel | LLR | bits | logistic | ones among them | z", bins)
    return passed


def check_llrs(generators: Iterator[np.random.Generator]) -> bool:
    """Print differences between demappers; whether they agree."""
    rows: list[Row] = []
    largest = 0.0
    for order in AWGN_POINTS:
        for channel in FLAT:
            for esn0_db in (-5, 10, 20, 40):
                found = compare_llrs(order, channel, esn0_db, next(generators))
                versus_commpy, replaced, total, versus_brute = found
                largest = max(largest, versus_commpy, versus_brute)
                counts = f"{replaced} of {total}"
                rows.append((order, channel, esn0_db, f"{versus_commpy:.1e}", counts, f"{versus_brute:.1e}"))
    print_table("QAM | channel | Es/N0 dB | exact vs commpy | commpy not usable | exact vs log-sum-exp", rows)
    print(f"\nlargest relative LLR difference {largest:.1e} (limit {LLR_LIMIT:g})")
    return largest <= LLR_LIMIT


def main() -> int:
    """Print all tables; 0 if everything agrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", type=int, default=1_000_000, help="bits at each point, at least")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generators = map(np.random.default_rng, np.random.SeedSequence(arguments.seed).spawn(1000))
    results = (
        check_ber(arguments.bits, generators),
        check_calibration(arguments.bits, generators),
        check_llrs(generators),
    )
    print("PASS" if all(results) else "FAIL")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
