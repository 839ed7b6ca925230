"""Each step computes what its formulas say: the forward pass, every loss term and the bridge's gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from twophase.training.config import TrainConfig
from twophase.training.model.network import LinkModel, Received
from twophase.training.model.soft_symbols import hard_symbols
from twophase.training.phases import (
    Batch,
    StepResult,
    alignment_step,
    charged_energy,
    learning_step,
    training_snr,
)
from twophase.training.schedule import plan

CONFIG = TrainConfig(
    epochs=6,
    alignment_start_epoch=2,
    codebook_sizes=(8,),
    tokens=(3,),  # nine bits in three 16-QAM symbols: three bits of padding
    qam_orders=(16,),
    embedding_dim=4,
    hidden=20,
)
SILENT = {f"lambda_{name}": 0.0 for name in ("commitment", "consistency", "entropy")}


def make_model(surrogate: str = "product") -> LinkModel:
    torch.manual_seed(0)
    model = LinkModel(CONFIG.link, input_shape=(10,), classes=5, hidden=CONFIG.hidden, surrogate=surrogate)
    model.codebook(model.modes[0]).set_labels(torch.randperm(8))
    return model


def make_batch(model: LinkModel, size: int = 24, config: TrainConfig = CONFIG) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        features=torch.randn(size, 10, generator=generator),
        labels=torch.randint(5, (size,), generator=generator),
        esn0_db=training_snr(size, config, generator),
        noise=torch.randn(size, model.modes.max_symbols, 2, generator=generator),
        gate_noise=torch.randn(size, len(model.modes), generator=generator),
    )


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
        each = torch.where(tables.point_bits.bool(), bits, 1 - bits)
        self.point_probs = each[..., 0] * each[..., 1] * each[..., 2] * each[..., 3]
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


def take(config: TrainConfig, epoch: int, hardness: float | None = None) -> tuple[StepResult, Expected]:
    """A step of an epoch, and what it should have computed."""
    model = make_model()
    now = plan(config, epoch)
    if hardness is not None:
        now = replace(now, hardness=hardness)
    batch = make_batch(model, config=config)
    step_of = alignment_step if now.phase == "alignment" else learning_step
    step = step_of(model, [model.modes[0]], batch, config, now)
    assert [entry.mode for entry in step.passes] == [model.modes[0]]
    return step, Expected(model, batch, now.temperature)


# --- the forward pass -------------------------------------------------------------------------------------


def test_learning_sends_the_soft_symbols() -> None:
    step, expected = take(CONFIG, 1)
    torch.testing.assert_close(step.passes[0].llr, expected.llr(expected.soft_symbols), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(step.terms["task"], expected.task(expected.soft_symbols))
    assert set(step.terms) == {"task", "commitment", "entropy", "latent", "margin"}


@pytest.mark.parametrize("hardness", [0.0, 0.25, 0.5, 1.0])
def test_alignment_sends_the_blend_of_soft_and_hard_symbols(hardness: float) -> None:
    step, expected = take(CONFIG, 2, hardness)
    blend = (1 - hardness) * expected.soft_symbols + hardness * expected.hard_symbols
    torch.testing.assert_close(step.passes[0].llr, expected.llr(blend), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(step.terms["task"], expected.task(blend))
    others = [expected.llr(expected.soft_symbols), expected.llr(expected.hard_symbols)]
    assert all((step.passes[0].llr - other).abs().max() > 0.5 for other in others) == (0 < hardness < 1)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_step_reports_decisions_and_hard_signal(epoch: int) -> None:
    step, expected = take(CONFIG, epoch)
    sent = expected.soft_symbols if epoch == 1 else expected.hard_symbols
    decided = expected.model.classify(expected.features(sent)).argmax(1)
    (taken,) = step.passes
    assert torch.equal(taken.correct, decided == expected.batch.labels)
    assert step.accuracy.item() == pytest.approx(taken.correct.float().mean().item())
    assert torch.equal(taken.hard.bits.float(), expected.hard_bits)
    assert torch.equal(taken.latents, expected.latents)


# --- the terms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2])
def test_entropy_is_that_of_codewords_and_of_points(epoch: int) -> None:
    step, expected = take(CONFIG, epoch)
    nats = []
    for probabilities in (expected.assignment, expected.point_probs):
        mean = probabilities.flatten(0, 1).mean(0)
        nats.append(-(mean * mean.log()).sum())
    assert min(nats) > 0.1
    torch.testing.assert_close(step.terms["entropy"], -(nats[0] + nats[1]))


@pytest.mark.parametrize("epoch", [1, 2])
def test_commitment_is_to_the_nearest_codewords(epoch: int) -> None:
    step, expected = take(CONFIG, epoch)
    wanted = 2 * mean_square(expected.latents, expected.hard_codewords)
    torch.testing.assert_close(step.terms["commitment"], wanted)
    assert (wanted - 2 * mean_square(expected.latents, expected.soft_codewords)).abs() > 0.01 * wanted


@pytest.mark.parametrize("epoch", [1, 2])
def test_latent_is_the_distance_from_unit_mean_square(epoch: int) -> None:
    step, expected = take(CONFIG, epoch)
    torch.testing.assert_close(step.terms["latent"], (expected.latents.square().mean(-1) - 1).square().mean())


def test_consistency_is_between_the_received_embeddings() -> None:
    step, expected = take(CONFIG, 2)
    soft, hard = expected.seen(expected.soft_symbols), expected.seen(expected.hard_symbols)
    torch.testing.assert_close(step.terms["consistency"], mean_square(soft.embedding, hard.embedding))


def test_the_auxiliary_term_is_the_sum_over_codebook_symbols_and_receiver_features() -> None:
    step, expected = take(CONFIG, 2)
    parts = torch.stack(
        [
            mean_square(expected.soft_codewords, expected.hard_codewords),
            mean_square(expected.soft_symbols, expected.hard_symbols),
            mean_square(expected.features(expected.soft_symbols), expected.features(expected.hard_symbols)),
        ]
    )
    # Each part is large enough to be missed.
    assert (parts > 1e-3 * parts.sum()).all()
    torch.testing.assert_close(step.terms["auxiliary"], parts.sum(), rtol=1e-5, atol=1e-6)


# --- the bridge -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "soft_bits"),
    [(True, False), (False, True), (True, True)],
    ids=["embedding", "bits", "both"],
)
def test_the_bridge_carries_the_gradient_past_saturated_llrs(embedding: bool, soft_bits: bool) -> None:
    """At 80 dB every LLR is clipped: what reaches the encoder comes through the soft mixes alone.

    The receiver's first layer is made blind to one of its two inputs, so that each half is seen by itself.
    """
    config = replace(CONFIG, train_snr_low_db=80.0, train_snr_high_db=80.0, **SILENT)
    model = make_model()
    mode, now = model.modes[0], plan(config, 2)
    width = mode.tokens * CONFIG.embedding_dim
    with torch.no_grad():
        weight = model.mode_inputs[0].weight
        weight[:, :width] *= embedding
        weight[:, width:] *= soft_bits
    batch = make_batch(model, config=config)
    encoder = list(model.encoder.parameters())

    step = alignment_step(model, [mode], batch, config, now)
    assert (step.passes[0].llr.detach().abs() == 100).all()
    found = torch.autograd.grad(step.loss, encoder)

    expected = Expected(model, batch, now.temperature)
    seen = expected.seen(expected.hard_symbols)
    inputs = [seen.embedding.detach().requires_grad_(), seen.soft_bits.detach().requires_grad_()]
    logits = model.classify(model.features(inputs[0], inputs[1], mode))
    pulls = torch.autograd.grad(F.cross_entropy(logits, batch.labels), inputs)
    mixes = [expected.soft_codewords, 2 * expected.soft_bits[:, : mode.information_bits]]
    wanted = torch.autograd.grad(mixes, encoder, list(pulls))
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_without_the_bridge_saturated_llrs_carry_no_gradient() -> None:
    config = replace(CONFIG, train_snr_low_db=80.0, train_snr_high_db=80.0, bridge=False, **SILENT)
    model = make_model()
    batch, now = make_batch(model, config=config), plan(config, 2)
    step = alignment_step(model, [model.modes[0]], batch, config, now)
    gradients = torch.autograd.grad(step.loss, list(model.encoder.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_the_gradient_of_a_hard_forward_is_that_of_the_soft_symbols() -> None:
    """Without the bridge and at moderate SNR: d loss / d sent symbols, carried on to the soft symbols."""
    config = replace(CONFIG, bridge=False, **SILENT)
    model = make_model()
    mode, now = model.modes[0], plan(config, 2)
    batch = make_batch(model)
    encoder = list(model.encoder.parameters())
    found = torch.autograd.grad(alignment_step(model, [mode], batch, config, now).loss, encoder)
    expected = Expected(model, batch, now.temperature)
    sent = expected.hard_symbols.detach().requires_grad_()
    (pull,) = torch.autograd.grad(expected.task(sent), [sent])
    wanted = torch.autograd.grad(expected.soft_symbols, encoder, pull)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


# --- the channel of training ------------------------------------------------------------------------------


def test_each_sample_has_its_own_part_of_the_training_range() -> None:
    config = replace(CONFIG, train_snr_low_db=-6.0, train_snr_high_db=10.0)
    first, second = (training_snr(32, config, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    part = torch.div(first + 6, 16 / 32, rounding_mode="floor")
    assert torch.equal(part, torch.arange(32.0))
    assert not torch.equal(first, second)
