"""Before a sweep: what the whole graph of a text link gives is what is simulated, of tables as well."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.samples import Samples, load_samples
from twophase.sim import front
from twophase.sim.front import check_front, csv_samples
from twophase.sim.results.figures import BackboneCheck
from twophase.sim.system import System, load_system


@pytest.fixture(scope="module")
def opened(text_bundle: Path) -> tuple[Path, System, Manifest, Samples]:
    system, manifest = load_system(text_bundle)
    samples = load_samples(text_bundle / "eval.npz", manifest.input_shape, len(manifest.classes))
    return text_bundle, system, manifest, samples


def _check(opened, samples: Samples, seed: int = 0) -> BackboneCheck:
    bundle, system, manifest, _ = opened
    entry = check_front(bundle, manifest, system.transmitter, samples, seed)
    assert entry is not None
    return entry


def test_every_sentence_gives_the_features_that_are_simulated(opened) -> None:
    entry = _check(opened, opened[3])
    by_mode = {"4x4qam": 0, "4x16qam": 0, "16x4qam": 0, "16x16qam": 0}
    assert entry == BackboneCheck(240, 0, 240 * (3 + 3 + 1 + 1), 0, by_mode)


def test_many_sentences_are_checked_by_a_part_that_the_seed_chooses(opened, monkeypatch) -> None:
    monkeypatch.setattr(front, "CHECKED_SENTENCES", 50)
    altered = opened[3].features.copy()
    altered[::2] += np.float32(1e-3)
    samples = replace(opened[3], features=altered)
    found = {_check(opened, samples, seed).different_features for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(found) <= 4
    assert max(found) <= 50


def test_other_features_with_the_same_indices_are_told(opened) -> None:
    # Every score rises alike, so that the best one stays.
    samples = replace(opened[3], features=opened[3].features + np.float32([1, 1, 1, 1, 0]))
    entry = _check(opened, samples)
    assert (entry.different_features, entry.different_indices) == (240, 0)


def test_other_indices_are_refused_from_one_percent_on(opened) -> None:
    _, _, _, samples = opened
    altered = samples.features.copy()
    altered[:2] = np.roll(altered[:2], 1, axis=1)
    altered[:2, :4] += np.float32([0, 0, 0, 9])
    entry = _check(opened, replace(samples, features=altered))
    assert 0 < entry.different_indices <= 16
    assert sum(entry.different_indices_by_mode.values()) == entry.different_indices
    altered[:30] = -altered[:30]
    with pytest.raises(
        ArtifactError, match=r"'tx.onnx' gives other features .* of 1920 codeword indices"
    ) as e:
        _check(opened, replace(samples, features=altered))
    assert "what is simulated would not be what is deployed" in str(e.value)
    assert "\n" not in str(e.value)


def test_features_alone_are_not_checked(opened) -> None:
    bundle, system, manifest, samples = opened
    alone = replace(samples, sentences=None)
    assert check_front(bundle, manifest, system.transmitter, alone, 0) is None
    assert check_front(bundle, replace(manifest, front=None), system.transmitter, samples, 0) is None


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["text,label", *rows]))
    return path


def test_sentences_of_a_table_go_through_the_whole_graph(opened, tmp_path: Path, caplog) -> None:
    bundle, _, manifest, samples = opened
    assert samples.sentences is not None
    rows = [f'"{samples.sentences.texts[n]}",{"abcd"[samples.labels[n]]}' for n in range(5)]
    path = _table(tmp_path / "mine.csv", *rows, f"{'film ' * 10_000},a")
    content = csv_samples(bundle, manifest, path)
    with np.load(io.BytesIO(content)) as archive:
        assert sorted(archive.files) == ["input", "label"]
    read = load_samples(path, manifest.input_shape, 4, content)
    assert np.array_equal(read.features[:5], samples.features[:5])
    assert np.array_equal(read.labels[:5], samples.labels[:5])
    assert np.isfinite(read.features).all()
    assert read.sentences is None
    assert "1 of 1 texts cut to 16 tokens" in caplog.text


def test_a_link_of_features_takes_no_table(bundle: Path, tmp_path: Path) -> None:
    path = _table(tmp_path / "mine.csv", "fine,a")
    with pytest.raises(InputError, match=r"'data' must be an \.npz of features"):
        csv_samples(bundle, load_manifest(bundle, "bundle"), path)
