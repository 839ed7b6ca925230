"""A text link: what a report adds, its baselines, and that it is measured again alike."""

from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.sim.cli import main
from twophase.sim.counts import tally_arrays, tally_digest, tally_from_arrays
from twophase.sim.report.text_plots import symbols_png
from twophase.sim.results.report_json import make_report
from twophase.sim.settings import SENTENCE_BASELINES, BaselineName, Settings, Workers
from twophase.sim.sweep.job import Block, default_baselines, make_job
from twophase.sim.sweep.measure import measure

GRID = ("--snr", "4:6:10", "--trials", "2")


@pytest.fixture(scope="module")
def folder(text_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report."""
    out = tmp_path_factory.mktemp("report")
    assert main(["--bundle", str(text_bundle), "--out", str(out), *GRID]) in (0, 1)
    return out


def test_everything_is_held_against_it_without_being_asked_for(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["settings"]["baselines"] == list(SENTENCE_BASELINES)
    assert [entry["name"] for entry in report["companions"]] == ["tfidf", "text"]
    assert "--baseline" not in report["command"]
    assert report["front"]["sentences"] == sum(report["text"]["sources"].values()) == 240
    assert report["front"]["different_features"] == report["front"]["different_indices"] == 0
    low, high = report["ceiling"]["accuracy_ci"]
    assert low < report["ceiling"]["accuracy"] < high
    for point in report["points"]:
        entry, baseline = point["text"], point["companions"]["text"]
        assert entry["symbols"] == baseline["symbols_per_sample"]
        assert entry["ratio"] == pytest.approx(entry["symbols"] / point["symbols_per_sample"])
        rate = math.log2(1 + 10 ** (point["esn0_db"] / 10))
        assert entry["bound_symbols"] == pytest.approx(report["text"]["bits_per_sentence"] / rate)
        assert entry["bound_ratio"] < entry["ratio"]
        assert entry["trials"] == 1
        assert 0.85 < entry["intact"] <= 1
        assert point["counts"]["intact_text"] == entry["intact"] * 240
        # The label goes in as many symbols as the frame has.
        assert point["companions"]["tfidf"]["symbols_per_sample"] == point["symbols_per_sample"]
    ratios = [point["text"]["ratio"] for point in report["points"]]
    assert report["text"]["ratio"] == [min(ratios), max(ratios)]
    page = (folder / "report.html").read_text()
    assert "240 sentences through the whole tx.onnx give the simulated features" in page
    assert (folder / "symbols.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "report.csv").open() as stream:
        (first, *_) = csv.DictReader(stream)
    assert float(first["accuracy_no_channel"]) == report["ceiling"]["accuracy"]
    assert float(first["text_ratio"]) == ratios[0]


def test_a_replay_finds_all_equal(folder: Path, capsys) -> None:
    assert main(["--replay", str(folder / "report.json")]) == 0
    assert "all equal" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [(), ("no-channel", "tfidf"), ("text",)], ids=str)
def test_each_line_can_be_had_by_itself(text_bundle: Path, wanted: tuple[BaselineName, ...]) -> None:
    job = make_job(text_bundle, None, Settings(trials=1, baselines=wanted))
    parts = job.open()
    found = make_report("", job, parts[1], measure(job, parts, [8.0], Workers()))
    assert found.front is not None
    assert (found.ceiling is not None) == ("no-channel" in wanted)
    assert (found.text is not None) == ("text" in wanted)
    assert set(found.points[0].baselines) == {"tfidf", "text"} & set(wanted)
    if wanted == ("text",):  # the picture does without the ceiling
        assert symbols_png(found).startswith(b"\x89PNG")


@pytest.mark.usefixtures("only_json")
def test_a_table_of_sentences_is_measured_by_itself(text_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n" + "the superb film,d\nan awful plot,0\n" * 20)
    words = ["--bundle", str(text_bundle), "--data", str(path), "--out", str(tmp_path / "sim"), *GRID]
    assert main(words) in (0, 1)
    found = json.loads((tmp_path / "sim" / "report.json").read_text())
    assert (found["samples"], found["companions"]) == (40, [])
    assert not {"front", "ceiling", "text"} & found.keys()
    assert main([*words, "--baseline", "tfidf"]) == 2
    # A worker measures the features that were made here, without a tokenizer of its own; the key holds them.
    job = make_job(text_bundle, path, Settings())
    assert "features" in json.loads(job.key())
    assert np.array_equal(pickle.loads(pickle.dumps(job)).open()[2].features, job.open()[2].features)


def test_by_default_only_sentences_ask_for_more(text_bundle: Path, bundle: Path, tmp_path: Path) -> None:
    assert default_baselines(text_bundle, None) == SENTENCE_BASELINES
    assert default_baselines(bundle, None) == ()
    np.savez(tmp_path / "features.npz", input=np.zeros((2, 5)), label=np.zeros(2, int))
    assert default_baselines(text_bundle, tmp_path / "features.npz") == ()
    assert default_baselines(text_bundle, tmp_path / "mine.csv") == ()


@pytest.mark.parametrize(
    "settings", [{"channel": "rayleigh", "coherence": "sample"}, {"mode": "4x16qam"}], ids=str
)
def test_blocks_hold_their_sentences_under_fading_headers_and_forced_modes(settings, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", router="content", text=True, samples=60)
    job = make_job(folder, None, Settings(baselines=SENTENCE_BASELINES, **settings))
    first, later = job(Block("", 9.0, 0, 1)), job(Block("", 9.0, 1, 1))
    assert list(first.baselines) == ["tfidf"]
    assert tally_digest(tally_from_arrays(tally_arrays(first))) == tally_digest(first)
    intact = first.text.intact
    first.merge(later)
    assert (first.text.trials, first.text.intact) == (1, intact)
    assert job(Block("4x4qam", 9.0, 0, 1)).text is None
