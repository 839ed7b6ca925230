"""A link on the integer grid: the trained model, its form in whole numbers and NumPy's int64 agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.blobs import FEATURES, blobs
from twophase.link.errors import InputError, VerificationError
from twophase.link.grid import CODEWORD_LIMIT, grid_search
from twophase.link.modes import LinkConfig
from twophase.link.routing import Routing, SnrTable
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.model.exported import GridSearch, HardTransmitter, SoftTransmitter
from twophase.training.model.integer_grid import ACTIVATION_LIMIT, INPUT_LIMITS, GridLinear, Unit
from twophase.training.model.network import LinkModel
from twophase.training.trainer import Trainer

LINK = LinkConfig((4, 8), (5, 3), (4, 16), 3)
ROUTING = Routing("table", SnrTable((3.0,), (0, 2)), hysteresis_db=0.0, header=())


def make_model(seed: int = 0, hidden: int = 16, **values: Any) -> LinkModel:
    torch.manual_seed(seed)
    model = LinkModel(LINK, (6,), classes=3, hidden=hidden, surrogate="product", on_grid=True, **values)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter *= 3
    model.cover_grid(make_features(200, seed=seed))
    return model.eval()


def make_features(size: int, seed: int = 5, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(size, 6, generator=torch.Generator().manual_seed(seed))


def numpy_layer(
    layer: GridLinear, inputs: NDArray[np.int64], unit: Unit, output: Unit, low: int, high: int
) -> NDArray[np.int64]:
    """A layer in int64, its shift as an exact fraction rounded half to even."""
    weight, bias = (part.numpy().astype(np.int64) for part in layer.whole_numbers(unit))
    sums = inputs @ weight.T + bias
    shift = layer.unit.known + unit.known - output.known
    assert shift <= 0
    return np.clip(np.rint(sums / 2**-shift), low, high).astype(np.int64)


def numpy_indices(model: LinkModel, features: Tensor, index: int) -> NDArray[np.int64]:
    """The transmitter's search from features to indices in whole numbers, slow and obvious."""
    encoder = model.encoder
    scaled = features.double().numpy() * 2.0**-encoder.input_unit.known
    inputs = np.clip(np.rint(scaled), *INPUT_LIMITS).astype(np.int64)
    limits = (0, ACTIVATION_LIMIT)
    first = numpy_layer(encoder.first, inputs, encoder.input_unit, encoder.first_unit, *limits)
    second = numpy_layer(encoder.second, first, encoder.first_unit, encoder.second_unit, *limits)
    mode = model.one_mode_per_codebook()[index]
    codebook = model.codebook(mode)
    bound = codebook.latent_limit
    head = numpy_layer(model.latent_head(mode), second, encoder.second_unit, codebook.unit, -bound, bound)
    words = codebook.unit.units_of(codebook.words, -CODEWORD_LIMIT, CODEWORD_LIMIT).numpy().astype(np.int64)
    return grid_search(head.reshape(-1, mode.tokens, LINK.embedding_dim), words)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
def test_numpy_the_model_and_its_whole_numbers_find_the_same_codewords(seed: int, scale: float) -> None:
    model = make_model(seed)
    features = make_features(500, scale=scale)
    search = GridSearch(model)
    for index, mode in enumerate(model.one_mode_per_codebook()):
        scores = model.codebook(mode).scores(model.latents(model.content(features), mode))
        ours = model.codebook(mode).hard_indices(scores)
        assert torch.equal(search.indices(search.content(features), mode), ours)
        np.testing.assert_array_equal(ours, numpy_indices(model, features, index))


def test_all_numbers_inside_are_whole() -> None:
    search = GridSearch(make_model())
    content = search.content(make_features(300))
    assert torch.equal(content, content.round())
    assert content.min() >= 0
    assert content.max() <= ACTIVATION_LIMIT
    assert len(content.unique()) > 50  # the range is used
    for name, buffer in search.named_buffers():
        assert torch.equal(buffer, buffer.round()), name


def test_ties_go_to_the_lowest_index() -> None:
    model = make_model()
    mode = model.modes[0]
    codebook = model.codebook(mode)
    with torch.no_grad():
        codebook.codewords[2] = codebook.codewords[1]
    chosen = HardTransmitter(model, ROUTING)(make_features(400), torch.zeros(400), torch.tensor([-1]))[1]
    assert not (chosen == 2).any()
    assert (chosen == 1).any()


def test_the_router_sees_the_content_on_the_scale_of_its_training() -> None:
    model = make_model(content_router=True)
    search, features = GridSearch(model), make_features(50)
    torch.testing.assert_close(
        search.routed_content(search.content(features)), model.content(features), rtol=0, atol=0
    )


def test_sums_that_float32_cannot_hold_are_refused() -> None:
    model = make_model(hidden=700)
    with torch.no_grad():
        model.encoder.second.weight.fill_(1e9)
    with pytest.raises(VerificationError, match=r"(?s)integer grid.*a sum may reach .* not below 2\^24"):
        GridSearch(model)


def test_the_soft_reference_has_the_latents_of_the_grid() -> None:
    model, features = make_model(), make_features(40)
    mode = model.modes[0]
    codebook = model.codebook(mode)
    latents = model.latents(model.content(features), mode)
    units = latents / 2.0**codebook.unit.known
    assert torch.equal(units, units.round())
    sent = SoftTransmitter(model, ROUTING, 0.7)(features, torch.zeros(40), torch.tensor([0]))[1]
    expected = model.soft_transmit(codebook.scores(latents), mode, 0.7).symbols
    torch.testing.assert_close(sent[:, : mode.symbols], expected)


# --- in training --------------------------------------------------------------------------------------------


def make_trainer(out: Path, **values: Any) -> Trainer:
    small: dict[str, Any] = {
        "epochs": 4,
        "alignment_start_epoch": 3,
        "codebook_sizes": (8,),
        "tokens": (2,),
        "qam_orders": (4,),
        "embedding_dim": 3,
        "hidden": 12,
        "batch_size": 16,
    }
    task = Task("blobs", ("a", "b", "c"), blobs(96, 1), blobs(40, 2), blobs(20, 3))
    trainer = Trainer(TrainConfig(out=out, **(small | values)), task)
    trainer.checkpoints.mkdir(parents=True)
    return trainer


@pytest.mark.parametrize(
    ("values", "from_epoch"),
    [
        ({}, 3),
        ({"method": "hard-only"}, 1),
        ({"method": "single-phase"}, 3),
        ({"method": "single-phase", "alignment_start_epoch": 20}, 4),
        ({"search": "float"}, None),
    ],
)
def test_the_grid_comes_with_the_alignment(
    values: dict[str, Any], from_epoch: int | None, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, **values)
    assert trainer.config.grid_start_epoch == from_epoch
    for epoch in range(1, 5):
        trainer.keep(trainer.epoch(epoch))
        assert trainer.model.on_grid == (from_epoch is not None and epoch >= from_epoch)
    model, _ = trainer.stored("best")
    assert model.on_grid == (from_epoch is not None)
    if "method" not in values:
        assert not trainer.stored("learning")[0].on_grid


def test_a_stored_model_is_on_the_grid_it_was_trained_on(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    for epoch in range(1, 5):
        trainer.keep(trainer.epoch(epoch))
    stored, _ = trainer.stored("last")
    features = torch.rand(64, FEATURES, generator=torch.Generator().manual_seed(0))
    mode = stored.modes[0]
    for model in (stored, trainer.model):
        assert model.encoder.first.unit.known == trainer.model.encoder.first.unit.known
    torch.testing.assert_close(
        stored.latents(stored.content(features), mode),
        trainer.model.latents(trainer.model.content(features), mode),
        rtol=0,
        atol=0,
    )


def test_labels_fit_the_codewords_on_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    for epoch in (1, 2):
        trainer.epoch(epoch)
    seen = []

    def note(method: str, codewords: NDArray[np.float64], **options: Any) -> NDArray[np.int64]:
        seen.append(codewords)
        return np.arange(len(codewords))

    monkeypatch.setattr("twophase.training.model.codebook.make_labels", note)
    trainer.epoch(3)
    (codewords,) = seen
    unit = trainer.model.codebook(trainer.model.modes[0]).unit.known
    np.testing.assert_array_equal(codewords * 2.0**-unit, np.rint(codewords * 2.0**-unit))


def test_embeddings_too_wide_for_the_grid_are_refused_at_once_and_float_links_take_them() -> None:
    with pytest.raises(InputError, match=r"'embedding_dim' must be at most 346 .*--search float"):
        TrainConfig(embedding_dim=347)
    config = TrainConfig(embedding_dim=1100, search="float")
    model = LinkModel(config.link, (6,), classes=3, hidden=4, surrogate="product")
    assert model.latents(model.content(make_features(2)), model.modes[0]).shape == (2, 4, 1100)
