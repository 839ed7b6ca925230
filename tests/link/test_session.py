"""How graphs are held and run: options, formats, many threads on one object, what an edge process loads."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from threading import Barrier

import numpy as np
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, write_tiny_bundle
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import load_manifest, write_manifest
from twophase.link.modem import Transmission
from twophase.link.runtime import GraphOptions, Receiver, Reception, SoftTransmitter, Transmitter

GRAPHS = ("tx.onnx", "rx.onnx", "soft.onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A content link with its graphs in ONNX Runtime's format, too."""
    folder = write_tiny_bundle(tmp_path_factory.mktemp("session") / "bundle", router="content")
    (folder / "ort").mkdir()
    twins = []
    for name in GRAPHS:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        twins.append(f"ort/{name.removesuffix('.onnx')}.ort")
        options.optimized_model_filepath = str(folder / twins[-1])
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
    manifest = load_manifest(folder, "bundle")
    write_manifest(folder, manifest, (*manifest.files, *twins))
    return folder


def cases(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of 1 to 32 samples with their SNRs."""
    rng = np.random.default_rng(0)
    batches = []
    for size in rng.integers(1, 33, count):
        features = rng.standard_normal((size, CLASSES + 1))
        features[:, CLASSES] = rng.integers(0, 4, size)
        batches.append((features, rng.uniform(-5, 20, size)))
    return batches


def equal(one: Transmission | Reception, other: Transmission | Reception) -> bool:
    return all(np.array_equal(getattr(one, entry.name), getattr(other, entry.name)) for entry in fields(one))


@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_on_one_object_give_what_one_gives(bundle: Path, threads: int) -> None:
    transmitter, receiver = Transmitter(bundle, threads), Receiver(bundle, threads)
    batches = cases(64)
    callers = 8
    start = Barrier(callers)

    def both(number: int) -> tuple[Transmission, Reception]:
        features, snr_db = batches[number]
        sent = transmitter.send(features, snr_db)
        return sent, receiver.receive(20.0 * sent.bits - 10.0, sent.mode)

    def call(caller: int) -> list[tuple[int, Transmission, Reception]]:
        order = np.random.default_rng(caller).permutation(len(batches)).tolist()
        start.wait(timeout=30)
        return [(number, *both(number)) for number in order]

    serial = [both(number) for number in range(len(batches))]
    assert len({sent.indices.tobytes() for sent, _ in serial}) > len(batches) // 2
    with ThreadPoolExecutor(callers) as pool:
        parallel = list(pool.map(call, range(callers)))
    for results in parallel:
        assert len(results) == len(batches)
        for number, sent, received in results:
            assert equal(sent, serial[number][0])
            assert equal(received, serial[number][1])


@pytest.mark.parametrize(
    "options",
    [
        GraphOptions(optimise=False),
        GraphOptions(arena=False),
        GraphOptions(format="ort"),
        GraphOptions(False, False, "ort"),
    ],
    ids=str,
)
def test_no_option_changes_what_is_sent_and_decided(bundle: Path, options: GraphOptions) -> None:
    plain, other = Transmitter(bundle), Transmitter(bundle, options=options)
    soft, other_soft = (
        SoftTransmitter(bundle, "soft.onnx", options=entry) for entry in (GraphOptions(), options)
    )
    receiver, other_receiver = Receiver(bundle), Receiver(bundle, options=options)
    for features, snr_db in cases(8):
        sent = plain.send(features, snr_db)
        assert equal(other.send(features, snr_db), sent)
        mode, points = soft.send(features, snr_db)
        other_mode, other_points = other_soft.send(features, snr_db)
        np.testing.assert_array_equal(mode, other_mode)
        np.testing.assert_allclose(other_points, points, atol=1e-5)
        llr = 20.0 * sent.bits - 10.0
        one, two = receiver.receive(llr, sent.mode), other_receiver.receive(llr, sent.mode)
        np.testing.assert_array_equal(two.indices, one.indices)
        np.testing.assert_array_equal(two.classes, one.classes)
        np.testing.assert_allclose(two.logits, one.logits, rtol=1e-5, atol=1e-5)


def test_an_ort_graph_must_be_listed_and_whole(bundle: Path, tmp_path: Path) -> None:
    plain = write_tiny_bundle(tmp_path / "plain", samples=4)
    (plain / "ort").mkdir()
    (plain / "ort" / "tx.ort").write_bytes((bundle / "ort" / "tx.ort").read_bytes())  # nobody vouches for it
    for make in (Transmitter, Receiver):
        with pytest.raises(ArtifactError, match=r"has no 'ort/[rt]x\.ort': export it with --ort"):
            make(plain, options=GraphOptions(format="ort"))
    manifest = load_manifest(plain, "bundle")
    write_manifest(plain, manifest, (*manifest.files, "ort/tx.ort"))
    (plain / "ort" / "tx.ort").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"tx\.ort' must have \d+ bytes, not 8"):
        Transmitter(plain, options=GraphOptions(format="ort"))
    write_manifest(plain, manifest, (*manifest.files, "ort/tx.ort"))
    with pytest.raises(ArtifactError, match=r"tx\.ort' is no graph that ONNX Runtime can load"):
        Transmitter(plain, options=GraphOptions(format="ort"))


def test_bad_options_are_named(bundle: Path) -> None:
    with pytest.raises(InputError, match="'format' must be one of onnx, ort, not 'tflite'"):
        GraphOptions(format="tflite")  # type: ignore[arg-type]
    for make in (Transmitter, Receiver):
        with pytest.raises(InputError, match="'threads' must be at least 1, not 0"):
            make(bundle, 0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([["a"] * 5], "'features' must be real numbers"),
        (np.zeros(5, dtype=complex), "'features' must be real numbers"),
        ([[0.0], [0.0, 1.0]], "'features' must be an array"),
        (np.full(5, 1e39), "'features' must be finite"),
    ],
)
def test_features_that_are_no_numbers_are_named(bundle: Path, features: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Transmitter(bundle).send(features, 3.0)  # type: ignore[arg-type]


def test_llrs_that_are_no_numbers_are_named(bundle: Path) -> None:
    receiver = Receiver(bundle)
    width = receiver.manifest.modes.max_bits
    with pytest.raises(InputError, match="'llr' must be real numbers"):
        receiver.receive(["a"] * width, 0)
    with pytest.raises(InputError, match=r"'llr' must have shape"):
        receiver.receive(0.0, 0)


def test_an_edge_process_imports_nothing_heavy(bundle: Path) -> None:
    """Both ends at work; nothing of the training, exporting or simulating side is in the process."""
    probe = (
        "import sys\n"
        "from twophase.link.runtime import Receiver, Transmitter\n"
        f"sender, receiver = Transmitter({str(bundle)!r}), Receiver({str(bundle)!r})\n"
        "sent = sender.send([0.0] * 5, 5.0)\n"
        "receiver.receive(20.0 * sent.bits - 10.0, sent.mode)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('twophase.')))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    packages, own = (set(line.split()) for line in done.stdout.splitlines())
    assert {"numpy", "onnxruntime", "twophase"} <= packages
    heavy = {"torch", "onnx", "matplotlib", "commpy", "scipy", "jinja2", "sklearn", "rich", "tyro", "google"}
    assert not heavy & packages
    assert {name.split(".")[1] for name in own} == {"link"}
    assert not {"twophase.link.demap", "twophase.link.labelling", "twophase.link.command"} & own
