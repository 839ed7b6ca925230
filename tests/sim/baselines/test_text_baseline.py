"""The sentences over the simulated air: what arrives, what it costs, and what is made of what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twophase.link.manifest import load_manifest
from twophase.link.samples import Samples, load_samples
from twophase.sim.baselines.text import EVERY, TextSender, column_of, most_frequent, scheme_at
from twophase.sim.baselines.text_source import messages_of
from twophase.sim.counts import TextCounts
from twophase.sim.settings import Settings

BLOCK = Settings(channel="rayleigh", coherence="sample", known_snr="block")


@pytest.fixture(scope="module")
def samples(text_bundle: Path) -> Samples:
    return load_samples(text_bundle / "eval.npz", load_manifest(text_bundle, "bundle"))


def _counts(samples: Samples, settings: Settings, esn0_db: float, trials: tuple[int, ...] = (0,)):
    counts = TextCounts(np.zeros_like(samples.labels))
    sender = TextSender(samples.sentences, samples.labels, settings, esn0_db)
    for trial in trials:
        sender.count(counts, trial)
    return counts


def _symbols(samples: Samples, esn0_db: float, column: str = "awgn") -> int:
    scheme = scheme_at(esn0_db, column)
    return sum(scheme.symbols(len(message)) for message in messages_of(samples.sentences))


def test_what_arrives_is_classified_as_without_a_channel_and_the_rest_as_the_most_frequent(samples) -> None:
    # 4 dB above the threshold of the scheme: all arrive.
    counts = _counts(samples, Settings(), 28.0)
    assert counts.intact == 240
    assert np.array_equal(counts.correct, samples.sentences.without_link == samples.labels)
    assert counts.symbols == _symbols(samples, 28.0)
    assert (counts.trials, round(counts.energy_sum, 1)) == (1, 1.0)
    counts = _counts(samples, Settings(), -40.0)
    assert counts.intact == 0
    assert np.array_equal(counts.correct, samples.labels == most_frequent(samples.labels))
    assert most_frequent(np.array([3, 1, 1, 2, 2])) == 1


@pytest.mark.parametrize("esn0_db", [-6.0, 16.0])
def test_nearly_all_arrive_where_the_table_says_so(samples: Samples, esn0_db: float) -> None:
    # Sentences as short as these are lost more often than those that the table was made with.
    assert _counts(samples, Settings(), esn0_db).intact > 0.9 * 240


def test_they_are_sent_in_every_tenth_trial_and_each_is_the_same_by_itself(samples: Samples) -> None:
    together = _counts(samples, Settings(), 4.0, tuple(range(2 * EVERY)))
    first, second = (_counts(samples, Settings(), 4.0, (trial,)) for trial in (0, EVERY))
    assert together.trials == 2
    assert first.intact + second.intact == together.intact
    assert np.array_equal(first.correct + second.correct, together.correct)
    assert _counts(samples, Settings(), 4.0, (1, 2, 9)).trials == 0
    # Another kernel decides alike.
    compiled = _counts(samples, Settings(kernel="numba"), 4.0)
    assert (compiled.intact, compiled.symbols) == (first.intact, first.symbols)


@pytest.mark.parametrize(("channel", "least"), [("rayleigh", 210), ("tdl-a", 150)])
def test_fading_takes_its_own_thresholds(samples: Samples, channel, least) -> None:
    counts = _counts(samples, Settings(channel=channel), 12.0)
    assert counts.symbols == _symbols(samples, 12.0, "rayleigh") > _symbols(samples, 12.0)
    assert counts.intact > least


def test_who_knows_a_frames_gain_adapts_to_it_in_every_trial_anew(samples: Samples) -> None:
    adapted, other = (_counts(samples, BLOCK, 10.0, (trial,)) for trial in (0, EVERY))
    blind = _counts(samples, replace(BLOCK, known_snr="mean"), 10.0)
    assert adapted.intact > 220 > blind.intact
    assert blind.symbols == _symbols(samples, 10.0, "rayleigh")
    assert len({adapted.symbols, other.symbols, blind.symbols}) == 3


def test_pilots_count_as_symbols(samples: Samples) -> None:
    counts = _counts(samples, Settings(channel="rayleigh", coherence=12, csi="pilot", pilots=2), 14.0)
    data = _symbols(samples, 14.0, "rayleigh")
    assert 1.2 * data < counts.symbols < 1.25 * data
    assert counts.intact > 120


def test_which_column_serves_which_air() -> None:
    assert column_of(Settings()) == column_of(BLOCK) == "awgn"
    assert column_of(replace(BLOCK, csi="pilot")) == column_of(Settings(channel="tdl-c")) == "rayleigh"
