"""Classify and send: what arrives without noise, and that it stays below the bound."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.baselines.label import LabelSender
from twophase.sim.theory.label_bound import simplex_success


def sent(sender, samples, lengths, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, sender.classes, samples)
    symbols = rng.choice(lengths, samples)
    return (
        sender.transmit(SimpleNamespace(mode=np.zeros(samples, dtype=np.int64)), classes, symbols),
        classes,
        symbols,
    )


def test_labels_of_all_lengths_arrive_without_noise() -> None:
    sender = LabelSender(10, 14)
    assert (sender.name, sender.max_symbols) == ("classify-and-send", 14)
    payload, classes, symbols = sent(sender, 300, [1, 2, 6, 7, 14])
    np.testing.assert_array_equal(payload.symbols, symbols)
    used = np.arange(14) < symbols[:, None]
    assert (payload.points[~used] == 0).all()
    assert np.sum(np.abs(payload.points) ** 2) / symbols.sum() == pytest.approx(1)
    rng = np.random.default_rng(3)
    gains = rng.standard_normal(used.shape) + 1j * rng.standard_normal(used.shape)
    rows = np.flatnonzero(rng.random(300) < 0.5)
    received = gains[rows] * payload.points[rows]
    decided = sender.receive(payload, rows, received, gains[rows], np.full(received.shape, 1e-6))
    np.testing.assert_array_equal(decided, classes[rows])


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("symbols", [1, 3, 6])
def test_success_stays_below_the_simplex_and_near_it(channel, symbols) -> None:
    sender = LabelSender(10, symbols)
    samples = 20_000
    payload, classes, _ = sent(sender, samples, [symbols])
    rng = np.random.default_rng(symbols)
    esn0_db = 12.0 if symbols == 1 else 3.0
    noise_var = 10 ** (-esn0_db / 10)
    shape = payload.points.shape

    def normal():
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2)

    gains = np.ones(shape, dtype=complex) if channel == "awgn" else normal()
    received = gains * payload.points + math.sqrt(noise_var) * normal()
    decided = sender.receive(payload, np.arange(samples), received, gains, np.full(shape, noise_var))
    right = float(np.mean(decided == classes))
    bound = float(simplex_success(10, symbols, esn0_db, channel))
    # False alarm 3e-7 above; below it is a code of finite dimension, which fading bends as well.
    assert right <= bound + 5 * math.sqrt(right * (1 - right) / samples)
    assert right >= bound - (0.02 if channel == "awgn" and symbols > 1 else 0.2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: LabelSender(1, 4), "classes"),
        (lambda: LabelSender(4, 0), "max_symbols"),
        (lambda: sent(LabelSender(4, 3), 5, [4]), "symbols"),
        (lambda: sent(LabelSender(4, 3), 5, [0]), "symbols"),
        (
            lambda: LabelSender(4, 3).transmit(SimpleNamespace(mode=[0]), np.array([4]), np.array([3])),
            "classes",
        ),
        (
            lambda: LabelSender(4, 3).transmit(SimpleNamespace(mode=[0]), np.array([-1]), np.array([3])),
            "classes",
        ),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
