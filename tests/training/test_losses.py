"""Each loss is what its formula says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from twophase.training.losses import (
    CLEAR_MARGIN,
    commitment_loss,
    consistency_loss,
    distillation_loss,
    latent_loss,
    margin_loss,
    task_loss,
    usage_entropy_loss,
)


def test_distillation_is_the_cross_entropy_with_the_teacher() -> None:
    teacher = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]])
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [1.0, -1.0]])
    expected = -(teacher * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(distillation_loss(logits, teacher), expected)
    torch.testing.assert_close(task_loss(logits, torch.tensor([1, 1, 1]))[2], expected[2])


def test_consistency_pulls_the_soft_side_only_and_commitment_both() -> None:
    soft, hard = torch.tensor([1.0, 2.0], requires_grad=True), torch.zeros(2, requires_grad=True)
    for loss_of, value, pulls in (
        (consistency_loss, 2.5, ([1.0, 2.0], None)),
        (commitment_loss, 5.0, ([1.0, 2.0], [-1.0, -2.0])),
    ):
        loss = loss_of(soft, hard)
        found = torch.autograd.grad(loss, (soft, hard), allow_unused=True)
        assert loss.item() == value
        assert tuple(None if pull is None else pull.tolist() for pull in found) == pulls


def test_even_use_is_what_the_entropy_loss_wants_and_unit_power_what_the_latents_one() -> None:
    # The mean assignment counts: two certain tokens on two codewords use both evenly.
    assert usage_entropy_loss(torch.eye(2)).item() == pytest.approx(-math.log(2))
    assert usage_entropy_loss(torch.tensor([[0.75, 0.25]])).item() == pytest.approx(-0.5623351)
    # Mean squares of 4 and 1: ((4 - 1)^2 + 0) / 2.
    assert latent_loss(torch.tensor([[[2.0, -2.0], [1.0, 1.0]]])).item() == pytest.approx(4.5)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_entropy_of_a_certain_assignment_is_finite(rounding: float) -> None:
    """Bit probabilities of 1 + 1e-7 give points below zero; a run ended on an infinite loss for it."""
    points = torch.tensor([[1.0 + rounding, -rounding]], requires_grad=True)
    loss = usage_entropy_loss(points)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(points.grad).all()


def test_margin_loss_is_highest_on_the_boundary_and_gone_where_the_choice_is_clear() -> None:
    """Codewords at 0 and 4 (and one far off): 2 is the boundary, 2 + 2 * 0.2 ... the clear side."""
    codewords = torch.tensor([[0.0], [4.0], [100.0]])

    def loss(latents: Tensor) -> Tensor:
        return margin_loss(latents @ codewords.T - codewords.square().sum(-1) / 2, codewords)

    for latent, expected in (
        (2.0, CLEAR_MARGIN**2),
        (2.0 + CLEAR_MARGIN, (CLEAR_MARGIN / 2) ** 2),
        (2.0 + 2 * CLEAR_MARGIN, 0.0),
        *((clear, 0.0) for clear in (0.0, 4.0, -3.0)),
    ):
        assert loss(torch.tensor([[[latent]]])).item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    latents = torch.tensor([[[1.9]], [[2.1]]], requires_grad=True)
    loss(latents).backward()
    assert latents.grad[0].item() > 0 > latents.grad[1].item(), "pushed away from the boundary"
