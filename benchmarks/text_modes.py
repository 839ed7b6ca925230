"""From which Es/N0 on do sentences arrive?  Prints the table of ``sim/baselines/text.py``.

    python benchmarks/text_modes.py [--bundle runs/reviews/bundle] [--sentences 2000] [--seed 0]

For each channel code, constellation and number of repetitions: the lowest Es/N0, in steps of 0.25 dB, at
which at most 1 % of the sentences arrive with an error, over AWGN and over Rayleigh fading with a gain for
each symbol that the receiver knows.  Sentences are random bits; their lengths are those of a bundle's
sentences, or, without one, drawn like those of 10,043 sentences of film reviews in a Huffman code of their
bytes: normal, 509 bits on average with a standard deviation of 221, held within 60 to 1250.  A share is
judged by so many sentences; 1 % of 2,000 is uncertain by 0.2 % (one standard deviation).  Some minutes on one
core with numba.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.sim.baselines.text_code import Scheme, TextCode

STEP_DB = 0.25
MOST_WRONG = 0.01
BATCH = 250
CHANNELS = ("awgn", "rayleigh")


def schemes() -> Iterator[Scheme]:
    """All that are tried; low rates over large constellations are left out, higher rates over smaller win."""
    for repetitions in (8, 4, 2):
        yield Scheme("conv", 1, 2, 4, repetitions)
    for order in (4, 16, 64, 256):
        yield Scheme("conv", 1, 2, order)
    for repetitions in (16, 8, 4, 2):
        yield Scheme("ldpc", 1, 5, 4, repetitions)
    for numerator, denominator, largest in (
        (1, 5, 16),
        (1, 3, 64),
        (1, 2, 256),
        (2, 3, 256),
        (3, 4, 256),
        (5, 6, 256),
    ):
        for order in (4, 16, 64, 256):
            if order <= largest:
                yield Scheme("ldpc", numerator, denominator, order)


def lengths_of(bundle: Path | None, count: int, rng: np.random.Generator) -> list[int]:
    """Bits of so many sentences."""
    if bundle is None:
        drawn = np.rint(rng.normal(509, 221, count)).clip(60, 1250)
        return [int(length) for length in drawn]
    from twophase.link.samples import load_samples
    from twophase.sim.baselines.text_source import messages_of
    from twophase.sim.system import load_system

    _, manifest = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", manifest.input_shape, len(manifest.classes))
    if samples.sentences is None:
        raise SystemExit(f"{bundle} holds no sentences")
    own = [len(message) for message in messages_of(samples.sentences)]
    return [own[place % len(own)] for place in range(count)]


def arrive(scheme: Scheme, channel: str, esn0_db: float, lengths: list[int], kernel: str, seed: int) -> bool:
    """Whether at most 1 % of the sentences have an error; stops when that is settled."""
    rng = np.random.default_rng([seed, round(esn0_db * 100) + 10_000])
    code, constellation = TextCode(scheme, kernel), qam(scheme.order)
    noise_var = 10 ** (-esn0_db / 10)
    wrong = 0
    for start in range(0, len(lengths), BATCH):
        batch = lengths[start : start + BATCH]
        messages = [rng.integers(0, 2, length).astype(np.uint8) for length in batch]
        numbers = code.encode(messages)
        sent = constellation.modulate(np.concatenate(numbers))
        noise, fading = ((rng.standard_normal((2, sent.size)) / np.sqrt(2)) for _ in range(2))
        gains = fading[0] + 1j * fading[1] if channel == "rayleigh" else np.ones(sent.size)
        received = gains * sent + np.sqrt(noise_var) * (noise[0] + 1j * noise[1])
        llr = llr_exact(received, constellation, noise_var, gains, kernel=kernel)
        ends = np.cumsum([len(row) * scheme.bits_per_symbol for row in numbers])
        decided = code.decode(np.split(llr, ends[:-1]), batch)
        wrong += sum(not np.array_equal(a, b) for a, b in zip(decided, messages, strict=True))
        if wrong > MOST_WRONG * len(lengths):
            return False
    return True


def threshold_db(scheme: Scheme, channel: str, lengths: list[int], kernel: str, seed: int) -> float:
    """The lowest Es/N0 on the grid at which sentences arrive, found by halving a bracket."""
    capacity_db = 10 * np.log10(2**scheme.efficiency - 1)
    low = int(np.floor(capacity_db / STEP_DB))  # nothing arrives here
    high = low + 16
    while not arrive(scheme, channel, high * STEP_DB, lengths, kernel, seed):
        low, high = high, high + 16
    while high - low > 1:
        middle = (low + high) // 2
        if arrive(scheme, channel, middle * STEP_DB, lengths, kernel, seed):
            high = middle
        else:
            low = middle
    return high * STEP_DB


def main() -> None:
    """Print the table, as lines of Python."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="a text link, for the lengths of its sentences")
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", choices=("numpy", "numba"), default="numba")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    lengths = lengths_of(arguments.bundle, arguments.sentences, rng)
    print(f"# {len(lengths)} sentences of {np.mean(lengths):.0f} bits on average, seed {arguments.seed}")
    for scheme in schemes():
        found = [
            threshold_db(scheme, channel, lengths, arguments.kernel, arguments.seed) for channel in CHANNELS
        ]
        words = f'"{scheme.code}", {scheme.numerator}, {scheme.denominator}, {scheme.order}'
        print(f"    (Scheme({words}, {scheme.repetitions}), {found[0]}, {found[1]}),", flush=True)


if __name__ == "__main__":
    main()
