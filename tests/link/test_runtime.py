"""The edge runtime over small graphs made by hand: requests for a mode, headers, and what a bundle must have.

A sample has two features: the class, and the mode that a content router takes.
"""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import ArtifactError, InputError
from twophase.link.header import HeaderStep
from twophase.link.manifest import Manifest, Reference, write_manifest
from twophase.link.modes import LinkConfig
from twophase.link.routing import Hysteresis, Routing, SnrTable, fixed_routing
from twophase.link.runtime import MODE_REQUEST, Receiver, SoftTransmitter, Transmitter

CLASSES = 4
LINK = LinkConfig(codebook_sizes=(4, 16), tokens=(2, 1), qam_orders=(4, 16), embedding_dim=1)
ONE_MODE = LinkConfig(codebook_sizes=(4,), tokens=(2,), qam_orders=(4,), embedding_dim=1)
TABLE = SnrTable((2.0, 6.5, 10.0), (0, 1, 2, 3))
CONTENT = Routing("content", TABLE, 0.0, (HeaderStep(-10.0, "rm14"), HeaderStep(5.0, "plain")))
SNR = Routing("snr", TABLE, 0.0, ())
ALL = np.array([[label, mode] for label in range(CLASSES) for mode in range(4)], dtype=np.float32)


def chooser(link, routing):
    """Nodes from ``snr_db`` and ``input`` to ``mode``."""
    routed = {
        "content": [helper.make_node("Gather", ["whole", "one"], ["routed"], axis=1)],
        "snr": [
            helper.make_node("Unsqueeze", ["snr_db", "axis"], ["column"]),
            helper.make_node("GreaterOrEqual", ["column", "thresholds"], ["is_above"]),
            helper.make_node("Cast", ["is_above"], ["above"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["above", "axis"], ["routed"], keepdims=0),
        ],
        "fixed": [helper.make_node("Mul", ["label", "zero"], ["routed"])],
    }[routing.router]
    if len(link.modes) == 1:
        return [*routed, helper.make_node("Identity", ["routed"], ["mode"])]
    return [
        *routed,
        helper.make_node("GreaterOrEqual", [MODE_REQUEST, "zero"], ["is_forced"]),
        helper.make_node("Where", ["is_forced", MODE_REQUEST, "routed"], ["mode"]),
    ]


def save(path, link, nodes, inputs, outputs, constants):
    """Write a graph; on links of several modes one with ``snr_db`` takes requests, too."""
    inputs = [helper.make_tensor_value_info(*entry) for entry in inputs]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    if len(link.modes) > 1 and path.name != "rx.onnx":
        inputs.append(helper.make_tensor_value_info(MODE_REQUEST, TensorProto.INT64, ["requests"]))
        initializers.append(numpy_helper.from_array(np.array([-1]), MODE_REQUEST))
    outputs = [helper.make_tensor_value_info(*entry) for entry in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_bundle(folder, link, routing):
    """``indices`` are the class; bits and symbols are told from the mode, which is all that matters here."""
    modes = link.modes
    folder.mkdir()
    common = [
        helper.make_node("Cast", ["input"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Gather", ["whole", "zero"], ["label"], axis=1),
        *chooser(link, routing),
    ]
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "axis": np.array([1]),
        "thresholds": np.array(routing.table.thresholds_db, dtype=np.float32),
        "symbols_table": np.array([[number] * modes.max_symbols for number in range(len(modes))]),
        "bits_table": np.array(
            [[number % 2] * modes.max_bits for number in range(len(modes))], dtype=np.uint8
        ),
        "symbol_count_table": np.array([mode.symbols for mode in modes]),
        "bit_count_table": np.array([mode.channel_bits for mode in modes]),
        "iq_table": np.arange(len(modes) * modes.max_symbols * 2, dtype=np.float32).reshape(
            len(modes), -1, 2
        ),
        "tokens": np.array([1, modes.max_tokens]),
    }
    features = [("input", TensorProto.FLOAT, ["batch", 2]), ("snr_db", TensorProto.FLOAT, ["batch"])]
    looked_up = ("bits", "symbols", "bit_count", "symbol_count")
    save(
        folder / "tx.onnx",
        link,
        [
            *common,
            helper.make_node("Unsqueeze", ["label", "axis"], ["label_column"]),
            helper.make_node("Expand", ["label_column", "tokens"], ["indices"]),
            *(helper.make_node("Gather", [f"{name}_table", "mode"], [name], axis=0) for name in looked_up),
        ],
        features,
        [
            ("mode", TensorProto.INT64, ["batch"]),
            ("indices", TensorProto.INT64, ["batch", modes.max_tokens]),
            ("bits", TensorProto.UINT8, ["batch", modes.max_bits]),
            ("symbols", TensorProto.INT64, ["batch", modes.max_symbols]),
            ("bit_count", TensorProto.INT64, ["batch"]),
            ("symbol_count", TensorProto.INT64, ["batch"]),
        ],
        constants,
    )
    save(
        folder / "soft.onnx",
        link,
        [*common, helper.make_node("Gather", ["iq_table", "mode"], ["symbols_iq"], axis=0)],
        features,
        [
            ("mode", TensorProto.INT64, ["batch"]),
            ("symbols_iq", TensorProto.FLOAT, ["batch", modes.max_symbols, 2]),
        ],
        constants,
    )
    save(
        folder / "rx.onnx",
        link,
        [
            helper.make_node("Gather", ["score_table", "mode"], ["logits"], axis=0),
            helper.make_node("Gather", ["index_table", "mode"], ["indices"], axis=0),
            helper.make_node("Identity", ["llr"], ["heard"]),
        ],
        [("llr", TensorProto.FLOAT, ["batch", modes.max_bits]), ("mode", TensorProto.INT64, ["batch"])],
        [
            ("logits", TensorProto.FLOAT, ["batch", CLASSES]),
            ("indices", TensorProto.INT64, ["batch", modes.max_tokens]),
            ("heard", TensorProto.FLOAT, ["batch", modes.max_bits]),
        ],
        {
            "score_table": np.eye(len(modes), CLASSES, dtype=np.float32),
            "index_table": np.zeros((len(modes), modes.max_tokens), dtype=np.int64),
        },
    )
    np.savez(folder / "eval.npz", input=ALL, label=ALL[:, 0].astype(np.int64))
    manifest = Manifest(
        kind="bundle",
        task="by hand",
        classes=tuple("abcd"),
        input_shape=(2,),
        link=link,
        routing=routing,
        codebooks=tuple(tuple((float(k),) for k in range(size)) for size in link.codebook_sizes),
        labels=tuple(tuple(range(size)) for size in link.codebook_sizes),
        usage=tuple((1 / size,) * size for size in link.codebook_sizes),
        symbol_energy=(1.0,) * len(link.modes),
        class_frequency=(1 / 4,) * 4,
        llr_clip=100.0,
        references=(Reference("aligned", "by hand", "soft.onnx", "rx.onnx", 0.7),),
        training={},
        provenance={},
    )
    write_manifest(folder, manifest, ("tx.onnx", "soft.onnx", "rx.onnx", "eval.npz"))
    return folder


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("content") / "bundle", LINK, CONTENT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("shared") / "bundle", LINK, SNR)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("single") / "bundle", ONE_MODE, fixed_routing())


def test_the_router_chooses_where_nothing_is_asked(content, shared):
    assert Transmitter(content).send(ALL, 3.0).mode.tolist() == ALL[:, 1].tolist()
    assert SoftTransmitter(content, "soft.onnx").send(ALL, 3.0)[0].tolist() == ALL[:, 1].tolist()
    snrs = np.array([-3.0, 2.0, 6.49, 6.5, 9.0, 30.0])
    for chosen in (
        Transmitter(shared).send(ALL[:6], snrs).mode,
        SoftTransmitter(shared, "soft.onnx").send(ALL[:6], snrs)[0],
    ):
        np.testing.assert_array_equal(chosen, TABLE.choose(snrs))


@pytest.mark.parametrize("mode", range(4))
def test_a_request_is_honoured(content, shared, mode):
    expected = LINK.modes[mode]
    for folder in (content, shared):
        for request in (mode, np.uint8(mode), [mode] * len(ALL)):
            sent = Transmitter(folder).send(ALL, 3.0, request)
            assert (sent.mode == mode).all()
            assert (sent.symbol_count == expected.symbols).all()
            assert (sent.bit_count == expected.channel_bits).all()
            soft_mode, points = SoftTransmitter(folder, "soft.onnx").send(ALL, 3.0, request)
            assert (soft_mode == mode).all()
            assert points.shape == (len(ALL), LINK.modes.max_symbols)
            assert (
                points[0, 0]
                == mode * 2 * LINK.modes.max_symbols + (mode * 2 * LINK.modes.max_symbols + 1) * 1j
            )


def test_each_sample_may_ask_for_a_mode_of_its_own(content, shared):
    wanted = np.arange(len(ALL))[::-1] % 4
    for folder in (content, shared):
        assert Transmitter(folder).send(ALL, 3.0, wanted).mode.tolist() == wanted.tolist()
        assert SoftTransmitter(folder, "soft.onnx").send(ALL, 3.0, wanted)[0].tolist() == wanted.tolist()


def test_one_sample_may_come_without_a_batch_axis(content):
    sent = Transmitter(content).send(ALL[7], 3.0, 2)
    assert (sent.mode.tolist(), sent.header.shape, sent.header_count.tolist()) == ([2], (1, 8), [8])


def test_a_link_of_one_mode_takes_that_mode_or_none(single):
    for request in (None, 0, [0] * len(ALL)):
        sent = Transmitter(single).send(ALL, 3.0, request)
        assert not sent.mode.any()
        assert (sent.header.shape, sent.header_count.tolist()) == ((len(ALL), 0), [0] * len(ALL))
        assert not SoftTransmitter(single, "soft.onnx").send(ALL, 3.0, request)[0].any()
    assert Receiver(single).mode_of(3.0).tolist() == 0
    with pytest.raises(InputError, match=r"'mode' must lie in 0\.\.0, not 1"):
        Transmitter(single).send(ALL, 3.0, 1)


def test_the_header_is_that_of_the_manifest_at_the_transmitters_snr(content):
    snrs = np.where(np.arange(len(ALL)) % 3 == 0, 7.0, -4.0)
    transmitter = Transmitter(content)
    for request in (None, 3):
        sent = transmitter.send(ALL, snrs, request)
        symbols, counts = transmitter.manifest.header.encode(sent.mode, snrs)
        assert (sent.header.dtype, sent.header_count.dtype) == (np.int64, np.int64)
        np.testing.assert_array_equal(sent.header, symbols)
        np.testing.assert_array_equal(sent.header_count, counts)
        assert set(counts.tolist()) == {8, 1}
        np.testing.assert_array_equal(sent.header >= 0, np.arange(8) < counts[:, np.newaxis])


def test_a_shared_mode_has_no_header(shared):
    sent = Transmitter(shared).send(ALL, 3.0)
    assert sent.header.shape == (len(ALL), 0)
    assert not sent.header_count.any()


def test_the_mode_arrives_over_the_air(content):
    """At most one in 10^6 of these headers is misread: another seed would fail with a probability of 3e-4."""
    rng = np.random.default_rng(0)
    features = np.tile(ALL, (20, 1))
    sent = Transmitter(content).send(features, 4.875)
    points = qam(4).modulate(sent.header)
    noise_var = 10**-0.4875
    noise = rng.normal(0, np.sqrt(noise_var / 2), (2, *points.shape))
    llr = llr_exact(points + noise[0] + 1j * noise[1], qam(4), noise_var)
    receiver = Receiver(content)
    assert float(receiver.manifest.header.code(4.875).word_error_bound(4.875)) < 1e-6
    mode = receiver.mode_of(4.875, llr)
    np.testing.assert_array_equal(mode, sent.mode)
    received = receiver.receive(np.zeros((len(features), LINK.modes.max_bits)), mode)
    np.testing.assert_array_equal(received.classes, sent.mode)


def test_both_ends_of_a_shared_mode_use_their_own_estimates(shared):
    receiver = Receiver(shared)
    assert receiver.mode_of(6.4).tolist() == 1
    assert receiver.mode_of([6.4, 6.5]).tolist() == [1, 2]
    with pytest.raises(InputError, match="'header_llr' must be empty: this link sends no header"):
        receiver.mode_of([6.4], np.zeros((1, 16)))


def test_a_told_mode_needs_the_header(content):
    with pytest.raises(InputError, match="'header_llr' must be given"):
        Receiver(content).mode_of(3.0)


def test_hysteresis_stands_before_send_and_mode_of(shared):
    transmitter, receiver = Transmitter(shared), Receiver(shared)
    at_sender, at_receiver = Hysteresis(TABLE, 1.0), Hysteresis(TABLE, 1.0)
    estimates = [7.0, 6.0, 5.6, 5.0, 6.0, 7.4, 7.6]
    modes = [int(transmitter.send(ALL[0], at_sender.hold(estimate)).mode[0]) for estimate in estimates]
    assert modes == [2, 2, 2, 1, 1, 1, 2]
    assert [int(receiver.mode_of(at_receiver.hold(estimate))) for estimate in estimates] == modes


def test_a_sample_is_sent_the_same_alone_and_in_any_batch(content):
    transmitter = Transmitter(content)
    rng = np.random.default_rng(0)
    snrs = rng.uniform(-5, 20, len(ALL))
    names = ("mode", "indices", "bits", "symbols", "bit_count", "symbol_count", "header", "header_count")
    together = transmitter.send(ALL, snrs)
    order = rng.permutation(len(ALL))
    mixed = transmitter.send(ALL[order], snrs[order])
    for name in names:
        np.testing.assert_array_equal(getattr(mixed, name), getattr(together, name)[order])
    for row in range(len(ALL)):
        alone = transmitter.send(ALL[row], snrs[row])
        for name in names:
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ALL, 3.0, 4), r"'mode' must lie in 0\.\.3, not 4"),
        ((ALL, 3.0, -1), r"'mode' must lie in 0\.\.3, not -1"),
        ((ALL, 3.0, 1.0), "'mode' must be integers"),
        ((ALL, 3.0, [0, 1]), r"'mode' must be one number or 16 numbers, one per sample, not \(2,\)"),
        ((ALL, 3.0, [[0]]), r"'mode' must be one number or 16 numbers, one per sample, not \(1, 1\)"),
        ((ALL, np.nan), "'snr_db' must be finite"),
        ((ALL, 1e39), "'snr_db' must be finite"),
        ((ALL, "3"), "'snr_db' must be real numbers"),
        ((ALL, [1.0, 2.0]), r"'snr_db' must be one number or 16 numbers, one per sample, not \(2,\)"),
        ((ALL[:, :1], 3.0), r"'features' must have shape \(2,\)"),
        ((np.full((1, 2), np.nan), 3.0), "'features' must be finite"),
    ],
)
def test_bad_input_to_a_transmitter_is_named(content, arguments, message):
    for sender in (Transmitter(content), SoftTransmitter(content, "soft.onnx")):
        with pytest.raises(InputError, match=message):
            sender.send(*arguments)


@pytest.mark.parametrize(
    ("llr", "mode", "message"),
    [
        (np.zeros((2, 4)), 4, r"'mode' must lie in 0\.\.3, not 4"),
        (np.zeros((2, 4)), [0, 1, 2], "'mode' must be one number or 2 numbers, one per sample"),
        (np.zeros((2, 4)), 0.5, "'mode' must be integers"),
        (np.zeros((2, 5)), 0, r"'llr' must have shape \(4,\) or \(batch, 4\), not \(2, 5\)"),
        (np.full((2, 4), np.inf), 0, "'llr' must be finite"),
    ],
)
def test_bad_input_to_a_receiver_is_named(content, llr, mode, message):
    with pytest.raises(InputError, match=message):
        Receiver(content).receive(llr, mode)


def altered(folder, tmp_path, name, change):
    """A copy of the bundle with another graph, opened without a look at the hashes."""
    copy = tmp_path / "altered"
    shutil.copytree(folder, copy)
    model = onnx.load(copy / name)
    change(model.graph)
    onnx.save(model, copy / name)
    return copy


def drop_request(graph):
    kept = [entry for entry in graph.input if entry.name != MODE_REQUEST]
    del graph.input[:]
    graph.input.extend(kept)  # its default stays: a constant


def demand_request(graph):
    kept = [entry for entry in graph.initializer if entry.name != MODE_REQUEST]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def offer_more(graph):
    graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, [1]))
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "more"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tx.onnx", drop_request, r"tx\.onnx' must take the optional input mode_request, not none"),
        ("tx.onnx", demand_request, r"tx\.onnx' must take input, snr_db, not input, snr_db, mode_request"),
        ("tx.onnx", offer_more, "must take the optional input mode_request, not "),
        ("soft.onnx", drop_request, r"soft\.onnx' must take the optional input mode_request, not none"),
        ("rx.onnx", offer_more, r"rx\.onnx' must take no optional input, not more"),
    ],
)
def test_a_graph_must_take_requests_as_the_manifest_has_it(content, tmp_path, name, change, message):
    manifest = Transmitter(content).manifest
    copy = altered(content, tmp_path, name, change)
    opened = {
        "tx.onnx": lambda: Transmitter(copy, manifest=manifest),
        "soft.onnx": lambda: SoftTransmitter(copy, name, manifest=manifest),
        "rx.onnx": lambda: Receiver(copy, manifest=manifest),
    }
    with pytest.raises(ArtifactError, match=message):
        opened[name]()


def test_a_link_of_one_mode_has_no_request(content, single):
    manifest = Transmitter(single).manifest
    with pytest.raises(ArtifactError, match=r"must take no optional input, not mode_request"):
        Transmitter(content, manifest=manifest)


def test_a_graph_that_gives_a_mode_beyond_the_link_is_refused(content):
    features = ALL.copy()
    features[3, 1] = 3.0
    narrow = LinkConfig(codebook_sizes=(4, 16), tokens=(2, 1), qam_orders=(4,), embedding_dim=1)
    manifest = Transmitter(content).manifest
    routing = replace(CONTENT, table=SnrTable((), (0,)))
    fewer = replace(manifest, link=narrow, routing=routing, symbol_energy=(1.0, 1.0))
    assert fewer.modes.max_symbols == manifest.modes.max_symbols
    with pytest.raises(ArtifactError, match="gives a mode that the link does not have"):
        Transmitter(content, manifest=fewer).send(features, 3.0)


def test_a_device_needs_its_graph_and_the_manifest_alone(content, tmp_path):
    for file, make in (("tx.onnx", Transmitter), ("rx.onnx", Receiver)):
        device = tmp_path / file
        device.mkdir()
        for name in ("link.json", file):
            shutil.copy(content / name, device / name)
        assert make(device).manifest == make(content).manifest
        (device / file).write_bytes((content / file).read_bytes()[:-1])
        with pytest.raises(ArtifactError, match=f"{file}' must have .* bytes"):
            make(device)
        (device / file).unlink()
        with pytest.raises(ArtifactError, match=f"{file}' is missing; the manifest lists it"):
            make(device)
