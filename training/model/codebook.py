"""Codebook search, hard (argmax of scores) and soft (softmax of the same scores), over one codebook."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twophase.link.bits import label_bits
from twophase.link.grid import CODEWORD_LIMIT, latent_limit
from twophase.link.labelling import make_labels
from twophase.training.model.integer_grid import Unit

__all__ = ["Codebook"]

USAGE_DECAY = 0.99


class Codebook(nn.Module):
    """K codewords of C components, their bit labels and how often each is used.

    Once ``unit`` is set, codewords and latents lie on its grid.
    """

    labels: Tensor
    """(K,) int64: label of each codeword as a number; a permutation."""
    label_bits: Tensor
    """(K, log2 K) uint8: bits of each codeword's label, MSB first."""
    usage: Tensor
    """(K,): running share of each codeword among hard decisions, the receiver's prior."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.codewords = nn.Parameter(torch.randn(size, dim) / math.sqrt(dim))
        self.register_buffer("labels", torch.arange(size))
        self.register_buffer("label_bits", torch.from_numpy(label_bits(np.arange(size))), persistent=False)
        self.register_buffer("usage", torch.full((size,), 1 / size))
        self.unit = Unit()

    @property
    def latent_limit(self) -> int:
        """Largest magnitude of a latent's component on the grid, in units."""
        return latent_limit(self.codewords.shape[1])

    @property
    def words(self) -> Tensor:
        """The codewords as they are searched and received: (K, C)."""
        return self.unit.snap(self.codewords, -CODEWORD_LIMIT, CODEWORD_LIMIT)

    def snap_latents(self, latents: Tensor) -> Tensor:
        """Latents as they are searched: (..., C) -> (..., C)."""
        if self.unit.exponent is None:
            return latents
        return self.unit.snap(latents, -self.latent_limit, self.latent_limit)

    def scores(self, latents: Tensor) -> Tensor:
        """Z . e_k - |e_k|^2 / 2, which orders codewords as -|z - e_k|^2 does: (..., C) -> (..., K)."""
        words = self.words
        return F.linear(latents, words, -0.5 * words.square().sum(-1))

    def hard_indices(self, scores: Tensor) -> Tensor:
        """Nearest codeword: (..., K) -> (...), int64."""
        return scores.argmax(-1)

    def soft_assignment(self, scores: Tensor, temperature: float) -> Tensor:
        """softmax(-|z - e_k|^2 / T): (..., K) -> (..., K)."""
        return torch.softmax(2 * scores / temperature, dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codewords of indices: (...) -> (..., C)."""
        return F.embedding(indices, self.words)

    def hard_bits(self, indices: Tensor) -> Tensor:
        """Label bits of indices: (...) -> (..., log2 K), uint8."""
        return F.embedding(indices, self.label_bits)

    def soft_bits(self, assignment: Tensor) -> Tensor:
        """P(b=1) of each label bit: (..., K) -> (..., log2 K)."""
        return assignment @ self.label_bits.to(assignment.dtype)

    @property
    def log_prior(self) -> Tensor:
        """Log of the usage, with a tenth of a uniform share for codewords that were never seen: (K,)."""
        return ((self.usage + 0.1 / self.size) / 1.1).log()

    @torch.no_grad()
    def count(self, indices: Tensor) -> None:
        """Update the running usage from a batch of hard decisions."""
        share = torch.bincount(indices.flatten(), minlength=self.size) / indices.numel()
        self.usage.lerp_(share, 1 - USAGE_DECAY)

    @torch.no_grad()
    def relabel(self, method: str, seed: int) -> None:
        """Give the codewords new bit labels that fit where they lie now."""
        codewords = self.words.detach().double().cpu().numpy()
        labels = make_labels(method, codewords, usage=self.usage.double().cpu().numpy(), seed=seed)
        self.set_labels(torch.from_numpy(labels))

    @torch.no_grad()
    def set_labels(self, labels: Tensor) -> None:
        """Replace the labels and the table of their bits."""
        self.labels.copy_(labels)
        self.label_bits.copy_(torch.from_numpy(label_bits(self.labels.cpu().numpy())))

    @torch.no_grad()
    def revive(self, latents: Tensor, generator: torch.Generator) -> int:
        """Move codewords used less than a twentieth of their even share onto random latents of (n, C).

        Returns the number of codewords moved.
        """
        dead = (self.usage < 0.05 / self.size).nonzero().flatten()
        if len(dead):
            chosen = torch.randint(len(latents), (len(dead),), generator=generator).to(latents.device)
            self.codewords[dead] = latents[chosen]
            self.usage[dead] = 1 / self.size
            self.usage /= self.usage.sum()
        return len(dead)

    def _load_from_state_dict(self, *arguments: object, **keywords: object) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self.set_labels(self.labels.clone())
