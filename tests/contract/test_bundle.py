"""NumPy's definition, the ONNX graphs and the three commands agree on a really trained link."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tools.commands import run_command
from twophase.link.bits import bits_to_symbols, label_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.decode import codeword_log_posterior, hard_indices
from twophase.link.demap import llr_exact
from twophase.link.transmitter import Transmitter


@pytest.fixture(scope="module")
def features(digits_bundle: Path) -> np.ndarray:
    with np.load(digits_bundle / "eval.npz") as data:
        return np.asarray(data["input"])


@pytest.fixture(scope="module")
def transmitter(digits_bundle: Path) -> Transmitter:
    return Transmitter(digits_bundle)


def test_transmitted_bits_and_symbols_are_the_manifests_in_every_mode(
    transmitter: Transmitter, features: np.ndarray
) -> None:
    manifest = transmitter.manifest
    for number, mode in enumerate(manifest.modes):
        sent = transmitter.send(features, 5.0, number)
        table = label_bits(manifest.label_array(mode.codebook))
        bits = table[sent.indices[:, : mode.tokens]].reshape(len(features), -1)
        bits = pad_bits(bits, mode.bits_per_symbol)
        symbols = bits_to_symbols(bits, mode.bits_per_symbol)
        for padded, used, filler in (
            (sent.bits, bits, 0),
            (sent.symbols, symbols, 0),
            (sent.indices, sent.indices[:, : mode.tokens], -1),
        ):
            np.testing.assert_array_equal(padded[:, : used.shape[1]], used)
            assert (padded[:, used.shape[1] :] == filler).all()
        counts = (sent.mode, number), (sent.bit_count, mode.channel_bits), (sent.symbol_count, mode.symbols)
        for values, count in counts:
            assert set(values) == {count}


@pytest.mark.parametrize("esn0_db", [-5.0, 20.0])
def test_posterior_of_the_graph_is_numpys(
    transmitter: Transmitter, digits_bundle: Path, features: np.ndarray, esn0_db: float
) -> None:
    manifest = transmitter.manifest
    session = onnxruntime.InferenceSession(str(digits_bundle / "rx.onnx"))
    generator = np.random.default_rng(0)
    noise_var = 10 ** (-esn0_db / 10)
    for number, mode in enumerate(manifest.modes):
        constellation = qam(mode.order)
        symbols = transmitter.send(features[:60], esn0_db, number).symbols[:, : mode.symbols]
        draws = generator.standard_normal((2, *symbols.shape)) * np.sqrt(noise_var / 2)
        llr = llr_exact(constellation.modulate(symbols) + draws[0] + 1j * draws[1], constellation, noise_var)
        # The prior that training gives the receiver: running usage with a tenth of an even share.
        prior = (np.asarray(manifest.usage[mode.codebook]) + 0.1 / mode.codebook_size) / 1.1
        table = label_bits(manifest.label_array(mode.codebook))
        expected = codeword_log_posterior(llr[:, : mode.information_bits], table, np.log(prior))
        padded = np.pad(llr, ((0, 0), (0, manifest.modes.max_bits - llr.shape[1]))).astype(np.float32)
        inputs = {"llr": padded, "mode": np.full(len(llr), number)}
        posterior, indices = session.run(["posterior", "indices"], inputs)
        used = posterior[:, : mode.tokens, : mode.codebook_size]
        np.testing.assert_allclose(used, np.exp(expected), atol=2e-5)
        assert posterior.sum() == pytest.approx(used.sum())
        clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-3
        np.testing.assert_array_equal(indices[:, : mode.tokens][clear], hard_indices(expected)[clear])
        assert (indices[:, mode.tokens :] == -1).all()


def test_the_simulator_finds_what_the_other_commands_left(
    digits_bundle: Path, tmp_path: Path, without_training
) -> None:
    """No argument but the SNR grid, and no package but those of the base install."""
    shutil.copytree(digits_bundle.parents[1], tmp_path / "runs")
    env = without_training("onnx", "tokenizers")
    simulated = run_command("tp-sim", "--snr", "0:20:20", "--trials", "2", cwd=tmp_path, env=env)
    assert simulated.returncode in (0, 1, 3), simulated.stderr
    report = json.loads((tmp_path / "runs" / "digits" / "sim" / "report.json").read_text())
    assert report["verdict"] == {0: "PASS", 1: "FAIL", 3: "UNDECIDED"}[simulated.returncode]
    assert [point["esn0_db"] for point in report["points"]] == [0, 20]
    assert {"learning", "aligned"} == set(report["points"][0]["references"])
