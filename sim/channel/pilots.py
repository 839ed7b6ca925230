"""Pilots: where they stand among the data, and what a receiver learns from them.

The symbols of a frame come in blocks; each block that a frame touches carries pilots, known QPSK symbols of
unit energy, and is estimated by itself.  A received pilot times the conjugate of the one that was sent gives
m_p = h_p + n_p, with noise of variance N0.  Every estimate of a gain is linear in these:

    least squares   h_d = sum_p w_dp m_p: on a flat channel the mean, under OFDM straight lines between pilots
    MMSE            h_d = mu + R_dp (R_pp + N0 I)^-1 (m - mu), the Wiener filter for the known mean mu and
                    covariance R of the gains (Kay, Estimation Theory, 1993, chapter 12);
                    its error has variance R_dd - R_dp (R_pp + N0 I)^-1 R_pd

To a receiver whose gain is wrong by e, y = h x + n has noise of variance N0 + E|e|^2, for symbols of unit
energy, and it demaps with that.  For MMSE this is the law of the noise for QPSK, e being independent of the
estimate, and its mean over the points of larger constellations.  A receiver by least squares knows no
statistics of the channel: it counts the noise of its pilots, N0 sum_p w_dp^2, and not how far the channel
bends between them.

N0 is estimated from what the pilots of a frame's FIRST block leave around a constant (flat channel) or a
straight line (OFDM), for that block is sent whatever the frame's length.  This is unbiased on a flat channel;
under OFDM the channel's bend counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.sim.settings import EstimatorName

__all__ = ["BlockEstimator", "Layout", "Spectrum", "flat_estimator", "pilot_points", "spectrum_of"]

LEAST_NOISE_VAR = 1e-12
"""Lower bound of an estimated N0, -120 dB; below it there is only rounding."""
_ROUNDING = 1e-13

Gains = NDArray[np.complex128]
Reals = NDArray[np.float64]
Number = TypeVar("Number", np.complex128, np.float64)


@dataclass(frozen=True)
class Layout:
    """How the data symbols of a frame are grouped into blocks."""

    data: int | None
    """Data symbols in a block; None: one block holds a whole frame."""
    pilots: int
    """Pilots in a block."""

    def blocks(self, symbols: ArrayLike) -> NDArray[np.int64]:
        """Blocks that frames of so many data symbols touch, same shape."""
        count = np.asarray(symbols, dtype=np.int64)
        return np.minimum(count, 1) if self.data is None else -(-count // self.data)

    def spread(self, values: NDArray[Number], width: int) -> NDArray[Number]:
        """Values of blocks, (rows, blocks, data or 1), to those of data symbols, (rows, width)."""
        rows, blocks, _ = values.shape
        data = width if self.data is None else self.data
        return np.broadcast_to(values, (rows, blocks, data)).reshape(rows, blocks * data)[:, :width]


def pilot_points(count: int) -> Gains:
    """The pilots of a block, (count,): QPSK of unit energy, a quarter turn from each to the next."""
    points: Gains = np.exp(0.25j * np.pi) * 1j ** (np.arange(count) % 4)
    return points


class Spectrum(NamedTuple):
    """The directions among the pilots that tell something of the data, by the eigenvectors of R_pp."""

    powers: Reals
    """Variance of the gains along each direction, an eigenvalue of R_pp, (directions,)."""
    directions: Gains
    """Unit eigenvectors, (directions, pilots)."""
    loadings: Gains
    """R_dp times each eigenvector, (data, directions)."""


def spectrum_of(at_pilots: Gains, to_data: Gains) -> Spectrum:
    """Spectrum of any covariance: R_pp (pilots, pilots) and R_dp (data, pilots) of data and pilots."""
    powers, vectors = np.linalg.eigh(at_pilots)
    loadings = to_data @ vectors
    kept = np.abs(loadings).max(axis=0) > _ROUNDING
    return Spectrum(np.maximum(powers[kept], 0.0), vectors[:, kept].T, loadings[:, kept])


class BlockEstimator:
    """Linear estimates of the gains of a block's data symbols from those at its pilots.

    The gain of a data symbol has the mean mu and the ``variance`` R_dd; ``weights`` are those of least
    squares, w_dp, (data, pilots), and data may be 1 for all symbols of a block.  ``shapes`` are what the
    channel may look like along the pilots when N0 is estimated, (shapes, pilots).
    """

    def __init__(
        self, mean: complex, spectrum: Spectrum, variance: float, weights: Reals, shapes: Reals
    ) -> None:
        self.mean, self.variance, self.weights = mean, variance, weights
        self._spectrum = spectrum
        self._basis = np.linalg.qr(shapes.T)[0].T
        self._freedom = shapes.shape[1] - len(shapes)

    def gains(self, matched: Gains, noise_var: Reals, estimator: EstimatorName) -> tuple[Gains, Reals]:
        """Gains at the data symbols, (rows, blocks, data), and the variance of their error.

        ``matched`` are received pilots times the conjugate of those sent, (rows, blocks, pilots).  The
        variance is what the receiver knows of, (rows or 1, 1, data), if it believes in the N0
        ``noise_var``, (rows or 1,).
        """
        n0 = noise_var[:, np.newaxis, np.newaxis]
        # Sums term by term: a matrix product may round by the number of its rows.
        if estimator == "ls":
            gain = np.zeros((*matched.shape[:2], len(self.weights)), dtype=np.complex128)
            for pilot, weight in enumerate(self.weights.T):
                gain += matched[..., pilot, np.newaxis] * weight
            return gain, n0 * (self.weights**2).sum(axis=1)
        powers, directions, loadings = self._spectrum
        gain = np.full((*matched.shape[:2], len(loadings)), self.mean, dtype=np.complex128)
        error = np.full((len(noise_var), 1, len(loadings)), self.variance, dtype=np.float64)
        for power, direction, loading in zip(powers, directions, loadings.T, strict=True):
            along = ((matched - self.mean) * direction.conj()).sum(axis=-1, keepdims=True)
            gain += along * (loading / (power + n0))
            error -= np.abs(loading) ** 2 / (power + n0)
        return gain, np.maximum(error, 0.0)  # rounding

    def noise_var(self, matched: Gains) -> Reals:
        """N0 estimated from the pilots of one block, (rows, pilots) to (rows,).

        It needs more pilots than shapes: two on a flat channel, three under OFDM.
        """
        rest = matched.copy()
        for shape in self._basis:
            rest -= (matched * shape).sum(axis=-1, keepdims=True) * shape
        energy = (rest.real**2 + rest.imag**2).sum(axis=-1)
        estimated: Reals = np.maximum(energy / self._freedom, LEAST_NOISE_VAR)
        return estimated


@lru_cache(maxsize=32)
def flat_estimator(pilots: int, mean: complex, variance: float) -> BlockEstimator:
    """Estimator of a gain of this mean and variance that holds for a whole block.

    Least squares has an error of variance N0 / pilots, MMSE one of v N0 / (pilots v + N0) for variance v; so
    on AWGN, v = 0, an MMSE receiver knows the gain and only pays for its pilots.
    """
    ones = np.ones((1, pilots))
    # R_pp has rank one, v everywhere: the pilots' mean is the only direction, of power P v.
    direction = (ones / np.sqrt(pilots)).astype(np.complex128)
    loading = np.array([[variance * np.sqrt(pilots)]], dtype=np.complex128)
    spectrum = Spectrum(np.array([pilots * variance]), direction, loading)
    return BlockEstimator(mean, spectrum, variance, ones / pilots, ones)
