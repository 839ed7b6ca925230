"""An epoch is planned, a step computes what its formulas say, and the router weighs its modes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.small_link import make_batch, make_model, normal, take
from twophase.link.modes import LinkConfig
from twophase.training.config import TrainConfig
from twophase.training.model.network import LinkModel, Received
from twophase.training.model.soft_symbols import hard_symbols
from twophase.training.phases import (
    Batch,
    Pass,
    StepResult,
    charged_energy,
    learning_rate,
    plan_of,
    training_snr,
)

CONFIG = TrainConfig(
    epochs=6,
    alignment_start_epoch=2,
    codebook_sizes=(8,),
    tokens=(3,),  # nine bits in three 16-QAM symbols: three bits of padding
    qam_orders=(16,),
    embedding_dim=4,
    hidden=20,
)
SILENT: dict[str, Any] = {f"lambda_{name}": 0.0 for name in ("commitment", "consistency", "entropy")}
CERTAIN: dict[str, Any] = {"train_snr_low_db": 80.0, "train_snr_high_db": 80.0, **SILENT}


# --- the plan of an epoch ---------------------------------------------------------------------------------


STEPS = range(30)
COOLING = [max(0.7, 0.97**step) for step in STEPS]
SINGLE, HARD = {"method": "single-phase"}, {"method": "hard-only"}


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({}, "temperature", COOLING),
        ({}, "hardness", [0] * 19 + [1] * 11),
        ({"hardening_epochs": 3}, "hardness", [0] * 19 + [0.25, 0.5, 0.75] + [1] * 8),
        (SINGLE, "temperature", [0.1 ** (step / 29) for step in STEPS]),
        (SINGLE | {"anneal_temp_end": 0.02}, "temperature", [0.02 ** (step / 29) for step in STEPS]),
        (SINGLE, "hardness", [0] * 30),
        (HARD, "temperature", [0.7] * 30),
        (HARD, "hardness", [1] * 30),
        ({}, "symbol_temperature", [1] * 30),
        ({"surrogate": "reported"}, "symbol_temperature", COOLING),
        ({"entropy_warmup_epochs": 4}, "lambda_entropy", [0.05, 0.04, 0.03, 0.02] + [0.01] * 26),
        ({"router_noise": 0.5}, "router_noise", [0.5 * max(0, 1 - step / 19) for step in STEPS]),
        (SINGLE | {"router_noise": 0.5}, "router_noise", [0.5 * (1 - step / 30) for step in STEPS]),
    ],
)
def test_each_epoch_follows_its_plan(settings: dict[str, Any], name: str, expected: list[float]) -> None:
    """Of 30 epochs, of which a run of two phases aligns from the 20th on."""
    plans = [plan_of(TrainConfig(**settings), epoch) for epoch in range(1, 31)]
    assert [getattr(plan, name) for plan in plans] == pytest.approx(expected)
    assert all(plan.phase == ("alignment" if plan.hardness else "learning") for plan in plans)


def test_learning_rate_warms_up_and_ends_near_zero_or_stays() -> None:
    config = TrainConfig(learning_rate=1.0)
    rates = [learning_rate(config, step, 2000) for step in range(2000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.994, abs=0.01)
    assert 0 <= rates[-1] < 1e-5
    assert all(later <= now for now, later in pairwise(rates[100:]))
    assert learning_rate(TrainConfig(learning_rate_schedule="constant", learning_rate=0.5), 1999, 2000) == 0.5


# --- one mode ---------------------------------------------------------------------------------------------


class Expected:
    """The quantities of a step, each from its definition."""

    def __init__(self, model: LinkModel, batch: Batch, temperature: float) -> None:
        mode = model.modes[0]
        codebook, tables = model.codebook(mode), model.tables(mode)
        self.model, self.batch = model, batch
        self.latents = model.latents(model.content(batch.features), mode)
        distance = (self.latents[:, :, None] - codebook.codewords).square().sum(-1)
        self.assignment = torch.softmax(-distance / temperature, -1)
        self.soft_codewords = self.assignment @ codebook.codewords
        indices = distance.argmin(-1)
        self.hard_codewords = codebook.codewords[indices]
        self.hard_bits = F.pad(codebook.label_bits[indices].flatten(1), (0, 3)).float()
        self.soft_bits = F.pad((self.assignment @ codebook.label_bits.float()).flatten(1), (0, 3))
        points = (self.hard_bits.reshape(len(indices), -1, 4) * torch.tensor([8, 4, 2, 1])).sum(-1).long()
        self.hard_symbols = hard_symbols(points, tables)
        bits = self.soft_bits.reshape(len(indices), -1, 1, 4)
        self.point_probs = torch.where(tables.point_bits.bool(), bits, 1 - bits).prod(-1)
        self.soft_symbols = self.point_probs @ tables.points

    def llr(self, symbols: Tensor) -> Tensor:
        energy = charged_energy(symbols)
        return self.model.llr(symbols, energy, self.batch.noise, self.batch.esn0_db, self.model.modes[0])

    def seen(self, symbols: Tensor) -> Received:
        return self.model.receive(self.llr(symbols), self.model.modes[0])

    def features(self, symbols: Tensor) -> Tensor:
        seen = self.seen(symbols)
        return self.model.features(seen.embedding, seen.soft_bits, self.model.modes[0])

    def task(self, symbols: Tensor) -> Tensor:
        return F.cross_entropy(self.model.classify(self.features(symbols)), self.batch.labels)


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().mean()


def step_of(
    epoch: int, hardness: float | None = None, config: TrainConfig = CONFIG
) -> tuple[StepResult, Expected]:
    """A step in one mode, and what it should have computed."""
    model = make_model(config.link)
    batch = make_batch(model, config)
    step = take(model, config, epoch, batch=batch, hardness=hardness)
    return step, Expected(model, batch, plan_of(config, epoch).temperature)


@pytest.mark.parametrize(("epoch", "hardness"), [(1, None), (2, 0.0), (2, 0.25), (2, 1.0)], ids=str)
def test_what_is_sent_and_decided_on_is_the_blend_of_soft_and_hard_symbols(
    epoch: int, hardness: float | None
) -> None:
    step, expected = step_of(epoch, hardness)
    (taken,) = step.passes
    blend = torch.lerp(expected.soft_symbols, expected.hard_symbols, hardness or 0.0)
    torch.testing.assert_close(taken.llr, expected.llr(blend), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(step.terms["task"], expected.task(blend))
    decided = expected.model.classify(expected.features(blend)).argmax(1)
    assert torch.equal(taken.correct, decided == expected.batch.labels)
    assert step.accuracy.item() == pytest.approx(taken.correct.float().mean().item())
    assert torch.equal(taken.hard.bits.float(), expected.hard_bits)
    assert torch.equal(taken.latents, expected.latents)


@pytest.mark.parametrize("epoch", [1, 2])
def test_each_term_is_its_formula(epoch: int) -> None:
    step, expected = step_of(epoch)
    means = [part.flatten(0, 1).mean(0) for part in (expected.assignment, expected.point_probs)]
    nats = torch.stack([-(mean * mean.log()).sum() for mean in means])
    soft, hard = expected.soft_symbols, expected.hard_symbols
    wanted = {
        "entropy": -nats.sum(),
        "commitment": 2 * mean_square(expected.latents, expected.hard_codewords),
        "latent": (expected.latents.square().mean(-1) - 1).square().mean(),
    }
    other = 2 * mean_square(expected.latents, expected.soft_codewords)
    assert nats.min() > 0.1
    assert (wanted["commitment"] - other).abs() > 0.01 * other
    if epoch == 2:
        parts = [
            mean_square(expected.soft_codewords, expected.hard_codewords),
            mean_square(soft, hard),
            mean_square(expected.features(soft), expected.features(hard)),
        ]
        wanted["auxiliary"] = torch.stack(parts).sum()
        wanted["consistency"] = mean_square(expected.seen(soft).embedding, expected.seen(hard).embedding)
        assert all(part > 1e-3 * wanted["auxiliary"] for part in parts), "each is large enough to be missed"
    assert step.terms.keys() == wanted.keys() | {"task", "margin"}
    for name, value in wanted.items():
        torch.testing.assert_close(step.terms[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("surrogate", ["product", "reported"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_the_task_loss_drives_encoder_codebook_and_classifier(epoch: int, surrogate: str) -> None:
    config = replace(CONFIG, **SILENT)
    model = make_model(config.link, surrogate=surrogate)
    take(model, config, epoch).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("epoch", [1, 2])
def test_label_and_teacher_count_in_proportion(epoch: int) -> None:
    model = make_model(CONFIG.link)
    taught = replace(make_batch(model, CONFIG), teacher=torch.softmax(normal(24, 5), 1))

    def loss(share: float, batch: Batch) -> float:
        return take(model, replace(CONFIG, distillation=share), epoch, batch=batch).terms["task"].item()

    labels, probabilities = loss(0.0, taught), loss(1.0, taught)
    assert labels == loss(1.0, replace(taught, teacher=None)) != probabilities
    assert loss(0.25, taught) == pytest.approx(0.75 * labels + 0.25 * probabilities, rel=1e-5)


def assert_same_gradients(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        largest = other.abs().max().item()
        assert largest > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * largest)


@pytest.mark.parametrize("inputs", ["embedding", "bits", "both"])
def test_the_bridge_carries_the_gradient_past_saturated_llrs(inputs: str) -> None:
    """At 80 dB every LLR is clipped: what reaches the encoder comes through the soft mixes alone.

    The receiver's first layer is made blind to one of its two inputs, so that each half is seen by itself.
    """
    config, model = replace(CONFIG, **CERTAIN), make_model(CONFIG.link)
    mode, width = model.modes[0], model.modes[0].tokens * CONFIG.embedding_dim
    with torch.no_grad():
        weight = model.mode_inputs[0].weight
        weight[:, :width] *= inputs != "bits"
        weight[:, width:] *= inputs != "embedding"
    batch, encoder = make_batch(model, config), list(model.encoder.parameters())
    without = torch.autograd.grad(take(model, replace(config, bridge=False), 2, batch=batch).loss, encoder)
    assert not any(gradient.any() for gradient in without)
    step = take(model, config, 2, batch=batch)
    assert (step.passes[0].llr.detach().abs() == 100).all()
    expected = Expected(model, batch, plan_of(config, 2).temperature)
    seen = expected.seen(expected.hard_symbols)
    received = [seen.embedding.detach().requires_grad_(), seen.soft_bits.detach().requires_grad_()]
    logits = model.classify(model.features(received[0], received[1], mode))
    pulls = torch.autograd.grad(F.cross_entropy(logits, batch.labels), received)
    mixes = [expected.soft_codewords, 2 * expected.soft_bits[:, : mode.information_bits]]
    assert_same_gradients(
        torch.autograd.grad(step.loss, encoder), torch.autograd.grad(mixes, encoder, list(pulls))
    )


def test_the_gradient_of_a_hard_forward_is_that_of_the_soft_symbols() -> None:
    """Without the bridge and at moderate SNR: d loss / d sent symbols, carried on to the soft symbols."""
    step, expected = step_of(2, config=replace(CONFIG, bridge=False, **SILENT))
    encoder = list(expected.model.encoder.parameters())
    sent = expected.hard_symbols.detach().requires_grad_()
    (pull,) = torch.autograd.grad(expected.task(sent), [sent])
    wanted = torch.autograd.grad(expected.soft_symbols, encoder, pull)
    assert_same_gradients(torch.autograd.grad(step.loss, encoder), wanted)


# --- the channel of training ------------------------------------------------------------------------------


def test_each_sample_has_its_own_part_of_the_training_range() -> None:
    config = replace(CONFIG, train_snr_low_db=-6.0, train_snr_high_db=10.0)
    first, second = (training_snr(32, config, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(torch.div(first + 6, 16 / 32, rounding_mode="floor"), torch.arange(32.0))
    assert not torch.equal(first, second)


def test_energy_is_charged_by_groups_of_similar_snr_and_buys_nothing() -> None:
    """Twice the amplitude at the same Es/N0 leaves the sign errors as they are."""
    symbols = torch.zeros(16, 2, 2)
    symbols[:8, :, 0], symbols[8:, :, 0] = 2.0, 1.0
    torch.testing.assert_close(charged_energy(symbols), torch.tensor([4.0] * 8 + [1.0] * 8))

    model = make_model(LinkConfig((8,), (3,), (4,), 4))
    mode, signs = model.modes[0], normal(4000, model.modes[0].symbols, 2).sign()
    for amplitude in (1.0, 2.0):
        sent = amplitude * signs / math.sqrt(2)
        noise = normal(*sent.shape, seed=9)
        llr = model.llr(sent, charged_energy(sent), noise, torch.full((4000,), 4.0), mode)
        errors = ((llr.reshape(4000, -1, 2) > 0) == (signs > 0)).float().mean().item()
        # Q(sqrt(2 * 10^0.4 / 2)) = 0.0565; 40,000 bits: five standard deviations are 0.006.
        assert errors == pytest.approx(0.0565, abs=0.006)


# --- several modes ----------------------------------------------------------------------------------------

SEVERAL = replace(
    CONFIG,
    alignment_start_epoch=3,
    hardening_epochs=1,
    codebook_sizes=(8, 4),
    tokens=(3, 7),
    qam_orders=(4, 16),
    lambda_latent=0.1,
    lambda_auxiliary=0.2,
    router_focus=0.6,
)
LEARNING, HARDENING, ALIGNMENT = 1, 3, 4
every_epoch = pytest.mark.parametrize("epoch", [LEARNING, HARDENING, ALIGNMENT])
OWN_TERMS = {"routing", "rate", "balance"}


@pytest.fixture
def model() -> LinkModel:
    return make_model(SEVERAL.link, content=True)


def assert_same_pass(found: Pass, expected: Pass) -> None:
    torch.testing.assert_close(found.terms, expected.terms)
    for name in ("loss", "llr", "latents", "correct"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert all(map(torch.equal, vars(found.hard).values(), vars(expected.hard).values()))


def scores_of(model: LinkModel, batch: Batch) -> Tensor:
    return model.router.scores(model.content(batch.features), batch.esn0_db)


def gradients(model: LinkModel, loss: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@every_epoch
def test_each_pass_is_that_of_a_link_of_its_mode_alone(epoch: int, model: LinkModel) -> None:
    """The same weights in a link of one mode, which has no router, give the same step."""
    together = take(model, SEVERAL, epoch)
    assert [entry.mode for entry in together.passes] == list(model.modes)
    batch = make_batch(model, SEVERAL)
    for number, (mode, joint) in enumerate(zip(model.modes, together.passes, strict=True)):
        single = make_model(LinkConfig((mode.codebook_size,), (mode.tokens,), (mode.order,), 4))
        for target, source in (
            (single.encoder, model.encoder),
            (single.classifier, model.classifier),
            (single.codebooks[0], model.codebooks[mode.codebook]),
            (single.latent_heads[0], model.latent_heads[mode.codebook]),
            (single.mode_inputs[0], model.mode_inputs[number]),
        ):
            target.load_state_dict(source.state_dict())
        narrow = replace(batch, noise=batch.noise[:, : mode.symbols], gate_noise=torch.zeros(24, 1))
        alone, step = take(single, SEVERAL, epoch, batch=narrow), take(model, SEVERAL, epoch, [mode], batch)
        for found in (joint, *step.passes):
            assert_same_pass(found, alone.passes[0])
        assert alone.router_entropy.item() == 0
        assert alone.terms.keys() == step.terms.keys() - OWN_TERMS


@pytest.mark.parametrize(("temperature", "focus"), [(0.5, 0.0), (2.0, 0.6), (0.5, 1.0)])
@pytest.mark.parametrize("members", [[0, 1, 2, 3], [3, 1]])
@every_epoch
def test_shares_weigh_the_modes_as_far_as_the_focus_goes(
    epoch: int, members: list[int], temperature: float, focus: float, model: LinkModel
) -> None:
    config = replace(SEVERAL, router_temperature=temperature, router_focus=focus)
    batch = make_batch(model, config)
    step = take(model, config, epoch, [model.modes[number] for number in members], batch)
    perturbed = (scores_of(model, batch) + batch.gate_noise)[:, members].detach()
    weights = (perturbed / temperature).exp()
    shares = weights / weights.sum(1, keepdim=True)
    if epoch == ALIGNMENT:
        shares = F.one_hot(perturbed.argmax(1), len(members)).float()
    weights = (1 - focus) / len(members) + focus * shares
    losses = torch.stack([entry.loss for entry in step.passes], 1)
    correct = torch.stack([entry.correct for entry in step.passes], 1)
    torch.testing.assert_close(step.terms["task"], (weights * losses).sum(1).mean())
    torch.testing.assert_close(step.terms["routing"], (shares * losses).sum(1).mean())
    torch.testing.assert_close(step.accuracy, (shares * correct).sum(1).mean())


@every_epoch
def test_rate_balance_and_entropy_are_those_of_all_modes_without_the_noise(
    epoch: int, model: LinkModel
) -> None:
    """Also of the modes that sit this step out."""
    batch = make_batch(model, SEVERAL)
    probabilities = torch.softmax(scores_of(model, batch), 1)
    symbols = torch.tensor([float(mode.symbols) for mode in model.modes])
    usage = probabilities.mean(0)
    balance = (usage * (usage / 0.25).log()).sum()
    nats = -(probabilities * probabilities.log()).sum(1).mean()
    for chosen in (list(model.modes), [model.modes[2], model.modes[3]]):
        step = take(model, SEVERAL, epoch, chosen, batch)
        torch.testing.assert_close(step.terms["rate"], (probabilities @ symbols).mean())
        torch.testing.assert_close(step.terms["balance"], balance, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(step.router_entropy, nats)
        assert 0 < step.router_entropy.item() < math.log(4)
        assert not step.router_entropy.requires_grad


@every_epoch
def test_the_loss_is_the_weighted_sum_of_terms_that_are_averages_over_the_modes(
    epoch: int, model: LinkModel
) -> None:
    weights = {"commitment": 0.3, "consistency": 0.7, "auxiliary": 0.11, "latent": 0.13, "margin": 5.0}
    weights |= {"entropy": 0.02, "rate": 0.017, "balance": 0.19}
    config = replace(SEVERAL, **{f"lambda_{name}": weight for name, weight in weights.items()})
    step = take(model, config, epoch, [model.modes[0], model.modes[3]])
    names = {"commitment", "entropy", "latent", "margin"}
    names |= set() if epoch == LEARNING else {"consistency", "auxiliary"}
    assert step.terms.keys() == {"task"} | names | OWN_TERMS
    for name in names:
        first, second = (entry.terms[name] for entry in step.passes)
        assert first.item() != second.item()
        torch.testing.assert_close(step.terms[name], (first + second) / 2)
    total = torch.stack([weights.get(name, 1.0) * term for name, term in step.terms.items()]).sum()
    torch.testing.assert_close(step.loss, total)
    for name, term in step.terms.items():
        found = [gradient for gradient in gradients(model, term).values() if gradient is not None]
        assert any(gradient.any() for gradient in found), name


@every_epoch
def test_modes_that_sit_out_receive_no_gradient(epoch: int, model: LinkModel) -> None:
    """Modes 0 and 1 have the first codebook alone, 1 and 2 have both."""
    for pair, books in (({0, 1}, {0}), ({1, 2}, {0, 1})):
        step = take(model, SEVERAL, epoch, [model.modes[number] for number in pair])
        served = {"mode_inputs": pair, "codebooks": books, "latent_heads": books}
        for name, gradient in gradients(model, step.loss).items():
            part, number, *_ = name.split(".")
            working = part not in served or int(number) in served[part]
            assert (gradient is not None and bool(gradient.any())) if working else gradient is None, name


@every_epoch
def test_no_term_of_the_router_reaches_the_link_and_no_term_of_the_link_the_router(
    epoch: int, model: LinkModel
) -> None:
    for name, term in take(model, SEVERAL, epoch).terms.items():
        for parameter, gradient in gradients(model, term).items():
            if parameter.startswith("router") != (name in OWN_TERMS):
                assert gradient is None or not gradient.any(), (name, parameter)
