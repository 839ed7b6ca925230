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

from twophase.link.modes import LinkConfig
from twophase.training.config import TrainConfig
from twophase.training.model.network import LinkModel
from twophase.training.model.router import Router, balance_loss, gumbel_noise, mode_shares
from twophase.training.phases import Batch, StepResult, alignment_step, learning_step, training_snr
from twophase.training.schedule import plan

LINK = LinkConfig((4, 8, 16), (6, 3, 2), (4, 16), 3)
CONTENT = 5
SNR_RANGE_DB = (-6.0, 21.0)
FALSE_ALARM = 1e-6


def make_router(content: int) -> Router:
    torch.manual_seed(0)
    return Router(LINK, content, SNR_RANGE_DB)


def make_inputs(size: int = 30, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(size, CONTENT, generator=generator)
    return content, 25 * torch.rand(size, generator=generator) - 5


# --- scores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, CONTENT])
def test_the_score_of_a_mode_is_its_codebooks_plus_its_constellations(width: int) -> None:
    router = make_router(width)
    content, esn0_db = make_inputs()
    with torch.no_grad():
        scores = router.scores(content, esn0_db)
    assert scores.shape == (30, len(LINK.modes))
    table = scores.unflatten(1, (3, 2))  # codebook-major, as the modes are
    sums = table[:, :, :1] + table[:, :1, :] - table[:, :1, :1]
    torch.testing.assert_close(table, sums, atol=1e-6, rtol=1e-5)
    for axis in (1, 2):
        assert (table.amax(axis) - table.amin(axis)).mean() > 1e-2


@pytest.mark.parametrize(("beyond", "end"), [(-40.0, -6.0), (-7.5, -6.0), (22.0, 21.0), (90.0, 21.0)])
def test_beyond_its_training_the_router_decides_as_at_the_nearer_end(beyond: float, end: float) -> None:
    router = make_router(CONTENT)
    content, _ = make_inputs()
    with torch.no_grad():
        far, near = (router.scores(content, torch.full((30,), level)) for level in (beyond, end))
    assert torch.equal(far, near)


@pytest.mark.parametrize("part", ["rate", "modulation"])
def test_each_head_moves_the_modes_of_its_own(part: str) -> None:
    """A larger bias of codebook 1, or of constellation 1, lifts the modes that have it."""
    router = make_router(0)
    inputs = make_inputs()
    with torch.no_grad():
        before = router.scores(*inputs)
        getattr(router, part).bias[1] += 2.0
        change = router.scores(*inputs) - before
    lifted = [mode.codebook == 1 if part == "rate" else mode.order == 16 for mode in LINK.modes]
    torch.testing.assert_close(change, torch.tensor(lifted).float().mul(2).expand(30, -1))


def test_an_snr_router_knows_nothing_of_the_sample_and_a_content_router_does() -> None:
    content, esn0_db = make_inputs()
    for router, reads in ((make_router(0), False), (make_router(CONTENT), True)):
        assert router.reads_content == reads
        with torch.no_grad():
            here, there = router.scores(content, esn0_db), router.scores(content.flip(0), esn0_db)
            moved = router.scores(content, esn0_db + 3)
        assert torch.equal(here, there) != reads
        assert (moved - here).abs().amax(1).mean() > 1e-3


# --- shares -----------------------------------------------------------------------------------------------

LOGITS = torch.tensor([0.5, -1.0, 1.2, 0.0])


def draw_noise(size: int, seed: int = 0) -> Tensor:
    return gumbel_noise((size, len(LOGITS)), torch.Generator().manual_seed(seed))


def test_the_noise_is_of_the_standard_gumbel_distribution() -> None:
    """Kolmogorov-Smirnov test on 40,000 draws; false alarm 1e-6."""
    noise = draw_noise(10_000).flatten().double().numpy()
    assert kstest(noise, "gumbel_r").pvalue > FALSE_ALARM


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_hard_shares_are_drawn_by_the_softmax_of_the_scores(temperature: float) -> None:
    """Gumbel-max: whatever the temperature, mode m wins with probability softmax(scores)[m].

    Chi-square test of 20,000 draws over 4 modes, 3 degrees of freedom; false alarm 1e-6.
    """
    draws = 20_000
    shares = mode_shares(LOGITS.expand(draws, -1), draw_noise(draws), temperature, hard=True)
    expected = draws * torch.softmax(LOGITS, 0)
    statistic = ((shares.sum(0) - expected).square() / expected).sum().item()
    assert statistic < chi2.isf(FALSE_ALARM, df=3)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_soft_shares_are_a_softmax_of_the_perturbed_scores(temperature: float) -> None:
    noise = draw_noise(50)
    shares = mode_shares(LOGITS.expand(50, -1), noise, temperature, hard=False)
    weights = ((LOGITS + noise).double() / temperature).exp()
    torch.testing.assert_close(shares.double(), weights / weights.sum(1, keepdim=True), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.ones(50))


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


@pytest.mark.parametrize("modes", [2, 4, 9])
def test_balance_is_zero_at_even_use_and_ln_modes_at_collapse(modes: int) -> None:
    assert balance_loss(torch.full((6, modes), 3.0)).item() == pytest.approx(0, abs=1e-6)
    certain = torch.zeros(6, modes)
    certain[:, 1] = 200.0
    assert balance_loss(certain).item() == pytest.approx(math.log(modes), rel=1e-5)


def test_balance_asks_for_even_use_of_the_batch_and_not_of_each_sample() -> None:
    decided = 200.0 * torch.eye(4).repeat(3, 1)
    assert balance_loss(decided).item() == pytest.approx(0, abs=1e-6)
    assert balance_loss(decided[[0, 0, 0, 1]]).item() == pytest.approx(
        math.log(4) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    )


def test_balance_has_a_finite_gradient_where_a_mode_is_never_used() -> None:
    scores = torch.tensor([[0.0, -300.0]], requires_grad=True)
    balance_loss(scores).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


# --- what the loss of a step does to the router -----------------------------------------------------------

CONFIG = TrainConfig(
    epochs=4,
    alignment_start_epoch=3,
    codebook_sizes=(8, 4),
    tokens=(2, 8),
    qam_orders=(4, 16),
    embedding_dim=4,
    hidden=24,
    modes_per_step=4,
    lambda_rate=0.0,
    lambda_balance=0.0,
    router_focus=0.6,
)


def make_model(content: bool = False) -> LinkModel:
    torch.manual_seed(0)
    return LinkModel(CONFIG.link, (10,), 5, CONFIG.hidden, "product", content_router=content)


def make_batch(model: LinkModel, size: int = 48) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        features=torch.randn(size, 10, generator=generator),
        labels=torch.randint(5, (size,), generator=generator),
        esn0_db=training_snr(size, CONFIG, generator),
        noise=torch.randn(size, model.modes.max_symbols, 2, generator=generator),
        gate_noise=gumbel_noise((size, len(model.modes)), generator),
    )


def take(model: LinkModel, config: TrainConfig, epoch: int) -> StepResult:
    now = plan(config, epoch)
    step_of = alignment_step if now.phase == "alignment" else learning_step
    return step_of(model, list(model.modes), make_batch(model), config, now)


def terms_after(model: LinkModel, config: TrainConfig, epoch: int, rate: float = 0.05) -> dict[str, float]:
    """The terms of a step once the router alone has gone down the gradient of the same step's loss."""
    assert model.router is not None
    parameters = list(model.router.parameters())
    gradients = torch.autograd.grad(take(model, config, epoch).loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient
    return {name: term.item() for name, term in take(model, config, epoch).terms.items()}


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_routing_gives_samples_to_the_modes_that_serve_them_better(
    epoch: int, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task loss is 1 nat in one mode and 3 in the others; only the router takes a step."""
    best = 2
    losses = cycle([1.0 if number == best else 3.0 for number in range(4)])
    monkeypatch.setattr(
        "twophase.training.phases.task_loss", lambda _logits, labels: torch.full((len(labels),), next(losses))
    )
    model = make_model(content)
    batch = make_batch(model)

    def expected_shares() -> Tensor:
        assert model.router is not None
        with torch.no_grad():
            every = model.router.scores(model.content(batch.features), batch.esn0_db)
        return torch.softmax(every, 1).mean(0)

    before, price = expected_shares(), take(model, CONFIG, epoch).terms["routing"].item()
    after = terms_after(model, CONFIG, epoch)
    assert 1 < price < 3
    assert after["routing"] <= price
    assert expected_shares()[best] > before[best] + 0.005
    assert (expected_shares() - before).argmax().item() == best
