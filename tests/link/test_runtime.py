"""The edge runtime over a small link: requests for a mode, headers, texts, and what is refused."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, LINK, ONE_MODE, TABLE
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError, InputError
from twophase.link.input_scale import InputScale
from twophase.link.manifest import Front, load_manifest, write_manifest
from twophase.link.modem import Transmission
from twophase.link.modes import LinkConfig
from twophase.link.receiver import Receiver
from twophase.link.routing import SnrTable
from twophase.link.text import unpack_texts
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter, Transmitter

COUNT = 24
SNRS = np.linspace(-5, 15, COUNT)


@pytest.fixture
def content(tiny_bundle):
    return tiny_bundle("content")


@pytest.fixture
def shared(tiny_bundle):
    return tiny_bundle("snr")


@pytest.fixture
def of_text(tiny_bundle):
    return tiny_bundle("content", text=True)


def features_of(bundle):
    with np.load(bundle / "eval.npz") as data:
        return data["input"]


def texts_of(bundle):
    with np.load(bundle / "eval.npz") as data:
        return unpack_texts(data["text"], data["text_ends"])


def equal(one, other, rows=slice(None)):
    for entry in fields(Transmission):
        array = getattr(one, entry.name)
        np.testing.assert_array_equal(array, getattr(other, entry.name)[rows], err_msg=entry.name)
        assert array.dtype == getattr(other, entry.name).dtype


def test_the_router_chooses_where_nothing_is_asked(content, shared):
    wanted = features_of(content)[:, CLASSES]
    for bundle, expected in ((content, wanted), (shared, TABLE.choose(SNRS))):
        features = features_of(bundle)
        soft, _ = SoftTransmitter(bundle, "soft.onnx").send(features, SNRS)
        for chosen in (Transmitter(bundle).send(features, SNRS).mode, soft):
            np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("router", ["content", "snr"])
def test_a_request_is_honoured(tiny_bundle, router, mode):
    folder = tiny_bundle(router)
    expected, wanted = LINK.modes[mode], (np.arange(COUNT)[::-1] + mode) % 4
    features = features_of(folder)
    transmitter, soft = Transmitter(folder), SoftTransmitter(folder, "soft.onnx")
    for request in (mode, np.uint8(mode), [mode] * COUNT):
        sent = transmitter.send(features, 3.0, request)
        assert (sent.mode == mode).all()
        assert (sent.symbol_count == expected.symbols).all()
        assert (sent.bit_count == expected.channel_bits).all()
        soft_mode, points = soft.send(features, 3.0, request)
        assert (soft_mode == mode).all()
        assert (soft_mode.dtype, points.dtype) == (np.int64, np.complex128)
        assert points.shape == (COUNT, LINK.modes.max_symbols)
        assert not points[:, expected.symbols :].any()
    # Of a certain class the soft symbols are the points of the hard ones.
    certain = 100 * np.eye(CLASSES, CLASSES + 1)
    sure = qam(expected.order).points[transmitter.send(certain, 3.0, mode).symbols[:, : expected.symbols]]
    np.testing.assert_allclose(soft.send(certain, 3.0, mode)[1][:, : expected.symbols], sure, atol=1e-6)
    assert transmitter.send(features, 3.0, wanted).mode.tolist() == wanted.tolist()
    assert soft.send(features, 3.0, wanted)[0].tolist() == wanted.tolist()


def test_a_link_of_one_mode_takes_that_mode_or_none(tiny_bundle):
    single = tiny_bundle("snr", link=ONE_MODE)
    features = features_of(single)
    for request in (None, 0, [0] * COUNT):
        sent = Transmitter(single).send(features, 3.0, request)
        assert not sent.mode.any()
        assert (sent.header.shape, sent.header_count.tolist()) == ((COUNT, 0), [0] * COUNT)
        assert not SoftTransmitter(single, "soft.onnx").send(features, 3.0, request)[0].any()
    assert Receiver(single).mode_of(3.0).tolist() == 0
    with pytest.raises(InputError, match=r"'mode' must lie in 0\.\.0, not 1"):
        Transmitter(single).send(features, 3.0, 1)
    of_text = tiny_bundle("snr", text=True, link=ONE_MODE)
    sent = Transmitter(of_text).send(["a fine film", "an awful film"], 5.0)
    assert (sent.mode.tolist(), sent.indices.tolist()) == ([0, 0], [[3, 2, 1], [0, 1, 2]])


def test_the_mode_and_the_class_arrive_by_the_header_at_the_transmitters_snr(content):
    """Without noise; the header is that of the manifest: hamming84 below 5 dB, plain from there on."""
    transmitter, receiver, features = Transmitter(content), Receiver(content), features_of(content)
    for request in (None, 3):
        sent = transmitter.send(features, SNRS, request)
        symbols, counts = transmitter.manifest.header.encode(sent.mode, SNRS)
        np.testing.assert_array_equal(sent.header, symbols)
        np.testing.assert_array_equal(sent.header_count, counts)
        assert (sent.header.dtype, sent.header_count.dtype) == (np.int64, np.int64)
        assert set(counts.tolist()) == {4, 1}
        llr = 8.0 * symbols_to_bits(np.maximum(sent.header, 0), 2) - 4.0
        np.testing.assert_array_equal(receiver.mode_of(SNRS, llr), sent.mode)
        received = receiver.receive(8.0 * sent.bits - 4.0, sent.mode)
        np.testing.assert_array_equal(received.classes, features[:, :CLASSES].argmax(axis=1))
        np.testing.assert_array_equal(received.indices, sent.indices)
        assert received.logits.dtype == np.float32


@pytest.mark.parametrize(("router", "text"), [("content", False), ("content", True), ("table", True)])
def test_a_sample_is_sent_the_same_alone_and_in_any_batch(tiny_bundle, router, text):
    bundle = tiny_bundle(router, text=text)
    transmitter, samples = Transmitter(bundle), (texts_of if text else features_of)(bundle)
    together = transmitter.send(samples, SNRS)
    order = np.random.default_rng(0).permutation(COUNT)
    equal(transmitter.send([samples[row] for row in order], SNRS[order]), together, order)
    for row, sample in enumerate(samples):
        equal(transmitter.send(sample, SNRS[row]), together, [row])


def test_a_link_of_features_is_its_own_head_and_takes_no_text(content):
    features = features_of(content)
    equal(Transmitter(content).send(features, 5.0), FeatureTransmitter(content).send(features, 5.0))
    for given in ("a film", ("a", "b")):
        with pytest.raises(InputError, match="'features' must be real numbers: this link takes no text"):
            Transmitter(content).send(given, 5.0)
        with pytest.raises(InputError, match="'front' must be there: this link takes features"):
            Transmitter(content).features(given)


@pytest.mark.parametrize("router", ["content", "table"])
def test_the_whole_of_a_link_of_text_is_the_head_after_the_front(tiny_bundle, router):
    bundle = tiny_bundle(router, text=True)
    texts = texts_of(bundle)
    whole, head = Transmitter(bundle), FeatureTransmitter(bundle)
    assert whole.manifest == head.manifest
    features = whole.features(texts)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, features_of(bundle))
    np.testing.assert_array_equal(whole.features(texts[3]), features[3:4])
    for mode in (None, 2, list(np.arange(COUNT) % 4)):
        sent = head.send(features, SNRS, mode)
        for given in (texts, list(texts), np.array(texts), np.array(texts, dtype=object)):
            equal(whole.send(given, SNRS, mode), sent)


def test_texts_run_one_by_one_and_unpadded(of_text, monkeypatch):
    shapes = []
    real = onnxruntime.InferenceSession.run

    def spied(session, names, inputs, *rest):
        shapes.append((inputs["input_ids"].shape, inputs["attention_mask"].all(), inputs["snr_db"].shape))
        return real(session, names, inputs, *rest)

    transmitter = Transmitter(of_text)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", spied, raising=False)
    transmitter.send(texts_of(of_text), 5.0)
    with np.load(of_text / "eval.npz") as data:
        assert shapes == [((1, length), True, (1,)) for length in data["attention_mask"].sum(axis=1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 5)), r"this link takes text, not 'an array of float64 of shape \(2, 5\)'"),
        (np.full((2, 2), "a"), "this link takes text, not 'an array of <U1"),
        (np.array([], dtype=str), "this link takes text"),
        ([], "this link takes text, not 'an empty one'"),
        (b"film", "this link takes text, not 'bytes'"),
        ([[0.0] * 5], r"'text\[0\]' must be a non-empty string"),
    ],
)
def test_a_link_of_text_takes_nothing_else(of_text, given, message):
    with pytest.raises(InputError, match=message):
        Transmitter(of_text).send(given, 5.0)


TWO, WIDTH = np.zeros((2, 5)), LINK.modes.max_bits
LLRS = np.zeros((2, WIDTH))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((TWO, 3.0, 4), r"'mode' must lie in 0\.\.3, not 4"),
        ((TWO, 3.0, [0]), r"'mode' must be one number or 2 numbers, one per sample, not \(1,\)"),
        ((TWO, 3.0, [[0]]), r"'mode' must be one number or 2 numbers, one per sample"),
        ((TWO, np.nan), "'snr_db' must be finite"),
        ((TWO, [1.0, 2.0, 3.0]), r"'snr_db' must be one number or 2 numbers, one per sample, not \(3,\)"),
        ((TWO[:, :4], 3.0), r"'features' must have shape \(5,\) or \(batch, 5\), not \(2, 4\)"),
        ((np.full(5, 1e39), 3.0), "'features' must be finite"),
        ((np.zeros(5, dtype=complex), 3.0), "'features' must be real numbers"),
        (([[0.0], [0.0, 1.0]], 3.0), "'features' must be an array"),
    ],
)
def test_bad_features_snrs_and_modes_are_named(content, given, message):
    for sender in (Transmitter(content), SoftTransmitter(content, "soft.onnx")):
        with pytest.raises(InputError, match=message):
            sender.send(*given)


def test_a_link_of_pixels_takes_bytes_and_nothing_else(content):
    manifest = load_manifest(content, "bundle")
    sender = Transmitter(content, manifest=replace(manifest, input=InputScale("uint8")))
    pixels = np.arange(5, dtype=np.uint8) % 4
    assert sender.send(pixels, 3.0).mode == sender.send(pixels.astype(float), 3.0).mode
    with pytest.raises(InputError, match=r"'features' must be pixels, whole numbers 0\.\.255.*not 0\.5"):
        sender.send(pixels / 2, 3.0)
    with pytest.raises(InputError, match="'features' must be in the units of the training data"):
        Transmitter(content).send(pixels, 3.0)


@pytest.mark.parametrize(
    ("llr", "mode", "message"),
    [
        (LLRS, 4, r"'mode' must lie in 0\.\.3, not 4"),
        (LLRS, [0, 1, 2], "'mode' must be one number or 2 numbers, one per sample"),
        (LLRS[:, 1:], 0, rf"'llr' must have shape \({WIDTH},\) or \(batch, {WIDTH}\), not"),
        (LLRS[np.newaxis], 0, "'llr' must have shape"),
        (LLRS + np.inf, 0, "'llr' must be finite"),
    ],
)
def test_bad_llrs_are_named(content, llr, mode, message):
    with pytest.raises(InputError, match=message):
        Receiver(content).receive(llr, mode)


def test_a_manifest_that_the_graphs_contradict_is_refused(content, of_text):
    features = features_of(content)
    features[3, CLASSES] = 3.0
    manifest = load_manifest(content, "bundle")
    link = LinkConfig(codebook_sizes=(4,), tokens=(3,), qam_orders=(4, 16), embedding_dim=2)
    first = {name: getattr(manifest, name)[:1] for name in ("codebooks", "labels", "usage")}
    routing = replace(manifest.routing, table=SnrTable((), (0,)))
    fewer = replace(manifest, link=link, routing=routing, symbol_energy=(1.0, 1.0), **first)
    with pytest.raises(ArtifactError, match=r"tx\.onnx' gives a mode that the link does not have"):
        Transmitter(content, manifest=fewer).send(features, 3.0)
    with pytest.raises(ArtifactError, match=r"tx\.onnx' fails on inputs as the manifest has them"):
        Transmitter(content, manifest=replace(manifest, input_shape=(4,))).send(np.zeros((2, 4)), 3.0)
    manifest = load_manifest(of_text, "bundle")
    with pytest.raises(ArtifactError, match=r"must give 'features' the shape \(1, 7\), not \(1, 5\)"):
        Transmitter(of_text, manifest=replace(manifest, input_shape=(7,))).send("a film", 5.0)
    with pytest.raises(InputError, match="'max_length' must be at least 3 for this tokenizer, not 2"):
        Transmitter(of_text, manifest=replace(manifest, front=Front("a table", 2)))


@pytest.mark.parametrize(
    ("text", "opens", "names"),
    [
        (False, Receiver, ("rx.onnx",)),
        (True, Transmitter, ("tx.onnx", "tokenizer.json")),
        (True, FeatureTransmitter, ("tx_head.onnx",)),
    ],
)
def test_a_device_needs_no_more_than_its_parts_and_these_whole(tiny_bundle, tmp_path, text, opens, names):
    bundle = tiny_bundle("content", text=text)
    for name in ("link.json", *names):
        shutil.copy(bundle / name, tmp_path / name)
    assert opens(tmp_path).manifest == opens(bundle).manifest
    for name in names:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1] + b"?")
        with pytest.raises(ArtifactError, match=f"{name}' is altered"):
            opens(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_an_end_is_pickled_by_the_path_of_its_bundle(content, tmp_path, monkeypatch):
    folder = shutil.copytree(content, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    ends = Transmitter("bundle"), SoftTransmitter("bundle", "soft.onnx"), Receiver("bundle", hold=True)
    pickled = [pickle.dumps(end) for end in ends]
    monkeypatch.chdir("/")  # as another process may stand elsewhere
    features = features_of(folder)
    transmitter, soft, receiver = map(pickle.loads, pickled)
    sent = ends[0].send(features, SNRS)
    equal(sent, transmitter.send(features, SNRS))
    np.testing.assert_array_equal(ends[1].send(features, 3.0)[1], soft.send(features, 3.0)[1])
    llr = np.where(sent.bits == 1, 9.0, -9.0)
    np.testing.assert_array_equal(
        ends[2].receive(llr, sent.mode).logits, receiver.receive(llr, sent.mode).logits
    )
    manifest = load_manifest(folder, "bundle")
    write_manifest(folder, replace(manifest, task="another"), tuple(manifest.files))
    with pytest.raises(ArtifactError, match="another bundle than the one that was pickled"):
        pickle.loads(pickled[0])
    (folder / "rx.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"rx\.onnx"):
        pickle.loads(pickled[2])


def test_an_edge_process_leaves_nothing_in_an_empty_home(content, tmp_path):
    code = f"""
import time
import numpy as np
from twophase.link import Receiver, Transmitter
sent = Transmitter({str(content)!r}).transmit(np.zeros(5), 3.0)
Receiver({str(content)!r}).decide(sent.iq, 0.1, 1.0, 3.0)
time.sleep(0.5)  # what the runtime does in a thread of its own
"""
    env = {name: value for name, value in os.environ.items() if name[:3] != "XDG"} | {"HOME": str(tmp_path)}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)
    assert list(tmp_path.rglob("*")) == []


def test_a_large_batch_goes_through_in_parts(tiny_bundle, monkeypatch):
    for router in ("content", "table"):
        bundle = tiny_bundle(router)
        transmitter, receiver, features = Transmitter(bundle), Receiver(bundle), features_of(bundle)
        sent = transmitter.transmit(features, SNRS)
        decided = receiver.decide(sent.iq, 0.1, 1.0, SNRS)
        with monkeypatch.context() as patch:
            for module in ("graphs", "receiver"):
                patch.setattr(f"twophase.link.{module}.CHUNK", 7)
            equal(transmitter.send(features, SNRS), sent)
            parts = receiver.decide(sent.iq, 0.1, 1.0, SNRS)
        for name in ("mode", "llr", "classes", "indices"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(decided, name))


def test_modes_go_by_name_too(content):
    transmitter, features = Transmitter(content), features_of(content)
    names = list(transmitter.manifest.modes.names)
    equal(transmitter.send(features, 3.0, names[2]), transmitter.send(features, 3.0, 2))
    wanted = [names[row % 4] for row in range(COUNT)]
    sent = transmitter.transmit(features, 3.0, wanted)
    assert sent.mode.tolist() == [row % 4 for row in range(COUNT)]
    assert Receiver(content).decide(sent.iq, 0.1, 1.0, 3.0, mode=wanted).mode.tolist() == sent.mode.tolist()
    with pytest.raises(InputError, match=r"'mode' must be one of .*, not '5x5qam'"):
        transmitter.send(features, 3.0, "5x5qam")


def test_llrs_beyond_the_clip_count_as_the_clip(content):
    receiver, sent = Receiver(content), Transmitter(content).send(features_of(content), 3.0)
    signs = 2.0 * sent.bits - 1.0
    usual = receiver.receive(receiver.manifest.llr_clip * signs, sent.mode)
    np.testing.assert_array_equal(receiver.receive(3e38 * signs, sent.mode).logits, usual.logits)


def test_a_frame_of_which_nothing_came_is_warned_of(content, caplog):
    receiver, sent = Receiver(content), Transmitter(content).transmit(features_of(content), 3.0, 1)
    gains = np.ones(COUNT)
    receiver.decide(sent.iq, 0.1, gains, 3.0, mode=1)
    assert not caplog.records
    gains[:3] = 0
    receiver.decide(sent.iq, 0.1, gains, 3.0, mode=1)
    receiver.decide(sent.iq[:, :0], 0.1, 1.0, 3.0, mode=1)
    said = [record.getMessage() for record in caplog.records]
    assert [" ".join(line.split()[:8]) for line in said] == [
        f"nothing was received of {count} of {COUNT} frames" for count in (3, COUNT)
    ]


RAGGED = [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda tx, rx, x: tx.send(x, RAGGED), "'snr_db' must be an array, not 'rows of unequal length'"),
        (lambda tx, rx, x: tx.send(x, 3.0, [[1], [1, 2]]), "'mode' must be an array"),
        (lambda tx, rx, x: tx.send(x[:0], 3.0), "'features' must hold at least one sample"),
        (lambda tx, rx, x: rx.decide(np.ones((2, 8)), RAGGED, 1.0, 3.0), "'noise_var' must be numeric"),
        (lambda tx, rx, x: rx.decide(np.ones((2, 8)), 0.1, RAGGED, 3.0), "'gain' must be numeric"),
        (lambda tx, rx, x: rx.decide(RAGGED, 0.1, 1.0, 3.0), "'received' must be numeric"),
        (lambda tx, rx, x: rx.decide(np.ones((2, 8)), 0.1, 1.0, RAGGED), "'snr_db' must be an array"),
        (lambda tx, rx, x: rx.decide(np.ones(8), 0.1, 1.0, 3.0, amplitude=0.0), "'amplitude' must be pos"),
        (lambda tx, rx, x: rx.decide(np.ones(8), 0.1, 1.0, 3.0, amplitude=1j), "'amplitude' must be real"),
        (lambda tx, rx, x: rx.mode_of(3.0, np.ones(8) * 1j), "'llr' must be real numbers"),
        (lambda tx, rx, x: rx.mode_of(3.0, RAGGED), "'llr' must be an array"),
        (lambda tx, rx, x: rx.receive(np.ones((0, rx.manifest.modes.max_bits)), []), "'llr' must hold at"),
        (lambda tx, rx, x: Receiver("nowhere", manifest=rx.manifest, hold="yes"), "'hold' must be True or"),
    ],
)
def test_arguments_that_are_no_arrays_of_numbers_are_named(content, use, message):
    with pytest.raises(InputError, match=message):
        use(Transmitter(content), Receiver(content), features_of(content))
