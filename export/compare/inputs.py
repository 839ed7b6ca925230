"""What graphs and programs are compared on: the test split at several SNRs, and seeded random inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twophase.export.graphs.run import Values
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = ["FeatureBatch", "feature_batches", "llr_batches", "sent_llr", "spread_db"]

SPLIT_SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
"""SNRs at which the whole test split is compared."""

RANDOM_SNRS_DB = (-10.0, 30.0)
"""Range of the SNRs of random inputs."""

CHUNK = 2048
"""Samples compared at once."""


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """Inputs of a transmitter."""

    source: str
    """``test split``, ``each mode`` or ``random``."""
    features: NDArray[np.float32]
    """Shape (batch, *input_shape)."""
    snr_db: NDArray[np.float32]
    """Shape (batch,)."""
    request: int | None = None
    """The mode that is forced; None leaves it to the router."""

    @property
    def feed(self) -> Values:
        """The inputs by name; a request is one for all samples."""
        feed: Values = {"input": self.features, "snr_db": self.snr_db}
        return feed if self.request is None else {**feed, MODE_REQUEST: np.array([self.request])}


def spread_db(count: int) -> NDArray[np.float32]:
    """SNRs from -5 to 20 dB, one for each of so many samples."""
    return np.linspace(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], count, dtype=np.float32)


def sent_llr(sent: Values, magnitude: float) -> NDArray[np.float32]:
    """LLRs of this magnitude in favour of the bits that were sent, 0 after them."""
    bits = sent["bits"]
    inside = np.arange(bits.shape[1]) < sent["bit_count"][:, np.newaxis]
    return np.where(inside, magnitude * (2.0 * bits - 1.0), 0.0).astype(np.float32)


def feature_batches(
    features: NDArray[np.float32], manifest: Manifest, random_inputs: int, seed: int
) -> Iterator[FeatureBatch]:
    """The test split at every SNR of ``SPLIT_SNRS_DB``, then random inputs in the range of the data.

    A link of several modes gets the split in each mode between them, from -5 to 20 dB, and every second chunk
    of the random inputs is forced into a mode, each mode in its turn.

    Half of the random inputs are samples of the split plus Gaussian noise of 0.3 of each feature's standard
    deviation, half are uniform between each feature's least and largest value.
    """
    modes = len(manifest.modes)
    for snr_db in SPLIT_SNRS_DB:
        for start in range(0, len(features), CHUNK):
            part = features[start : start + CHUNK]
            yield FeatureBatch("test split", part, np.full(len(part), snr_db, dtype=np.float32))
    snrs_db = spread_db(len(features))
    for mode in range(modes if modes > 1 else 0):
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            yield FeatureBatch("each mode", features[rows], snrs_db[rows], mode)
    rng = np.random.default_rng(seed)
    low, high, spread = features.min(axis=0), features.max(axis=0), features.std(axis=0)
    for number, start in enumerate(range(0, random_inputs, CHUNK)):
        count = min(CHUNK, random_inputs - start)
        near = count // 2
        drawn = features[rng.integers(0, len(features), near)]
        noisy = drawn + 0.3 * spread * rng.standard_normal(drawn.shape)
        uniform = rng.uniform(low, high, (count - near, *features.shape[1:]))
        both = manifest.input.legal(np.concatenate([noisy, uniform]).astype(np.float32))
        request = number // 2 % modes if modes > 1 and number % 2 else None
        yield FeatureBatch("random", both, rng.uniform(*RANDOM_SNRS_DB, count).astype(np.float32), request)


def llr_batches(
    manifest: Manifest, count: int, seed: int, *, extremes: bool = True, mode: int | None = None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """LLRs, shape (batch, max_bits), and modes, shape (batch,), as a receiver may meet them.

    Random bits over a binary-input Gaussian channel, whose LLR of mean m has variance 2 m, with m from 0.1 to
    the clipping bound; with ``extremes``, before them, for every mode, all LLRs at zero and at either bound.
    The random ones are of random modes, or all of ``mode``.
    """
    modes, clip = manifest.modes, manifest.llr_clip
    bits_of_mode = np.array([mode.channel_bits for mode in modes])
    rng = np.random.default_rng(seed)
    if extremes:
        levels = np.array([0.0, clip, -clip])
        number = np.repeat(np.arange(len(modes), dtype=np.int64), len(levels))
        yield _masked(np.tile(levels, len(modes))[:, np.newaxis], number, bits_of_mode), number
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        number = rng.integers(0, len(modes), size) if mode is None else np.full(size, mode)
        mean = np.exp(rng.uniform(np.log(0.1), np.log(clip), (size, 1)))
        bits = rng.integers(0, 2, (size, modes.max_bits))
        llr = (2 * bits - 1) * mean + np.sqrt(2 * mean) * rng.standard_normal(bits.shape)
        yield _masked(np.clip(llr, -clip, clip), number, bits_of_mode), number


def _masked(
    llr: NDArray[np.float64], mode: NDArray[np.int64], bits_of_mode: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Zero after the bits of each sample's mode."""
    sent = np.arange(bits_of_mode.max()) < bits_of_mode[mode, np.newaxis]
    return np.where(sent, llr, 0.0).astype(np.float32)
