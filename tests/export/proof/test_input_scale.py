"""The scale that a graph applies to its input is that of the manifest, in whatever unit the grid counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tools.mutate import model_of
from tools.tiny_run import FOUR_GRID, FOUR_MODES, grid_manifest, run_manifest
from twophase.export.graphs.view import GraphView
from twophase.export.proof.input_scale import check_input_scale
from twophase.link.input_scale import InputScale

OFFSET, EXPONENT = (750.0, 0.1, -3.5, 0.0), (9, -3, 0, 20)
SCALE = InputScale(offset=OFFSET, exponent=EXPONENT, mean=OFFSET, deviation=(1.0,) * 4)
STORED: dict[str, Any] = {
    "offset": np.float32(OFFSET),
    "factor": np.float32(2.0) ** -np.float32(EXPONENT),
    "finer": 16 * np.float32(2.0) ** -np.float32(EXPONENT),
    "step": np.float32(0.0625),
    "zero": np.array(128, np.uint8),
    "least": np.float32(-128),
    "most": np.float32(127),
    "weights": np.ones((4, 2), np.float32),
}
TAIL = "rows = MatMul(grid, weights); indices = ArgMax<axis=-1, keepdims=0>(rows)"
GRAPHS = {
    "grid": "shape = Shape(input); flat = Flatten(input); less = Sub(flat, offset); more = Mul(less, finer);"
    "near = Round(more); grid = Clip(near, least, most)",
    "int8": "less = Sub(input, offset); more = Mul(less, factor); kept = Clip(more, least, most);"
    "bytes = QuantizeLinear(kept, step, zero); grid = DequantizeLinear(bytes, step, zero)",
    "float": "less = Sub(input, offset); more = Mul(less, factor); grid = Clip(more, least, most)",
}


def problems(text: str, scale: InputScale, *, on_grid: bool) -> list[str]:
    manifest = grid_manifest(FOUR_GRID, ()) if on_grid else run_manifest(FOUR_MODES, ())
    model = model_of(
        "float[batch,4] input", f"{text}; {TAIL}", "int64[batch] indices", STORED, opset=21, ir_version=10
    )
    return check_input_scale(GraphView(model), replace(manifest, input_shape=(4,), input=scale))


@pytest.mark.parametrize("kind", GRAPHS)
def test_what_the_manifest_says_passes_and_nothing_else(kind: str) -> None:
    text, on_grid = GRAPHS[kind], kind != "float"
    assert problems(text, SCALE, on_grid=on_grid) == []
    for changed, what in (
        ({"offset": (0.0, *OFFSET[1:])}, "offsets"),
        ({"offset": (0.0,)}, "offsets"),
        ({"exponent": (*EXPONENT[:3], 21)}, "powers of two"),
        ({"exponent": (0,)}, "powers of two"),
    ):
        (problem,) = problems(text, replace(SCALE, **changed), on_grid=on_grid)  # type: ignore[arg-type]
        assert f"other {what} than 'input' of the manifest" in problem


def test_an_input_that_goes_past_the_scale_is_seen() -> None:
    text = GRAPHS["grid"].replace(
        "grid = Clip(near, least, most)", "past = Add(near, input); grid = Clip(past, least, most)"
    )
    assert problems(text, SCALE, on_grid=True)
