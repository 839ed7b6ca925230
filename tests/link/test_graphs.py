"""How graphs are held and run: options, formats, many threads on one object, what an edge process loads."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Barrier

import numpy as np
import onnx
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, ONE_MODE, write_tiny_bundle
from twophase.link.errors import ArtifactError, InputError
from twophase.link.graphs import MODE_REQUEST, GraphOptions
from twophase.link.manifest import load_manifest, write_manifest
from twophase.link.receiver import Receiver
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter, Transmitter


def with_ort(folder):
    """Add each graph in ONNX Runtime's own format."""
    (folder / "ort").mkdir()
    twins = []
    for graph in sorted(folder.glob("*.onnx")):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        twins.append(f"ort/{graph.stem}.ort")
        options.optimized_model_filepath = str(folder / twins[-1])
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    manifest = load_manifest(folder, "bundle")
    write_manifest(folder, manifest, (*manifest.files, *twins))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return with_ort(write_tiny_bundle(tmp_path_factory.mktemp("graphs") / "bundle", router="content"))


@pytest.fixture(scope="module")
def of_text(tmp_path_factory):
    return write_tiny_bundle(
        tmp_path_factory.mktemp("text") / "bundle", router="content", text=True, samples=4
    )


def cases(count):
    """Batches of 1 to 32 samples with their SNRs."""
    rng = np.random.default_rng(0)
    batches = []
    for size in rng.integers(1, 33, count):
        features = rng.standard_normal((size, CLASSES + 1))
        features[:, CLASSES] = rng.integers(0, 4, size)
        batches.append((features, rng.uniform(-5, 20, size)))
    return batches


def equal(one, other):
    return all(np.array_equal(getattr(one, entry.name), getattr(other, entry.name)) for entry in fields(one))


@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_on_one_object_give_what_one_gives(bundle, threads):
    transmitter, receiver = Transmitter(bundle, threads), Receiver(bundle, threads)
    batches = cases(32)
    callers = 8
    start = Barrier(callers)

    def both(number):
        features, snr_db = batches[number]
        sent = transmitter.send(features, snr_db)
        return sent, receiver.receive(20.0 * sent.bits - 10.0, sent.mode)

    def call(caller):
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
    [GraphOptions(optimise=False), GraphOptions(arena=False), GraphOptions(False, False, "ort")],
    ids=str,
)
def test_no_option_changes_what_is_sent_and_decided(bundle, options):
    plain, other = Transmitter(bundle), Transmitter(bundle, options=options)
    soft, other_soft = (SoftTransmitter(bundle, "soft.onnx", options=entry) for entry in (None, options))
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


def test_options_reach_onnx_runtime(bundle):
    session = Transmitter(bundle, 3, options=GraphOptions(optimise=False, arena=False))._whole._graph._session
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_an_ort_graph_must_be_listed_and_whole(bundle, tmp_path):
    options = GraphOptions(format="ort")
    plain = write_tiny_bundle(tmp_path / "plain", samples=4)
    shutil.copytree(bundle / "ort", plain / "ort")  # nobody vouches for it
    for opens, name in ((Transmitter, "tx"), (Receiver, "rx"), (FeatureTransmitter, "tx")):
        with pytest.raises(ArtifactError, match=f"has no 'ort/{name}.ort': export it with --ort"):
            opens(plain, options=options)
    manifest = load_manifest(plain, "bundle")
    write_manifest(plain, manifest, (*manifest.files, "ort/tx.ort"))
    (plain / "ort" / "tx.ort").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"tx\.ort' must have \d+ bytes, not 8"):
        Transmitter(plain, options=options)
    write_manifest(plain, manifest, (*manifest.files, "ort/tx.ort"))
    with pytest.raises(ArtifactError, match=r"tx\.ort' is no graph that ONNX Runtime can load: \S"):
        Transmitter(plain, options=options)


def test_graphs_of_a_link_of_text_may_be_in_onnx_runtimes_format_alone(of_text, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(of_text, folder)
    with_ort(folder)
    for graph in folder.glob("*.onnx"):
        graph.unlink()
    options = GraphOptions(format="ort")
    whole, head = Transmitter(folder, options=options), FeatureTransmitter(folder, options=options)
    texts = ["a fine first film", "an awful plot"]
    expected = Transmitter(of_text).send(texts, 5.0)
    assert equal(whole.send(texts, 5.0), expected)
    assert equal(head.send(whole.features(texts), 5.0), expected)


def test_bad_options_are_named(bundle):
    with pytest.raises(InputError, match="'format' must be one of onnx, ort, not 'tflite'"):
        GraphOptions(format="tflite")
    for opens in (Transmitter, Receiver):
        with pytest.raises(InputError, match="'threads' must be at least 1, not 0"):
            opens(bundle, 0)


def without(entries, name):
    kept = [entry for entry in entries if entry.name != name]
    del entries[:]
    entries.extend(kept)


def no_request(graph):
    without(graph.input, MODE_REQUEST)  # its default stays: a constant


def demanded_request(graph):
    without(graph.initializer, MODE_REQUEST)


def one_more(graph):
    graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.INT64, [1]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "more"))


def no_logits(graph):
    without(graph.output, "logits")


def no_mask(graph):
    without(graph.input, "attention_mask")
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 1), dtype=np.int64), "attention_mask"))


def no_features(graph):
    without(graph.output, "features")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tx.onnx", no_request, r"tx\.onnx' must take the optional input mode_request, not none"),
        ("tx.onnx", demanded_request, "must take input, snr_db, not input, snr_db, mode_request"),
        ("tx.onnx", one_more, "must take the optional input mode_request, not "),
        ("soft.onnx", no_request, r"soft\.onnx' must take the optional input mode_request, not none"),
        ("rx.onnx", one_more, r"rx\.onnx' must take no optional input, not more"),
        ("rx.onnx", no_logits, r"rx\.onnx' must give logits, indices, not posterior, indices"),
        ("text", no_mask, "must take input_ids, attention_mask, snr_db, not input_ids, snr_db"),
        ("text", no_features, "must give mode, indices, .* symbol_count, features, not mode, "),
    ],
)
def test_a_graph_must_take_and_give_what_the_manifest_has(bundle, of_text, tmp_path, name, change, message):
    source, name = (of_text, "tx.onnx") if name == "text" else (bundle, name)
    manifest = load_manifest(source, "bundle")
    folder = tmp_path / "bundle"
    shutil.copytree(source, folder)
    model = onnx.load(folder / name)
    change(model.graph)
    onnx.save(model, folder / name)
    opens = {
        "tx.onnx": lambda: Transmitter(folder, manifest=manifest),
        "soft.onnx": lambda: SoftTransmitter(folder, name, manifest=manifest),
        "rx.onnx": lambda: Receiver(folder, manifest=manifest),
    }
    with pytest.raises(ArtifactError, match=message):
        opens[name]()


def test_a_link_of_one_mode_has_no_request(bundle, tmp_path):
    single = write_tiny_bundle(tmp_path / "single", link=ONE_MODE, samples=4)
    with pytest.raises(ArtifactError, match="must take no optional input, not mode_request"):
        Transmitter(bundle, manifest=load_manifest(single, "bundle"))


def modules_after(body):
    probe = f"import sys\nfrom twophase.link import Receiver, Transmitter\n{body}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_edge_process_imports_nothing_heavy(bundle, of_text):
    """Both ends at work; nothing of the training, exporting or simulating side is in the process."""
    features = modules_after(
        f"sender, receiver = Transmitter({str(bundle)!r}), Receiver({str(bundle)!r})\n"
        "sent = sender.send([0.0] * 5, 5.0)\n"
        "receiver.receive(20.0 * sent.bits - 10.0, sent.mode)"
    )
    texts = modules_after(f"Transmitter({str(of_text)!r}).send('a fine first film', 5.0)")
    heavy = {"torch", "onnx", "matplotlib", "commpy", "scipy", "jinja2", "sklearn", "rich", "tyro", "google"}
    heavy |= {"transformers", "huggingface_hub", "numba", "twophase.link.labelling", "twophase.link.command"}
    for loaded in (features, texts):
        assert {"numpy", "onnxruntime", "twophase.link.transmitter"} <= loaded
        assert not heavy & loaded
        assert {name.split(".")[1] for name in loaded if name.startswith("twophase.")} == {"link"}
    assert "tokenizers" in texts
    assert not {"tokenizers", "_hashlib"} & features  # SHA-256 without OpenSSL
