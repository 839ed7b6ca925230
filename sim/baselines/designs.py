"""Other designs on the link's air: index bits through a channel code, and decisions sent as labels.

A baseline sees the same samples and goes through the same air.  Like the soft references it is given the mode
of each sample, and it never takes part in the verdict: it answers what another design would have reached with
the same symbols.

Quantise + code + QAM.  The index bits that the deployed transmitter sends uncoded over M-QAM go through a
code and over M^2-QAM, in the same number of symbols: the rate is 1/2.  Where M^2 exceeds 256 the
constellation stays at 256: 64-QAM gives rate 3/4, and 256-QAM itself rate 1/2 in twice the symbols, which the
baseline's count of symbols says.  The padding of the deployed payload carries nothing and is not coded; the
receiver knows it.  The number of index bits is that of the mode that the router chose for sending them bare.
This can be more than capacity allows, and a code around fewer index bits can do better: this is a code put in
place of uncoded transmission, not a system designed around a code.  The receiver demaps exactly, decodes
softly and hands the decoder's LLRs of the index bits to the receiving graph of the deployed link, which knows
nothing of the code.

Classify and send.  A decision taken at the transmitter is delivered as a label of log2 M bits, by a good code
made for exactly the frame's number of symbols (:mod:`twophase.sim.codes.label_code`): the real counterpart of
the send-the-label bound (:mod:`twophase.sim.theory.label_bound`).  The decision is another classifier's,
known for each sample beforehand, or the deployed link's own: what its receiver decides from the frame at
hand, in its mode, when nothing disturbs it.  The symbols of the deployed link's header are used as well: a
label needs no mode.

What is no system on the link's air is made elsewhere: the ceiling without a channel
(:mod:`twophase.sim.results.text`), and the sentences, which :mod:`twophase.sim.baselines.text` sends.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
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
from twophase.link.sentences import Sentences
from twophase.sim.codes.code import BlockCode, rotating_interleaver, row_column_interleaver
from twophase.sim.codes.conv import ConvCode
from twophase.sim.codes.label_code import label_code
from twophase.sim.codes.ldpc import LdpcCode
from twophase.sim.settings import SENTENCE_BASELINES, Settings
from twophase.sim.system import System

__all__ = ["Baseline", "Payload", "descriptions", "make_baselines"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Payload:
    """What one baseline puts on the air for all samples."""

    mode: Integers
    """Mode that the deployed transmitter chose, shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, max_symbols), of unit average energy; zero after a sample's symbols."""
    symbols: Integers
    """Symbols sent for each sample, shape (samples,)."""
    energy: float
    """E, average energy per symbol before the points were divided by sqrt(E)."""


class Baseline(ABC):
    """A further system on the same samples and the same air."""

    name: str
    """``conv``, ``ldpc``, ``classify-and-send`` or ``tfidf``."""
    after_header: bool
    """Whether its frame follows the deployed link's header, which it needs and pays for."""
    max_symbols: int
    """Symbols of its widest frame: the columns of all arrays."""

    def transmit(self, sent: Transmission, classes: Integers, symbols: Integers) -> Payload:
        """Points of all samples, divided by the root of their measured energy per symbol, as the link's are.

        ``sent`` is what the deployed transmitter sends, ``classes`` its own decision: the deployed receiver
        on that, without noise.  ``symbols`` is the length of the deployed link's frames, header and payload.
        Both have the shape (samples,).  InputError if no symbol or no energy is sent.
        """
        kind, lengths = self._kinds(sent.mode, symbols)
        points = np.zeros((len(sent.mode), self.max_symbols), dtype=np.complex128)
        for number in np.unique(kind):
            rows = np.flatnonzero(kind == number)
            points[rows, : lengths[rows[0]]] = self._points(int(number), rows, sent, classes)
        count = int(lengths.sum())
        energy = float(np.sum(points.real**2 + points.imag**2)) / count if count else 0.0
        if not energy > 0:
            raise InputError("points", "carry energy", energy)
        return Payload(sent.mode, points / np.sqrt(energy), lengths, energy)

    def receive(
        self,
        payload: Payload,
        rows: NDArray[np.intp],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
    ) -> Integers:
        """Decided classes, shape (len(rows),), of the samples ``rows`` of what :meth:`transmit` gave.

        The arrays have the shape (len(rows), max_symbols): what came in, the gain of the air that the
        receiver goes by (before the division by sqrt(E)) and its N0, the total complex variance of the noise.
        """
        kind, lengths = self._kinds(payload.mode[rows], payload.symbols[rows])
        total_gain = gains / math.sqrt(payload.energy)
        decided = np.empty(len(rows), dtype=np.int64)
        for number in np.unique(kind):
            here = np.flatnonzero(kind == number)
            length = int(lengths[here[0]])
            decided[here] = self._decide(
                int(number), received[here, :length], noise_var[here, :length], total_gain[here, :length]
            )
        return decided

    @abstractmethod
    def _kinds(self, mode: Integers, symbols: Integers) -> tuple[Integers, Integers]:
        """What kind of frame each sample has, and its length; those of one kind are handled together."""

    @abstractmethod
    def _points(
        self, kind: int, rows: NDArray[np.intp], sent: Transmission, classes: Integers
    ) -> NDArray[np.complex128]:
        """Points of some samples of one kind, shape (len(rows), length)."""

    @abstractmethod
    def _decide(
        self,
        kind: int,
        received: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
        total_gain: NDArray[np.complex128],
    ) -> Integers:
        """Decided classes of frames of one kind; arrays (rows, length)."""


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
    interleaver: Integers
    """Shape (code.n,): which code bit stands at each place of the symbols' bits."""


@lru_cache(maxsize=256)
def coded_mode(name: str, mode: Mode, kernel: str = "numpy") -> CodedMode:
    """Constellation, code and interleaver for one mode; InputError if the code cannot take so many bits.

    Examples
    --------
    >>> from twophase.link.modes import Mode
    >>> coded = coded_mode("conv", Mode(codebook=0, codebook_size=64, tokens=4, order=16))
    >>> coded.order, coded.symbols, coded.code.k, coded.code.n
    (256, 6, 24, 48)
    """
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


class CodedBaseline(Baseline):
    """Codes the deployed transmitter's index bits, by ``conv`` or ``ldpc``.

    The receiver of the deployed link is given the decoder's LLRs, within its bound.
    """

    after_header = True

    def __init__(self, name: str, system: System, kernel: str = "numpy") -> None:
        self._coded = tuple(coded_mode(name, mode, kernel) for mode in system.modes)
        self._modes, self._receiver, self._clip = system.modes, system.receiver, system.llr_clip
        self._kernel = kernel
        self._symbols = np.array([coded.symbols for coded in self._coded])
        self.name, self.max_symbols = name, int(self._symbols.max())

    def _kinds(self, mode: Integers, symbols: Integers) -> tuple[Integers, Integers]:
        del symbols  # those of the deployed frame
        return mode, self._symbols[mode]

    def _points(
        self, kind: int, rows: NDArray[np.intp], sent: Transmission, classes: Integers
    ) -> NDArray[np.complex128]:
        coded, constellation = self._coded[kind], qam(self._coded[kind].order)
        # The padding stands after all index bits.
        bits = coded.code.encode(sent.bits[rows, : self._modes[kind].information_bits])
        numbers = bits_to_symbols(bits[:, coded.interleaver], constellation.bits_per_symbol)
        return constellation.modulate(numbers)

    def _decide(
        self,
        kind: int,
        received: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
        total_gain: NDArray[np.complex128],
    ) -> Integers:
        mode, coded = self._modes[kind], self._coded[kind]
        # Clipped at the demapper's default, not at the receiver's bound: the decoder weighs bits against
        # each other, and only what it gives goes to the receiver.
        received_llr = llr_exact(received, qam(coded.order), noise_var, total_gain, kernel=self._kernel)
        code_llr = np.empty_like(received_llr)
        code_llr[:, coded.interleaver] = received_llr
        llr = np.zeros((len(received), self._modes.max_bits))
        llr[:, : mode.information_bits] = np.clip(coded.code.decode(code_llr), -self._clip, self._clip)
        llr[:, mode.information_bits : mode.channel_bits] = -self._clip  # padding is known to be zero
        return self._receiver.receive(llr, np.full(len(received), kind)).classes


class LabelSender(Baseline):
    """Sends a decision as a label.

    ``tfidf`` is what logistic regression on TF-IDF decides for, shape (samples,), to be sent as ``tfidf``;
    None: the link's noise-free decision, as ``classify-and-send``.
    """

    after_header = False

    def __init__(self, classes: int, max_symbols: int, tfidf: Integers | None = None) -> None:
        self.classes, self.max_symbols, self._tfidf = classes, max_symbols, tfidf
        self.name = "classify-and-send" if tfidf is None else "tfidf"

    def _kinds(self, mode: Integers, symbols: Integers) -> tuple[Integers, Integers]:
        return symbols, symbols

    def _points(
        self, kind: int, rows: NDArray[np.intp], sent: Transmission, classes: Integers
    ) -> NDArray[np.complex128]:
        labels = classes if self._tfidf is None else self._tfidf
        return label_code(self.classes, kind).words[labels[rows]]

    def _decide(
        self,
        kind: int,
        received: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
        total_gain: NDArray[np.complex128],
    ) -> Integers:
        return label_code(self.classes, kind).decode(received, noise_var, total_gain)


def make_baselines(
    settings: Settings, system: System, header_symbols: int = 0, sentences: Sentences | None = None
) -> tuple[Baseline, ...]:
    """Make the baselines that the settings ask for, codes first.

    ``header_symbols`` is the widest header of the deployed link: a label may use a frame's header symbols as
    well.  InputError if a mode has more bits than a code can take, or a baseline lacks its sentences.
    """
    made: list[Baseline] = [CodedBaseline(name, system, settings.kernel) for name in settings.codes]
    longest = header_symbols + system.modes.max_symbols
    for name in settings.baselines:
        if name in SENTENCE_BASELINES and sentences is None:
            raise InputError("baseline", "be left out where the samples hold no sentences", name)
        if name == "classify-and-send":
            made.append(LabelSender(system.classes, longest))
        elif name == "tfidf" and sentences is not None:
            made.append(LabelSender(system.classes, longest, sentences.tfidf))
    return tuple(made)


def descriptions(settings: Settings, modes: ModeTable, classes: int) -> dict[str, str]:
    """Name and description of each of :func:`make_baselines`, in its order; nothing is built."""
    labels = [name for name in settings.baselines if name in ("classify-and-send", "tfidf")]
    return {name: _coded_text(name, modes) for name in settings.codes} | {
        name: _label_text(name, classes) for name in labels
    }


def _coded_text(name: str, modes: ModeTable) -> str:
    """What a code's baseline sends, with its code's sizes by mode, and how it is received."""
    sizes = []
    for mode in modes:
        order, _, n = _shape(mode)
        sizes.append(f"({n}, {mode.information_bits}) over {order}-QAM")
    return (
        f"index bits behind a {_WORDS[name]}, {'; '.join(dict.fromkeys(sizes))}; the index bits are those of "
        "the mode that was chosen for sending them bare, a code around fewer index bits can do better"
    )


def _label_text(name: str, classes: int) -> str:
    decision = "the noise-free decision of the deployed link itself, for the mode at hand"
    if name == "tfidf":
        decision = "the decision of logistic regression on TF-IDF of the sentence's words"
    return (
        f"{decision}, as one of {classes} words of a good short code for the frame's symbols, "
        "maximum-likelihood decoder"
    )
