"""How fast and how good are the baselines' decoders?  Prints tables in Markdown; exits 1 if one is wrong.

    OMP_NUM_THREADS=1 python benchmarks/codes.py [--seconds 1] [--frames 20000] [--seed 0]

Speed: information bits per second of processor time, one thread, on the same noisy frames, against commpy
and, where they are installed, komm, ldpc and Sionna.

Quality: bit and frame error rates on the binary-input AWGN channel.  The convolutional code must lie between
the probability of its shortest path and the union bound of its published spectrum; the WiMAX code must not
fail more often than commpy's sum-product on the same frames; no label code may deliver more than a simplex.
Intervals are 95 %: Clopper-Pearson for frames; for bits, whose errors come in bursts, normal over frames.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from commpy.channelcoding import Trellis, viterbi_decode
from commpy.channelcoding.ldpc import ldpc_bp_decode
from scipy.sparse import csc_matrix
from scipy.special import erfc
from scipy.stats import beta

from twophase.sim.codes.conv import GENERATORS, MEMORY, ConvCode
from twophase.sim.codes.label_code import label_code
from twophase.sim.codes.ldpc import LdpcCode
from twophase.sim.codes.message_passing import Checks, parity_checks, propagate
from twophase.sim.theory.label_bound import simplex_success

ITERATIONS = 30
# Paths of distance 10, 12, ... of the K = 7 code and the information bits on them (Proakis, "Digital
# Communications", 4th edition, table 8.2-2; Frenger, Orten and Ottosson, IEEE Commun. Letters 3(11), 1999).
INFORMATION_WEIGHTS = (36, 211, 1404, 11633, 77433, 502690, 3322763)
Frames = tuple[np.ndarray, np.ndarray]


def frames_of(
    encode: Callable[[np.ndarray], np.ndarray], k: int, n: int, count: int, ebn0_db: float, seed: int
) -> Frames:
    """Information bits, (count, k), and LLRs log P1/P0, (count, n), at a rate of k / n."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, k))
    ratio = 10 ** (ebn0_db / 10) * k / n
    received = 2.0 * encode(bits) - 1 + math.sqrt(1 / (2 * ratio)) * rng.standard_normal((count, n))
    return bits, 4 * ratio * received


def rate_of(run: Callable[[np.ndarray], object], llr: np.ndarray, k: int, seconds: float) -> float:
    """Information bits per second of processor time; frames are added until it takes ``seconds``."""
    run(llr[:1])  # compilation and caches
    count = 1
    while True:
        start = time.process_time()
        run(llr[:count])
        elapsed = time.process_time() - start
        if elapsed >= seconds / 3 or count == len(llr):
            break
        count = min(len(llr), max(2 * count, int(count * seconds / max(elapsed, 1e-3))))
    repeats = max(1, math.ceil(seconds / max(elapsed, 1e-6)))
    start = time.process_time()
    for _ in range(repeats):
        run(llr[:count])
    return repeats * count * k / (time.process_time() - start)


def conv_rivals() -> Iterator[tuple[str, Callable[[np.ndarray], object]]]:
    """Soft Viterbi decoders of others, log P1/P0 in."""
    trellis = Trellis(np.array([MEMORY]), np.array([GENERATORS]), polynomial_format="LSB")
    yield "commpy", lambda llr: [viterbi_decode(row.copy(), trellis, decoding_type="soft") for row in llr]
    if importlib.util.find_spec("komm"):
        import komm

        # komm reads polynomials with the lowest power first.
        code = komm.ConvolutionalCode([[0b1101101, 0b1001111]])
        terminated = komm.TerminatedConvolutionalCode(code, num_blocks=1000, mode="zero-termination")
        decoder = komm.ViterbiDecoder(terminated, input_type="soft")
        yield "komm", lambda llr: decoder.decode(-llr)
    if importlib.util.find_spec("sionna"):
        import torch
        from sionna.phy.fec.conv import ViterbiDecoder

        torch.set_num_threads(1)
        polynomials = tuple(f"{generator:07b}" for generator in GENERATORS)
        sionna = ViterbiDecoder(gen_poly=polynomials, terminate=True, method="soft_llr")
        yield "Sionna", lambda llr: sionna(torch.tensor(llr, dtype=torch.float32)).numpy()


def read_design(path: Path) -> Checks:
    """The code of a design file (MacKay's alist), which commpy ships: the last lines are the checks' bits."""
    lines = path.read_text(encoding="ascii").splitlines()
    width = int(lines[0].split()[0])
    return parity_checks([[int(bit) - 1 for bit in line.split()] for line in lines[4 + width :]], width)


def ldpc_rivals(checks: Checks) -> Iterator[tuple[str, Callable[[np.ndarray], object]]]:
    """Sum-product decoders of others for any parity checks, log P1/P0 in."""
    rows = np.repeat(np.arange(len(checks.starts) - 1), np.diff(checks.starts))
    matrix = csc_matrix((np.ones(len(rows), dtype=np.int8), (rows, checks.bits)))
    design = {"n_vnodes": checks.width, "n_cnodes": matrix.shape[0], "parity_check_matrix": matrix}
    yield "commpy, sum-product", lambda llr: ldpc_bp_decode(-llr.ravel(), design, "SPA", ITERATIONS)[0]
    if importlib.util.find_spec("ldpc") and importlib.util.find_spec("sinter"):
        from ldpc import BpDecoder

        def package(method: str) -> Callable[[np.ndarray], object]:
            decoder = BpDecoder(
                matrix.tocsr().astype(np.uint8),
                error_rate=0.1,
                max_iter=ITERATIONS,
                bp_method=method,
                ms_scaling_factor=0.75,
                schedule="serial",
                input_vector_type="received_vector",
            )

            def run(llr: np.ndarray) -> None:
                for row in llr:
                    decoder.update_channel_probs(1 / (1 + np.exp(np.abs(row))))
                    decoder.decode((row > 0).astype(np.uint8))

            return run

        yield "ldpc, sum-product", package("product_sum")
        yield "ldpc, min-sum", package("minimum_sum")
    if importlib.util.find_spec("sionna"):
        import torch
        from sionna.phy.fec.ldpc import LDPCBPDecoder

        torch.set_num_threads(1)
        for rule, words in (("boxplus-phi", "sum-product"), ("minsum", "min-sum")):
            # No early end: it makes all passes.
            decoder = LDPCBPDecoder(matrix.tocsr(), cn_update=rule, num_iter=ITERATIONS)
            yield f"Sionna, {words}", lambda llr, d=decoder: d(torch.tensor(llr, dtype=torch.float32)).numpy()


def speeds(checks: Checks, seconds: float, seed: int) -> None:
    """Print both tables of throughput."""
    slow, fast = ConvCode(1000, 2012), ConvCode(1000, 2012, "numba")
    _, llr = frames_of(fast.encode, 1000, 2012, 2048, 2.0, seed)
    ours: list[tuple[str, Callable[[np.ndarray], object]]] = [
        ("own Viterbi, numba", fast.viterbi),
        ("own Viterbi, NumPy", slow.viterbi),
        ("own BCJR, numba", fast.decode),
        ("own BCJR, NumPy", slow.decode),
    ]
    _print_speeds("K = 7, rate 1/2, 1000 bits, Eb/N0 2 dB", [*ours, *conv_rivals()], llr, 1000, seconds)

    _, llr = frames_of(lambda _: np.zeros((2048, 1440)), 720, 1440, 2048, 2.0, seed)

    def own(rule: str, kernel: str) -> Callable[[np.ndarray], object]:
        return lambda llr: propagate(checks, llr.astype(np.float32), ITERATIONS, rule, kernel)

    ours = [
        (f"own {rule}, {kernel}", own(rule, kernel))
        for rule in ("min-sum", "sum-product")
        for kernel in ("numba", "numpy")
    ]
    title = f"WiMAX (1440, 720), Eb/N0 2 dB, at most {ITERATIONS} passes"
    _print_speeds(title, [*ours, *ldpc_rivals(checks)], llr, 720, seconds)

    print("\n| baseline's code | Eb/N0 dB | numba Mbit/s | NumPy Mbit/s |\n|---|---|---|---|")
    for k, n in ((12, 24), (24, 48), (48, 96), (48, 64)):
        for name, make in (("conv, BCJR", ConvCode), ("ldpc, sum-product", _sum_product)):
            rates = []
            for kernel in ("numba", "numpy"):
                code = make(k, n, kernel=kernel)
                _, llr = frames_of(code.encode, k, n, 8192, 4.0, seed)
                rates.append(rate_of(code.decode, llr, k, seconds) / 1e6)
            print(f"| {name} ({n}, {k}) | 4 | {rates[0]:.2f} | {rates[1]:.2f} |", flush=True)


def _sum_product(k: int, n: int, kernel: str) -> LdpcCode:
    return LdpcCode(k, n, rule="sum-product", kernel=kernel)


def _print_speeds(
    title: str,
    decoders: list[tuple[str, Callable[[np.ndarray], object]]],
    llr: np.ndarray,
    k: int,
    seconds: float,
) -> None:
    rates = {name: rate_of(run, llr, k, seconds) for name, run in decoders}
    reference = rates["commpy"] if "commpy" in rates else rates["commpy, sum-product"]
    print(f"\n| {title} | Mbit/s | times commpy |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate / 1e6:.4g} | {rate / reference:.0f} |", flush=True)


def frame_interval(errors: int, count: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    low = beta.ppf(0.025, errors, count - errors + 1) if errors else 0.0
    high = beta.ppf(0.975, errors + 1, count - errors) if errors < count else 1.0
    return float(low), float(high)


def check_conv(count: int, seed: int) -> bool:
    """Print the curve of the convolutional code; whether it keeps within its bounds."""
    print(
        "\n| K = 7, 500 bits | Eb/N0 dB | BER | 95 % | first term | union bound |\n|---|---|---|---|---|---|"
    )
    fine = True
    code = ConvCode(500, 1012, "numba")
    for ebn0_db in (2.0, 3.0, 4.0, 5.0):
        # Eb counts the tail here, so that the bounds are those of the endless code.
        bits, llr = frames_of(lambda b: code.encode(b[:, :500]), 506, 1012, count, ebn0_db, seed)
        wrong = (code.viterbi(llr) != bits[:, :500]).mean(axis=1)
        rate, half = float(wrong.mean()), 1.96 * float(wrong.std()) / math.sqrt(count)
        ratio = 10 ** (ebn0_db / 10) / 2
        distance = 10 + 2 * np.arange(len(INFORMATION_WEIGHTS))
        terms = np.array(INFORMATION_WEIGHTS) * erfc(np.sqrt(distance * ratio)) / 2
        first = terms[0] / INFORMATION_WEIGHTS[0]  # one path of distance 10 cannot be avoided
        # Below 3 dB the series has not converged where it is cut off, and is no bound.
        within = first - 2 * half <= rate and (ebn0_db < 3 or rate <= terms.sum() + 2 * half)
        fine &= bool(within)
        bound = f"{terms.sum():.2e}" if ebn0_db >= 3 else "-"
        print(f"| Viterbi | {ebn0_db:g} | {rate:.2e} | +-{half:.1e} | {first:.2e} | {bound} |", flush=True)
    return fine


def check_ldpc(checks: Checks, count: int, seed: int) -> bool:
    """Print both codes' curves and commpy's on the same frames; whether the decisions agree."""
    print("\n| LDPC | decoder | Eb/N0 dB | frames | wrong | FER | 95 % |\n|---|---|---|---|---|---|---|")
    fine = True

    def show(code: str, decoder: str, ebn0_db: float, wrong: np.ndarray) -> None:
        low, high = frame_interval(int(wrong.sum()), len(wrong))
        rate = f"{wrong.mean():.2e} | {low:.2e} to {high:.2e}"
        print(f"| {code} | {decoder} | {ebn0_db:g} | {len(wrong)} | {wrong.sum()} | {rate} |", flush=True)

    _, commpy = next(iter(ldpc_rivals(checks)))
    for ebn0_db in (1.0, 1.5, 2.0):
        _, llr = frames_of(lambda _: np.zeros((count // 10, 1440)), 720, 1440, count // 10, ebn0_db, seed)
        words: dict[str, Any] = {}
        for rule in ("min-sum", "sum-product"):
            words[rule] = propagate(checks, llr.astype(np.float32), ITERATIONS, rule, "numba") > 0
            show("WiMAX (1440, 720)", f"own {rule}", ebn0_db, words[rule].any(axis=1))
        few = min(len(llr), 40)
        theirs = np.asarray(commpy(llr[:few])).T.reshape(few, -1) > 0
        show("WiMAX (1440, 720)", "commpy sum-product", ebn0_db, theirs.any(axis=1))
        # Layers spread news faster than commpy's flooding, so at equal passes ours fails no more often.
        fine &= bool(words["sum-product"][:few].any(axis=1).sum() <= theirs.any(axis=1).sum())
    for k, n in ((24, 48), (100, 200)):
        for ebn0_db in (2.0, 4.0):
            for rule in ("min-sum", "sum-product"):
                code = LdpcCode(k, n, rule=rule, kernel="numba")
                bits, llr = frames_of(code.encode, k, n, count, ebn0_db, seed)
                show(f"5G ({n}, {k})", f"own {rule}", ebn0_db, ((code.decode(llr) > 0) != bits).any(axis=1))
            conv = ConvCode(k, n, "numba")
            bits, llr = frames_of(conv.encode, k, n, count, ebn0_db, seed)
            show(f"conv ({n}, {k})", "Viterbi", ebn0_db, (conv.viterbi(llr) != bits).any(axis=1))
    return fine


def check_labels(count: int, seed: int) -> bool:
    """Print how near the label codes come to a simplex; whether none is beyond it."""
    print("\n| 10 labels in n symbols | taken from | Es/N0 dB | delivered | 95 % | simplex |")
    print("|---|---|---|---|---|---|")
    fine = True
    rng = np.random.default_rng(seed)
    for symbols, esn0_db in ((1, 10.0), (2, 6.0), (3, 3.0), (6, 0.0), (12, -3.0), (24, -6.0)):
        code = label_code(10, symbols)
        sent = rng.integers(0, 10, 5 * count)
        noise = rng.standard_normal((len(sent), symbols)) + 1j * rng.standard_normal((len(sent), symbols))
        noise_var = 10 ** (-esn0_db / 10)
        heard = code.decode(code.words[sent] + math.sqrt(noise_var / 2) * noise, noise_var)
        wrong = int((heard != sent).sum())
        low, high = frame_interval(len(sent) - wrong, len(sent))
        bound = float(simplex_success(10, symbols, esn0_db))
        fine &= low <= bound
        share = f"{1 - wrong / len(sent):.4f} | {low:.4f} to {high:.4f} | {bound:.4f}"
        print(f"| {symbols} | {code.alphabet} | {esn0_db:g} | {share} |", flush=True)
    return fine


def main() -> int:
    """Print all tables; 0 if nothing is out of bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time for each speed")
    parser.add_argument("--frames", type=int, default=20_000, help="frames at each point of a curve")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = importlib.util.find_spec("commpy")
    assert found is not None
    assert found.submodule_search_locations is not None
    designs = Path(found.submodule_search_locations[0]) / "channelcoding/designs/ldpc/wimax"
    checks = read_design(designs / "1440.720.txt")
    absent = [name for name in ("komm", "ldpc", "sionna") if not importlib.util.find_spec(name)]
    print(f"not installed here: {', '.join(absent) or 'nothing'}")
    speeds(checks, arguments.seconds, arguments.seed)
    fine = check_conv(arguments.frames, arguments.seed)
    fine &= check_ldpc(checks, arguments.frames, arguments.seed)
    fine &= check_labels(arguments.frames, arguments.seed)
    print("\nPASS" if fine else "\nFAIL")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
