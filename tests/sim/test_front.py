"""Before a sweep: what the whole graph of a text link gives is what is simulated, of tables as well."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import load_manifest
from twophase.link.samples import Samples, load_samples
from twophase.sim import front
from twophase.sim.front import check_front, csv_samples
from twophase.sim.results.figures import BackboneCheck
from twophase.sim.system import load_system


@pytest.fixture(scope="module")
def opened(text_bundle: Path):
    system, manifest = load_system(text_bundle)
    samples = load_samples(text_bundle / "eval.npz", manifest)
    return text_bundle, manifest, system.transmitter, samples


def _check(opened, features: np.ndarray, seed: int = 0) -> BackboneCheck:
    *link, samples = opened
    entry = check_front(*link, replace(samples, features=features), seed)
    assert entry is not None
    return entry


def test_every_sentence_gives_the_features_that_are_simulated(opened) -> None:
    by_mode = {"4x4qam": 0, "4x16qam": 0, "16x4qam": 0, "16x16qam": 0}
    assert _check(opened, opened[3].features) == BackboneCheck(240, 0, 240 * (3 + 3 + 1 + 1), 0, by_mode)


def test_many_sentences_are_checked_by_a_part_that_the_seed_chooses(opened, monkeypatch) -> None:
    monkeypatch.setattr(front, "CHECKED_SENTENCES", 50)
    altered = opened[3].features.copy()
    altered[::2] += np.float32(1e-3)
    found = {_check(opened, altered, seed).different_features for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(found) <= 4
    assert max(found) <= 50


def test_what_differs_is_counted_and_refused_from_one_percent_of_the_indices_on(opened) -> None:
    features = opened[3].features
    # Every score rises alike, so that the best one stays.
    entry = _check(opened, features + np.float32([1, 1, 1, 1, 0]))
    assert (entry.different_features, entry.different_indices) == (240, 0)
    altered = features.copy()
    altered[:2] = np.roll(altered[:2], 1, axis=1)
    altered[:2, :4] += np.float32([0, 0, 0, 9])
    entry = _check(opened, altered)
    assert 0 < entry.different_indices <= 16
    assert sum(entry.different_indices_by_mode.values()) == entry.different_indices
    altered[:30] = -altered[:30]
    with pytest.raises(
        ArtifactError, match=r"^'tx.onnx' gives other features .* of 1920 codeword indices.*$"
    ):
        _check(opened, altered)


def test_features_alone_are_not_checked(opened) -> None:
    bundle, manifest, transmitter, samples = opened
    assert check_front(bundle, manifest, transmitter, replace(samples, sentences=None), 0) is None
    assert check_front(bundle, replace(manifest, front=None), transmitter, samples, 0) is None


def test_sentences_of_a_table_go_through_the_whole_graph(
    opened, bundle: Path, tmp_path: Path, caplog
) -> None:
    text_bundle, manifest, _, samples = opened
    assert isinstance(samples, Samples)
    assert samples.sentences is not None
    rows = [f'"{samples.sentences.texts[n]}",{"abcd"[samples.labels[n]]}' for n in range(5)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *rows, f"{'film ' * 10_000},a"]))
    content = csv_samples(text_bundle, manifest, path)
    with np.load(io.BytesIO(content)) as archive:
        assert sorted(archive.files) == ["input", "label"]
        assert np.array_equal(archive["input"][:5], samples.features[:5])
        assert np.array_equal(archive["label"][:5], samples.labels[:5])
    assert "1 of 1 texts cut to 16 tokens" in caplog.text
    with pytest.raises(InputError, match=r"'data' must be an \.npz of features"):
        csv_samples(bundle, load_manifest(bundle, "bundle"), path)
