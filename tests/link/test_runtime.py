"""The edge runtime over a small link: requests for a mode, headers, texts, and what is refused."""

import shutil
from dataclasses import fields, replace

import numpy as np
import onnxruntime
import pytest

from tools.tiny_bundle import CLASSES, LINK, ONE_MODE, TABLE, write_tiny_bundle
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Front, load_manifest
from twophase.link.modem import Transmission
from twophase.link.modes import LinkConfig
from twophase.link.receiver import Receiver
from twophase.link.routing import Hysteresis, SnrTable
from twophase.link.text import unpack_texts
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter, Transmitter

NAMES = tuple(entry.name for entry in fields(Transmission))
COUNT = 24
SNRS = np.linspace(-5, 15, COUNT)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A bundle of each kind, made once."""
    made = {}

    def bundle(router="content", text=False, link=LINK):
        key = router, text, link
        if key not in made:
            folder = tmp_path_factory.mktemp("bundle") / "bundle"
            made[key] = write_tiny_bundle(folder, router=router, text=text, link=link, samples=COUNT)
        return made[key]

    return bundle


@pytest.fixture
def content(make):
    return make("content")


@pytest.fixture
def shared(make):
    return make("snr")


@pytest.fixture
def of_text(make):
    return make("content", text=True)


def split_of(bundle):
    with np.load(bundle / "eval.npz") as data:
        return dict(data)


def texts_of(bundle):
    split = split_of(bundle)
    return unpack_texts(split["text"], split["text_ends"])


def samples_of(bundle):
    return texts_of(bundle) if (bundle / "tokenizer.json").exists() else split_of(bundle)["input"]


def equal(one, other, rows=slice(None)):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[rows], err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_the_router_chooses_where_nothing_is_asked(content, shared):
    features = split_of(content)["input"]
    assert Transmitter(content).send(features, 3.0).mode.tolist() == features[:, CLASSES].tolist()
    assert (
        SoftTransmitter(content, "soft.onnx").send(features, 3.0)[0].tolist() == features[:, CLASSES].tolist()
    )
    soft, _ = SoftTransmitter(shared, "soft.onnx").send(features, SNRS)
    for chosen in (Transmitter(shared).send(features, SNRS).mode, soft):
        np.testing.assert_array_equal(chosen, TABLE.choose(SNRS))


@pytest.mark.parametrize("mode", range(4))
def test_a_request_is_honoured(content, shared, mode):
    expected, wanted = LINK.modes[mode], (np.arange(COUNT)[::-1] + mode) % 4
    for folder in (content, shared):
        features = split_of(folder)["input"]
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
        # One sample may come without a batch axis.
        equal(transmitter.send(features[7], 3.0, mode), sent, [7])


def test_a_link_of_one_mode_takes_that_mode_or_none(make):
    single = make("snr", link=ONE_MODE)
    features = split_of(single)["input"]
    for request in (None, 0, [0] * COUNT):
        sent = Transmitter(single).send(features, 3.0, request)
        assert not sent.mode.any()
        assert (sent.header.shape, sent.header_count.tolist()) == ((COUNT, 0), [0] * COUNT)
        assert not SoftTransmitter(single, "soft.onnx").send(features, 3.0, request)[0].any()
    assert Receiver(single).mode_of(3.0).tolist() == 0
    with pytest.raises(InputError, match=r"'mode' must lie in 0\.\.0, not 1"):
        Transmitter(single).send(features, 3.0, 1)
    sent = Transmitter(make("snr", text=True, link=ONE_MODE)).send(["a fine film", "an awful film"], 5.0)
    assert (sent.mode.tolist(), sent.indices.tolist()) == ([0, 0], [[3, 2, 1], [0, 1, 2]])


def test_the_mode_and_the_class_arrive_by_the_header_at_the_transmitters_snr(content, shared):
    """Without noise; the header is that of the manifest: hamming84 below 5 dB, plain from there on."""
    transmitter, receiver, features = Transmitter(content), Receiver(content), split_of(content)["input"]
    for request in (None, 3):
        sent = transmitter.send(features, SNRS, request)
        symbols, counts = transmitter.manifest.header.encode(sent.mode, SNRS)
        np.testing.assert_array_equal(sent.header, symbols)
        np.testing.assert_array_equal(sent.header_count, counts)
        assert (sent.header.dtype, sent.header_count.dtype) == (np.int64, np.int64)
        assert set(counts.tolist()) == {4, 1}
        told = 8.0 * symbols_to_bits(np.maximum(sent.header, 0), 2) - 4.0
        np.testing.assert_array_equal(receiver.mode_of(SNRS, told), sent.mode)
        received = receiver.receive(8.0 * sent.bits - 4.0, sent.mode)
        np.testing.assert_array_equal(received.classes, features[:, :CLASSES].argmax(axis=1))
        np.testing.assert_array_equal(received.indices, sent.indices)
        assert received.logits.dtype == np.float32
    with pytest.raises(InputError, match="'header_llr' must be given"):
        receiver.mode_of(3.0)
    sent = Transmitter(shared).send(features, 3.0)
    assert (sent.header.shape, sent.header_count.any()) == ((COUNT, 0), False)


def test_both_ends_of_a_shared_mode_use_and_hold_their_own_estimates(shared):
    transmitter, receiver = Transmitter(shared), Receiver(shared)
    assert receiver.mode_of(5.9).tolist() == 1
    assert receiver.mode_of([5.9, 6.0]).tolist() == [1, 2]
    with pytest.raises(InputError, match="'header_llr' must be empty: this link sends no header"):
        receiver.mode_of([6.4], np.zeros((1, 16)))
    at_sender, at_receiver = Hysteresis(TABLE, 1.0), Hysteresis(TABLE, 1.0)
    estimates = [6.5, 5.5, 5.1, 4.5, 5.5, 6.9, 7.1]
    sample = split_of(shared)["input"][0]
    modes = [int(transmitter.send(sample, at_sender.hold(estimate)).mode[0]) for estimate in estimates]
    assert modes == [2, 2, 2, 1, 1, 1, 2]
    assert [int(receiver.mode_of(at_receiver.hold(estimate))) for estimate in estimates] == modes


@pytest.mark.parametrize(("router", "text"), [("content", False), ("content", True), ("table", True)])
def test_a_sample_is_sent_the_same_alone_and_in_any_batch(make, router, text):
    bundle = make(router, text=text)
    transmitter, samples = Transmitter(bundle), samples_of(bundle)
    together = transmitter.send(samples, SNRS)
    order = np.random.default_rng(0).permutation(COUNT)
    equal(transmitter.send([samples[row] for row in order], SNRS[order]), together, order)
    for row, sample in enumerate(samples):
        equal(transmitter.send(sample, SNRS[row]), together, [row])


def test_a_link_of_features_is_its_own_head_and_takes_no_text(content):
    features = split_of(content)["input"]
    equal(Transmitter(content).send(features, 5.0), FeatureTransmitter(content).send(features, 5.0))
    for given in ("a film", ["a film"], ("a", "b")):
        with pytest.raises(InputError, match="'features' must be real numbers: this link takes no text"):
            Transmitter(content).send(given, 5.0)
        with pytest.raises(InputError, match="'front' must be there: this link takes features"):
            Transmitter(content).features(given)


@pytest.mark.parametrize("router", ["content", "table"])
def test_the_whole_of_a_link_of_text_is_the_head_after_the_front(make, router):
    bundle = make(router, text=True)
    split, texts = split_of(bundle), texts_of(bundle)
    whole, head = Transmitter(bundle), FeatureTransmitter(bundle)
    assert whole.manifest == head.manifest
    features = whole.features(texts)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, split["input"])
    np.testing.assert_array_equal(whole.features(texts[3]), features[3:4])
    for mode in (None, 2, list(np.arange(COUNT) % 4)):
        sent = whole.send(texts, SNRS, mode)
        equal(sent, head.send(features, SNRS, mode))
        for given in (list(texts), np.array(texts), np.array(texts, dtype=object)):
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
    lengths = split_of(of_text)["attention_mask"].sum(axis=1)
    assert shapes == [((1, length), True, (1,)) for length in lengths]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 5)), r"this link takes text, not 'an array of float64 of shape \(2, 5\)'"),
        (np.full((2, 2), "a"), "this link takes text, not 'an array of <U1"),
        ([], "this link takes text, not 'an empty one'"),
        (np.array([], dtype=str), "this link takes text"),
        (3.0, "this link takes text, not 'float'"),
        (b"film", "this link takes text, not 'bytes'"),
        ([[0.0] * 5], r"'text\[0\]' must be a non-empty string"),
        (["film", " "], r"'text\[1\]' must be a non-empty string, not ' '"),
        ("", "'text' must be a non-empty string"),
    ],
)
def test_a_link_of_text_takes_nothing_else(of_text, given, message):
    transmitter = Transmitter(of_text)
    with pytest.raises(InputError, match=message):
        transmitter.send(given, 5.0)
    with pytest.raises(InputError, match=message):
        transmitter.features(given)


@pytest.mark.parametrize(
    ("snr_db", "mode", "message"),
    [
        (3.0, 4, r"'mode' must lie in 0\.\.3, not 4"),
        (3.0, 1.0, "'mode' must be integers"),
        (3.0, [0], r"'mode' must be one number or 2 numbers, one per sample, not \(1,\)"),
        (3.0, [[0]], r"'mode' must be one number or 2 numbers, one per sample"),
        (np.nan, None, "'snr_db' must be finite"),
        ("3", None, "'snr_db' must be real numbers"),
        ([1.0, 2.0, 3.0], None, r"'snr_db' must be one number or 2 numbers, one per sample, not \(3,\)"),
    ],
)
def test_a_bad_snr_or_mode_is_named_by_every_transmitter(content, of_text, snr_db, mode, message):
    features = np.zeros((2, 5))
    for sender in (Transmitter(content), SoftTransmitter(content, "soft.onnx")):
        with pytest.raises(InputError, match=message):
            sender.send(features, snr_db, mode)
    with pytest.raises(InputError, match=message):
        Transmitter(of_text).send(["a film", "a plot"], snr_db, mode)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 4)), r"'features' must have shape \(5,\) or \(batch, \*\(5,\)\), not \(2, 4\)"),
        (np.full((1, 5), np.nan), "'features' must be finite"),
        (np.full(5, 1e39), "'features' must be finite"),
        (np.zeros(5, dtype=complex), "'features' must be real numbers"),
        ([[0.0], [0.0, 1.0]], "'features' must be an array"),
    ],
)
def test_bad_features_are_named(content, features, message):
    for sender in (Transmitter(content), SoftTransmitter(content, "soft.onnx")):
        with pytest.raises(InputError, match=message):
            sender.send(features, 3.0)


def test_bad_llrs_are_named(content):
    receiver, width = Receiver(content), LINK.modes.max_bits
    for llr, mode, message in (
        (np.zeros((2, width)), 4, r"'mode' must lie in 0\.\.3, not 4"),
        (np.zeros((2, width)), [0, 1, 2], "'mode' must be one number or 2 numbers, one per sample"),
        (np.zeros((2, width + 1)), 0, rf"'llr' must have shape \({width},\) or \(batch, {width}\), not"),
        (np.full((2, width), np.inf), 0, "'llr' must be finite"),
        (["a"] * width, 0, "'llr' must be real numbers"),
        (0.0, 0, "'llr' must have shape"),
    ):
        with pytest.raises(InputError, match=message):
            receiver.receive(llr, mode)


def test_a_manifest_that_the_graphs_contradict_is_refused(content, of_text):
    features = split_of(content)["input"]
    features[3, CLASSES] = 3.0
    manifest = load_manifest(content, "bundle")
    link = LinkConfig(codebook_sizes=(4,), tokens=(3,), qam_orders=(4, 16), embedding_dim=2)
    first = {name: getattr(manifest, name)[:1] for name in ("codebooks", "labels", "usage")}
    routing = replace(manifest.routing, table=SnrTable((), (0,)))
    fewer = replace(manifest, link=link, routing=routing, symbol_energy=(1.0, 1.0), **first)
    with pytest.raises(ArtifactError, match=r"tx\.onnx' gives a mode that the link does not have"):
        Transmitter(content, manifest=fewer).send(features, 3.0)
    manifest = load_manifest(of_text, "bundle")
    with pytest.raises(ArtifactError, match=r"must give 'features' the shape \(1, 7\), not \(1, 5\)"):
        Transmitter(of_text, manifest=replace(manifest, input_shape=(7,))).send("a film", 5.0)
    with pytest.raises(InputError, match="'max_length' must be at least 3 for this tokenizer, not 2"):
        Transmitter(of_text, manifest=replace(manifest, front=Front("a table", 2)))


@pytest.mark.parametrize(
    ("text", "opens", "names"),
    [
        (False, Transmitter, ("tx.onnx",)),
        (False, Receiver, ("rx.onnx",)),
        (True, Transmitter, ("tx.onnx", "tokenizer.json")),
        (True, FeatureTransmitter, ("tx_head.onnx",)),
    ],
)
def test_a_device_needs_no_more_than_its_parts_and_these_whole(make, tmp_path, text, opens, names):
    bundle = make("content", text=text)
    for name in ("link.json", *names):
        shutil.copy(bundle / name, tmp_path / name)
    assert opens(tmp_path).manifest == opens(bundle).manifest
    for name in names:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1] + b"?")
        with pytest.raises(ArtifactError, match=f"{name}' is altered"):
            opens(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(ArtifactError, match=f"{name}' is missing; the manifest lists it"):
            opens(tmp_path)
        (tmp_path / name).write_bytes(whole)
