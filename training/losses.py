"""The loss of each phase, term by term.

Every weighted term has a test that it changes the gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "commitment_loss",
    "consistency_loss",
    "distillation_loss",
    "entropy",
    "latent_loss",
    "margin_loss",
    "task_loss",
    "usage_entropy_loss",
]

CLEAR_MARGIN = 0.2
"""Share of the way from the boundary between two codewords to the nearer one from which a choice is clear."""


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample's scores in nats: (batch, classes), (batch,) -> (batch,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy in nats of each sample with a teacher's probabilities: (batch, classes) -> (batch,).

    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531, section 2, at
    temperature 1.
    """
    return F.cross_entropy(logits, teacher, reduction="none")


def commitment_loss(latents: Tensor, codewords: Tensor) -> Tensor:
    """Mean squared distance of latents and their codewords, (batch, N, C); each is pulled to the other.

    The sum of the commitment and codebook terms of VQ-VAE (van den Oord, Vinyals and Kavukcuoglu 2017,
    eq. 3) with equal weight.
    """
    return F.mse_loss(latents, codewords.detach()) + F.mse_loss(latents.detach(), codewords)


def consistency_loss(soft: Tensor, hard: Tensor) -> Tensor:
    """||H_soft - stopgrad(H_hard)||^2 per component: the soft system follows the hard, not the reverse."""
    return F.mse_loss(soft, hard.detach())


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last axis.

    Rounding can leave a probability a hair below zero, where the entropy is minus infinity, and at zero its
    slope is infinite; both are met when an assignment is certain.
    """
    nats: Tensor = torch.special.entr(probabilities.clamp_min(1e-12)).sum(-1)
    return nats


def usage_entropy_loss(assignment: Tensor) -> Tensor:
    """Minus the entropy of the mean assignment, in nats: lowest when all codewords are used evenly.

    ``assignment`` is soft, of each token to the codewords or of each symbol to the points: (..., K).
    """
    return -entropy(assignment.flatten(0, -2).mean(0))


def latent_loss(latents: Tensor) -> Tensor:
    """Mean of (|z|^2 / C - 1)^2 of latents, (..., C): pulls each to unit mean square.

    So the temperature has a meaning.  Without it the encoder can undo a high temperature by larger latents.
    """
    return (latents.square().mean(-1) - 1).square().mean()


def margin_loss(scores: Tensor, codewords: Tensor) -> Tensor:
    """Push latents away from the boundary between their two nearest codewords.

    With scores s_k = z . e_k - |e_k|^2 / 2, (..., K), for codewords e, (K, C), of the nearest codeword i and
    the second j, the share r = 2 (s_i - s_j) / |e_i - e_j|^2 is 0 on the boundary and 1 on the codeword; the
    loss is the mean of max(0, CLEAR_MARGIN - r)^2.
    """
    top, indices = scores.topk(2, dim=-1)
    apart = F.embedding(indices, codewords).diff(dim=-2).square().sum((-1, -2)).clamp_min(1e-12)
    share = 2 * (top[..., 0] - top[..., 1]) / apart.detach()
    return (CLEAR_MARGIN - share).clamp_min(0).square().mean()
