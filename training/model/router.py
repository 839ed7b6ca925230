"""The router: which mode a sample travels in, decided softly in training and by an argmax when deployed.

It gives rate logits, one for each codebook, and modulation logits, one for each constellation; the score of
a mode is the sum of its two.  A ``snr`` router reads the Es/N0 alone, which both ends know; a ``content``
router also reads the encoder's features, so that the receiver has to be sent its choice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twophase.link.modes import LinkConfig
from twophase.training.model.soft_symbols import straight_through

__all__ = ["Router", "balance_loss", "gumbel_noise", "mode_shares"]

WIDTH = 32
BUMP_DB = 3.0
BUMPS_DB = tuple(range(-15, 34, 3))
"""Centres of the bumps in which the router sees the SNR; a smooth function of them turns within a few dB."""


class Router(nn.Module):
    """Log-SNR, and content features if there are any, to a score for every mode.

    ``content`` is the width of the encoder's features, 0 for a router that sees the SNR alone; beyond the
    SNRs of training, ``snr_range_db``, the router decides as at the nearer end.
    """

    def __init__(self, link: LinkConfig, content: int, snr_range_db: tuple[float, float]) -> None:
        super().__init__()
        self.snr_range_db = snr_range_db
        self.reads_content = content > 0
        self.register_buffer("centres", torch.tensor(BUMPS_DB, dtype=torch.float32), persistent=False)
        self.snr_input = nn.Linear(len(BUMPS_DB), WIDTH)
        if self.reads_content:
            self.content_input = nn.Linear(content, WIDTH, bias=False)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.rate = nn.Linear(WIDTH, len(link.codebook_sizes))
        self.modulation = nn.Linear(WIDTH, len(link.qam_orders))

    def scores(self, content: Tensor, esn0_db: Tensor) -> Tensor:
        """Score of each mode, codebook-major: (batch, width), (batch,) -> (batch, modes).

        The router reads the encoder's features but does not shape them: no gradient goes there.
        """
        trained = esn0_db.clamp(*self.snr_range_db)
        distance = (trained[:, None] - self.get_buffer("centres")) / BUMP_DB
        joint = self.snr_input(torch.exp(-0.5 * distance.square()))
        if self.reads_content:
            joint = joint + self.content_input(content.detach())
        hidden = torch.tanh(self.hidden(torch.tanh(joint)))
        scores: Tensor = (self.rate(hidden)[:, :, None] + self.modulation(hidden)[:, None, :]).flatten(1)
        return scores


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel draws, -log(-log U)."""
    uniform = torch.rand(shape, generator=generator).clamp(1e-12, 1 - 1e-7)
    return -(-uniform.log()).log()


def mode_shares(scores: Tensor, noise: Tensor, temperature: float, *, hard: bool) -> Tensor:
    """Share that each mode has in a sample's loss: a Gumbel-softmax (Jang, Gu and Poole 2017, eq. 2).

    Parameters
    ----------
    scores
        (batch, modes), of the modes that compete.
    noise
        (batch, modes): Gumbel draws, and the noise of the gate on top.
    hard
        Forward one-hot, the winner of the perturbed scores; backward as the soft shares.
    """
    perturbed = scores + noise
    soft = torch.softmax(perturbed / temperature, dim=-1)
    if not hard:
        return soft
    return straight_through(nn.functional.one_hot(perturbed.argmax(-1), scores.shape[-1]).to(soft), soft)


def balance_loss(scores: Tensor) -> Tensor:
    """KL divergence in nats of the modes' mean probability from even use: (batch, modes) -> scalar.

    Zero when all modes are used evenly, ln(modes) when one has everything (the role of the importance loss of
    Shazeer et al. 2017, section 4, which takes a coefficient of variation in its place).
    """
    usage = torch.softmax(scores, dim=-1).mean(0)
    return (usage * (usage * len(usage)).clamp_min(1e-12).log()).sum()
