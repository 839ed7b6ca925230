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

N0 is estimated from what the pilots of a frame's FIRST block leave beside a constant (flat channel) or a
straight line (OFDM), for that block is sent whatever the frame's length.  This is unbiased on a flat channel;
under OFDM the channel's bend counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.sim.settings import EstimatorName

__all__ = ["LEAST_NOISE_VAR", "BlockEstimator", "Layout", "flat_estimator", "pilot_points"]

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


class BlockEstimator:
    """Linear estimates of the gains of a block's data symbols from those at its pilots.

    Parameters
    ----------
    mean
        mu, mean of the gain.
    at_pilots
        R_pp, covariance of the gains at the pilots, (pilots, pilots).
    to_data
        R_dp, covariance of the gains at data symbols with those at pilots, (data, pilots); data may be 1 for
        all symbols of a block.
    variance
        R_dd, variance of the gain at a data symbol.
    weights
        Least-squares weights w_dp, (data, pilots).
    shapes
        What the channel may look like along the pilots when N0 is estimated, (shapes, pilots).
    """

    def __init__(
        self, mean: complex, at_pilots: Gains, to_data: Gains, variance: float, weights: Reals, shapes: Reals
    ) -> None:
        self.mean, self.variance, self.weights = mean, variance, weights
        eigenvalues, vectors = np.linalg.eigh(at_pilots)
        loadings = to_data @ vectors
        # Most directions tell nothing of the data: on a flat channel all but one.
        kept = np.abs(loadings).max(axis=0) > _ROUNDING
        self._eigenvalues = np.maximum(eigenvalues[kept], 0.0)
        self._directions, self._loadings = vectors[:, kept].T, loadings[:, kept]
        self._basis = np.linalg.qr(shapes.T)[0].T
        self._freedom = len(at_pilots) - len(shapes)

    def gains(self, matched: Gains, noise_var: Reals, estimator: EstimatorName) -> tuple[Gains, Reals]:
        """Gains at the data symbols and the variance of their error.

        Parameters
        ----------
        matched
            Received pilots times the conjugate of those sent, (rows, blocks, pilots).
        noise_var
            N0 that the receiver believes in, (rows or 1,).
        estimator
            ``"ls"`` or ``"mmse"``.

        Returns
        -------
        tuple
            Gains, (rows, blocks, data), and error variances that the receiver knows of, (rows or 1, 1, data).
        """
        n0 = noise_var[:, np.newaxis, np.newaxis]
        # Sums term by term: a matrix product may round by the number of its rows.
        if estimator == "ls":
            gain = np.zeros((*matched.shape[:2], len(self.weights)), dtype=np.complex128)
            for pilot, weight in enumerate(self.weights.T):
                gain += matched[..., pilot, np.newaxis] * weight
            return gain, n0 * (self.weights**2).sum(axis=1)
        gain = np.full((*matched.shape[:2], len(self._loadings)), self.mean, dtype=np.complex128)
        error = np.full((len(noise_var), 1, len(self._loadings)), self.variance, dtype=np.float64)
        for power, direction, loading in zip(
            self._eigenvalues, self._directions, self._loadings.T, strict=True
        ):
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
    covariance = np.full((pilots, pilots), variance, dtype=np.complex128)
    return BlockEstimator(mean, covariance, covariance[:1], variance, ones / pilots, ones)
