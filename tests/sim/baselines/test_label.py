"""Classify and send: what arrives without noise, and that it stays below the bound."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.baselines.base import Payload
from twophase.sim.baselines.label import LabelSender
from twophase.sim.theory.label_bound import simplex_success


def _sent(sender: LabelSender, classes: np.ndarray, symbols: np.ndarray) -> Payload:
    return sender.transmit(SimpleNamespace(mode=np.zeros(len(classes), dtype=np.int64)), classes, symbols)


@pytest.mark.parametrize("tfidf", [False, True])
def test_labels_of_all_lengths_arrive_without_noise(tfidf: bool) -> None:
    rng = np.random.default_rng(3)
    classes, symbols = rng.integers(0, 10, 300), rng.choice([1, 2, 6, 7, 14], 300)
    sender = LabelSender(10, 14, classes if tfidf else None)
    assert (sender.name, sender.max_symbols) == ("tfidf" if tfidf else "classify-and-send", 14)
    payload = _sent(sender, np.zeros_like(classes) if tfidf else classes, symbols)
    np.testing.assert_array_equal(payload.symbols, symbols)
    used = np.arange(14) < symbols[:, None]
    assert (payload.points[~used] == 0).all()
    assert np.sum(np.abs(payload.points) ** 2) / symbols.sum() == pytest.approx(1)
    gains = rng.standard_normal(used.shape) + 1j * rng.standard_normal(used.shape)
    rows = np.flatnonzero(rng.random(300) < 0.5)
    received = gains[rows] * payload.points[rows]
    decided = sender.receive(payload, rows, received, gains[rows], np.full(received.shape, 1e-6))
    np.testing.assert_array_equal(decided, classes[rows])


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize(("symbols", "esn0_db"), [(1, 12.0), (6, 3.0)])
def test_success_stays_below_the_simplex_and_near_it(channel, symbols, esn0_db) -> None:
    samples, rng = 20_000, np.random.default_rng(symbols)
    sender, classes = LabelSender(10, symbols), rng.integers(0, 10, samples)
    payload = _sent(sender, classes, np.full(samples, symbols))
    noise_var, shape = 10 ** (-esn0_db / 10), payload.points.shape
    gains, noise = (rng.standard_normal((2, 2, *shape)) * [[[[1]], [[1j]]]]).sum(axis=1) / math.sqrt(2)
    gains = np.ones_like(gains) if channel == "awgn" else gains
    received = gains * payload.points + math.sqrt(noise_var) * noise
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
        (lambda: _sent(LabelSender(4, 3), np.array([0]), np.array([4])), "symbols"),
        (lambda: _sent(LabelSender(4, 3), np.array([0]), np.array([0])), "symbols"),
        (lambda: _sent(LabelSender(4, 3), np.array([4]), np.array([3])), "classes"),
        (lambda: _sent(LabelSender(4, 3), np.array([-1]), np.array([3])), "classes"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
