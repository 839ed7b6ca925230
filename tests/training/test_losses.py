"""Each loss is what its formula says, and each changes the gradient of the step that it belongs to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from twophase.training.config import TrainConfig
from twophase.training.losses import (
    CLEAR_MARGIN,
    commitment_loss,
    consistency_loss,
    distillation_loss,
    margin_loss,
    task_loss,
    usage_entropy_loss,
)
from twophase.training.model.network import LinkModel
from twophase.training.phases import Batch, alignment_step, learning_step, training_snr
from twophase.training.schedule import plan

CONFIG = TrainConfig(
    method="two-phase", epochs=4, alignment_start_epoch=2, codebook_sizes=(16,), tokens=(3,), embedding_dim=4
)


def make_model(surrogate: str = "product") -> LinkModel:
    torch.manual_seed(0)
    return LinkModel(CONFIG.link, input_shape=(10,), classes=5, hidden=32, surrogate=surrogate)


def make_batch(model: LinkModel, size: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        features=torch.randn(size, 10, generator=generator),
        labels=torch.randint(5, (size,), generator=generator),
        esn0_db=training_snr(size, CONFIG, generator),
        noise=torch.randn(size, model.modes[0].symbols, 2, generator=generator),
        gate_noise=torch.zeros(size, 1),
    )


def gradient(config: TrainConfig, epoch: int, surrogate: str = "product") -> Tensor:
    """The gradient of all parameters in one step of ``epoch``."""
    model = make_model(surrogate)
    now = plan(config, epoch)
    step_of = alignment_step if now.phase == "alignment" else learning_step
    step = step_of(model, [model.modes[0]], make_batch(model), config, now)
    step.loss.backward()
    parts = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()]
    return torch.cat(parts)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("lambda_commitment", (1, 2)),
        ("lambda_entropy", (1, 2)),
        ("lambda_latent", (1, 2)),
        ("lambda_margin", (1, 2)),
        ("lambda_consistency", (2,)),
        ("lambda_auxiliary", (2,)),
    ],
)
def test_each_weight_changes_the_gradient(name: str, epochs: tuple[int, ...]) -> None:
    for epoch in epochs:
        without = gradient(replace(CONFIG, **{name: 0.0}), epoch)
        with_it = gradient(replace(CONFIG, **{name: 1.0}), epoch)
        assert (with_it - without).norm() > 1e-4 * without.norm()


def test_the_task_loss_drives_encoder_codebook_and_classifier() -> None:
    silent: dict[str, Any] = {f"lambda_{n}": 0.0 for n in ("commitment", "entropy", "consistency")}
    for epoch in (1, 2):
        for surrogate in ("product", "reported"):
            model = make_model(surrogate)
            config = replace(CONFIG, **silent)
            now = plan(config, epoch)
            step_of = alignment_step if now.phase == "alignment" else learning_step
            step_of(model, [model.modes[0]], make_batch(model), config, now).loss.backward()
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.abs().max() > 0, name


def test_distillation_is_the_cross_entropy_with_the_teacher() -> None:
    """Its gradient is the student's probabilities less the teacher's; a certain teacher is a label."""
    teacher = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]])
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [1.0, -1.0]], requires_grad=True)
    losses = distillation_loss(logits, teacher)
    uncertain = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert losses[0].item() == pytest.approx(-0.5 * math.log(0.25 * 0.75))
    assert losses[1].item() == pytest.approx(uncertain)
    torch.testing.assert_close(losses[2], task_loss(logits, torch.tensor([1, 1, 1]))[2])
    losses.sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - teacher)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_step_hears_label_and_teacher_in_proportion(epoch: int) -> None:
    model = make_model()
    batch = make_batch(model)
    teacher = torch.softmax(torch.randn(24, 5, generator=torch.Generator().manual_seed(2)), 1)
    step_of = alignment_step if epoch == 2 else learning_step

    def loss(share: float, taught: Tensor | None) -> float:
        told = replace(CONFIG, distillation=share)
        given = replace(batch, teacher=taught)
        return step_of(model, [model.modes[0]], given, told, plan(told, epoch)).terms["task"].item()

    labels, probabilities = loss(0.0, teacher), loss(1.0, teacher)
    assert labels == loss(1.0, None) != probabilities
    assert loss(0.25, teacher) == pytest.approx(0.75 * labels + 0.25 * probabilities, rel=1e-5)
    certain = torch.nn.functional.one_hot(batch.labels, 5).float()
    assert loss(1.0, certain) == pytest.approx(labels, rel=1e-5)


def test_consistency_pulls_the_soft_side_only() -> None:
    soft = torch.tensor([1.0, 2.0], requires_grad=True)
    hard = torch.tensor([0.0, 0.0], requires_grad=True)
    loss = consistency_loss(soft, hard)
    loss.backward()
    assert loss.item() == 2.5
    assert hard.grad is None
    torch.testing.assert_close(soft.grad, torch.tensor([1.0, 2.0]))


def test_commitment_pulls_both_sides() -> None:
    latents = torch.ones(1, 1, 2, requires_grad=True)
    codewords = torch.zeros(1, 1, 2, requires_grad=True)
    loss = commitment_loss(latents, codewords)
    loss.backward()
    assert loss.item() == 2.0
    torch.testing.assert_close(latents.grad, torch.ones(1, 1, 2))
    torch.testing.assert_close(codewords.grad, -torch.ones(1, 1, 2))


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_entropy_of_a_certain_assignment_is_finite(rounding: float) -> None:
    """Bit probabilities of 1 + 1e-7 give points below zero; a run ended on an infinite loss for it."""
    points = torch.tensor([[1.0 + rounding, -rounding]], requires_grad=True)
    loss = usage_entropy_loss(points)
    loss.backward()
    assert torch.isfinite(loss)
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_margin_loss_is_highest_on_the_boundary_and_gone_where_the_choice_is_clear() -> None:
    """Codewords at 0 and 4 (and one far off): 2 is the boundary, 4 - 2 * 0.2 ... the clear side."""
    codewords = torch.tensor([[0.0], [4.0], [100.0]])

    def loss(latent: float) -> Tensor:
        z = torch.tensor([[[latent]]])
        return margin_loss(z @ codewords.T - codewords.square().sum(-1) / 2, codewords)

    assert loss(2.0).item() == pytest.approx(CLEAR_MARGIN**2)
    assert loss(2.0 + 2 * CLEAR_MARGIN).item() == pytest.approx(0.0, abs=1e-12)
    assert loss(2.0 + CLEAR_MARGIN).item() == pytest.approx((CLEAR_MARGIN / 2) ** 2, rel=1e-5)
    assert loss(0.0).item() == loss(4.0).item() == loss(-3.0).item() == 0.0


def test_margin_loss_pushes_latents_away_from_the_boundary() -> None:
    codewords = torch.tensor([[0.0], [4.0]])
    latents = torch.tensor([[[1.9]], [[2.1]]], requires_grad=True)
    margin_loss(latents @ codewords.T - codewords.square().sum(-1) / 2, codewords).backward()
    assert latents.grad is not None
    assert latents.grad[0].item() > 0 > latents.grad[1].item()
