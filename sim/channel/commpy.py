"""Radio channels and modems of scikit-commpy, seeded; the only module that imports commpy.

Importing commpy takes seconds, so import this module late.

scikit-commpy draws from NumPy's global generator, so that no two runs or workers could be told apart;
:class:`SeededFlatChannel` draws from a generator that is passed in, in commpy's own order.  Its soft
demodulator overflows at high SNR and takes one noise variance for all symbols; :class:`CommpyDemapper` feeds
it one variance at a time and replaces what is not usable, counting every replacement.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import Constellation
from twophase.link.demap import LLR_CLIP, llr_exact
from twophase.link.errors import InputError, VerificationError
from twophase.sim.packages import require_scikit_commpy

require_scikit_commpy()

from commpy.channels import SISOFlatChannel  # noqa: E402
from commpy.modulation import Modem  # noqa: E402

__all__ = ["CommpyDemapper", "SeededFlatChannel", "fading", "modem", "seeded_channel"]

# (mean, variance) of the gain.  The mean must be complex: (0, 1) would be a REAL fading channel.
_FADING: dict[str, tuple[complex, float]] = {"awgn": (1 + 0j, 0.0), "rayleigh": (0j, 1.0)}


class SeededFlatChannel(SISOFlatChannel):  # type: ignore[misc]
    """commpy's flat channel, drawing from ``rng`` instead of NumPy's global generator.

    The order of the draws is commpy's: noise real, noise imaginary, gain real, gain imaginary.  Under the
    same underlying generator the output is bit-identical with :class:`commpy.channels.SISOFlatChannel`.
    ``noise_std`` is commpy's, too: its square is twice the total complex variance N0.
    """

    def __init__(
        self, rng: np.random.Generator, noise_std: float | None, fading_param: tuple[complex, float]
    ) -> None:
        super().__init__(noise_std, fading_param)
        self._rng = rng

    def generate_noises(self, dims: int | tuple[int, ...]) -> None:
        """Draw the noise of ``dims`` symbols into ``noises``, of total complex variance N0."""
        self.noises = self._complex_normal(dims, self.noise_std * 0.5)

    def generate_gains(self, dims: int | tuple[int, ...]) -> None:
        """Draw ``dims`` independent gains into ``channel_gains``."""
        mean, variance = self.fading_param
        self.channel_gains = self._complex_normal(dims, np.sqrt(0.5 * variance))
        self.channel_gains += mean

    def propagate(self, msg: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """``gains * msg + noise``, an independent gain for each symbol; keeps gains and noises."""
        self.generate_noises(len(msg))
        self.generate_gains(len(msg))
        self.unnoisy_output = self.channel_gains * msg
        received: NDArray[np.complex128] = self.unnoisy_output + self.noises
        return received

    def _complex_normal(self, dims: int | tuple[int, ...], scale: float) -> NDArray[np.complex128]:
        # Writing the scaled parts into place spares commpy's temporaries and rounds as it does.
        drawn = np.empty(dims, dtype=np.complex128)
        np.multiply(self._rng.standard_normal(dims), scale, out=drawn.real)
        np.multiply(self._rng.standard_normal(dims), scale, out=drawn.imag)
        return drawn


def fading(channel: str, rician_k_db: float = 6.0) -> tuple[complex, float]:
    """The ``fading_param`` of commpy: mean and variance of the gain of a flat channel, E|h|^2 = 1.

    ``rician_k_db`` is the power of the direct path over that of the scattered ones, K = |mean|^2 / variance.
    InputError if the channel is not ``"awgn"``, ``"rayleigh"`` or ``"rician"``.
    """
    if channel == "rician":
        ratio = 10.0 ** (rician_k_db / 10.0)
        direct = complex(math.sqrt(ratio / (ratio + 1.0)))
        # Not 1 / (K + 1): commpy compares the sum of both powers with 1 without tolerance.
        return direct, float(1 - np.absolute(direct) ** 2)
    if channel not in _FADING:
        raise InputError("channel", "be 'awgn', 'rayleigh' or 'rician'", channel)
    return _FADING[channel]


def seeded_channel(
    rng: np.random.Generator, esn0_db: float, fading_param: tuple[complex, float]
) -> SeededFlatChannel:
    """The seeded channel with the noise of symbols of unit average energy at ``esn0_db``, finite."""
    if not math.isfinite(esn0_db):
        raise InputError("esn0_db", "be finite", esn0_db)
    channel = SeededFlatChannel(rng, None, fading_param)
    channel.set_SNR_dB(esn0_db, 1, 1)
    return channel


@cache
def modem(constellation: Constellation) -> Modem:
    """Commpy's modem over our TS 38.211 table, after a proof that the table look-up equals it.

    VerificationError if it maps any point's bits to another point than :meth:`Constellation.modulate` does.
    """
    # The default would permute the points by a Gray code; they are in Gray order already.
    made = Modem(constellation.points, reorder_as_gray=False)
    numbers = np.arange(constellation.order)
    bits = symbols_to_bits(numbers, constellation.bits_per_symbol)
    # int64: commpy's own int8 bits overflow in its modulate at 256-QAM.
    if not np.array_equal(made.modulate(bits.astype(np.int64)), constellation.modulate(numbers)):
        raise VerificationError(
            f"modulation of {constellation.order}-QAM", ["commpy's modem maps bits to other points"]
        )
    return made


@dataclass
class CommpyDemapper:
    """commpy's own soft demodulator with the signature of :func:`twophase.link.demap.llr_exact`.

    It is slow (some 10^4 LLRs a second) and serves as a second reading of the same received symbols.  The
    symbols are divided by their gain and the noise variance by |gain|^2; symbols of equal variance share a
    call.  commpy divides sums of plain exponentials, which leave the range of float64 at high SNR: there, and
    wherever its result is not finite, the exact kernel's value stands in.
    """

    replaced: int = 0
    """LLRs that commpy could not give, or gave from sums outside the range of float64."""
    total: int = 0
    """LLRs asked for."""
    largest_difference: float = 0.0
    """Largest |commpy - exact| where commpy's value was used."""

    def __call__(
        self,
        received: ArrayLike,
        constellation: Constellation,
        noise_var: ArrayLike,
        gain: ArrayLike = 1.0,
        clip: float = LLR_CLIP,
    ) -> NDArray[np.float64]:
        """LLRs, (..., n) to (..., n * bits_per_symbol), finite and clipped; InputError as of ``llr_exact``.

        VerificationError if commpy's finite LLRs differ from the exact ones by more than rounding.
        """
        exact = llr_exact(received, constellation, noise_var, gain, clip)
        y = np.asarray(received, dtype=np.complex128)
        h = np.broadcast_to(np.asarray(gain, dtype=np.complex128), y.shape).ravel()
        n0 = np.broadcast_to(np.asarray(noise_var, dtype=np.float64), y.shape).ravel()
        with np.errstate(all="ignore"):
            equalised = y.ravel() / h
            variance = n0 / np.abs(h) ** 2
            raw = _commpy_llr(equalised, constellation, variance)
            nearest = np.abs(equalised[:, np.newaxis] - constellation.points).min(axis=1) ** 2 / variance
            # The smaller of the two sums is about exp of minus this.
            exponent = nearest[:, np.newaxis] + np.abs(raw)
        usable = exponent < _SAFE_EXPONENT
        expected = exact.reshape(raw.shape)
        llr = np.where(usable, np.clip(raw, -clip, clip), expected)
        difference = float(np.abs(llr - expected).max(initial=0.0))
        if difference > _ROUNDING:
            raise VerificationError(
                "commpy's soft demodulator", [f"finite LLRs differ from the exact ones by {difference:.3g}"]
            )
        self.replaced += int(usable.size - np.count_nonzero(usable))
        self.total += usable.size
        self.largest_difference = max(self.largest_difference, difference)
        return llr.reshape(exact.shape)


_SAFE_EXPONENT = 700.0  # from exp(-708) on float64 is denormal and sums lose their digits; NaN fails too
_ROUNDING = 1e-6


def _commpy_llr(
    equalised: NDArray[np.complex128], constellation: Constellation, variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Raw LLRs, shape (symbols, bits_per_symbol); one call for each run of symbols of equal variance."""
    device = modem(constellation)
    llr = np.empty((equalised.size, constellation.bits_per_symbol))
    edges = np.flatnonzero(np.diff(variance, prepend=np.nan, append=np.nan) != 0)
    for start, stop in itertools.pairwise(edges):
        block = device.demodulate(equalised[start:stop], "soft", variance[start])
        llr[start:stop] = block.reshape(stop - start, constellation.bits_per_symbol)
    return llr
