"""The data path of one SNR point, top to bottom: transmit, modulate, channel, demap, receive, classify.

Energy.  The deployed stream and each soft stream are scaled to unit average energy by their OWN measured
energy E, and the receiver knows the total gain h / sqrt(E).  A soft symbol is a mean of points and weaker
than they are; to let it suffer for that would lower the bar for the deployed system.  This is the stricter
comparison.

Pairs.  All systems go through the same gains and the same noise, entry by entry of a (samples, max_symbols)
array of which each sample uses as many entries as its mode has symbols.

Randomness.  What the graphs give for a sample does not depend on its batch.  Its noise does depend on its
block of samples and its place there, for a block is drawn at once, and its scale on the energy E of all
samples.  The same samples in the same order under the same seed give the same report; a part of them, or
another order, gives other noise of the same law.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions, llr_exact, llr_maxlog
from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.runtime import Transmission
from twophase.sim.channels import CommpyDemapper, FlatChannel
from twophase.sim.reception import Demap, demap_stream, listen
from twophase.sim.settings import Settings
from twophase.sim.streams import Stream, blocks, by_mode, modulate, soft_stream, transmit
from twophase.sim.system import Samples, System

__all__ = ["Tally", "noise_generator", "simulate_point"]


_NOISELESS_DB = 60.0
"""Es/N0 that stands for no noise: every LLR of an undisturbed symbol, up to 256-QAM, reaches the clip."""


@dataclass
class Tally:
    """Counts of one SNR point; the statistics are made of them afterwards."""

    esn0_db: float
    mode: NDArray[np.int64]
    """Mode of each sample of the deployed system, shape (samples,)."""
    histograms: dict[int, NDArray[np.int64]]
    """For each mode in use: how often each constellation point is sent, shape (M,)."""
    energy: float
    reference_energy: dict[str, float]
    correct: NDArray[np.int64]
    """Trials in which the deployed system classified each sample correctly, shape (samples,)."""
    reference_correct: dict[str, NDArray[np.int64]]
    noiseless_correct: NDArray[np.bool_]
    """Whether each sample is classified correctly if its symbols arrive undisturbed and the receiver is told
    so, shape (samples,)."""
    trials: int = 0
    bit_errors: int = 0
    bits_sent: int = 0
    codeword_errors: int = 0
    codewords_sent: int = 0
    abs_llr: float = 0.0
    """Sum of |LLR| over ``bits_sent``."""
    llrs_replaced: int = 0
    """LLRs that commpy's demapper could not give (``--demapper commpy`` only)."""
    llrs_total: int = 0


def simulate_point(
    system: System,
    samples: Samples,
    esn0_db: float,
    settings: Settings,
    after_trial: Callable[[], None] = lambda: None,
) -> Tally:
    """Send every sample ``settings.trials`` times at one Es/N0, deployed and soft through the same air.

    The result depends on the arguments alone: a point gives the same counts in every grid, wherever it stands
    there.

    Raises
    ------
    ArtifactError
        If a transmitter sends what its mode does not allow.
    """
    modes = system.modes
    noise_var = float(esn0_db_to_noise_var(esn0_db))
    commpy_demapper = CommpyDemapper()
    demappers: dict[str, Demap] = {"exact": llr_exact, "maxlog": llr_maxlog, "commpy": commpy_demapper}
    demap = demappers[settings.demapper]

    sent = transmit(system.sender, samples.features, esn0_db, modes)
    deployed = modulate(sent, modes)
    soft = {
        item.name: soft_stream(item.sender, samples.features, esn0_db, modes) for item in system.references
    }
    tally = Tally(
        esn0_db=esn0_db,
        mode=sent.mode,
        histograms=_histograms(sent, modes),
        energy=deployed.energy,
        reference_energy={name: stream.energy for name, stream in soft.items()},
        correct=np.zeros(len(samples.labels), dtype=np.int64),
        reference_correct={name: np.zeros(len(samples.labels), dtype=np.int64) for name in soft},
        noiseless_correct=np.zeros(len(samples.labels), dtype=bool),
    )

    def llr_of(stream: Stream, rows: slice, received: ArrayLike, gains: ArrayLike) -> NDArray[np.float64]:
        total_gain = np.asarray(gains) / math.sqrt(stream.energy)
        return demap_stream(demap, received, stream.mode[rows], total_gain, noise_var, modes, system.llr_clip)

    # The transmitter is told this point's SNR, the demapper that of a channel without noise.
    noiseless_var = float(esn0_db_to_noise_var(_NOISELESS_DB))
    for _, rows in blocks(len(samples.labels)):
        undisturbed = deployed.points[rows]
        total_gain = np.full(undisturbed.shape, 1 / math.sqrt(deployed.energy))
        llr = demap_stream(
            llr_exact, undisturbed, sent.mode[rows], total_gain, noiseless_var, modes, system.llr_clip
        )
        decided, _ = listen(system.listener, llr, sent.mode[rows])
        tally.noiseless_correct[rows] = decided == samples.labels[rows]

    for trial in range(settings.trials):
        for block, rows in blocks(len(samples.labels)):
            air = FlatChannel(
                settings.channel, esn0_db, noise_generator(settings.seed, esn0_db, trial, block)
            )
            received = air.propagate(deployed.points[rows])
            llr = llr_of(deployed, rows, received, air.gains)
            decided, indices = listen(system.listener, llr, sent.mode[rows])
            tally.correct[rows] += decided == samples.labels[rows]
            tally.abs_llr += float(np.abs(llr).sum())
            _count_bits(tally, sent, rows, received, air.gains / math.sqrt(deployed.energy), modes)
            _count_codewords(tally, sent, rows, indices, modes)
            for item in system.references:
                stream = soft[item.name]
                heard = air.replay(stream.points[rows])
                llr = llr_of(stream, rows, heard, air.gains)
                decided, _ = listen(item.listener, llr, stream.mode[rows])
                tally.reference_correct[item.name][rows] += decided == samples.labels[rows]
        tally.trials += 1
        after_trial()
    tally.llrs_replaced, tally.llrs_total = commpy_demapper.replaced, commpy_demapper.total
    return tally


def noise_generator(seed: int, esn0_db: float, trial: int, block: int) -> np.random.Generator:
    """Independent generator for each SNR point, trial and block, whatever is run before or beside it.

    One generator serves a whole block of samples, so a sample's noise depends on the block that it is in.
    The point is known by its value, not by its place in a grid, so ``--snr 5`` repeats the 5 dB of ``0:20``.
    """
    # In steps of 1e-6 dB and made positive: a spawn key takes non-negative integers only.
    point = round(esn0_db * 1e6) + 2**40
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(point, trial, block))
    return np.random.default_rng(sequence)


def _histograms(sent: Transmission, modes: ModeTable) -> dict[int, NDArray[np.int64]]:
    return {
        int(sent.mode[rows[0]]): np.bincount(
            sent.symbols[rows, : mode.symbols].ravel(), minlength=mode.order
        ).astype(np.int64)
        for mode, rows in by_mode(sent.mode, modes)
    }


def _count_bits(
    tally: Tally,
    sent: Transmission,
    block: slice,
    received: NDArray[np.complex128],
    gains: NDArray[np.complex128],
    modes: ModeTable,
) -> None:
    """Channel bits, decided by the nearest point, against those sent; padding inside a symbol included."""
    symbols = sent.symbols[block]
    for mode, rows in by_mode(sent.mode[block], modes):
        width = mode.symbols
        decided = hard_decisions(received[rows, :width], qam(mode.order), gains[rows, :width])
        sent_bits = symbols_to_bits(symbols[rows, :width], mode.bits_per_symbol)
        wrong = symbols_to_bits(decided, mode.bits_per_symbol) != sent_bits
        tally.bit_errors += int(np.count_nonzero(wrong))
        tally.bits_sent += wrong.size


def _count_codewords(
    tally: Tally, sent: Transmission, block: slice, indices: NDArray[np.int64], modes: ModeTable
) -> None:
    for mode, rows in by_mode(sent.mode[block], modes):
        wrong = indices[rows, : mode.tokens] != sent.indices[block][rows, : mode.tokens]
        tally.codeword_errors += int(np.count_nonzero(wrong))
        tally.codewords_sent += wrong.size
