"""The integer grid: the trained model, its form in whole numbers and NumPy's int64 agree bit for bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tools import small_link
from tools.small_link import blob_task, blobs, small_config
from twophase.link.errors import VerificationError
from twophase.link.grid import CODEWORD_LIMIT, EXACT_LIMIT, grid_search, to_grid
from twophase.link.input_scale import CONSTANT_EXPONENT, InputScale
from twophase.link.modes import LinkConfig
from twophase.link.routing import Routing, SnrTable
from twophase.training.model.exported import GridSearch, HardTransmitter, SoftTransmitter
from twophase.training.model.integer_grid import (
    ACTIVATION_LIMIT,
    INPUT_LIMITS,
    WEIGHT_LIMIT,
    GridLinear,
    Unit,
    snap,
)
from twophase.training.model.network import LinkModel
from twophase.training.trainer import Trainer

LINK = LinkConfig((4, 8), (5, 3), (4, 16), 3)
ROUTING = Routing("table", SnrTable((3.0,), (0, 2)), hysteresis_db=0.0, header=())


def unit_of(exponent: int) -> Unit:
    unit = Unit()
    unit.set(exponent)
    return unit


def layer_on_grid(seed: int) -> GridLinear:
    torch.manual_seed(seed)
    layer = GridLinear(40, 6)
    layer.cover(unit_of(-6), ACTIVATION_LIMIT)
    return layer


# --- units and layers -------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    exponent=st.integers(-12, 6),
    limit=st.integers(1, 1023),
)
def test_snapping_agrees_with_numpy(values: list[float], exponent: int, limit: int) -> None:
    ours = snap(torch.tensor(values, dtype=torch.float64), exponent, -limit, limit)
    np.testing.assert_array_equal(ours.numpy(), to_grid(values, exponent, limit) * 2.0**exponent)


def test_the_gradient_passes_inside_the_range_and_through_a_layer() -> None:
    values = torch.tensor([-9.0, -7.9, 0.3, 7.9, 9.0], requires_grad=True)
    snap(values, -1, -16, 16).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    layer, inputs = layer_on_grid(1), torch.arange(160.0).reshape(4, 40) / 2**6
    layer.on(inputs, unit_of(-6)).sum().backward()
    torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(6, -1))


@pytest.mark.parametrize("largest", [1.0, 0.99, 127.0, 127.1, 3e-5, 1e6])
def test_a_unit_is_the_smallest_that_covers(largest: float) -> None:
    unit = Unit()
    unit.cover(largest, 127)
    assert 127 * 2.0**unit.known >= largest > 127 * 2.0 ** (unit.known - 1)


def test_a_unit_only_grows_and_travels_with_the_weights() -> None:
    unit = unit_of(-3)
    for largest, known in ((1e-9, -3), (127.0, 0)):
        unit.cover(largest, 127)
        assert unit.known == known
    Unit().cover(0.0, 127)  # nothing to cover is no reason to fail
    layer, other = GridLinear(3, 2), GridLinear(3, 2)
    layer.unit.set(-7)
    other.load_state_dict(layer.state_dict())
    assert other.unit.known == -7
    other.load_state_dict(GridLinear(3, 2).state_dict())
    assert other.unit.exponent is None


@pytest.mark.parametrize("seed", range(3))
def test_a_layer_on_the_grid_is_its_whole_numbers_exactly(seed: int) -> None:
    """float32 on the grid = int64, bit for bit, and in any order of summation."""
    layer, unit = layer_on_grid(seed), unit_of(-6)
    rng = np.random.default_rng(seed)
    units = rng.integers(0, ACTIVATION_LIMIT + 1, (32, 40))
    weight, bias = (part.numpy().astype(np.int64) for part in layer.whole_numbers(unit))
    assert np.abs(weight).max() <= WEIGHT_LIMIT
    exact = units @ weight.T + bias
    ours = layer.on(torch.from_numpy(units * 2.0**-6).float(), unit).detach().numpy()
    np.testing.assert_array_equal(ours * 2.0 ** (6 - layer.unit.known), exact)
    order = rng.permutation(40)
    shuffled = torch.from_numpy(units[:, order]).float() @ torch.from_numpy(weight[:, order]).float().T
    np.testing.assert_array_equal(shuffled.numpy() + bias.astype(np.float32), exact)


def test_the_largest_sum_is_reached_by_the_worst_input_and_stays_exact() -> None:
    layer, unit = layer_on_grid(3), unit_of(-6)
    weight, bias = layer.whole_numbers(unit)
    row = int((weight.abs().sum(1) * ACTIVATION_LIMIT + bias.abs()).argmax())
    worst = torch.sign(weight[row] * torch.sign(bias[row])) * ACTIVATION_LIMIT
    assert (weight[row] @ worst + bias[row]).abs().item() == layer.largest_sum(unit, ACTIVATION_LIMIT)
    wide = GridLinear(2048, 2)  # weights of 127 units would reach 6.6e7: they become coarser
    with torch.no_grad():
        wide.weight.fill_(1.0)
    wide.cover(unit_of(0), ACTIVATION_LIMIT)
    assert wide.largest_sum(unit_of(0), ACTIVATION_LIMIT) * 2 < EXACT_LIMIT
    assert wide.unit.known > math.ceil(math.log2(1 / WEIGHT_LIMIT))


# --- a link -----------------------------------------------------------------------------------------------


SCALES = {
    "as given": InputScale(),
    "pixels": InputScale("uint8", (0.0,), (8,), limit=2.0),
    "features": InputScale(
        "float32", (750.0, 0.1, -3.3, 0.0, 7.5, 1e-3), (9, -3, 0, 20, CONSTANT_EXPONENT, -30), limit=8.0
    ),
}


def make_model(
    seed: int = 0, hidden: int = 16, content: bool = False, scale: InputScale | None = None
) -> LinkModel:
    model = small_link.make_model(LINK, 6, 3, hidden, seed, content=content, on_grid=True, scale=scale)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter *= 3
    model.cover_grid(in_units(scale, features_of(200, seed)))
    return model.eval()


def features_of(size: int, seed: int = 5) -> Tensor:
    return small_link.normal(size, 6, seed=seed)


def in_units(scale: InputScale | None, features: Tensor) -> Tensor:
    """Scaled features in the units of the data; one row in ten far off."""
    if scale is None:
        return features
    unit = 2.0 ** torch.tensor(scale.exponent, dtype=torch.float32).clamp(max=63)
    moved = features * unit + torch.tensor(scale.offset)
    moved[::10] *= 1000
    return moved


def numpy_layer(
    layer: GridLinear, inputs: NDArray[np.int64], unit: Unit, output: Unit, low: int, high: int
) -> NDArray[np.int64]:
    """A layer in int64, its shift as an exact fraction rounded half to even."""
    weight, bias = (part.numpy().astype(np.int64) for part in layer.whole_numbers(unit))
    shift = layer.unit.known + unit.known - output.known
    return np.clip(np.rint((inputs @ weight.T + bias) * 2.0**shift), low, high).astype(np.int64)


def numpy_indices(model: LinkModel, features: Tensor, index: int) -> NDArray[np.int64]:
    """The transmitter's search from features to indices in whole numbers, slow and obvious."""
    encoder = model.encoder
    scaled = encoder.scale.scaled(features.numpy()).astype(np.float64) * 2.0**-encoder.input_unit.known
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


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("factor", [0.1, 1.0, 1e3])
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_numpy_the_model_and_its_whole_numbers_find_the_same_codewords(
    seed: int, factor: float, scale: InputScale
) -> None:
    model, features = make_model(seed, scale=scale), in_units(scale, factor * features_of(500))
    search = GridSearch(model)
    for index, mode in enumerate(model.one_mode_per_codebook()):
        scores = model.codebook(mode).scores(model.latents(model.content(features), mode))
        ours = model.codebook(mode).hard_indices(scores)
        assert torch.equal(search.indices(search.content(features), mode), ours)
        np.testing.assert_array_equal(ours, numpy_indices(model, features, index))


def test_all_numbers_inside_are_whole_and_the_router_sees_them_on_the_scale_of_its_training() -> None:
    model, features = make_model(content=True), features_of(300)
    search = GridSearch(model)
    content = search.content(features)
    assert torch.equal(content, content.round())
    assert content.min() >= 0
    assert content.max() <= ACTIVATION_LIMIT
    assert len(content.unique()) > 50  # the range is used
    for name, buffer in search.named_buffers():
        assert torch.equal(buffer, buffer.round()), name
    assert torch.equal(search.routed_content(content), model.content(features))


def test_ties_go_to_the_lowest_index() -> None:
    model = make_model()
    with torch.no_grad():
        model.codebooks[0].codewords[2] = model.codebooks[0].codewords[1]
    chosen = HardTransmitter(model, ROUTING)(features_of(400), torch.zeros(400), torch.tensor([-1]))[1]
    assert not (chosen == 2).any()
    assert (chosen == 1).any()


def test_the_soft_reference_has_the_latents_of_the_grid() -> None:
    model, features = make_model(), features_of(40)
    mode = model.modes[0]
    codebook, latents = model.codebook(mode), model.latents(model.content(features), mode)
    units = latents / 2.0**codebook.unit.known
    assert torch.equal(units, units.round())
    sent = SoftTransmitter(model, ROUTING, 0.7)(features, torch.zeros(40), torch.tensor([0]))[1]
    expected = model.soft_transmit(codebook.scores(latents), mode, 0.7).symbols
    torch.testing.assert_close(sent[:, : mode.symbols], expected)


def test_what_float32_cannot_hold_is_refused() -> None:
    model = make_model(hidden=700)
    with torch.no_grad():
        model.encoder.second.weight.fill_(1e9)
    with pytest.raises(VerificationError, match=r"a sum may reach .* not below 2\^24"):
        GridSearch(model)


# --- in training --------------------------------------------------------------------------------------------


def make_trainer(out: Path, **values: Any) -> Trainer:
    trainer = Trainer(small_config(out, **values), blob_task())
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
def test_the_grid_comes_with_the_alignment_and_stays_with_the_model(
    values: dict[str, Any], from_epoch: int | None, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, **values)
    assert trainer.config.grid_start_epoch == from_epoch
    for epoch in range(1, 5):
        trainer.keep(trainer.epoch(epoch))
        assert trainer.model.on_grid == (from_epoch is not None and epoch >= from_epoch)
    assert trainer.stored("best")[0].on_grid == (from_epoch is not None)
    if "method" not in values:
        assert not trainer.stored("learning")[0].on_grid
    features = blobs(64, 5).features
    stored, trained = (
        model.latents(model.content(features), model.modes[0])
        for model in (trainer.stored("last")[0], trainer.model)
    )
    assert torch.equal(stored, trained)


def test_labels_fit_the_codewords_on_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, method="hard-only")
    seen = []
    monkeypatch.setattr(
        "twophase.training.model.codebook.make_labels",
        lambda _method, codewords, **_: (seen.append(codewords), np.arange(len(codewords)))[1],
    )
    trainer.epoch(1)
    (codewords,) = seen
    unit = trainer.model.codebook(trainer.model.modes[0]).unit.known
    np.testing.assert_array_equal(codewords * 2.0**-unit, np.rint(codewords * 2.0**-unit))
