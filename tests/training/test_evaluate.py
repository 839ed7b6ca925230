"""Hard evaluation takes the digital path; soft evaluation does not; each sample travels in its mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tools import small_link
from twophase.link.modes import Mode
from twophase.training import evaluate as module
from twophase.training.config import TrainConfig
from twophase.training.data import Split
from twophase.training.evaluate import (
    Choice,
    Evaluation,
    evaluate_hard,
    evaluate_soft,
    mode_accuracies,
    router_choice,
    symbol_energy,
    usage_entropies,
)
from twophase.training.model.codebook import Codebook
from twophase.training.model.network import LinkModel
from twophase.training.phases import ENERGY_GROUPS

CONFIG = TrainConfig(train_snr_low_db=30, train_snr_high_db=30, codebook_sizes=(16,), tokens=(3,))
SEVERAL = TrainConfig(
    train_snr_low_db=-2,
    train_snr_high_db=14,
    codebook_sizes=(16, 4),
    tokens=(3, 2),
    qam_orders=(4, 16),
    embedding_dim=3,
)
Evaluate = Callable[..., Evaluation]


def softly(
    model: LinkModel, split: Split, config: TrainConfig, repeats: int, choose: Choice | None = None
) -> Evaluation:
    return evaluate_soft(model, split, config, repeats, 0.7, choose)


both = pytest.mark.parametrize("evaluate", [evaluate_hard, softly], ids=["hard", "soft"])


def make_model(config: TrainConfig = SEVERAL, content: bool = False) -> LinkModel:
    model = small_link.make_model(config.link, 6, 3, 16, content=content)
    with torch.no_grad():
        for name, parameter in [*model.mode_inputs.named_parameters(), *model.classifier.named_parameters()]:
            parameter *= 0 if name.endswith("bias") else 4  # of decisions that depend on what is received
    return model.eval()


def make_split(size: int = 60) -> Split:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size, 6, generator=generator)
    return Split(features, torch.randint(3, (size,), generator=generator))


def always(number: int) -> Choice:
    return lambda _content, esn0_db: torch.full_like(esn0_db, number, dtype=torch.int64)


def by_content(content: Tensor, _esn0_db: Tensor) -> Tensor:
    """All modes of ``SEVERAL``, by the sample."""
    return (1000 * content[:, 0].abs()).long() % 4


@torch.no_grad()
def hard_signal(model: LinkModel, number: int, features: Tensor) -> Any:
    mode = model.modes[number]
    scores = model.codebook(mode).scores(model.latents(model.content(features), mode))
    return model.hard_transmit(scores, mode)


@pytest.mark.parametrize("config", [CONFIG, SEVERAL])
def test_hard_evaluation_never_takes_a_soft_step(config: TrainConfig) -> None:
    model, split = make_model(config), make_split()
    with patch.object(Codebook, "soft_assignment", side_effect=AssertionError("the soft path was taken")):
        evaluate_hard(model, split, config, 2)
        mode_accuracies(model, split, torch.tensor([3.0]), 1)
        with pytest.raises(AssertionError, match="soft path"):
            softly(model, split, config, 2)


def test_without_noise_hard_evaluation_is_the_accuracy_of_the_decoded_bits() -> None:
    """The receiver is certain of every bit of the hard transmitter."""
    model, split = make_model(CONFIG), make_split()
    mode = model.modes[0]
    with torch.no_grad():
        seen = model.receive(200.0 * hard_signal(model, 0, split.features).bits.float() - 100.0, mode)
        decided = model.classify(model.features(seen.embedding, seen.soft_bits, mode)).argmax(1)
    expected = (decided == split.labels).double().mean().item()
    assert evaluate_hard(model, split, CONFIG, 3).accuracy == pytest.approx(expected, abs=1e-6)


def test_the_number_of_rows_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split, levels = make_model(), make_split(), torch.tensor([0.0, 8.0])

    def measured() -> list[float]:
        found = evaluate_hard(model, split, SEVERAL, 2, by_content)
        return [
            *(found.accuracy, found.loss),
            *mode_accuracies(model, split, levels, 2).flatten().tolist(),
            *(value for values in usage_entropies(model, split) for value in values),
            *(symbol_energy(model, mode, split) for mode in model.modes),
        ]

    whole = measured()
    monkeypatch.setattr(module, "ROWS", 7)
    assert measured() == pytest.approx(whole, rel=1e-5)


# --- several modes ----------------------------------------------------------------------------------------


def test_usage_entropies_are_one_for_each_codebook_and_one_for_each_mode() -> None:
    model, split = make_model(), make_split()
    codewords, points = usage_entropies(model, split)
    assert (len(codewords), len(points)) == (2, 4)
    for number, mode in enumerate(model.modes):
        hard = hard_signal(model, number, split.features)
        for values, size, found in (
            (hard.indices, mode.codebook_size, codewords[mode.codebook]),
            (hard.points, mode.order, points[number]),
        ):
            share = torch.bincount(values.flatten(), minlength=size).double() / values.numel()
            assert found == pytest.approx(torch.special.entr(share).sum().item(), abs=1e-5)
    assert len(set(points)) == 4


@dataclass(frozen=True)
class Decided:
    """What the decisions of one call were made of."""

    mode: int
    energy: Tensor
    noise: Tensor
    esn0_db: Tensor
    logits: Tensor


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[Decided]:
    """All that was decided since the list was last cleared."""
    calls: list[Decided] = []
    logits_of = module._logits

    def watched(model: LinkModel, mode: Mode, sent: Tensor, *rest: Tensor) -> Tensor:
        calls.append(Decided(model.modes.modes.index(mode), *rest, logits_of(model, mode, sent, *rest)))
        return calls[-1].logits

    monkeypatch.setattr(module, "_logits", watched)
    return calls


def by_snr(calls: list[Decided]) -> dict[float, tuple[int, float, Tensor]]:
    """Mode, energy and logits of each sample, which is known by its SNR; forgets the calls."""
    rows = {
        level: (call.mode, call.energy[row].item(), call.logits[row])
        for call in calls
        for row, level in enumerate(call.esn0_db.tolist())
    }
    calls.clear()
    return rows


@both
def test_a_sample_fares_in_a_mixed_batch_as_in_a_batch_of_its_mode(
    evaluate: Evaluate, decided: list[Decided], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, SNR and decision are the same; only the energy that all are charged for is shared."""
    model, split = make_model(), make_split()
    monkeypatch.setattr(module, "_charged", lambda sent, _counts: torch.ones(len(sent)))
    mixed = evaluate(model, split, SEVERAL, 2, by_content)
    rows = by_snr(decided)
    assert len(rows) == 120
    assert min(mixed.mode_usage) > 0.1
    for number in range(4):
        evaluate(model, split, SEVERAL, 2, always(number))
        alone = by_snr(decided)
        assert alone.keys() == rows.keys()
        for level, (mode, _, logits) in rows.items():
            if mode == number:
                torch.testing.assert_close(logits, alone[level][2], atol=1e-5, rtol=1e-5)


def test_all_are_charged_for_the_energy_per_symbol_of_their_group_whatever_the_modes(
    decided: list[Decided],
) -> None:
    model, split = make_model(), make_split()
    with torch.no_grad():  # a few points only, so that the energy is far from 1
        for codebook in model.codebooks:
            codebook.codewords[2:] = 50.0
            codebook.set_labels(torch.arange(codebook.size))
        chosen = by_content(model.content(split.features), split.labels)
    evaluate_hard(model, split, SEVERAL, 1, by_content)
    rows = [row for _, row in sorted(by_snr(decided).items())]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(module.NOISE_SEED))
    assert [number for number, _, _ in rows] == chosen[order].tolist()
    sent = [hard_signal(model, int(chosen[row]), split.features[row : row + 1]).symbols[0] for row in order]
    charged = [energy for _, energy, _ in rows]
    for group in torch.arange(60).tensor_split(ENERGY_GROUPS):
        expected = torch.cat([sent[place] for place in group]).square().sum(1).mean().item()
        assert [charged[place] for place in group] == pytest.approx([expected] * len(group), rel=1e-5)
    assert len(set(charged)) > ENERGY_GROUPS / 2
    assert max(abs(energy - 1) for energy in charged) > 0.1


@both
def test_the_figures_are_averages_over_samples_and_their_modes(
    evaluate: Evaluate, decided: list[Decided]
) -> None:
    model, split = make_model(), make_split()
    marked = Split(split.features, torch.zeros(60, dtype=torch.int64))
    found = evaluate(model, marked, SEVERAL, 3, by_content)
    logits = torch.cat([call.logits for call in decided])
    assert found.accuracy == pytest.approx((logits.argmax(1) == 0).double().mean().item())
    assert found.loss == pytest.approx(-torch.log_softmax(logits.double(), 1)[:, 0].mean().item(), rel=1e-5)
    assert 0 < found.accuracy < 1
    with torch.no_grad():
        usage = torch.bincount(by_content(model.content(split.features), split.labels), minlength=4) / 60
    assert found.mode_usage == pytest.approx(usage.tolist())


@pytest.mark.parametrize("content", [False, True])
def test_the_router_chooses_unless_another_choice_is_given(content: bool) -> None:
    model, split = make_model(content=content), make_split()
    small_link.give_opinions(model, split.features, -2, 14)
    for evaluate in (evaluate_hard, softly):
        routed = evaluate(model, split, SEVERAL, 2)
        assert routed == evaluate(model, split, SEVERAL, 2, router_choice(model))
        assert routed != evaluate(model, split, SEVERAL, 2, always(int(routed.mode_usage[0] < 0.5)))
    features, levels = model.content(split.features), torch.linspace(-5, 15, 60)
    expected = model.router.scores(features, levels).argmax(1)
    assert torch.equal(router_choice(model)(features, levels), expected)
    assert len(expected.unique()) > 1


def test_all_modes_and_points_are_measured_under_the_same_noise(decided: list[Decided]) -> None:
    model, split = make_model(), make_split()
    table = mode_accuracies(model, split, torch.tensor([1.0, 4.0]), 3)
    places = [(number, point) for number in range(4) for point in (0, 1)]
    widest = decided[0].noise
    for (number, point), call in zip(places, decided, strict=True):
        assert (call.mode, call.esn0_db.tolist()) == (number, [(1.0, 4.0)[point]] * 180)
        charged = symbol_energy(model, model.modes[number], split)
        assert call.energy.tolist() == pytest.approx([charged] * 180, rel=1e-5)
        assert torch.equal(call.noise, widest[:, : model.modes[number].symbols])
        right = call.logits.argmax(1) == split.labels.repeat(3)
        assert table[number, point].item() == pytest.approx(right.double().mean().item())
    assert not torch.equal(*widest.unflatten(0, (3, 60))[:2])
