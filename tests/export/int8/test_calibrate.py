"""What INT8 is calibrated on: samples of the run, received in every mode over the channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from tools.mutate import model_of
from tools.tiny_run import FOUR_MODES, eval_split, run_manifest
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.int8.calibrate import (
    CALIBRATION_FILE,
    CLEARANCE,
    SNRS_DB,
    load_calibration,
    observe,
    receptions,
    steady_rows,
)
from twophase.link.errors import ArtifactError
from twophase.link.graphs import MODE_REQUEST

MANIFEST = run_manifest(FOUR_MODES, ("aligned",))


def samples(count: int, snr_db: float = 5.0) -> Values:
    features = eval_split(FOUR_MODES, count)["input"]
    return {"input": features, "snr_db": np.full(count, snr_db, dtype=np.float32)}


def test_the_samples_are_those_of_the_file_and_take_all_snrs_in_turn(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"calibration.npz' is missing: INT8 is calibrated on training"):
        load_calibration(tmp_path, MANIFEST)
    split = eval_split(FOUR_MODES, 20)
    np.savez(tmp_path / CALIBRATION_FILE, **split)
    loaded = load_calibration(tmp_path, MANIFEST)
    np.testing.assert_array_equal(loaded["input"], split["input"])
    assert loaded["snr_db"].dtype == np.float32
    assert loaded["snr_db"].tolist() == [*SNRS_DB, *SNRS_DB, *SNRS_DB, *SNRS_DB[:2]]


# --- what a receiver gets of them


def test_every_sample_is_received_in_every_mode(four_tx) -> None:
    """With hardly any noise the signs are the bits that were sent."""
    feed = samples(50, snr_db=40.0)
    received = receptions(four_tx.model, MANIFEST, feed, 0)
    assert received["llr"].shape == (4 * 50, MANIFEST.modes.max_bits)
    assert received["llr"].dtype == np.float32
    assert np.abs(received["llr"]).max() <= MANIFEST.llr_clip
    assert received["mode"].tolist() == np.repeat(range(4), 50).tolist()
    for number, mode in enumerate(MANIFEST.modes):
        (bits,) = OnnxRuntime(four_tx.model).run(["bits"], {**feed, MODE_REQUEST: np.array([number])})
        llr = received["llr"][received["mode"] == number]
        np.testing.assert_array_equal(
            np.sign(llr[:, : mode.channel_bits]), 2.0 * bits[:, : mode.channel_bits] - 1
        )
        assert (llr[:, mode.channel_bits :] == 0).all()


def test_the_seed_decides_the_noise_and_the_snr_how_much_there_is(four_tx) -> None:
    first, again, other = (
        receptions(four_tx.model, MANIFEST, samples(10), seed)["llr"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    louder = receptions(four_tx.model, MANIFEST, samples(10, snr_db=-5.0), 1)["llr"]
    assert np.abs(louder).mean() < 0.5 * np.abs(first).mean()


def test_a_transmitter_that_fails_is_reported(four_tx) -> None:
    wrong = replace(MANIFEST, input_shape=(3, 3))
    feed = samples(4) | {"input": np.zeros((4, 3, 3), dtype=np.float32)}
    with pytest.raises(ArtifactError, match="the transmitter does not run on the calibration data"):
        receptions(four_tx.model, wrong, feed, 0)


# --- ranges


def divided_by(divisor: float) -> ModelProto:
    """``inner``: the input over a number; ``turned``: its negative."""
    text = "inner = Div(input, divisor); turned = Neg(inner)"
    stored = {"divisor": np.float32(divisor)}
    return model_of("float[batch,2] input", text, "float[batch,2] turned", stored)


def test_ranges_are_the_extremes_over_all_samples_with_zero() -> None:
    values = np.random.default_rng(0).uniform(-1, 5, (5000, 2)).astype(np.float32)
    seen = observe(divided_by(-0.5), ("input", "inner", "turned"), {"input": values})
    assert seen["input"] == (float(values.min()), float(values.max()))
    assert seen["inner"] == (float(-2 * values.max()), float(-2 * values.min()))
    assert seen["turned"] == (-seen["inner"][1], -seen["inner"][0])
    positive = {"input": np.abs(values) + np.float32(1)}
    assert observe(divided_by(1), ("inner",), positive)["inner"][0] == 0.0
    assert observe(divided_by(-1), ("inner",), positive)["inner"][1] == 0.0


@pytest.mark.parametrize(
    ("feed", "reason"),
    [
        ({}, "hold no sample"),
        ({"input": np.zeros((0, 2), dtype=np.float32)}, "hold no sample"),
        ({"input": np.ones((3, 2), dtype=np.float32)}, "'inner' is not finite on the calibration data"),
        ({"input": np.ones((3, 3), dtype=np.float32)}, "the graph does not run on the calibration data"),
    ],
)
def test_what_gives_no_range_is_refused(feed: Values, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        observe(divided_by(0), ("inner",), feed)


# --- samples that are rounded alike everywhere


STEP = 0.25
MIDDLE = STEP * 1.5
FEED = {
    "input": np.array(
        [
            [0.1, 0.5],
            [MIDDLE, 0.5],
            [0.5, -STEP / 2],
            [MIDDLE + 0.5 * CLEARANCE * STEP, 0.5],
            [MIDDLE + 2.0 * CLEARANCE * STEP, 0.5],
        ],
        dtype=np.float32,
    )
}


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("real = Mul(input, one)", [True, False, False, False, True]),
        ("same = Mul(input, one); real = Clip(same)", [True, False, False, False, True]),
        # what was given is rounded alike everywhere
        ("real = Identity(input)", [True] * 5),
        ("low = Clip(input); real = Identity(low)", [True] * 5),
        ("low = Max(input); real = Min(low)", [True] * 5),
    ],
)
def test_what_was_computed_must_keep_clear_of_the_middle_between_two_steps(
    before: str, wanted: list[bool]
) -> None:
    text = f"{before}; whole = QuantizeLinear(real, step, zero); output = DequantizeLinear(whole, step, zero)"
    stored = {"one": np.float32(1), "step": np.float32(STEP), "zero": np.uint8(128)}
    model = model_of("float[batch,2] input", text, "float[batch,2] output", stored, 21, 10)
    assert steady_rows(model, FEED).tolist() == wanted


def test_a_graph_without_roundings_is_steady() -> None:
    assert steady_rows(divided_by(3), FEED).all()
