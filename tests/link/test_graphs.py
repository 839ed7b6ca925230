"""How graphs are held and run: options, formats, many threads on one object, what an edge process loads."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from threading import Barrier

import numpy as np
import onnx
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, ONE_MODE
from twophase.link.errors import ArtifactError, InputError
from twophase.link.graphs import MODE_REQUEST, GraphOptions
from twophase.link.manifest import load_manifest, write_manifest
from twophase.link.receiver import Receiver
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter, Transmitter


def with_ort(bundle, folder):
    """A copy with each graph in ONNX Runtime's own format, too."""
    shutil.copytree(bundle, folder)
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
def bundle(tiny_bundle, tmp_path_factory):
    return with_ort(tiny_bundle(), tmp_path_factory.mktemp("ort") / "bundle")


def cases(count):
    """Batches of 1 to 32 samples with their SNRs."""
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 33, count):
        features = rng.standard_normal((size, CLASSES + 1))
        features[:, CLASSES] = rng.integers(0, 4, size)
        yield features, rng.uniform(-5, 20, size)


def equal(one, other):
    return all(np.array_equal(getattr(one, entry.name), getattr(other, entry.name)) for entry in fields(one))


def test_many_threads_on_one_object_give_what_one_gives(bundle):
    transmitter, receiver = Transmitter(bundle, 2), Receiver(bundle, 2)
    batches = list(cases(32))
    callers = 8
    start = Barrier(callers)

    def both(number):
        sent = transmitter.send(*batches[number])
        return sent, receiver.receive(20.0 * sent.bits - 10.0, sent.mode)

    def call(caller):
        order = np.random.default_rng(caller).permutation(len(batches)).tolist()
        start.wait(timeout=30)
        return {number: both(number) for number in order}

    serial = [both(number) for number in range(len(batches))]
    assert len({sent.indices.tobytes() for sent, _ in serial}) > len(batches) // 2
    with ThreadPoolExecutor(callers) as pool:
        for results in pool.map(call, range(callers)):
            for number, (sent, received) in enumerate(serial):
                assert equal(results[number][0], sent)
                assert equal(results[number][1], received)


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
        np.testing.assert_allclose(two.logits, one.logits, rtol=1e-5, atol=1e-5)


def test_options_reach_onnx_runtime(bundle):
    session = Transmitter(bundle, 3, options=GraphOptions(optimise=False, arena=False))._whole._graph._session
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_bad_options_are_named(bundle):
    with pytest.raises(InputError, match="'format' must be one of onnx, ort, not 'tflite'"):
        GraphOptions(format="tflite")
    for opens in (Transmitter, Receiver):
        with pytest.raises(InputError, match="'threads' must be at least 1, not 0"):
            opens(bundle, 0)


def test_an_ort_graph_must_be_listed_and_whole(bundle, tiny_bundle, tmp_path):
    options = GraphOptions(format="ort")
    plain = tmp_path / "plain"
    shutil.copytree(tiny_bundle(), plain)
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


def test_graphs_of_a_link_of_text_may_be_in_onnx_runtimes_format_alone(tiny_bundle, tmp_path):
    folder = with_ort(tiny_bundle(text=True), tmp_path / "bundle")
    for graph in folder.glob("*.onnx"):
        graph.unlink()
    options = GraphOptions(format="ort")
    whole, head = Transmitter(folder, options=options), FeatureTransmitter(folder, options=options)
    texts = ["a fine first film", "an awful plot"]
    expected = Transmitter(tiny_bundle(text=True)).send(texts, 5.0)
    assert equal(whole.send(texts, 5.0), expected)
    assert equal(head.send(whole.features(texts), 5.0), expected)


def without(entries, name):
    kept = [entry for entry in entries if entry.name != name]
    del entries[:]
    entries.extend(kept)


def one_more(graph):
    graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.INT64, [1]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "more"))


def no_mask(graph):
    without(graph.input, "attention_mask")
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 1), dtype=np.int64), "attention_mask"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tx.onnx", lambda graph: without(graph.input, MODE_REQUEST), "the optional input mode_request, not"),
        ("tx.onnx", lambda graph: without(graph.initializer, MODE_REQUEST), "must take input, snr_db, not "),
        ("tx.onnx", one_more, "must take the optional input mode_request, not "),
        ("soft.onnx", lambda graph: without(graph.input, MODE_REQUEST), "input mode_request, not none"),
        ("rx.onnx", one_more, r"rx\.onnx' must take no optional input, not more"),
        (
            "rx.onnx",
            lambda graph: without(graph.output, "logits"),
            "must give logits, indices, not posterior",
        ),
        ("text", no_mask, "must take input_ids, attention_mask, snr_db, not input_ids, snr_db"),
        ("text", lambda graph: without(graph.output, "features"), "symbol_count, features, not mode, "),
    ],
)
def test_a_graph_must_take_and_give_what_the_manifest_has(tiny_bundle, tmp_path, name, change, message):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle(text=name == "text"), folder)
    name = "tx.onnx" if name == "text" else name
    manifest = load_manifest(folder, "bundle")
    model = onnx.load(folder / name)
    change(model.graph)
    onnx.save(model, folder / name)
    soft = partial(SoftTransmitter, file="soft.onnx")
    opens = {"tx.onnx": Transmitter, "rx.onnx": Receiver, "soft.onnx": soft}[name]
    with pytest.raises(ArtifactError, match="altered"):
        opens(folder, manifest=manifest)  # the hash is that of the bytes which would be loaded
    with pytest.raises(ArtifactError, match=message):
        opens(folder, manifest=replace(manifest, files={}))


def test_a_link_of_one_mode_has_no_request(tiny_bundle):
    single = load_manifest(tiny_bundle("snr", link=ONE_MODE), "bundle")
    with pytest.raises(ArtifactError, match="must take no optional input, not mode_request"):
        Transmitter(tiny_bundle(), manifest=replace(single, files={}))


def modules_after(body):
    probe = f"import sys\nfrom twophase.link import Receiver, Transmitter\n{body}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_edge_process_imports_nothing_heavy(tiny_bundle):
    """Both ends at work; nothing of the training, exporting or simulating side is in the process."""
    folder = str(tiny_bundle())
    features = modules_after(
        f"sender, receiver = Transmitter({folder!r}), Receiver({folder!r})\n"
        "sent = sender.send([0.0] * 5, 5.0)\n"
        "receiver.receive(20.0 * sent.bits - 10.0, sent.mode)"
    )
    texts = modules_after(f"Transmitter({str(tiny_bundle(text=True))!r}).send('a fine first film', 5.0)")
    heavy = {"torch", "onnx", "matplotlib", "commpy", "scipy", "jinja2", "sklearn", "rich", "google"}
    heavy |= {"transformers", "huggingface_hub", "numba", "twophase.link.labelling", "twophase.link.command"}
    for loaded in (features, texts):
        assert {"numpy", "onnxruntime", "twophase.link.transmitter"} <= loaded
        assert not heavy & loaded
        assert {name.split(".")[1] for name in loaded if name.startswith("twophase.")} == {"link"}
    assert "tokenizers" in texts
    assert not {"tokenizers", "_hashlib"} & features  # SHA-256 without OpenSSL
