"""The torch twin of the link: codeword assignment, labels, symbols, channel and LLRs, hard and soft.

Each discrete step has a soft surrogate; hard and soft are separate functions and the caller
chooses.  The reading order is the order of the signal:

    scores -> (indices | assignment) -> bits -> symbols -> channel -> LLRs -> codeword posterior

NumPy's ``twophase.link`` is the definition; the contract tests hold the two together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from twophase.link.constellation import qam
from twophase.link.demap import LLR_CLIP

__all__ = [
    "QamTables",
    "codeword_log_posterior",
    "exact_llr",
    "hard_symbols",
    "point_probabilities",
    "product_symbols",
    "reported_symbols",
    "straight_through",
]


class QamTables(torch.nn.Module):
    """Constant tables of the constellation of ``order`` points of TS 38.211 clause 5.1."""

    points: Tensor
    """(M, 2): I and Q of each point, unit average energy."""
    point_bits: Tensor
    """(M, log2 M): bits of each point, MSB first."""
    levels: Tensor
    """(L,): amplitudes on one axis, L = sqrt(M)."""
    level_bits: Tensor
    """(L, log2 L): bits of each level."""

    def __init__(self, order: int) -> None:
        super().__init__()
        constellation = qam(order)
        self.order = order
        self.bits_per_symbol = constellation.bits_per_symbol
        points = torch.from_numpy(constellation.points.copy())
        self.register_buffer("points", torch.view_as_real(points).float(), persistent=False)
        numbers = torch.arange(order)[:, None]
        places = torch.arange(self.bits_per_symbol - 1, -1, -1)
        self.register_buffer("point_bits", ((numbers >> places) & 1).float(), persistent=False)
        self.register_buffer("levels", torch.tensor(constellation.axis_levels).float(), persistent=False)
        self.register_buffer("level_bits", torch.tensor(constellation.axis_labels).float(), persistent=False)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Value of ``hard``, gradient of ``soft`` (Bengio, Leonard and Courville 2013)."""
    return soft + (hard - soft).detach()


def hard_symbols(symbols: Tensor, tables: QamTables) -> Tensor:
    """Constellation points of point numbers (..., n): (..., n, 2)."""
    return F.embedding(symbols, tables.points)


def product_symbols(bit_probs: Tensor, tables: QamTables) -> Tensor:
    """Exact expectation of the symbols when bits are independent with P(b=1) = ``bit_probs``.

    The probability of a level is the product of the probabilities of its bits, so that the expectation
    meets the hard point when the bits are certain: (..., n * bits_per_symbol) -> (..., n, 2).
    """
    per_axis = _bits_of_axes(bit_probs, tables).unsqueeze(-2)
    likelihood = (tables.level_bits * per_axis + (1 - tables.level_bits) * (1 - per_axis)).prod(-1)
    return likelihood @ tables.levels


def reported_symbols(bit_probs: Tensor, tables: QamTables, temperature: float) -> Tensor:
    """Surrogate of the reported system: softmax over negative squared bit distances, at ``temperature``.

    It does not meet the hard point when the bits are certain unless the temperature goes to 0, which is
    one of the ways in which the reported soft system left its hard one.  Shapes as of ``product_symbols``.
    """
    bits = bit_probs.reshape(*bit_probs.shape[:-1], -1, 1, tables.bits_per_symbol)
    distance = (bits - tables.point_bits).square().sum(-1)
    return torch.softmax(-distance / temperature, dim=-1) @ tables.points


def point_probabilities(bit_probs: Tensor, tables: QamTables) -> Tensor:
    """P(point) of independent bits with P(b=1) = ``bit_probs``: (..., n * bits_per_symbol) -> (..., n, M)."""
    bits = bit_probs.reshape(*bit_probs.shape[:-1], -1, 1, tables.bits_per_symbol)
    return (tables.point_bits * bits + (1 - tables.point_bits) * (1 - bits)).prod(-1)


def exact_llr(received: Tensor, noise_var: Tensor, tables: QamTables) -> Tensor:
    """Log P(b=1|y) - log P(b=0|y) of equally likely points, separable per axis, differentiable.

    Parameters
    ----------
    received
        (batch, n, 2): symbols plus noise, on the scale of the constellation.
    noise_var
        (batch, 1) or (batch, n): N0 on that scale, total complex variance.

    Returns
    -------
    (batch, n * bits_per_symbol), clipped at ``LLR_CLIP``.
    """
    metric = -(received.unsqueeze(-1) - tables.levels).square() / noise_var[..., None, None]
    one = tables.level_bits.T.bool()
    ones = torch.where(one, metric.unsqueeze(-2), -torch.inf).logsumexp(-1)
    zeros = torch.where(one, -torch.inf, metric.unsqueeze(-2)).logsumexp(-1)
    per_axis = ones - zeros
    return per_axis.transpose(-1, -2).flatten(-3).clamp(-LLR_CLIP, LLR_CLIP)


def codeword_log_posterior(llr: Tensor, label_bits: Tensor, log_prior: Tensor) -> Tensor:
    """Log P(k | LLRs) for independent bits: log P(k) + sum over bits of log P(b = label bit).

    Up to a constant, log P(b) = (2b - 1) LLR / 2, so that one matrix product serves all codewords:
    (..., N, log2 K), (K, log2 K) floating point, (K,) -> (..., N, K), normalised.
    """
    return torch.log_softmax(llr @ (label_bits - 0.5).T + log_prior, dim=-1)


def _bits_of_axes(bits: Tensor, tables: QamTables) -> Tensor:
    """(..., n * bits_per_symbol) to (..., n, 2, bits per axis): even bits on I, odd bits on Q."""
    half = tables.bits_per_symbol // 2
    return bits.reshape(*bits.shape[:-1], -1, half, 2).transpose(-1, -2)
