"""A link of text on the edge: sentences to symbols, each as if it were alone."""

import logging
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import onnx
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, ONE_MODE, write_tiny_bundle
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Front, load_manifest, write_manifest
from twophase.link.modem import Transmission
from twophase.link.runtime import FeatureTransmitter, GraphOptions, Receiver, SoftTransmitter, Transmitter
from twophase.link.text import unpack_texts

NAMES = tuple(entry.name for entry in fields(Transmission))
SAMPLES = 40


@pytest.fixture(scope="module", params=["content", "table"])
def bundle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    return write_tiny_bundle(folder, router=request.param, text=True, samples=SAMPLES)


@pytest.fixture(scope="module")
def of_features(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("features") / "bundle", samples=SAMPLES)


@pytest.fixture
def split(bundle):
    with np.load(bundle / "eval.npz") as data:
        return dict(data)


@pytest.fixture
def texts(split):
    return unpack_texts(split["text"], split["text_ends"])


def equal(one, other):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_features_are_those_that_the_head_takes(bundle, split, texts):
    features = Transmitter(bundle).features(texts)
    assert (features.dtype, features.shape) == (np.float32, (SAMPLES, CLASSES + 1))
    np.testing.assert_array_equal(features, split["input"])
    np.testing.assert_array_equal(Transmitter(bundle).features(texts[3]), features[3:4])


@pytest.mark.parametrize("mode", [None, 2, list(np.arange(SAMPLES) % 4)], ids=["routed", "one", "each"])
def test_the_whole_is_the_head_behind_the_front(bundle, texts, mode):
    snr_db = np.linspace(-5, 15, SAMPLES)
    whole, head = Transmitter(bundle), FeatureTransmitter(bundle)
    assert whole.manifest == head.manifest
    equal(whole.send(texts, snr_db, mode), head.send(whole.features(texts), snr_db, mode))


def test_a_text_is_sent_the_same_alone_and_beside_others(bundle, texts):
    transmitter = Transmitter(bundle)
    snr_db = np.linspace(-5, 15, SAMPLES)
    together = transmitter.send(texts, snr_db)
    order = np.random.default_rng(0).permutation(SAMPLES)
    mixed = transmitter.send([texts[row] for row in order], snr_db[order])
    for name in NAMES:
        np.testing.assert_array_equal(getattr(mixed, name), getattr(together, name)[order])
    for row, text in enumerate(texts):
        alone = transmitter.send(text, snr_db[row])
        for name in NAMES:
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_texts_run_one_by_one_and_unpadded(bundle, texts, monkeypatch):
    shapes = []
    real = onnxruntime.InferenceSession.run

    def spied(session, names, inputs, *rest):
        shapes.append((inputs["input_ids"].shape, inputs["attention_mask"].all(), inputs["snr_db"].shape))
        return real(session, names, inputs, *rest)

    transmitter = Transmitter(bundle)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", spied, raising=False)
    transmitter.send(texts, 5.0)
    with np.load(bundle / "eval.npz") as data:
        lengths = data["attention_mask"].sum(axis=1)
    assert shapes == [((1, length), True, (1,)) for length in lengths]


def test_what_is_sent_is_decided(bundle, split, texts):
    sent = Transmitter(bundle).send(texts, 12.0)
    decided = Receiver(bundle).receive(8.0 * sent.bits - 4.0, sent.mode).classes
    np.testing.assert_array_equal(decided, split["input"][:, :CLASSES].argmax(axis=1))


def test_several_texts_may_come_in_any_sequence(bundle, texts):
    transmitter = Transmitter(bundle)
    expected = transmitter.send(list(texts), 5.0)
    for given in (texts, np.array(texts), np.array(texts, dtype=object)):
        equal(transmitter.send(given, 5.0), expected)


def test_soft_references_take_features(bundle, split):
    mode, symbols = SoftTransmitter(bundle, "soft.onnx").send(split["input"], 5.0)
    assert (mode.shape, symbols.shape[0]) == ((SAMPLES,), SAMPLES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros(5, np.float32),
            "'text' must be a string or a sequence of strings: this link takes text, not 'an",
        ),
        (np.zeros((2, 5)), r"this link takes text, not 'an array of float64 of shape \(2, 5\)'"),
        (np.full((2, 2), "a"), "this link takes text, not 'an array of <U1"),
        ([], "this link takes text, not 'an empty one'"),
        (np.array([], dtype=str), "this link takes text"),
        (3.0, "this link takes text, not 'float'"),
        (None, "this link takes text, not 'NoneType'"),
        (b"film", "this link takes text, not 'bytes'"),
        ([[0.0] * 5], r"'text\[0\]' must be a non-empty string, not 'list'"),
        (["film", " "], r"'text\[1\]' must be a non-empty string, not ' '"),
        ("", "'text' must be a non-empty string, not ''"),
        ("a \ud800", "'text' must be text that UTF-8 can hold"),
    ],
)
def test_a_link_of_text_takes_nothing_else(bundle, given, message):
    transmitter = Transmitter(bundle)
    with pytest.raises(InputError, match=message):
        transmitter.send(given, 5.0)
    with pytest.raises(InputError, match=message):
        transmitter.features(given)


@pytest.mark.parametrize("given", ["a film", ["a film"], ("a", "b")])
def test_a_link_of_features_takes_no_text(of_features, given):
    transmitter = Transmitter(of_features)
    with pytest.raises(InputError, match="'features' must be real numbers: this link takes no text"):
        transmitter.send(given, 5.0)
    with pytest.raises(InputError, match="'front' must be there: this link takes features"):
        transmitter.features(given)


def test_a_link_of_features_is_its_own_head(of_features):
    with np.load(of_features / "eval.npz") as data:
        features = data["input"]
    equal(Transmitter(of_features).send(features, 5.0), FeatureTransmitter(of_features).send(features, 5.0))


@pytest.mark.parametrize(
    ("snr_db", "mode", "message"),
    [
        ([1.0, 2.0, 3.0], None, r"'snr_db' must be one number or 2 numbers, one per sample, not \(3,\)"),
        (np.nan, None, "'snr_db' must be finite"),
        (5.0, 4, r"'mode' must lie in 0\.\.3, not 4"),
        (5.0, [0], r"'mode' must be one number or 2 numbers, one per sample"),
    ],
)
def test_snr_and_mode_are_held_to_the_rules_of_a_batch(bundle, snr_db, mode, message):
    with pytest.raises(InputError, match=message):
        Transmitter(bundle).send(["a film", "a plot"], snr_db, mode)


def test_a_long_text_is_cut_with_one_line(bundle, caplog):
    transmitter = Transmitter(bundle)
    words = "fine first " + "film " * 10_000
    with caplog.at_level(logging.WARNING):
        sent = transmitter.send([words, "fine first film"], 5.0)
    assert [record.getMessage() for record in caplog.records] == ["1 of 2 texts cut to 16 tokens"]
    equal(transmitter.send("fine first " + "film " * 12, 5.0), transmitter.send(words, 5.0))
    assert sent.mode.shape == (2,)


def test_a_link_of_one_mode_takes_text(tmp_path):
    folder = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE, text=True, samples=4)
    sent = Transmitter(folder).send(["a fine film", "an awful film"], 5.0)
    assert (sent.mode.tolist(), sent.indices.tolist()) == ([0, 0], [[3, 2, 1], [0, 1, 2]])


def test_a_device_needs_no_more_than_its_parts(bundle, tmp_path):
    parts = {Transmitter: ("tx.onnx", "tokenizer.json"), FeatureTransmitter: ("tx_head.onnx",)}
    for make, names in parts.items():
        device = tmp_path / make.__name__
        device.mkdir()
        for name in ("link.json", *names):
            shutil.copy(bundle / name, device / name)
        assert make(device).manifest == make(bundle).manifest
        for name in names:
            whole = (device / name).read_bytes()
            (device / name).write_bytes(whole[:-1] + b"?")
            with pytest.raises(ArtifactError, match=f"{name}' is altered"):
                make(device)
            (device / name).unlink()
            with pytest.raises(ArtifactError, match=f"{name}' is missing; the manifest lists it"):
                make(device)
            (device / name).write_bytes(whole)


def test_graphs_in_onnx_runtimes_own_format_are_taken_where_the_bundle_lists_them(bundle, texts, tmp_path):
    options = GraphOptions(format="ort")
    with pytest.raises(ArtifactError, match=r"has no 'ort/tx\.ort': export it with --ort"):
        Transmitter(bundle, options=options)
    with pytest.raises(ArtifactError, match=r"has no 'ort/tx_head\.ort': export it with --ort"):
        FeatureTransmitter(bundle, options=options)
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "ort").mkdir()
    for name in ("tx", "tx_head"):
        making = onnxruntime.SessionOptions()
        making.optimized_model_filepath = str(folder / "ort" / f"{name}.ort")
        making.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), making, providers=["CPUExecutionProvider"])
    manifest = load_manifest(bundle, "bundle")
    write_manifest(folder, manifest, (*manifest.files, "ort/tx.ort", "ort/tx_head.ort"))
    (folder / "tx.onnx").unlink()
    (folder / "tx_head.onnx").unlink()
    whole, head = Transmitter(folder, options=options), FeatureTransmitter(folder, options=options)
    expected = Transmitter(bundle).send(texts, 5.0)
    equal(whole.send(texts, 5.0), expected)
    equal(head.send(whole.features(texts), 5.0), expected)


def without_features(graph):
    kept = [entry for entry in graph.output if entry.name != "features"]
    del graph.output[:]
    graph.output.extend(kept)


def without_mask(graph):
    kept = [entry for entry in graph.input if entry.name != "attention_mask"]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 1), dtype=np.int64), "attention_mask"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_features,
            "must give mode, indices, bits, symbols, bit_count, symbol_count, features, not mode, ",
        ),
        (without_mask, "must take input_ids, attention_mask, snr_db, not input_ids, snr_db"),
    ],
)
def test_the_whole_graph_must_be_one_of_text(bundle, tmp_path, change, message):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / "tx.onnx")
    change(model.graph)
    onnx.save(model, folder / "tx.onnx")
    with pytest.raises(ArtifactError, match=message):
        Transmitter(folder, manifest=load_manifest(bundle, "bundle"))


def test_features_of_another_size_than_the_manifests_are_refused(bundle):
    manifest = replace(load_manifest(bundle, "bundle"), input_shape=(7,))
    with pytest.raises(
        ArtifactError, match=r"tx\.onnx' must give 'features' the shape \(1, 7\), not \(1, 5\)"
    ):
        Transmitter(bundle, manifest=manifest).send("a film", 5.0)


def test_a_tokenizer_that_leaves_no_room_is_refused(bundle):
    manifest = replace(load_manifest(bundle, "bundle"), front=Front("a table", 2))
    with pytest.raises(InputError, match="'max_length' must be at least 3 for this tokenizer, not 2"):
        Transmitter(bundle, manifest=manifest)


def modules_after(body):
    probe = f"import sys\n{body}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_text_needs_is_imported_for_links_of_text_alone(of_features, bundle):
    start = "from twophase.link.runtime import Transmitter"
    plain = modules_after(f"{start}\nTransmitter({str(of_features)!r}).send([0.0] * 5, 5.0)")
    assert not {"tokenizers", "twophase.link.text", "twophase.link.runtime"} & plain
    texts = modules_after(f"{start}\nTransmitter({str(bundle)!r}).send('a fine first film', 5.0)")
    assert "tokenizers" in texts
    assert not {"torch", "transformers", "huggingface_hub", "onnx", "scipy"} & texts
