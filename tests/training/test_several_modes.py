"""Steps of a link of several modes: each pass is its mode's own, the router weighs them, others stay out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from twophase.link.modes import LinkConfig, Mode
from twophase.training.config import TrainConfig
from twophase.training.model.network import LinkModel
from twophase.training.phases import Batch, Pass, StepResult, alignment_step, learning_step, training_snr
from twophase.training.schedule import EpochPlan, plan

CONFIG = TrainConfig(
    epochs=6,
    alignment_start_epoch=3,
    hardening_epochs=1,
    codebook_sizes=(8, 4),
    tokens=(3, 7),
    qam_orders=(4, 16),
    embedding_dim=4,
    hidden=20,
    lambda_latent=0.1,
    lambda_auxiliary=0.2,
    router_focus=0.6,
)
LEARNING, HARDENING, ALIGNMENT = 1, 3, 4
EPOCHS = [LEARNING, HARDENING, ALIGNMENT]
OWN_TERMS = {"routing", "rate", "balance"}


def make_model(content: bool = True) -> LinkModel:
    torch.manual_seed(0)
    model = LinkModel(CONFIG.link, (10,), 5, CONFIG.hidden, "product", content_router=content)
    for mode in model.modes:
        model.codebook(mode).set_labels(torch.randperm(mode.codebook_size))
    return model


def make_batch(model: LinkModel, size: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        features=torch.randn(size, 10, generator=generator),
        labels=torch.randint(5, (size,), generator=generator),
        esn0_db=training_snr(size, CONFIG, generator),
        noise=torch.randn(size, model.modes.max_symbols, 2, generator=generator),
        gate_noise=torch.randn(size, len(model.modes), generator=generator),
    )


def take(
    model: LinkModel,
    modes: list[Mode],
    epoch: int,
    config: TrainConfig = CONFIG,
    batch: Batch | None = None,
) -> StepResult:
    now: EpochPlan = plan(config, epoch)
    step_of: Callable[..., StepResult] = alignment_step if now.phase == "alignment" else learning_step
    return step_of(model, modes, make_batch(model) if batch is None else batch, config, now)


def assert_same_pass(found: Pass, expected: Pass) -> None:
    assert found.mode.order == expected.mode.order
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.terms.keys() == expected.terms.keys()
    for name, term in found.terms.items():
        torch.testing.assert_close(term, expected.terms[name])
    assert torch.equal(found.correct, expected.correct)
    torch.testing.assert_close(found.llr, expected.llr)
    torch.testing.assert_close(found.latents, expected.latents)
    for item in fields(found.hard):
        assert torch.equal(getattr(found.hard, item.name), getattr(expected.hard, item.name))


def scores_of(model: LinkModel, batch: Batch) -> Tensor:
    assert model.router is not None
    return model.router.scores(model.content(batch.features), batch.esn0_db)


def shares_of(model: LinkModel, batch: Batch, members: list[int], config: TrainConfig, hard: bool) -> Tensor:
    """The shares of some modes of each sample, from their definition."""
    perturbed = (scores_of(model, batch) + batch.gate_noise)[:, members].detach()
    if hard:
        return F.one_hot(perturbed.argmax(1), len(members)).float()
    weights = (perturbed / config.router_temperature).exp()
    return weights / weights.sum(1, keepdim=True)


# --- the passes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", EPOCHS)
def test_each_pass_is_that_of_a_step_in_its_mode_alone(epoch: int) -> None:
    model = make_model()
    together = take(model, list(model.modes), epoch)
    assert [entry.mode for entry in together.passes] == list(model.modes)
    for entry in together.passes:
        (alone,) = take(model, [entry.mode], epoch).passes
        assert_same_pass(entry, alone)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("epoch", EPOCHS)
def test_each_pass_is_that_of_a_link_of_its_mode_alone(epoch: int, number: int) -> None:
    """The same weights in a link of one mode, which has no router, give the same step."""
    model = make_model()
    mode = model.modes[number]
    one = LinkConfig((mode.codebook_size,), (mode.tokens,), (mode.order,), CONFIG.embedding_dim)
    single = LinkModel(one, (10,), 5, CONFIG.hidden, "product")
    for target, source in (
        (single.encoder, model.encoder),
        (single.classifier, model.classifier),
        (single.codebooks[0], model.codebooks[mode.codebook]),
        (single.latent_heads[0], model.latent_heads[mode.codebook]),
        (single.mode_inputs[0], model.mode_inputs[number]),
    ):
        target.load_state_dict(source.state_dict())
    batch = make_batch(model)
    narrow = replace(batch, noise=batch.noise[:, : mode.symbols], gate_noise=torch.zeros(24, 1))
    (expected,) = (alone := take(single, [single.modes[0]], epoch, batch=narrow)).passes
    (found,) = (step := take(model, [mode], epoch, batch=batch)).passes
    assert_same_pass(found, expected)
    assert alone.router_entropy.item() == 0
    assert alone.terms.keys() == step.terms.keys() - OWN_TERMS
    for name, term in alone.terms.items():
        torch.testing.assert_close(step.terms[name], term)
    assert step.accuracy.item() == pytest.approx(alone.accuracy.item())


# --- what the router does to the loss ---------------------------------------------------------------------


@pytest.mark.parametrize("focus", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("members", [[0, 1, 2, 3], [3, 1]])
@pytest.mark.parametrize("epoch", EPOCHS)
def test_shares_weigh_the_modes_as_far_as_the_focus_goes(
    epoch: int, members: list[int], temperature: float, focus: float
) -> None:
    config = replace(CONFIG, router_temperature=temperature, router_focus=focus)
    model = make_model()
    batch = make_batch(model)
    step = take(model, [model.modes[number] for number in members], epoch, config)
    shares = shares_of(model, batch, members, config, hard=epoch == ALIGNMENT)
    weights = (1 - focus) / len(members) + focus * shares
    torch.testing.assert_close(weights.sum(1), torch.ones(24))
    losses = torch.stack([entry.loss for entry in step.passes], 1)
    torch.testing.assert_close(step.terms["task"], (weights * losses).sum(1).mean())
    torch.testing.assert_close(step.terms["routing"], (shares * losses).sum(1).mean())
    correct = torch.stack([entry.correct for entry in step.passes], 1)
    torch.testing.assert_close(step.accuracy, (shares * correct).sum(1).mean())


@pytest.mark.parametrize("epoch", EPOCHS)
def test_rate_balance_and_entropy_are_those_of_all_modes_without_the_noise(epoch: int) -> None:
    """Also of the modes that sit this step out."""
    model = make_model()
    batch = make_batch(model)
    probabilities = torch.softmax(scores_of(model, batch), 1)
    symbols = torch.tensor([float(mode.symbols) for mode in model.modes])
    usage = probabilities.mean(0)
    for chosen in (list(model.modes), [model.modes[2], model.modes[3]]):
        step = take(model, chosen, epoch)
        torch.testing.assert_close(step.terms["rate"], (probabilities @ symbols).mean())
        torch.testing.assert_close(
            step.terms["balance"], (usage * (usage / 0.25).log()).sum(), atol=1e-6, rtol=1e-4
        )
        nats = -(probabilities * probabilities.log()).sum(1).mean()
        torch.testing.assert_close(step.router_entropy, nats)
        assert 0 < step.router_entropy.item() < math.log(4)
        assert not step.router_entropy.requires_grad


@pytest.mark.parametrize("epoch", EPOCHS)
def test_other_terms_are_averages_over_the_modes_of_the_step(epoch: int) -> None:
    model = make_model()
    step = take(model, [model.modes[0], model.modes[3]], epoch)
    names = {"commitment", "entropy", "latent", "margin"} | (
        set() if epoch == LEARNING else {"consistency", "auxiliary"}
    )
    assert step.terms.keys() == {"task"} | names | OWN_TERMS
    for name in names:
        first, second = (entry.terms[name] for entry in step.passes)
        assert first.item() != second.item()
        torch.testing.assert_close(step.terms[name], (first + second) / 2)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_the_loss_is_the_weighted_sum_of_its_terms(epoch: int) -> None:
    weights = {
        "commitment": 0.3,
        "consistency": 0.7,
        "auxiliary": 0.11,
        "latent": 0.13,
        "margin": 5.0,
        "entropy": 0.02,
        "rate": 0.017,
        "balance": 0.19,
    }
    values: dict[str, Any] = {f"lambda_{name}": weight for name, weight in weights.items()}
    model = make_model()
    step = take(model, list(model.modes), epoch, replace(CONFIG, **values))
    total = torch.stack([weights.get(name, 1.0) * term for name, term in step.terms.items()]).sum()
    torch.testing.assert_close(step.loss, total)
    assert {"task", "routing"} == step.terms.keys() - weights.keys()


def gradients(model: LinkModel, loss: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("pair", list(combinations(range(4), 2)))
def test_modes_that_sit_out_receive_no_gradient(pair: tuple[int, int], epoch: int) -> None:
    model = make_model()
    step = take(model, [model.modes[number] for number in pair], epoch)
    books = {model.modes[number].codebook for number in pair}
    found = gradients(model, step.loss)
    for name, gradient in found.items():
        part, _, rest = name.partition(".")
        at_work = {"mode_inputs": set(pair), "codebooks": books, "latent_heads": books}.get(part)
        if at_work is None or int(rest.split(".")[0]) in at_work:
            assert gradient is not None, name
            assert gradient.any(), name
        else:
            assert gradient is None, name


@pytest.mark.parametrize("epoch", EPOCHS)
def test_the_router_and_the_link_learn_from_terms_of_their_own(epoch: int) -> None:
    """No term of the router reaches the link, no term of the link the router."""
    model = make_model()
    step = take(model, list(model.modes), epoch)
    for name, term in step.terms.items():
        for parameter, gradient in gradients(model, term).items():
            if parameter.startswith("router") != (name in OWN_TERMS):
                assert gradient is None or not gradient.any(), (name, parameter)
