"""Bundles of the small link on a grid, in float32 and in INT8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tools.tiny_run import FOUR_GRID, eval_split, write_complete_bundle, write_grid_bundle
from twophase.export.int8.calibrate import receptions
from twophase.export.int8.quantize import quantize_receiver, quantize_transmitter
from twophase.link.manifest import load_manifest


@pytest.fixture(scope="module")
def bundle(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Complete.  Read only."""
    return make_shared("grid-bundle", write_grid_bundle)


@pytest.fixture(scope="module")
def int8_bundle(bundle: Path, make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Read only."""

    def make(folder: Path) -> None:
        manifest = load_manifest(bundle, "bundle")
        tx, rx = (onnx.load(bundle / file) for file in ("tx.onnx", "rx.onnx"))
        feed = {"input": eval_split(FOUR_GRID, 40)["input"], "snr_db": np.full(40, 5, np.float32)}
        models = {
            "tx.onnx": quantize_transmitter(tx, manifest, {}),
            "rx.onnx": quantize_receiver(rx, manifest, receptions(tx, manifest, feed, 0)),
        }
        write_complete_bundle(folder, FOUR_GRID, replace(manifest, precision="int8"), models)

    return make_shared("grid-int8-bundle", make)
