"""NumPy's definition, the ONNX graphs and the three commands agree on a really trained link."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tools.commands import run_command
from twophase.link.bits import bits_to_symbols, label_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.decode import codeword_log_posterior, hard_indices
from twophase.link.demap import llr_exact
from twophase.link.errors import InputError
from twophase.link.manifest import load_manifest
from twophase.link.runtime import Receiver, Transmitter

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxscript", "sklearn", "safetensors", "tensorboard"}:
            raise ModuleNotFoundError(f"{name} is not part of the base install", name=name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def features(digits_bundle: Path) -> np.ndarray:
    with np.load(digits_bundle / "eval.npz") as data:
        return np.asarray(data["input"])


def test_transmitted_bits_and_symbols_are_the_manifests(digits_bundle: Path, features: np.ndarray) -> None:
    manifest = load_manifest(digits_bundle, "bundle")
    mode = manifest.modes[0]
    sent = Transmitter(digits_bundle).send(features, 5.0)
    table = label_bits(manifest.label_array(0))
    bits = pad_bits(table[sent.indices].reshape(len(features), -1), mode.bits_per_symbol)
    np.testing.assert_array_equal(sent.bits, bits)
    np.testing.assert_array_equal(sent.symbols, bits_to_symbols(bits, mode.bits_per_symbol))
    assert set(sent.bit_count) == {mode.channel_bits}
    assert set(sent.symbol_count) == {mode.symbols}


@pytest.mark.parametrize("esn0_db", [-5.0, 5.0, 20.0])
def test_posterior_of_the_graph_is_numpys(digits_bundle: Path, features: np.ndarray, esn0_db: float) -> None:
    manifest = load_manifest(digits_bundle, "bundle")
    mode, constellation = manifest.modes[0], qam(manifest.modes[0].order)
    generator = np.random.default_rng(0)
    sent = Transmitter(digits_bundle).send(features[:100], esn0_db)
    noise_var = 10 ** (-esn0_db / 10)
    draws = generator.standard_normal((2, *sent.symbols.shape)) * np.sqrt(noise_var / 2)
    llr = llr_exact(constellation.modulate(sent.symbols) + draws[0] + 1j * draws[1], constellation, noise_var)
    # The prior that training gives the receiver: running usage with a tenth of an even share.
    prior = (np.asarray(manifest.usage[0]) + 0.1 / mode.codebook_size) / 1.1
    information = llr[:, : mode.information_bits]
    expected = codeword_log_posterior(information, label_bits(manifest.label_array(0)), np.log(prior))
    session = onnxruntime.InferenceSession(str(digits_bundle / "rx.onnx"))
    inputs = {"llr": llr.astype(np.float32), "mode": sent.mode}
    posterior, indices = session.run(["posterior", "indices"], inputs)
    np.testing.assert_allclose(posterior, np.exp(expected), atol=2e-5)
    clear = np.diff(np.sort(expected, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-3
    np.testing.assert_array_equal(indices[clear], hard_indices(expected)[clear])


def test_a_sample_is_received_alike_alone_and_in_a_batch(digits_bundle: Path, features: np.ndarray) -> None:
    transmitter, receiver = Transmitter(digits_bundle), Receiver(digits_bundle)
    sent = transmitter.send(features[:20], 5.0)
    llr = 8.0 * sent.bits - 4.0
    together = receiver.receive(llr, sent.mode)
    for row in range(20):
        alone = transmitter.send(features[row], 5.0)
        np.testing.assert_array_equal(alone.symbols[0], sent.symbols[row])
        single = receiver.receive(llr[row], 0)
        np.testing.assert_array_equal(single.indices[0], together.indices[row])
        np.testing.assert_allclose(single.logits[0], together.logits[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("features_given", "snr_db", "message"),
    [
        (np.full(64, np.nan), 5.0, "'features' must be finite"),
        (np.zeros(63), 5.0, r"'features' must have shape \(64,\)"),
        (np.zeros((2, 8, 8)), 5.0, "'features' must have shape"),
        (np.zeros(64), np.inf, "'snr_db' must be finite"),
        (np.zeros((3, 64)), np.zeros(2), "'snr_db' must be one number or 3 numbers"),
    ],
)
def test_the_transmitter_refuses_bad_input(
    digits_bundle: Path, features_given: np.ndarray, snr_db: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Transmitter(digits_bundle).send(features_given, snr_db)


@pytest.mark.parametrize(
    ("llr", "mode", "message"),
    [
        (np.full(24, np.inf), 0, "'llr' must be finite"),
        (np.zeros(23), 0, r"'llr' must have shape \(24,\)"),
        (np.zeros(24), 1, r"'mode' must lie in 0..0, not 1"),
        (np.zeros((2, 24)), np.zeros(3, dtype=int), "'mode' must be one number or 2 numbers"),
    ],
)
def test_the_receiver_refuses_bad_input(
    digits_bundle: Path, llr: np.ndarray, mode: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Receiver(digits_bundle).receive(llr, mode)


def test_the_edge_runtime_loads_nothing_heavy(digits_bundle: Path) -> None:
    import subprocess

    probe = (
        "import sys; from twophase.link.runtime import Transmitter\n"
        f"Transmitter({str(digits_bundle)!r}).send([0.0] * 64, 5.0)\n"
        "heavy = {'torch', 'onnx', 'matplotlib', 'commpy', 'scipy', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_commands_find_what_the_one_before_left(digits_run: Path, tmp_path: Path) -> None:
    """No argument but the SNR grid, and for the simulation no package but those of the base install."""
    shutil.copytree(digits_run, tmp_path / "runs" / "digits")
    exported = run_command("tp-export", "--random-inputs", "500", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.strip().endswith("bundle: runs/digits/bundle")
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    simulated = run_command(
        "tp-sim", "--snr", "0:10:20", "--trials", "2", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert simulated.returncode in (0, 1), simulated.stderr
    report = json.loads((tmp_path / "runs" / "digits" / "sim" / "report.json").read_text())
    assert report["verdict"] == ("PASS" if simulated.returncode == 0 else "FAIL")
    assert [point["esn0_db"] for point in report["points"]] == [0, 10, 20]
    assert {"learning", "aligned"} == set(report["points"][0]["references"])
