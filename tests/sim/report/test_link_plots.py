"""Figures of samples on the air and of decisions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from twophase.sim.report.link_plots import confusion_svg, constellation_svg

QPSK = [[re / 2**0.5, im / 2**0.5] for re in (-1, 1) for im in (-1, 1)]


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def _marks(svg: str) -> int:
    """Marks of all kinds, ticks of both axes included."""
    return svg.count("<use ")


def _group(received: list[list[float]]) -> dict[str, Any]:
    return {"mode": "2x4qam", "order": 4, "received": received, "reference": QPSK}


def test_all_samples_of_plain_noise_are_shown() -> None:
    rng = np.random.default_rng(0)
    sent = np.array(QPSK)[rng.integers(0, 4, 300)]
    received = sent + rng.normal(0, 0.3, sent.shape)
    svg, outside = constellation_svg(_group(received.tolist()), 7.5, "air")
    assert outside == 0
    assert _texts(svg)[-1] == "7.5 dB, 2x4qam"
    assert _marks(svg) >= 300 + 4


def test_samples_that_a_fade_throws_far_out_are_counted_and_left_out() -> None:
    received = [*(QPSK * 75), [40.0, 0.0], [0.0, -55.0]]
    svg, outside = constellation_svg(_group(received), 10.0, "air")
    assert outside == 2
    # The panel still shows the points at their usual size.
    ticks = [float(text.replace("−", "-")) for text in _texts(svg) if re.fullmatch(r"[−\d.]+", text)]
    assert max(map(abs, ticks)) <= 1


def test_few_samples_or_none_can_be_drawn() -> None:
    for received in ([], [[0.1, 0.2]]):
        svg, outside = constellation_svg(_group(received), 0.0, "air")
        assert outside == 0
        assert svg.startswith("<svg")


def _confusion(counts: list[list[int]], names: list[str]) -> list[str]:
    report = {"classes": names}
    point = {"esn0_db": 3.0, "confusion": counts}
    return _texts(confusion_svg(report, point, "confusion"))


def test_a_confusion_matrix_tells_none_from_few_and_all_from_nearly_all() -> None:
    texts = _confusion([[10_000, 0, 0], [1, 9_999, 0], [30, 70, 9_900]], ["a", "b", "c"])
    cells = [text for text in texts if re.fullmatch(r"[<.\d]+|&lt;1", text)]
    assert cells == ["100", "&lt;1", "99", ".3", ".7", "99"]


def test_a_class_without_samples_and_many_classes_can_be_drawn() -> None:
    assert "0" not in _confusion([[5, 0], [0, 0]], ["a", "b"])
    names = [f"a long name {number}" for number in range(60)]
    texts = _confusion(np.eye(60, dtype=int).tolist(), names)
    assert "100" not in texts
    assert 0 < len([text for text in texts if text.startswith("a long")]) <= 40
