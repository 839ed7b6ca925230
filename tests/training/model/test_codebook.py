"""The codebook: search, surrogate, labels, usage and the revival of dead codewords."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from twophase.link.bits import indices_to_bits
from twophase.link.labelling import make_labels
from twophase.training.model.codebook import Codebook


def make_codebook(size: int = 16, dim: int = 5, seed: int = 0) -> Codebook:
    torch.manual_seed(seed)
    return Codebook(size, dim)


def make_latents(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def squared_distances(latents: Tensor, codebook: Codebook) -> Tensor:
    return (latents.double()[..., None, :] - codebook.codewords.double()).square().sum(-1)


@pytest.mark.parametrize(("size", "dim"), [(2, 1), (16, 5), (64, 8)])
def test_scores_order_codewords_by_distance(size: int, dim: int) -> None:
    codebook = make_codebook(size, dim).double()
    latents = make_latents(40, 3, dim).double()
    with torch.no_grad():
        codebook.codewords *= torch.linspace(0.2, 3.0, size)[:, None]  # of different lengths
        scores = codebook.scores(latents)
    distances = squared_distances(latents, codebook).detach()
    # Twice the score is minus the squared distance, up to |z|^2, which all codewords share.
    offset = 2 * scores + distances
    torch.testing.assert_close(offset, latents.square().sum(-1, keepdim=True).expand_as(offset))
    assert torch.equal(scores.argsort(-1, descending=True), distances.argsort(-1))
    assert torch.equal(codebook.hard_indices(scores), distances.argmin(-1))


@pytest.mark.parametrize("temperature", [0.1, 3.0])
def test_the_soft_assignment_is_a_softmax_of_squared_distances(temperature: float) -> None:
    codebook = make_codebook()
    latents = make_latents(40, 3, 5)
    expected = torch.softmax(-squared_distances(latents, codebook) / temperature, -1)
    found = codebook.soft_assignment(codebook.scores(latents), temperature)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_codewords_and_bits_are_looked_up_by_index() -> None:
    codebook = make_codebook(8, 2)
    codebook.set_labels(torch.tensor([6, 1, 0, 7, 2, 5, 4, 3]))
    indices = torch.tensor([[0, 3], [1, 1]])
    assert torch.equal(codebook.lookup(indices), codebook.codewords[indices])
    assert codebook.hard_bits(indices).tolist() == [[[1, 1, 0], [1, 1, 1]], [[0, 0, 1], [0, 0, 1]]]
    assert codebook.hard_bits(indices).dtype == torch.uint8
    assignment = torch.zeros(8)
    assignment[0], assignment[1] = 0.75, 0.25
    torch.testing.assert_close(codebook.soft_bits(assignment), torch.tensor([0.75, 0.75, 0.25]))


@pytest.mark.parametrize("method", ["identity", "pca", "kdtree", "bsa"])
def test_relabelling_fits_the_codewords_as_they_lie_and_as_they_are_used(method: str) -> None:
    codebook = make_codebook()
    usage = torch.linspace(1, 30, 16)
    codebook.usage.copy_(usage / usage.sum())
    codebook.set_labels(torch.arange(16).roll(3))
    codebook.relabel(method, 7)
    codewords = codebook.codewords.detach().double().numpy()
    expected = make_labels(method, codewords, usage=codebook.usage.double().numpy(), seed=7)
    np.testing.assert_array_equal(codebook.labels, expected)
    np.testing.assert_array_equal(codebook.label_bits, indices_to_bits(expected, 4))


def test_loading_weights_restores_the_table_of_label_bits() -> None:
    source, target = make_codebook(), make_codebook(seed=1)
    labels = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    source.set_labels(labels)
    assert "label_bits" not in source.state_dict()  # one truth: the labels
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.labels, labels)
    np.testing.assert_array_equal(target.label_bits, indices_to_bits(labels.numpy(), 4))


def test_the_prior_gives_unseen_codewords_a_share() -> None:
    codebook = make_codebook(4, 2)
    codebook.usage.copy_(torch.tensor([0.7, 0.3, 0.0, 0.0]))
    expected = [math.log((share + 0.025) / 1.1) for share in (0.7, 0.3, 0.0, 0.0)]
    torch.testing.assert_close(codebook.log_prior, torch.tensor(expected))
    assert codebook.log_prior.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_only_dead_codewords_are_revived() -> None:
    codebook = make_codebook(8, 3)
    limit = 0.05 / 8
    usage = torch.tensor([0.3, 0.9 * limit, 0.2, 0.0, 1.1 * limit, 0.1, 0.2, 0.2])
    usage /= usage.sum()
    codebook.usage.copy_(usage)
    before = codebook.codewords.detach().clone()
    latents = 10 + make_latents(50, 3)
    assert codebook.revive(latents, torch.Generator().manual_seed(0)) == 2
    dead, alive = [1, 3], [0, 2, 4, 5, 6, 7]
    assert torch.equal(codebook.codewords[alive], before[alive])
    for word in codebook.codewords[dead]:
        assert (latents == word).all(1).any()
    assert not torch.equal(codebook.codewords[1], codebook.codewords[3])
    usage[dead] = 1 / 8  # time to be used before they are judged again
    torch.testing.assert_close(codebook.usage, usage / usage.sum())
