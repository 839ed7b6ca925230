"""Hard evaluation takes the digital path; soft evaluation does not."""

from __future__ import annotations

import math
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from twophase.training.config import TrainConfig
from twophase.training.data import Split
from twophase.training.evaluate import evaluate_hard, evaluate_soft, usage_entropies
from twophase.training.model import LinkModel

CONFIG = TrainConfig(train_snr_low_db=30, train_snr_high_db=30, codebook_sizes=(16,), tokens=(3,))


def make_model() -> LinkModel:
    torch.manual_seed(0)
    return LinkModel(CONFIG.link, input_shape=(6,), classes=3, hidden=16, surrogate="product").eval()


def make_split(size: int = 60) -> Split:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size, 6, generator=generator)
    return Split(features, torch.randint(3, (size,), generator=generator))


def forbidden(*_arguments: object, **_keywords: object) -> Tensor:
    raise AssertionError("the soft path was taken")


def test_hard_evaluation_never_takes_a_soft_step() -> None:
    model, split = make_model(), make_split()
    with (
        patch.object(LinkModel, "soft_transmit", forbidden),
        patch("twophase.training.quantizer.Codebook.soft_assignment", forbidden),
    ):
        evaluate_hard(model, model.modes[0], split, CONFIG, 2)
        with pytest.raises(AssertionError, match="soft path"):
            evaluate_soft(model, model.modes[0], split, CONFIG, 2, 0.7)


def test_without_noise_hard_evaluation_is_the_accuracy_of_the_decoded_bits() -> None:
    model, split = make_model(), make_split()
    mode = model.modes[0]
    with torch.no_grad():
        bits = model.hard_transmit(
            model.codebook(mode).scores(model.latents(split.features, mode)), mode
        ).bits
        seen = model.receive(200.0 * bits.float() - 100.0, mode)
        decided = model.classify(model.features(seen.embedding, seen.soft_bits, mode)).argmax(1)
    expected = (decided == split.labels).float().mean().item()
    assert evaluate_hard(model, mode, split, CONFIG, 3).accuracy == pytest.approx(expected, abs=1e-6)


def test_soft_evaluation_meets_hard_when_cold() -> None:
    model, split = make_model(), make_split()
    hard = evaluate_hard(model, model.modes[0], split, CONFIG, 2)
    cold = evaluate_soft(model, model.modes[0], split, CONFIG, 2, 1e-6)
    assert cold.loss == pytest.approx(hard.loss, rel=1e-4)


def test_usage_entropies_of_even_and_single_use() -> None:
    model, split = make_model(), make_split()
    mode = model.modes[0]
    with patch.object(LinkModel, "latents", lambda *_: model.codebook(mode).codewords[None].repeat(60, 1, 1)):
        vq_entropy, _ = usage_entropies(model, mode, split)
    assert vq_entropy == pytest.approx(math.log(16))
    with torch.no_grad():
        model.codebook(mode).codewords[1:] = 1e3
    vq_entropy, symbol_entropy = usage_entropies(model, mode, split)
    assert vq_entropy == pytest.approx(0, abs=1e-8)
    assert symbol_entropy == pytest.approx(0, abs=1e-8)
