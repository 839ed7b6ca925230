"""Classify and send: a decision that is taken at the transmitter, delivered as a label with a short code.

The decision is another classifier's, known for each sample beforehand, or the deployed link's own: what the
deployed receiver decides from the frame at hand, in its mode, when nothing disturbs it.  It is a label of
log2 M bits.  A good code made for exactly the frame's number of symbols carries it
(:mod:`twophase.sim.codes.label_code`).  It is the real counterpart of the send-the-label
bound (:mod:`twophase.sim.theory.label_bound`).  The symbols of the deployed link's header are used as well: a
label needs no mode.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.modem import Transmission
from twophase.sim.baselines.base import Payload, scaled_payload
from twophase.sim.codes.label_code import label_code

__all__ = ["LabelSender", "label_description"]


def label_description(name: str, classes: int) -> str:
    """What ``classify-and-send`` or ``tfidf`` sends and how it is received."""
    decision = "the noise-free decision of the deployed link itself, for the mode at hand"
    if name == "tfidf":
        decision = "the decision of logistic regression on TF-IDF of the sentence's words"
    return (
        f"{decision}, as one of {classes} words of a good short code for the frame's symbols, "
        "maximum-likelihood decoder"
    )


class LabelSender:
    """A :class:`~twophase.sim.baselines.base.Baseline` that sends a decision as a label.

    Parameters
    ----------
    classes
        Number of classes.
    max_symbols
        Longest frame of the deployed link, header included.
    tfidf
        What logistic regression on TF-IDF decides for, shape (samples,), to be sent as ``tfidf``.  None: the
        link's noise-free decision, as ``classify-and-send``.

    Raises
    ------
    InputError
        If there are fewer than 2 classes or no symbols.
    """

    after_header = False

    def __init__(self, classes: int, max_symbols: int, tfidf: NDArray[np.int64] | None = None) -> None:
        if classes < 2:
            raise InputError("classes", "be at least 2", classes)
        if max_symbols < 1:
            raise InputError("max_symbols", "be at least 1", max_symbols)
        self.classes, self.max_symbols, self._tfidf = classes, max_symbols, tfidf
        self.name = "classify-and-send" if tfidf is None else "tfidf"

    def transmit(self, sent: Transmission, classes: NDArray[np.int64], symbols: NDArray[np.int64]) -> Payload:
        """Words of the labels ``classes``, or of TF-IDF's, as many ``symbols`` as the deployed frames have.

        Raises
        ------
        InputError
            If a class does not exist or a frame is longer than the longest or empty.
        """
        if self._tfidf is not None:
            classes = self._tfidf
        if classes.size and not (classes.min() >= 0 and classes.max() < self.classes):
            raise InputError("classes", f"lie in 0..{self.classes - 1}", int(classes.max()))
        if symbols.size and not (symbols.min() >= 1 and symbols.max() <= self.max_symbols):
            raise InputError("symbols", f"lie in 1..{self.max_symbols}", int(symbols.max()))
        points = np.zeros((len(classes), self.max_symbols), dtype=np.complex128)
        for length in np.unique(symbols):
            rows = np.flatnonzero(symbols == length)
            points[rows, :length] = label_code(self.classes, int(length)).words[classes[rows]]
        return scaled_payload(sent.mode, points, symbols)

    def receive(
        self,
        payload: Payload,
        rows: NDArray[np.intp],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Decided classes, shape (len(rows),)."""
        count = payload.symbols[rows]
        total_gain = np.asarray(gains) / math.sqrt(payload.energy)
        variance = np.broadcast_to(noise_var, received.shape)
        decided = np.empty(len(rows), dtype=np.int64)
        for length in np.unique(count):
            here = np.flatnonzero(count == length)
            decided[here] = label_code(self.classes, int(length)).decode(
                received[here, :length], variance[here, :length], total_gain[here, :length]
            )
        return decided
