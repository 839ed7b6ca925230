"""Quantise + code + QAM: the deployed transmitter's index bits through a channel code.

The index bits that the deployed transmitter sends uncoded over M-QAM go through a code and over M^2-QAM, in
the same number of symbols: the rate is 1/2.  Where M^2 exceeds 256 the constellation stays at 256: 64-QAM
gives rate 3/4, and 256-QAM itself rate 1/2 in twice the symbols, which the baseline's count of symbols says.
The padding of the deployed payload carries nothing and is not coded; the receiver knows it.
The number of index bits is that of the mode that the router chose for sending them bare.  This can be
more than capacity allows, and a code around fewer index bits can do better: this is a code put in place of
uncoded transmission, not a system designed around a code.

The receiver demaps exactly, decodes softly and hands the decoder's LLRs of the index bits to the receiving
graph of the deployed link, which knows nothing of the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import bits_to_symbols
from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import InputError
from twophase.link.modem import Transmission
from twophase.link.modes import QAM_ORDERS, Mode, ModeTable
from twophase.sim.baselines.base import Payload, scaled_payload
from twophase.sim.codes.code import BlockCode, rotating_interleaver, row_column_interleaver
from twophase.sim.codes.conv import ConvCode
from twophase.sim.codes.ldpc import LdpcCode
from twophase.sim.system import System

__all__ = ["CodedBaseline", "CodedMode", "coded_description", "coded_mode"]

_WORDS = {
    "conv": "convolutional code (K=7, 133/171 octal, zero tail), exact a-posteriori decoder",
    "ldpc": "5G NR LDPC code (TS 38.212, base graph 2), layered sum-product decoder",
}


@dataclass(frozen=True, eq=False)
class CodedMode:
    """How a mode's index bits travel through a code; make one with :func:`coded_mode`."""

    order: int
    """Points of the constellation."""
    symbols: int
    """Channel uses per sample."""
    code: BlockCode
    """Takes the mode's information bits to all bits of the symbols."""
    interleaver: NDArray[np.int64]
    """Shape (code.n,): which code bit stands at each place of the symbols' bits."""


@lru_cache(maxsize=256)
def coded_mode(name: str, mode: Mode, kernel: str = "numpy") -> CodedMode:
    """Constellation, code and interleaver for one mode; built once in a process.

    Parameters
    ----------
    name
        ``"conv"`` or ``"ldpc"``.
    mode
        The mode as deployed.
    kernel
        ``"numpy"`` or ``"numba"``, for the decoder.

    Examples
    --------
    >>> from twophase.link.modes import Mode
    >>> coded = coded_mode("conv", Mode(codebook=0, codebook_size=64, tokens=4, order=16))
    >>> coded.order, coded.symbols, coded.code.k, coded.code.n
    (256, 6, 24, 48)

    Raises
    ------
    InputError
        If the code is unknown or cannot take so many bits.
    """
    if name not in _WORDS:
        raise InputError("code", "be 'conv' or 'ldpc'", name)
    order, symbols, n = _shape(mode)
    width = order.bit_length() - 1
    if name == "conv":
        # Reliable and unreliable bit levels in turn along the trellis.
        return CodedMode(
            order, symbols, ConvCode(mode.information_bits, n, kernel), rotating_interleaver(n, width)
        )
    # The better of the two rules: a receiver that reads soft bits must not be given worse ones than need be.
    code = LdpcCode(mode.information_bits, n, rule="sum-product", kernel=kernel)
    return CodedMode(order, symbols, code, row_column_interleaver(n, width))


def _shape(mode: Mode) -> tuple[int, int, int]:
    """Points of the constellation, symbols, and code bits of a mode."""
    largest = max(QAM_ORDERS)
    order = min(mode.order**2, largest)
    symbols = 2 * mode.symbols if mode.order == largest else mode.symbols
    return order, symbols, symbols * (order.bit_length() - 1)


def coded_description(name: str, modes: ModeTable) -> str:
    """What a code's baseline sends, with its code's sizes by mode, and how it is received; builds none."""
    sizes = []
    for mode in modes:
        order, _, n = _shape(mode)
        sizes.append(f"({n}, {mode.information_bits}) over {order}-QAM")
    return (
        f"index bits behind a {_WORDS[name]}, {'; '.join(dict.fromkeys(sizes))}; the index bits are those of "
        "the mode that was chosen for sending them bare, a code around fewer index bits can do better"
    )


class CodedBaseline:
    """A :class:`~twophase.sim.baselines.base.Baseline` that codes the deployed transmitter's index bits.

    Parameters
    ----------
    name
        ``"conv"`` or ``"ldpc"``.
    system
        The deployed link; its receiver is given the decoder's LLRs, within its bound.
    kernel
        ``"numpy"`` or ``"numba"``.

    Raises
    ------
    InputError
        As :func:`coded_mode`.
    """

    after_header = True

    def __init__(self, name: str, system: System, kernel: str = "numpy") -> None:
        self._coded = tuple(coded_mode(name, mode, kernel) for mode in system.modes)
        self._modes, self._receiver, self._clip = system.modes, system.receiver, system.llr_clip
        self._kernel = kernel
        self.name = name
        self.max_symbols = max(coded.symbols for coded in self._coded)

    def transmit(self, sent: Transmission, classes: NDArray[np.int64], symbols: NDArray[np.int64]) -> Payload:
        """Points of all samples; neither ``classes`` nor the deployed frame's ``symbols`` matter."""
        del classes, symbols
        points = np.zeros((len(sent.mode), self.max_symbols), dtype=np.complex128)
        count = np.zeros(len(sent.mode), dtype=np.int64)
        for number in np.unique(sent.mode):
            mode, coded = self._modes[int(number)], self._coded[int(number)]
            rows = np.flatnonzero(sent.mode == number)
            # The padding stands after all index bits.
            bits = coded.code.encode(sent.bits[rows, : mode.information_bits])[:, coded.interleaver]
            constellation = qam(coded.order)
            numbers = bits_to_symbols(bits, constellation.bits_per_symbol)
            points[rows, : coded.symbols] = constellation.modulate(numbers)
            count[rows] = coded.symbols
        return scaled_payload(sent.mode, points, count)

    def receive(
        self,
        payload: Payload,
        rows: NDArray[np.intp],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Decided classes, shape (len(rows),)."""
        modes = payload.mode[rows]
        total_gain = np.asarray(gains) / math.sqrt(payload.energy)
        variance = np.broadcast_to(noise_var, received.shape)
        decided = np.empty(len(rows), dtype=np.int64)
        for number in np.unique(modes):
            mode, coded = self._modes[int(number)], self._coded[int(number)]
            here = np.flatnonzero(modes == number)
            width = coded.symbols
            # Clipped at the demapper's default, not at the receiver's bound: the decoder weighs bits against
            # each other, and only what it gives goes to the receiver.
            received_llr = llr_exact(
                received[here, :width],
                qam(coded.order),
                variance[here, :width],
                total_gain[here, :width],
                kernel=self._kernel,
            )
            code_llr = np.empty_like(received_llr)
            code_llr[:, coded.interleaver] = received_llr
            llr = np.zeros((len(here), self._modes.max_bits))
            llr[:, : mode.information_bits] = np.clip(coded.code.decode(code_llr), -self._clip, self._clip)
            llr[:, mode.information_bits : mode.channel_bits] = -self._clip  # padding is known to be zero
            decided[here] = self._receiver.receive(llr, modes[here]).classes
        return decided
