"""From a run of a text task to symbols: torch's programs, the bundle's graphs and the commands agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.commands import run_command
from twophase.link.manifest import BACKBONE_PROGRAM, TOKENIZER_FILE, load_manifest, program_file
from twophase.link.text import TextEncoder, unpack_texts
from twophase.link.transmitter import Transmitter


@pytest.fixture(scope="module")
def texts(text_bundle: Path) -> tuple[str, ...]:
    with np.load(text_bundle / "eval.npz") as data:
        return unpack_texts(data["text"], data["text_ends"])


def test_a_device_makes_of_sentences_what_torch_makes_of_them(
    text_run: Path, text_bundle: Path, texts: tuple[str, ...]
) -> None:
    manifest = load_manifest(text_run, "run")
    assert manifest.front is not None
    encoder = TextEncoder(text_run / TOKENIZER_FILE, manifest.front.max_length)
    backbone = torch.export.load(text_run / BACKBONE_PROGRAM).module()
    head = torch.export.load(text_run / program_file(manifest.head_file)).module()
    transmitter = Transmitter(text_bundle)
    rows = [backbone(*map(torch.from_numpy, pair)).detach() for pair in encoder.encode_each(texts)]
    np.testing.assert_allclose(transmitter.features(texts), torch.cat(rows), rtol=1e-5, atol=1e-5)
    # From the features on both count in whole numbers.
    features = torch.from_numpy(transmitter.features(texts))
    snr_db = torch.linspace(-5.0, 20.0, len(texts))
    expected = head(features, snr_db, torch.tensor([-1]))
    sent = transmitter.send(texts, snr_db.numpy())
    for name, value in zip(("mode", "indices", "bits", "symbols"), expected, strict=False):
        np.testing.assert_array_equal(getattr(sent, name), value.numpy(), err_msg=name)


def test_it_is_verified_without_the_training_packages(
    int8_text_bundle: Path, without_training: Callable[..., dict[str, str]]
) -> None:
    verified = run_command("tp-verify", int8_text_bundle, "--json", env=without_training())
    assert verified.returncode == 0, verified.stdout + verified.stderr
