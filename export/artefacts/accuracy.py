"""Accuracy of the deployed pair of graphs over AWGN, for the manifest and the card.

Both ends know the SNR: the routing chooses the mode at the true Es/N0, and a link with headers sends its own
through the same noise.  As in the simulator, the payload is scaled to unit average energy by the energy E of
what is transmitted, and the receiver knows 1/sqrt(E) and N0.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.export.graphs.signature import deployed
from twophase.link.errors import InputError, VerificationError
from twophase.link.manifest import Accuracy, Manifest
from twophase.link.modem import Transmission, frames_of, group_by_mode, modulate
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.receiver import Receiver
from twophase.link.samples import Samples
from twophase.link.transmitter import FeatureTransmitter

__all__ = ["accuracy_of", "measure_accuracy", "trials_for"]

ESN0_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
"""Where the exporter measures."""

SEED = 0
"""Seed of its noise."""

_MOST_TRIALS, _TRANSMISSIONS = 20, 20_000

_BLOCK = 2048
"""Samples handled at once.  The noise depends on it, so it is no option."""


def trials_for(samples: int) -> int:
    """How often the exporter sends each sample at each SNR: fewer times where there are many samples."""
    return max(1, min(_MOST_TRIALS, _TRANSMISSIONS // samples))


def accuracy_of(folder: Path, graphs: Mapping[str, bytes], manifest: Manifest, samples: Samples) -> Accuracy:
    """Accuracy of a deployed pair that stands in no bundle yet; ``folder`` holds it for a while."""
    manifest = replace(manifest, files={})  # which lists no graphs of this pair
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for graph in deployed(manifest):
            (Path(name) / graph).write_bytes(graphs[graph])
        return measure_accuracy(
            FeatureTransmitter(name, manifest=manifest),
            Receiver(name, manifest=manifest),
            samples.features,
            samples.labels,
            trials=trials_for(len(samples.labels)),
            seed=SEED,
            esn0_db=ESN0_DB,
        )


def measure_accuracy(
    transmitter: FeatureTransmitter,
    receiver: Receiver,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    trials: int,
    seed: int,
    esn0_db: Sequence[float],
) -> Accuracy:
    """Send every sample ``trials`` times at each Es/N0 in dB and count right decisions.

    ``features`` have shape (n, *input_shape), ``labels``, the true classes, shape (n,).  The noise is drawn
    afresh for each SNR, by its value, and each trial.  Channel uses are counted with headers.

    Raises
    ------
    InputError
        If ``trials`` is below 1, the seed negative, there is no sample, or a shape is wrong.
    VerificationError
        If the transmitter sends points that its mode's constellation does not have.
    """
    samples, truth = np.asarray(features, dtype=np.float32), np.asarray(labels, dtype=np.int64)
    if trials < 1:
        raise InputError("trials", "be at least 1", trials)
    if seed < 0:
        raise InputError("seed", "be at least 0", seed)
    if len(samples) == 0 or truth.shape != samples.shape[:1]:
        raise InputError("labels", f"have shape ({len(samples)},) and name at least one", truth.shape)
    correct: list[int] = []
    symbols: list[float] = []
    for point in esn0_db:
        sent = [transmitter.send(samples[rows], point) for rows in _blocks(len(samples))]
        uses = sum(int((part.symbol_count + part.header_count).sum()) for part in sent)
        symbols.append(uses / len(samples))
        payloads = _payloads(sent, transmitter.manifest)
        right = 0
        for trial in range(trials):
            for block, rows in enumerate(_blocks(len(samples))):
                rng = _generator(seed, point, trial, block)
                decided = _decided(receiver, sent[block], payloads[0][block], payloads[1], point, rng)
                right += int(np.count_nonzero(decided == truth[rows]))
        correct.append(right)
    return Accuracy(
        seed=seed,
        trials=trials,
        samples=len(samples),
        esn0_db=tuple(float(point) for point in esn0_db),
        correct=tuple(correct),
        symbols=tuple(symbols),
    )


def _payloads(sent: list[Transmission], manifest: Manifest) -> tuple[list[NDArray[np.complex128]], float]:
    """Points of unit average energy, (batch, max_symbols) in each block, and 1/sqrt(E)."""
    blocks = []
    for part in sent:
        try:
            blocks.append(modulate(part.symbols, group_by_mode(part.mode, manifest.modes)))
        except InputError as error:
            raise VerificationError(f"'{manifest.head_file}'", [str(error)]) from error
    energy = sum(float((np.abs(points) ** 2).sum()) for points in blocks)
    gain = 1.0 / math.sqrt(energy / sum(int(part.symbol_count.sum()) for part in sent))
    return [gain * points for points in blocks], gain


def _decided(
    receiver: Receiver,
    sent: Transmission,
    payload: NDArray[np.complex128],
    gain: float,
    esn0_db: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Decided classes of one transmission of a block through fresh noise, shape (batch,)."""
    noise_var = float(esn0_db_to_noise_var(esn0_db))
    frames = frames_of(sent.header, sent.header_count, payload)
    pairs = rng.standard_normal((*frames.shape, 2))
    noise = math.sqrt(noise_var / 2.0) * (pairs[..., 0] + 1j * pairs[..., 1])
    # The payload has the same noise after a header of any length; the routing goes by one SNR for all.
    width, length = sent.header.shape[1], int(sent.header_count[0])
    noise = np.concatenate([noise[:, :length], noise[:, width:], noise[:, length:width]], axis=1)
    return receiver.decide(frames + noise, noise_var, 1.0, esn0_db, amplitude=1.0 / gain).classes


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _generator(seed: int, esn0_db: float, trial: int, block: int) -> np.random.Generator:
    """A generator of its own for each SNR, known by its value in steps of 1e-6 dB, trial and block."""
    point = round(esn0_db * 1e6) + 2**40  # keys are not negative
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(point, trial, block)))
