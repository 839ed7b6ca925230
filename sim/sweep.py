"""The data path of one SNR point, top to bottom: transmit, modulate, frame, channel, receive, count.

Energy.  The deployed payload and each soft one are scaled to unit average energy by their OWN measured energy
E, and the receiver knows the total gain h / sqrt(E).  A soft symbol is a mean of points and weaker than they
are; to let it suffer for that would lower the bar for the deployed system.  This is the stricter comparison.

Pairs.  All systems go through the same gains and the same noise, entry by entry of a (samples, frame width)
array of which each sample uses as many entries as its frame has symbols.

Soft references.  In training the receiver knows the mode, and so it does here: what the deployed link loses
by misread headers or disagreeing estimates is part of the gap.

Signalling.  Transmitter and receiver act on estimates of the SNR (:mod:`twophase.sim.estimates`).  The code
of a header follows from the estimate, so its length, and with it the place of the payload, is the same for
all systems at one transmitter.  LLRs are always computed with the true noise variance.  Where both ends know
the gain of a sample's block before it is sent, gains and noise are drawn first.

Randomness.  What the graphs give for a sample does not depend on its batch.  Its noise does depend on its
block of samples and its place there, for a block is drawn at once, and its scale on the energy E of all
samples.  The same samples in the same order under the same seed give the same report; a part of them, or
another order, gives other noise of the same law.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twophase.link.demap import llr_exact, llr_maxlog
from twophase.link.header import Header
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.channels import CommpyDemapper, FlatChannel
from twophase.sim.counts import (
    SystemCounts,
    Tally,
    count_bits,
    count_codewords,
    count_gains,
    count_transmission,
)
from twophase.sim.estimates import SnrEstimates, point_key
from twophase.sim.frames import Frames, behind, framed
from twophase.sim.reception import Demap, Heard, ReceivingEnd
from twophase.sim.settings import Settings
from twophase.sim.streams import blocks, modulate, soft_stream, transmit
from twophase.sim.system import Listener, Samples, System

__all__ = ["noise_generator", "simulate_point"]

Symbols = NDArray[np.complex128]
SnrArray = NDArray[np.float32]

_NOISELESS_DB = 60.0
"""Es/N0 that stands for no noise: every LLR of an undisturbed symbol, up to 256-QAM, reaches the clip."""


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
    InputError
        If the forced mode does not exist.
    ArtifactError
        If a transmitter sends what its mode does not allow.
    """
    modes, labels = system.modes, samples.labels
    forced = None if settings.mode is None else modes.find(settings.mode)
    # A receiver that is told the mode costs no symbols and makes no mistake about it.
    told = forced is not None or settings.header == "ideal"
    header = Header((), len(modes)) if told else system.routing.header_of(len(modes))
    noise_var = float(esn0_db_to_noise_var(esn0_db))
    commpy_demapper = CommpyDemapper()
    demappers: dict[str, Demap] = {"exact": llr_exact, "maxlog": llr_maxlog, "commpy": commpy_demapper}
    end = ReceivingEnd(system.routing, modes, demappers[settings.demapper], noise_var, system.llr_clip)
    # The transmitter is told this point's SNR, this demapper that of a channel without noise.
    undisturbed = ReceivingEnd(
        system.routing, modes, llr_exact, float(esn0_db_to_noise_var(_NOISELESS_DB)), system.llr_clip
    )
    if forced is not None:
        settings = replace(settings, known_snr="mean")  # there is nothing to adapt
    estimates = SnrEstimates(esn0_db, len(labels), system.routing, settings)
    width = header.max_symbols + modes.max_symbols
    counts = {item.name: SystemCounts(np.zeros_like(labels)) for item in system.references}
    tally = Tally(esn0_db, SystemCounts(np.zeros_like(labels)), counts, np.zeros_like(labels))

    def hear(
        listener: Listener, received: Symbols, gains: Symbols, sent: Frames, rows: slice, snr: SnrArray
    ) -> Heard:
        if told:
            return end.hear_payload(listener, received, gains, sent.energy, sent.mode[rows])
        return end.hear(listener, received, gains, sent.energy, snr[rows])

    def air_of(trial: int, block: int, rows: slice) -> FlatChannel:
        rng = noise_generator(settings.seed, esn0_db, trial, block)
        air = FlatChannel(settings.channel, esn0_db, rng, settings.coherence)
        air.draw((rows.stop - rows.start, width))
        return air

    for trial in range(settings.trials):
        if trial == 0 or estimates.vary:
            gain_db = np.zeros(len(labels))
            if settings.known_snr == "block":
                gain = [air_of(trial, block, rows).gains[:, 0] for block, rows in blocks(len(labels))]
                gain_db = 20 * np.log10(np.maximum(np.abs(np.concatenate(gain)), 1e-3))
            snr_sent, snr_heard = estimates.of_trial(trial, gain_db)
            sent = transmit(system.sender, samples.features, snr_sent, modes, forced)
            payload = modulate(sent, modes)
            deployed = framed(payload, header, snr_sent)
            soft = {
                item.name: framed(
                    soft_stream(item.sender, samples.features, snr_sent, modes, forced), header, snr_sent
                )
                for item in system.references
            }
            count_transmission(tally, sent, deployed, soft, modes)
            if settings.known_snr == "block":
                count_gains(tally, deployed, gain_db)
            for _, rows in blocks(len(labels)):
                points = payload.points[rows]
                heard = undisturbed.hear_payload(
                    system.listener, points, np.ones_like(points), payload.energy, payload.mode[rows]
                )
                tally.noiseless_correct[rows] += heard.classes == labels[rows]

        for block, rows in blocks(len(labels)):
            air = air_of(trial, block, rows)
            received = air.replay(deployed.points[rows])
            heard = hear(system.listener, received, air.gains, deployed, rows, snr_heard)
            tally.deployed.count(deployed, rows, heard, labels)
            count_codewords(tally, sent, rows, heard, modes)
            true_place = deployed.header_count[rows]
            arrived, gains = (behind(row, true_place, modes.max_symbols) for row in (received, air.gains))
            count_bits(tally, sent, rows, arrived, gains / math.sqrt(deployed.energy), modes)
            for item in system.references:
                frames = soft[item.name]
                arrived = behind(air.replay(frames.points[rows]), true_place, modes.max_symbols)
                heard = end.hear_payload(item.listener, arrived, gains, frames.energy, frames.mode[rows])
                tally.references[item.name].count(frames, rows, heard, labels)
        tally.trials += 1
        after_trial()
    tally.llrs_replaced, tally.llrs_total = commpy_demapper.replaced, commpy_demapper.total
    return tally


def noise_generator(seed: int, esn0_db: float, trial: int, block: int) -> np.random.Generator:
    """Independent generator for each SNR point, trial and block, whatever is run before or beside it.

    One generator serves a whole block of samples, so a sample's noise depends on the block that it is in.
    The point is known by its value, not by its place in a grid, so ``--snr 5`` repeats the 5 dB of ``0:20``.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(point_key(esn0_db), trial, block))
    return np.random.default_rng(sequence)
