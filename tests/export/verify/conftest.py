"""An INT8 bundle of the small link on a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tools.tiny_run import FOUR_GRID, eval_split, write_complete_bundle, write_grid_bundle
from twophase.export.int8.calibrate import receptions
from twophase.export.int8.quantize import quantize_receiver, quantize_transmitter
from twophase.link.manifest import load_manifest


@pytest.fixture(scope="module")
def int8_bundle(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Read only."""
    source = make_shared("grid-bundle", write_grid_bundle)

    def make(folder: Path) -> None:
        manifest = load_manifest(source, "bundle")
        tx, rx = (onnx.load(source / file) for file in ("tx.onnx", "rx.onnx"))
        features = eval_split(FOUR_GRID, 40)["input"]
        snr_db = features.reshape(40, -1)[:, 0] * 0 + 5
        received = receptions(tx, manifest, {"input": features, "snr_db": snr_db}, 0)
        models = {
            "tx.onnx": quantize_transmitter(tx, manifest, {}),
            "rx.onnx": quantize_receiver(rx, manifest, received),
        }
        write_complete_bundle(folder, FOUR_GRID, replace(manifest, precision="int8"), models)

    return make_shared("grid-int8-bundle", make)
