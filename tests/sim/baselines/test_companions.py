"""Companions are made as asked and scaled like the deployed stream."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.link.modes import Mode, ModeTable
from twophase.sim.baselines.base import make_companions, scaled_load
from twophase.sim.settings import Settings

MODES = ModeTable((Mode(0, 64, 4, 16), Mode(0, 64, 4, 256)))


def test_companions_are_made_in_order() -> None:
    settings = Settings(codes=("ldpc", "conv"), baselines=("classify-and-send",))
    made = make_companions(settings, MODES, SimpleNamespace(), 10, 40.0, header_symbols=4)
    assert [companion.name for companion in made] == ["ldpc", "conv", "classify-and-send"]
    assert [companion.max_symbols for companion in made] == [6, 6, 10]
    assert all(companion.description for companion in made)
    assert "(48, 24) over 256-QAM" in made[0].description
    assert all("fewer index bits can do better" in coded.description for coded in made[:2])
    assert "noise-free decision of the deployed link itself" in made[2].description
    assert "a good short code" in made[2].description
    assert make_companions(Settings(), MODES, SimpleNamespace(), 10, 40.0) == ()


def test_unknown_names_are_refused() -> None:
    for codes, baselines, name in ((("turbo",), (), "code"), ((), ("guess",), "baseline")):
        settings = SimpleNamespace(codes=codes, baselines=baselines, kernel="numpy")
        with pytest.raises(InputError, match=f"'{name}' must"):
            make_companions(settings, MODES, SimpleNamespace(), 10, 40.0)


def test_a_load_has_unit_energy() -> None:
    points = np.array([[3 + 4j, 0], [1, 2j]])
    load = scaled_load(np.zeros(2, dtype=np.int64), points, np.array([1, 2]))
    assert load.energy == pytest.approx(30 / 3)
    assert np.sum(np.abs(load.points) ** 2) / 3 == pytest.approx(1)
    np.testing.assert_allclose(load.points * np.sqrt(load.energy), points)


@pytest.mark.parametrize("symbols", [0, 2])
def test_a_load_without_energy_is_refused(symbols) -> None:
    with pytest.raises(InputError, match="'points' must carry energy"):
        scaled_load(np.zeros(1, dtype=np.int64), np.zeros((1, 2), dtype=complex), np.array([symbols]))
