"""Baselines are made as asked and scaled like the deployed stream."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.link.modes import Mode, ModeTable
from twophase.sim.baselines.base import scaled_payload
from twophase.sim.baselines.registry import descriptions, make_baselines
from twophase.sim.settings import Settings

MODES = ModeTable((Mode(0, 64, 4, 16), Mode(0, 64, 4, 256)))
SYSTEM = SimpleNamespace(modes=MODES, receiver=None, classes=10, llr_clip=40.0)


def test_baselines_are_made_in_order_and_described_without_a_build() -> None:
    settings = Settings(codes=("ldpc", "conv"), baselines=("classify-and-send",))
    made = make_baselines(settings, SYSTEM, header_symbols=4)
    assert [baseline.max_symbols for baseline in made] == [6, 6, 10]
    described = descriptions(settings, MODES, 10)
    assert [baseline.name for baseline in made] == [*described]
    assert "(48, 24) over 256-QAM" in described["ldpc"]
    assert "noise-free decision of the deployed link itself" in described["classify-and-send"]
    assert make_baselines(Settings(), SYSTEM) == ()


def test_what_needs_sentences_is_refused_without_them() -> None:
    with pytest.raises(InputError, match="'baseline' must be left out where the samples hold no sentences"):
        make_baselines(Settings(baselines=("tfidf",)), SYSTEM)


def test_a_payload_has_unit_energy_or_is_refused() -> None:
    points = np.array([[3 + 4j, 0], [1, 2j]])
    payload = scaled_payload(np.zeros(2, dtype=np.int64), points, np.array([1, 2]))
    assert payload.energy == pytest.approx(30 / 3)
    np.testing.assert_allclose(payload.points * np.sqrt(10), points)
    for symbols in (0, 2):
        with pytest.raises(InputError, match="'points' must carry energy"):
            scaled_payload(np.zeros(1, dtype=np.int64), np.zeros((1, 2), complex), np.array([symbols]))
