"""``link.json``: what it holds and refuses, and the stream that every runtime must send alike."""

import errno
import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from twophase.link import manifest
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import sha256_of
from twophase.link.grid import Grid
from twophase.link.header import HeaderStep
from twophase.link.manifest import (
    BACKBONE_PROGRAM,
    CONVENTIONS,
    MANIFEST_NAME,
    TOKENIZER_FILE,
    VERSION,
    Accuracy,
    Conformance,
    Front,
    Manifest,
    Reference,
    VectorSet,
    load_manifest,
    program_file,
    stream_hash,
    symbol_stream,
    write_manifest,
)
from twophase.link.modes import LinkConfig
from twophase.link.routing import Routing, SnrTable, fixed_routing

FILES = {
    "tx.onnx": b"transmitter",
    "rx.onnx": b"receiver" * 50,
    "soft.onnx": b"soft transmitter",
    "eval.npz": b"split",
    "test_data_set_0/input_0.pb": b"tensor",
}
TEXT_FILES = {**FILES, "tx_head.onnx": b"head", TOKENIZER_FILE: b"{}"}
ACCURACY = Accuracy(3, 2, 5, (-5.0, 0.5), (4, 10), (24.0, 12.5))
VECTORS = Conformance((VectorSet("test_data_set_0", "tx.onnx", "near ties"),), "ab" * 32)


def example(**changes):
    rng = np.random.default_rng(0)
    link = LinkConfig(codebook_sizes=(4, 8), tokens=(3, 2), qam_orders=(4, 16), embedding_dim=2)
    whole = Manifest(
        kind="bundle",
        task="digits",
        classes=("zero", "größer"),
        input_shape=(8, 8),
        link=link,
        routing=Routing(
            router="content",
            table=SnrTable((-1.25, 7.5), (2, 0, 3)),
            hysteresis_db=0.0,
            header=(HeaderStep(-10.0, "repeat4"), HeaderStep(6.5, "plain")),
        ),
        codebooks=tuple(
            tuple(map(tuple, rng.normal(size=(size, 2)).tolist())) for size in link.codebook_sizes
        ),
        labels=tuple(tuple(rng.permutation(size).tolist()) for size in link.codebook_sizes),
        usage=tuple(tuple([1 / size] * size) for size in link.codebook_sizes),
        symbol_energy=(1.0,) * len(link.modes),
        class_frequency=(0.25, 0.75),
        llr_clip=100.0,
        references=(Reference("aligned", "the same model", "soft.onnx", "rx.onnx", 0.7),),
        training={"method": "two-phase", "epochs": 30},
        provenance={"command": "tp-train"},
    )
    return replace(whole, **changes)


def of_text(**changes):
    return example(input_shape=(384,), front=Front("a backbone", 128), **changes)


def on_grid(component=0.25, exponents=(-2, -3)):
    books = tuple(tuple((k * 0.25, component) for k in range(size)) for size in (4, 8))
    return example(codebooks=books, grid=Grid(exponents, 1023))


def write(folder, content, files):
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(TEXT_FILES.get(name, b"x"))
    write_manifest(folder, content, tuple(files))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, example(), FILES)


def written(folder):
    return json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))


def edit(folder, change, sign=False):
    """Alter the manifest itself; ``sign`` lets it look untouched."""
    value = written(folder)
    change(value)
    if sign:
        value["digest"] = manifest._digest(value)
    (folder / MANIFEST_NAME).write_text(json.dumps(value), encoding="utf-8")


def refusal(folder, kind="bundle"):
    with pytest.raises(ArtifactError) as caught:
        load_manifest(folder, kind)
    message = str(caught.value)
    assert "\n" not in message
    return message


MEASURED = example(accuracy=ACCURACY, conformance=VECTORS, precision="int8")


@pytest.mark.parametrize("content", [example(), MEASURED, on_grid(), of_text()])
def test_round_trip(tmp_path, content):
    files = FILES if content.front is None else TEXT_FILES
    loaded = load_manifest(write(tmp_path, content, files), "bundle")
    assert replace(loaded, files={}) == content
    assert loaded.conventions == CONVENTIONS
    for name, body in files.items():
        assert loaded.files[name] == {"sha256": sha256_of(tmp_path / name), "bytes": len(body)}
    assert set(loaded.files) == set(files)
    first = (tmp_path / MANIFEST_NAME).read_bytes()
    write_manifest(tmp_path, content, tuple(reversed(files)))
    assert (tmp_path / MANIFEST_NAME).read_bytes() == first


def test_tables_come_back_as_arrays(folder):
    loaded = load_manifest(folder, "bundle")
    assert (loaded.codebook(1).shape, loaded.codebook(1).dtype) == ((8, 2), np.float64)
    np.testing.assert_array_equal(loaded.codebook(1), example().codebooks[1])
    np.testing.assert_array_equal(loaded.label_array(0), example().labels[0])
    assert loaded.label_array(0).dtype == np.int64
    gridded = on_grid()
    assert gridded.grid_codebook(0).tolist() == [[k, 1] for k in range(4)]
    assert gridded.grid_codebook(1).tolist() == [[2 * k, 2] for k in range(8)]
    assert gridded.grid_codebook(1).dtype == np.int64
    assert (loaded.header.modes_count, loaded.header.symbol_count([0.0, 10.0]).tolist()) == (4, [4, 1])
    assert example(routing=fixed_routing()).header.max_symbols == 0
    assert example(symbol_energy=(1.0, 1.44, 1.0, 1.21)).amplitudes.tolist() == [1.0, 1.2, 1.0, 1.1]


def test_modes_and_routing_are_written_for_the_reader(folder):
    value = written(folder)
    assert (value["format"], value["version"]) == ("twophase-link", VERSION)
    assert value["modes"][3] == {"name": "8x16qam", "information_bits": 6, "channel_bits": 8, "symbols": 2}
    assert value["routing"] == {
        "router": "content",
        "table": {"thresholds_db": [-1.25, 7.5], "modes": [2, 0, 3]},
        "hysteresis_db": 0.0,
        "header": [{"from_db": -10.0, "code": "repeat4"}, {"from_db": 6.5, "code": "plain"}],
    }
    link = LinkConfig(codebook_sizes=(4, 4), tokens=(3, 2), qam_orders=(4,), embedding_dim=2)
    names = ("codebooks", "labels", "usage", "symbol_energy")
    twice = {name: (getattr(example(), name)[0],) * 2 for name in names}
    write_manifest(folder, example(link=link, routing=fixed_routing(), **twice), tuple(FILES))
    assert [mode["name"] for mode in written(folder)["modes"]] == ["4x4qam#0", "4x4qam#1"]


def test_a_front_stands_ahead_of_the_head():
    assert (example().head_file, example().whole_files) == ("tx.onnx", ())
    assert example().graph_files == ("tx.onnx", "rx.onnx", "soft.onnx")
    assert (of_text().head_file, of_text().whole_files) == ("tx_head.onnx", ("tx.onnx", "tokenizer.json"))
    assert of_text().graph_files == ("tx_head.onnx", "rx.onnx", "soft.onnx")
    assert program_file(of_text().head_file) == "programs/tx_head.pt2"


def test_what_is_no_finished_bundle_is_told(folder, tmp_path):
    assert "must describe a run, not a 'bundle'" in refusal(folder, "run")
    edit(folder, lambda value: value.update(version=1))
    assert f"must be of version {VERSION}, not 1" in refusal(folder)
    (folder / MANIFEST_NAME).unlink()
    assert refusal(folder).endswith("is no finished bundle: 'link.json' is missing")
    assert "is not a folder" in refusal(folder / "tx.onnx")


@pytest.mark.parametrize("text", ["[]", "3", '{"format": "another"}', "null"])
def test_other_json_is_no_manifest(folder, text):
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    assert "is not a twophase-link manifest" in refusal(folder)


def test_a_truncated_manifest_is_refused(folder):
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    for length in range(0, len(text) - 2, 211):
        (folder / MANIFEST_NAME).write_text(text[:length], encoding="utf-8")
        assert "truncated or altered" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_truncated_or_altered_file_is_named(folder, name):
    content, size = FILES[name], len(FILES[name])
    (folder / name).write_bytes(content[:3] + bytes([content[3] ^ 1]) + content[4:])
    assert f"{name}' is altered" in refusal(folder)
    (folder / name).write_bytes(content[:-1])
    assert f"{name}' must have {size} bytes, not {size - 1}" in refusal(folder)
    (folder / name).unlink()
    assert f"{name}' is missing" in refusal(folder)


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Manifest)} - {"kind"}))
def test_a_missing_entry_is_named(folder, name):
    edit(folder, lambda value: value.pop(name))
    assert f"lacks {name}" in refusal(folder)


@pytest.mark.parametrize(("name", "number"), [("codebooks", [0.25, 0.5]), ("usage", 0.2)])
def test_a_well_formed_change_of_a_number_is_found(folder, name, number):
    edit(folder, at(name, 0, 0, to=number))
    assert "is altered: its digest is not that of its content" in refusal(folder)


def at(*path, to):
    """A change of one entry."""

    def change(value):
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("llr_clip", to="a"), "'llr_clip' must be a number, not 'a'"),
        (at("llr_clip", to=0), "'llr_clip' must be above 0 and finite, not 0.0"),
        (at("conventions", "snr", to=1), "'conventions.snr' must be a text"),
        (at("references", 0, "temperature", to="cold"), "'references[0].temperature' must be a number"),
        (at("link", "tokens", 1, to=2.0), "'link.tokens[1]' must be a whole number, not 2.0"),
        (at("link", "tokens", to=[0, 1]), "'tokens' must"),
        (at("codebooks", 0, 1, 0, to="x"), "'codebooks[0][1][0]' must be a number"),
        (at("files", "tx.onnx", to=[]), "'files.tx.onnx' must be an object, not []"),
        (at("classes", to=[]), "'classes' must name at least one class"),
        (at("input_shape", to=[8, 0]), "'input_shape' must hold sizes of at least 1"),
        (at("codebooks", to=[[[0.0]]] * 3), "'codebooks' must hold 2 entries, one per codebook, not 3"),
        (at("codebooks", 0, to=[[0.0, 1.0]]), "'codebooks[0]' must have shape (4, 2)"),
        (at("codebooks", 1, 2, to=[0.0]), ""),
        (at("symbol_energy", to=[1.0]), "'symbol_energy' must hold 4 entries, one per mode, not 1"),
        (
            at("symbol_energy", 0, to=1.01),
            "'symbol_energy' must lie in 0.9999..1, as the points of 4x4qam do",
        ),
        (
            at("symbol_energy", 1, to=0.19),
            "'symbol_energy' must lie in 0.2..1.8, as the points of 4x16qam do",
        ),
        (at("class_frequency", to=[1.0]), "'class_frequency' must hold 2 entries, one per class, not 1"),
        (at("class_frequency", to=[0.0, 1.0]), "'class_frequency' must be above 0 and sum to 1"),
        (at("class_frequency", to=[0.5, 0.4]), "'class_frequency' must be above 0 and sum to 1"),
        (at("usage", to=[]), "'usage' must hold 2 entries, one per codebook, not 0"),
        (at("usage", 1, to=[1.0]), "'usage[1]' must have shape (8,)"),
        (at("labels", 1, to=[0, 1, 2, 3, 4, 5, 6, 6]), "'labels[1]' must be a permutation of 0..7"),
        (at("routing", "table", "modes", 2, to=4), "'routing.table.modes' must lie in 0..3, not 4"),
        (at("routing", "table", "thresholds_db", to=[]), "'thresholds_db' must"),
        (at("routing", "header", 0, "code", to="rm13"), "'code' must be one of"),
        (at("routing", "router", to="x"), "'routing.router' must be one of"),
        (at("files", "../x", to={"sha256": "", "bytes": 0}), "'../x' is no file of the folder"),
        (at("files", "/x", to={"sha256": "", "bytes": 0}), "'/x' is no file of the folder"),
        (at("files", "tx.onnx", to={"sha256": ""}), "no hash of 'tx.onnx'"),
        (at("accuracy", "trials", to=0), "'trials' must be at least 1, not 0"),
        (at("accuracy", "samples", to=0), "'samples' must be at least 1, not 0"),
        (at("accuracy", "esn0_db", to=[]), "'esn0_db' must name at least one SNR"),
        (at("accuracy", "correct", to=[4]), "'correct' must hold 2 entries, one per SNR, not 1"),
        (at("accuracy", "symbols", to=[1.0] * 3), "'symbols' must hold 2 entries, one per SNR, not 3"),
        (at("conformance", "sets", 0, "folder", to="../test_data_set_0"), "'folder' must"),
    ],
)
def test_a_wrong_entry_is_refused_though_the_digest_is_right(folder, change, reason):
    write_manifest(folder, example(accuracy=ACCURACY, conformance=VECTORS), tuple(FILES))
    edit(folder, change, sign=True)
    assert f"is altered: {reason}" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("front", to={"backbone": "x", "max_length": 128}), "'front' lacks pooling"),
        (at("front", "max_length", to=1), "'max_length' must be at least 2 tokens, not 1"),
        (at("front", "backbone", to=""), "'backbone' must be a name or a path"),
        (at("front", "pooling", to=""), "'pooling' must name how tokens"),
        (at("input_shape", to=[8, 8]), "'input_shape' must be one size where a front gives the features"),
    ],
)
def test_a_wrong_front_is_refused_though_the_digest_is_right(tmp_path, change, reason):
    edit(write(tmp_path, of_text(), TEXT_FILES), change, sign=True)
    assert f"is altered: {reason}" in refusal(tmp_path)


OWN = (*example().references, Reference("learning", "another model", "soft.onnx", "rx_learning.onnx", 0.7))
PROGRAMS = [f"programs/{part}.pt2" for part in ("tx", "rx", "soft")]
TEXT_PROGRAMS = [f"programs/{part}.pt2" for part in ("tx_head", "rx", "soft")]


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (example(), ["eval.npz", "tx.onnx", "rx.onnx", "soft.onnx"]),
        (example(references=OWN), ["eval.npz", "tx.onnx", "rx.onnx", "soft.onnx", "rx_learning.onnx"]),
        (of_text(), ["eval.npz", "tx_head.onnx", "rx.onnx", "soft.onnx", "tx.onnx", TOKENIZER_FILE]),
        (example(kind="run"), ["eval.npz", *PROGRAMS]),
        (of_text(kind="run"), ["eval.npz", *TEXT_PROGRAMS, BACKBONE_PROGRAM, TOKENIZER_FILE]),
    ],
    ids=["bundle", "reference", "text", "run", "run of text"],
)
def test_a_bundle_or_run_must_list_what_it_cannot_do_without(tmp_path, content, needed):
    write(tmp_path, content, needed)
    assert set(load_manifest(tmp_path, content.kind).files) == set(needed)
    for name in needed:
        write_manifest(tmp_path, content, tuple(file for file in needed if file != name))
        assert refusal(tmp_path, content.kind).endswith(f"must list {', '.join(needed)}; it lacks {name}")


def test_what_to_check_may_depend_on_the_manifest(tmp_path):
    write(tmp_path, of_text(), TEXT_FILES)
    (tmp_path / "tx.onnx").unlink()
    assert load_manifest(tmp_path, "bundle", lambda known: (known.head_file,)) == load_manifest(
        tmp_path, "bundle", ("tx_head.onnx",)
    )
    with pytest.raises(ArtifactError, match=r"tx\.onnx' is missing"):
        load_manifest(tmp_path, "bundle", lambda known: known.whole_files)


@pytest.mark.parametrize("method", ["is_dir", "is_file", "stat", "open", "read_text"])
def test_a_bundle_without_read_permission_is_told_in_one_line(folder, monkeypatch, method):
    # the permission bits do not hold for root, as whom containers run tests
    def refuse(path, *_arguments, **_named):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, method, refuse)
    message = refusal(folder)
    assert message.startswith(f"'{folder}")
    assert message.endswith("cannot be read: Permission denied")


def test_codebooks_off_their_grid_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"'codebooks' must hold whole numbers of the grid's units.*0\.5"):
        on_grid(component=0.125)
    with pytest.raises(InputError, match=r"'codebooks' must hold .* within \+-127, not 128"):
        on_grid(component=32.0)
    with pytest.raises(InputError, match="'grid' must hold 2 exponents, one per codebook, not 1"):
        on_grid(exponents=(-2,))
    with pytest.raises(InputError, match="'grid' must be there"):
        example().grid_codebook(0)
    edit(write(tmp_path, on_grid(), FILES), at("grid", "exponents", to=[-1, -3]), sign=True)
    assert "is altered: 'codebooks' must hold whole numbers" in refusal(tmp_path)


MODE, SYMBOLS, COUNTS = [2, 0, 255], [[7, 255, 9, 0], [1, 2, 3, 4], [0, 0, 0, 0]], [2, 4, 0]


def test_the_stream_is_the_mode_and_the_symbols_that_are_sent():
    stream = symbol_stream(MODE, SYMBOLS, COUNTS)
    assert stream == bytes([2, 7, 255, 0, 1, 2, 3, 4, 255])
    rows = [symbol_stream(MODE[i : i + 1], SYMBOLS[i : i + 1], COUNTS[i : i + 1]) for i in range(3)]
    assert b"".join(rows) == symbol_stream(np.int64(MODE), np.int64(SYMBOLS), np.int64(COUNTS)) == stream
    assert stream_hash(rows) == hashlib.sha256(stream).hexdigest()
    assert stream_hash([]) == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("name", ["test_data_set_", "test_data_set_0/..", "test_data_set_1\n"])
def test_a_set_is_of_a_deployed_graph_and_lies_in_a_folder_of_its_own(name):
    with pytest.raises(InputError, match="'folder' must be 'test_data_set_' and a number"):
        VectorSet(name, "tx.onnx", "samples")
    with pytest.raises(InputError, match=r"'graph' must be 'tx\.onnx', 'tx_head\.onnx' or 'rx\.onnx'"):
        VectorSet("test_data_set_0", "soft.onnx", "samples")
    entry = VectorSet("test_data_set_0", "tx_head.onnx", "samples")
    with pytest.raises(InputError, match="'sets' must each have a folder of its own"):
        Conformance((entry, entry), "")
