"""The page in headless Chromium, offline: right bits, a drawn digit, a slider that matters, no complaint."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twophase.link.manifest import Accuracy, load_manifest

Visit = Callable[[str, object, str], dict[str, Any]]
Serve = Callable[[Path], str]


def _right(tally: str) -> tuple[int, int]:
    found = re.search(r": (\d+) of (\d+) right", tally)
    assert found, tally
    return int(found[1]), int(found[2])


def _as_measured(tally: str, accuracy: Accuracy, esn0_db: float) -> bool:
    """Within 4 standard errors: with one fixed seed, what once holds does so always."""
    right, total = _right(tally)
    share = accuracy.correct[accuracy.esn0_db.index(esn0_db)] / (accuracy.samples * accuracy.trials)
    return abs(right / total - share) < 4 * np.sqrt(share * (1 - share) / total)


def _spread(state: dict[str, Any]) -> float:
    """Mean distance of received points from sent ones, in units of the drawing."""
    gap = np.array(state["sent"]) - np.array(state["received"])
    return float(np.hypot(*gap.T).mean())


def test_the_digits_page(visit: Visit, web_bundle: Path, serve: Serve) -> None:
    manifest = load_manifest(web_bundle, "bundle")
    assert manifest.conformance is not None
    assert manifest.accuracy is not None
    address = serve(web_bundle)
    seen = visit("browser.mjs", f"{address}/web/?seed=5", "digits")

    assert seen["complaints"] == []
    assert seen["origins"] == [address]
    desktop = seen["desktop"]
    assert not desktop["notice"]

    # The right bits: every vector, and the hash of all symbols.
    assert desktop["conformance"]["passed"] is True
    assert desktop["conformance"]["sha256"] == manifest.conformance.symbols_sha256
    assert len(desktop["conformance"]["sets"]) == len(manifest.conformance.sets)
    assert "Everything is reproduced." in desktop["check"]

    # Digits drawn with the mouse, by a link that was trained for a few epochs only.
    assert desktop["captionOfDrawing"] == "your drawing"
    assert desktop["drawn"]["0"] == "0"
    assert desktop["drawn"]["1"] == "1"
    label = np.load(web_bundle / "eval.npz")["label"]
    assert desktop["sample"] == manifest.classes[label[3]]

    # The slider: mode, points and LLRs follow it.
    names = manifest.modes.names
    for snr_db in ("-5", "5", "20"):
        state = desktop["snr"][snr_db]
        number = names.index(state["mode"])
        assert number == manifest.routing.table.choose(float(snr_db))
        mode = manifest.modes[number]
        assert state["symbols"] == mode.symbols == len(state["sent"]) == len(state["received"])
        assert len(state["tokens"]) == mode.tokens == len(state["decoded"].split())
        assert len(state["llr"]) == mode.channel_bits
        assert sum(float(score.removesuffix(" %")) for score in state["scores"]) == pytest.approx(100, abs=1)
    low, high = desktop["snr"]["-5"], desktop["snr"]["20"]
    assert _spread(low) > 3 * _spread(high) > 0
    assert np.mean(high["llr"]) > 1.5 * np.mean(low["llr"])
    assert low["wrongBits"] > 0 == high["wrongBits"]
    assert high["tokens"] == high["decoded"].split()
    assert desktop["otherNoise"] != high["received"]
    assert desktop["modes"] == {str(number): name for number, name in enumerate(names)}

    # Accuracy so far: what the exporter measured.
    assert _right(desktop["tally"])[1] == len(label)
    assert _as_measured(desktop["tally"], manifest.accuracy, 10.0)
    assert _as_measured(desktop["tallyAt0"], manifest.accuracy, 0.0)

    # A phone shows the whole width and takes a finger for a pen, and darkness is dark.
    assert seen["phone"] == {"widths": [375, 375], "drawn": "0"}
    assert max(map(int, re.findall(r"\d+", seen["darkBackground"]))) < 64


def test_a_link_without_a_picture(visit: Visit, content_web_bundle: Path, serve: Serve) -> None:
    """Nothing to draw on; the mode is chosen by the sample and told in a header."""
    manifest = load_manifest(content_web_bundle, "bundle")
    seen = visit("browser.mjs", f"{serve(content_web_bundle)}/web/?seed=5", "content")
    assert seen["complaints"] == []
    desktop = seen["desktop"]
    assert desktop["hasPad"] is False
    assert desktop["drawn"] == {}
    data = np.load(content_web_bundle / "eval.npz")
    assert desktop["sample"] == manifest.classes[data["label"][3]]
    for snr_db in ("-5", "5", "20"):
        state = desktop["snr"][snr_db]
        mode = manifest.modes[manifest.modes.names.index(state["mode"])]
        header = int(manifest.header.symbol_count(float(snr_db)))
        assert header > 0
        assert state["symbols"] == mode.symbols + header == len(state["received"])
        assert len(state["sent"]) == mode.symbols
    right, total = _right(desktop["tally"])
    assert total == len(data["label"])
    assert right > 0.95 * total
    assert seen["phone"]["widths"] == [375, 375]
