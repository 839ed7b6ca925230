"""The router: scores that add up, shares that follow them, and losses that pull it where they should.

Statistical tests draw from fixed seeds.  Each states how likely a right program fails it under a new seed.
"""

from __future__ import annotations

import math
from itertools import cycle

import pytest
import torch
from scipy.stats import chi2, kstest
from torch import Tensor

from tools.small_link import make_batch, make_model, take
from twophase.link.modes import LinkConfig
from twophase.training.config import TrainConfig
from twophase.training.model.router import Router, balance_loss, gumbel_noise, mode_shares

LINK = LinkConfig((4, 8, 16), (6, 3, 2), (4, 16), 3)
CONTENT = 5
FALSE_ALARM = 1e-6
LOGITS = torch.tensor([0.5, -1.0, 1.2, 0.0])


def make_router(content: int) -> Router:
    torch.manual_seed(0)
    return Router(LINK, content, (-6.0, 21.0))


def make_inputs(size: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    content = torch.randn(size, CONTENT, generator=generator)
    return content, 25 * torch.rand(size, generator=generator) - 5


# --- scores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, CONTENT])
def test_the_score_of_a_mode_is_its_codebooks_plus_its_constellations(width: int) -> None:
    """Codebook-major, as the modes are; a larger bias of either lifts the modes that have it."""
    router, inputs = make_router(width), make_inputs()
    with torch.no_grad():
        scores = router.scores(*inputs)
        router.rate.bias[1] += 2.0
        router.modulation.bias[1] += 3.0
        lifted = router.scores(*inputs) - scores
    gain = torch.tensor([2.0 * (mode.codebook == 1) + 3.0 * (mode.order == 16) for mode in LINK.modes])
    torch.testing.assert_close(lifted, gain.expand(30, -1))
    table = scores.unflatten(1, (3, 2))
    sums = table[:, :, :1] + table[:, :1, :] - table[:, :1, :1]
    torch.testing.assert_close(table, sums, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("beyond", "end"), [(-40.0, -6.0), (-7.5, -6.0), (22.0, 21.0), (90.0, 21.0)])
def test_beyond_its_training_the_router_decides_as_at_the_nearer_end(beyond: float, end: float) -> None:
    router, (content, _) = make_router(CONTENT), make_inputs()
    with torch.no_grad():
        far, near = (router.scores(content, torch.full((30,), level)) for level in (beyond, end))
    assert torch.equal(far, near)


@pytest.mark.parametrize(("width", "reads"), [(0, False), (CONTENT, True)])
def test_only_a_content_router_knows_the_sample(width: int, reads: bool) -> None:
    router, (content, esn0_db) = make_router(width), make_inputs()
    assert router.reads_content == reads
    with torch.no_grad():
        here, there = router.scores(content, esn0_db), router.scores(content.flip(0), esn0_db)
        moved = router.scores(content, esn0_db + 3)
    assert torch.equal(here, there) != reads
    assert (moved - here).abs().amax(1).mean() > 1e-3


# --- shares -----------------------------------------------------------------------------------------------


def draw_noise(size: int) -> Tensor:
    return gumbel_noise((size, len(LOGITS)), torch.Generator().manual_seed(0))


def test_the_noise_is_of_the_standard_gumbel_distribution() -> None:
    """Kolmogorov-Smirnov test on 40,000 draws; false alarm 1e-6."""
    assert kstest(draw_noise(10_000).flatten().double().numpy(), "gumbel_r").pvalue > FALSE_ALARM


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_shares_are_a_softmax_of_the_perturbed_scores_or_drawn_by_that_of_the_scores(
    temperature: float,
) -> None:
    """Gumbel-max: whatever the temperature, mode m wins with probability softmax(scores)[m].

    Chi-square test of 20,000 draws over 4 modes, 3 degrees of freedom; false alarm 1e-6.
    """
    draws = 20_000
    noise = draw_noise(draws)
    hard, soft = (
        mode_shares(LOGITS.expand(draws, -1), noise, temperature, hard=hard) for hard in (True, False)
    )
    expected = draws * torch.softmax(LOGITS, 0)
    statistic = ((hard.sum(0) - expected).square() / expected).sum().item()
    assert statistic < chi2.isf(FALSE_ALARM, df=3)
    weights = ((LOGITS + noise).double() / temperature).exp()
    torch.testing.assert_close(soft.double(), weights / weights.sum(1, keepdim=True), atol=1e-6, rtol=1e-5)


def test_hard_shares_are_one_hot_at_the_winner_with_the_gradient_of_the_soft_ones() -> None:
    noise, pull = draw_noise(50), torch.randn(50, 4, generator=torch.Generator().manual_seed(3))
    gradients, shares = [], []
    for hard in (True, False):
        scores = LOGITS.repeat(50, 1).requires_grad_()
        share = mode_shares(scores, noise, 0.7, hard=hard)
        (gradient,) = torch.autograd.grad((share * pull).sum(), scores)
        gradients.append(gradient)
        shares.append(share.detach())
    winners = (LOGITS + noise).argmax(1)
    torch.testing.assert_close(shares[0], torch.nn.functional.one_hot(winners, 4).float())
    assert len(winners.unique()) == 4
    assert torch.equal(shares[1].argmax(1), winners)
    assert gradients[1].abs().amax(1).min() > 0
    torch.testing.assert_close(*gradients)


# --- balance ----------------------------------------------------------------------------------------------


def test_balance_is_zero_at_even_use_of_the_batch_and_ln_modes_at_collapse() -> None:
    for modes in (2, 4, 9):
        certain = torch.zeros(6, modes)
        certain[:, 1] = 200.0
        assert balance_loss(torch.full((6, modes), 3.0)).item() == pytest.approx(0, abs=1e-6)
        assert balance_loss(certain).item() == pytest.approx(math.log(modes), rel=1e-5)
    decided = 200.0 * torch.eye(4)  # each sample is certain of its own mode
    assert balance_loss(decided).item() == pytest.approx(0, abs=1e-6)
    uneven = math.log(4) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert balance_loss(decided[[0, 0, 0, 1]]).item() == pytest.approx(uneven)
    scores = torch.tensor([[0.0, -300.0]], requires_grad=True)
    balance_loss(scores).backward()
    assert torch.isfinite(scores.grad).all(), "where a mode is never used"


# --- what the loss of a step does to the router -----------------------------------------------------------

CONFIG = TrainConfig(
    epochs=4,
    alignment_start_epoch=3,
    codebook_sizes=(8, 4),
    tokens=(2, 8),
    qam_orders=(4, 16),
    embedding_dim=4,
    hidden=24,
    lambda_rate=0.0,
    lambda_balance=0.0,
    router_focus=0.6,
)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_routing_gives_samples_to_the_modes_that_serve_them_better(
    epoch: int, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task loss is 1 nat in one mode and 3 in the others; only the router goes down the gradient."""
    best, rate = 2, 0.05
    losses = cycle([1.0 if number == best else 3.0 for number in range(4)])
    monkeypatch.setattr(
        "twophase.training.phases.task_loss", lambda _logits, labels: torch.full((len(labels),), next(losses))
    )
    model = make_model(CONFIG.link, hidden=24, content=content)
    batch, router = make_batch(model, CONFIG, 48), model.router

    def expected_shares() -> Tensor:
        with torch.no_grad():
            return torch.softmax(router.scores(model.content(batch.features), batch.esn0_db), 1).mean(0)

    before, step = expected_shares(), take(model, CONFIG, epoch, batch=batch)
    gradients = torch.autograd.grad(step.loss, list(router.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(router.parameters(), gradients, strict=True):
            parameter -= rate * gradient
    price = step.terms["routing"].item()
    assert 1 < price < 3
    assert take(model, CONFIG, epoch, batch=batch).terms["routing"].item() <= price
    assert expected_shares()[best] > before[best] + 0.005
    assert (expected_shares() - before).argmax().item() == best
