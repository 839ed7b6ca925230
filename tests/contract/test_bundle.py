"""NumPy's definition, the ONNX graphs and the three commands agree on a really trained link."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tools.commands import run_command
from twophase.link.bits import bits_to_symbols, label_bits, pad_bits, symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.decode import codeword_log_posterior, hard_indices
from twophase.link.demap import llr_exact
from twophase.link.manifest import load_manifest
from twophase.link.receiver import Receiver
from twophase.link.transmitter import Transmitter


@pytest.fixture(scope="module")
def features(digits_bundle: Path) -> np.ndarray:
    with np.load(digits_bundle / "eval.npz") as data:
        return np.asarray(data["input"])


def test_transmitted_bits_and_symbols_are_the_manifests_in_every_mode(
    digits_bundle: Path, features: np.ndarray
) -> None:
    manifest, transmitter = load_manifest(digits_bundle, "bundle"), Transmitter(digits_bundle)
    for number, mode in enumerate(manifest.modes):
        sent = transmitter.send(features, 5.0, number)
        assert set(sent.mode) == {number}
        table = label_bits(manifest.label_array(mode.codebook))
        bits = table[sent.indices[:, : mode.tokens]].reshape(len(features), -1)
        bits = pad_bits(bits, mode.bits_per_symbol)
        np.testing.assert_array_equal(sent.bits[:, : mode.channel_bits], bits)
        np.testing.assert_array_equal(
            sent.symbols[:, : mode.symbols], bits_to_symbols(bits, mode.bits_per_symbol)
        )
        assert not sent.bits[:, mode.channel_bits :].any()
        assert not sent.symbols[:, mode.symbols :].any()
        assert (sent.indices[:, mode.tokens :] == -1).all()
        assert set(sent.bit_count) == {mode.channel_bits}
        assert set(sent.symbol_count) == {mode.symbols}


@pytest.mark.parametrize("esn0_db", [-5.0, 5.0, 20.0])
def test_posterior_of_the_graph_is_numpys(digits_bundle: Path, features: np.ndarray, esn0_db: float) -> None:
    manifest, transmitter = load_manifest(digits_bundle, "bundle"), Transmitter(digits_bundle)
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
        information = llr[:, : mode.information_bits]
        table = label_bits(manifest.label_array(mode.codebook))
        expected = codeword_log_posterior(information, table, np.log(prior))
        padded = np.pad(llr, ((0, 0), (0, manifest.modes.max_bits - llr.shape[1]))).astype(np.float32)
        inputs = {"llr": padded, "mode": np.full(len(llr), number)}
        posterior, indices = session.run(["posterior", "indices"], inputs)
        used = posterior[:, : mode.tokens, : mode.codebook_size]
        np.testing.assert_allclose(used, np.exp(expected), atol=2e-5)
        assert posterior.sum() == pytest.approx(used.sum())
        clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-3
        np.testing.assert_array_equal(indices[:, : mode.tokens][clear], hard_indices(expected)[clear])
        assert (indices[:, mode.tokens :] == -1).all()


def test_a_sample_travels_alike_alone_and_with_others_in_any_mode(
    digits_bundle: Path, features: np.ndarray
) -> None:
    transmitter, receiver = Transmitter(digits_bundle), Receiver(digits_bundle)
    count = len(transmitter.manifest.modes)
    modes = np.arange(2 * count) % count
    snr_db = np.linspace(-5.0, 20.0, 2 * count)
    sent = transmitter.send(features[: 2 * count], snr_db, modes)
    llr = np.where(np.arange(sent.bits.shape[1]) < sent.bit_count[:, np.newaxis], 8.0 * sent.bits - 4.0, 0.0)
    together = receiver.receive(llr, sent.mode)
    for row, mode in enumerate(modes):
        alone = transmitter.send(features[row], snr_db[row], mode)
        for entry in fields(alone):
            np.testing.assert_array_equal(getattr(alone, entry.name)[0], getattr(sent, entry.name)[row])
        single = receiver.receive(llr[row], mode)
        np.testing.assert_array_equal(single.indices[0], together.indices[row])
        np.testing.assert_allclose(single.logits[0], together.logits[row], rtol=1e-4, atol=1e-4)


def test_both_ends_take_the_same_mode(digits_bundle: Path, features: np.ndarray) -> None:
    """Without noise: by the table of the manifest, or by the header that tells it."""
    transmitter, receiver = Transmitter(digits_bundle), Receiver(digits_bundle)
    snr_db = np.linspace(-10.0, 25.0, len(features))
    sent = transmitter.send(features, snr_db)
    told = 16.0 * symbols_to_bits(np.maximum(sent.header, 0), 2) - 8.0 if sent.header.shape[1] else None
    np.testing.assert_array_equal(receiver.mode_of(snr_db, told), sent.mode)
    listed = {step["mode"] for step in receiver.manifest.provenance["export"]["modes"] if "mode" in step}
    names = receiver.manifest.modes.names
    assert told is not None or {names[mode] for mode in sent.mode} <= listed


def test_the_commands_find_what_the_one_before_left(
    digits_run: Path, tmp_path: Path, without_training: Callable[..., dict[str, str]]
) -> None:
    """No argument but the SNR grid, and for the simulation no package but those of the base install."""
    shutil.copytree(digits_run, tmp_path / "runs" / "digits")
    exported = run_command("tp-export", "--random-inputs", "500", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.strip().endswith("bundle: runs/digits/bundle")
    env = without_training("onnx", "tokenizers")
    simulated = run_command("tp-sim", "--snr", "0:10:20", "--trials", "2", cwd=tmp_path, env=env)
    assert simulated.returncode in (0, 1), simulated.stderr
    verified = run_command("tp-verify", "--json", cwd=tmp_path, env=without_training("tokenizers"))
    assert verified.returncode == 0, verified.stdout
    states = {check["name"]: check["state"] for check in json.loads(verified.stdout)["checks"]}
    assert states["exactness"] == "pass"
    assert set(states.values()) == {"pass", "note"}
    report = json.loads((tmp_path / "runs" / "digits" / "sim" / "report.json").read_text())
    assert report["verdict"] == ("PASS" if simulated.returncode == 0 else "FAIL")
    assert [point["esn0_db"] for point in report["points"]] == [0, 10, 20]
    assert {"learning", "aligned"} == set(report["points"][0]["references"])
