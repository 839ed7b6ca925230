"""From a run of a text task to symbols: torch's programs, the bundle's graphs and the commands agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.commands import run_command
from tools.tiny_run import write_grid_text_run
from twophase.link.manifest import BACKBONE_PROGRAM, TOKENIZER_FILE, load_manifest, program_file
from twophase.link.text import TextEncoder, unpack_texts
from twophase.link.transmitter import Transmitter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid_text_run(tmp_path_factory.mktemp("text") / "run", references=("aligned",))


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    done = run_command("tp-export", "--run", run, "--random-inputs", "100")
    assert done.returncode == 0, done.stderr
    return run / "bundle"


@pytest.fixture(scope="module")
def texts(bundle: Path) -> tuple[str, ...]:
    with np.load(bundle / "eval.npz") as data:
        return unpack_texts(data["text"], data["text_ends"])


def test_a_device_makes_of_sentences_what_torch_makes_of_them(
    run: Path, bundle: Path, texts: tuple[str, ...]
) -> None:
    manifest = load_manifest(run, "run")
    assert manifest.front is not None
    encoder = TextEncoder(run / TOKENIZER_FILE, manifest.front.max_length)
    backbone = torch.export.load(run / BACKBONE_PROGRAM).module()
    head = torch.export.load(run / program_file(manifest.head_file)).module()
    transmitter = Transmitter(bundle)
    rows = [backbone(*map(torch.from_numpy, pair)).detach() for pair in encoder.encode_each(texts)]
    np.testing.assert_allclose(transmitter.features(texts), torch.cat(rows), rtol=1e-5, atol=1e-5)
    # From the features on both count in whole numbers.
    features = torch.from_numpy(transmitter.features(texts))
    snr_db = torch.linspace(-5.0, 20.0, len(texts))
    expected = head(features, snr_db, torch.tensor([-1]))
    sent = transmitter.send(texts, snr_db.numpy())
    for name, value in zip(("mode", "indices", "bits", "symbols"), expected, strict=False):
        np.testing.assert_array_equal(getattr(sent, name), value.numpy(), err_msg=name)


def test_it_is_simulated_and_verified_without_the_training_packages(
    bundle: Path, tmp_path: Path, without_training: Callable[..., dict[str, str]]
) -> None:
    verified = run_command("tp-verify", bundle, "--json", env=without_training())
    assert verified.returncode == 0, verified.stdout + verified.stderr
    words = ("--bundle", bundle, "--snr", "0:10:20", "--trials", "2", "--out", tmp_path / "sim")
    simulated = run_command("tp-sim", *words, env=without_training())
    assert simulated.returncode in (0, 1), simulated.stderr
    report = json.loads((tmp_path / "sim" / "report.json").read_text())
    assert [point["esn0_db"] for point in report["points"]] == [0, 10, 20]
