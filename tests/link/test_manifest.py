"""``link.json``: what it holds and refuses, and the stream that every runtime must send alike."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twophase.link import manifest
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import sha256_of
from twophase.link.grid import Grid
from twophase.link.manifest import (
    BACKBONE_PROGRAM,
    CONVENTIONS,
    MANIFEST_NAME,
    TOKENIZER_FILE,
    VERSION,
    Accuracy,
    Conformance,
    Reference,
    VectorSet,
    load_manifest,
    write_manifest,
)
from twophase.link.routing import fixed_routing

MEASURED = {
    "accuracy": Accuracy(3, 2, 5, (-5.0, 0.5), (4, 10), (24.0, 12.5)),
    "conformance": Conformance((VectorSet("test_data_set_0", "tx.onnx", "near ties"),), "ab" * 32),
    "precision": "int8",
}


@pytest.fixture
def plain(tiny_bundle):
    """The manifest of a link of features."""
    return load_manifest(tiny_bundle("content"), "bundle")


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A bundle of text to alter, whose manifest holds all that one may hold but a grid."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle("content", text=True), folder)
    known = load_manifest(folder, "bundle")
    write_manifest(folder, replace(known, **MEASURED), tuple(known.files))
    return folder


def written(folder):
    return json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))


def edit(folder, change, sign=False):
    """Alter the manifest itself; ``sign`` lets it look untouched."""
    value = written(folder)
    change(value)
    if sign:
        value["digest"] = manifest._digest(value)
    (folder / MANIFEST_NAME).write_text(json.dumps(value), encoding="utf-8")


def at(*path, to):
    """A change of one entry."""

    def change(value):
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


def refusal(folder, kind="bundle"):
    with pytest.raises(ArtifactError) as caught:
        load_manifest(folder, kind)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("changes", [{}, {"front": None, "grid": Grid((-1, 0), 1023)}])
def test_round_trip(folder, changes):
    known = replace(load_manifest(folder, "bundle"), **changes)
    assert known.conventions == CONVENTIONS
    assert known.files["rx.onnx"] == {
        "sha256": sha256_of(folder / "rx.onnx"),
        "bytes": len((folder / "rx.onnx").read_bytes()),
    }
    files = sorted({*known.files, known.head_file})
    written = []
    for order in (files, files[::-1]):
        write_manifest(folder, known, tuple(order))
        written.append((folder / MANIFEST_NAME).read_bytes())
        loaded = load_manifest(folder, "bundle")
        assert replace(loaded, files={}) == replace(known, files={})
        assert sorted(loaded.files) == files
    assert written[0] == written[1]


def test_tables_come_back_as_arrays(plain):
    assert (plain.codebook(1).shape, plain.codebook(1).dtype) == ((16, 2), np.float64)
    np.testing.assert_array_equal(plain.codebook(1), plain.codebooks[1])
    np.testing.assert_array_equal(plain.label_array(0), plain.labels[0])
    assert plain.label_array(0).dtype == np.int64
    gridded = replace(plain, grid=Grid((-1, 0), 1023))
    assert gridded.grid_codebook(0).tolist() == [[2 * k, 0] for k in range(4)]
    assert gridded.grid_codebook(0).dtype == np.int64
    with pytest.raises(InputError, match="'grid' must be there"):
        plain.grid_codebook(0)
    assert (plain.header.modes_count, plain.header.symbol_count([0.0, 10.0]).tolist()) == (4, [4, 1])
    assert replace(plain, routing=fixed_routing()).header.max_symbols == 0
    energies = replace(plain, symbol_energy=(1.0, 1.44, 1.0, 1.21))
    assert energies.amplitudes.tolist() == [1.0, 1.2, 1.0, 1.1]


def test_modes_and_routing_are_written_for_the_reader(folder):
    value = written(folder)
    assert (value["format"], value["version"]) == ("twophase-link", VERSION)
    assert value["modes"][1] == {"name": "4x16qam", "information_bits": 6, "channel_bits": 8, "symbols": 2}
    assert value["routing"] == {
        "router": "content",
        "table": {"thresholds_db": [2.0, 6.0, 10.0], "modes": [0, 1, 2, 3]},
        "hysteresis_db": 0.0,
        "header": [{"from_db": -10.0, "code": "hamming84"}, {"from_db": 5.0, "code": "plain"}],
    }


def test_what_is_no_finished_bundle_is_refused(folder):
    assert refusal(folder, "run").endswith("must describe a run, not a 'bundle'")
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    (folder / "bundle").mkdir()
    (folder / "bundle" / MANIFEST_NAME).write_text(text, encoding="utf-8")
    edit(folder, at("kind", to="run"))
    assert refusal(folder).endswith(f"a bundle, not a 'run': the bundle is '{folder / 'bundle'}'")
    assert refusal(folder / "bundle", "run").endswith(f"a run, not a 'bundle': the run is '{folder}'")
    edit(folder, at("kind", to="bundle"))
    edit(folder, lambda value: [value.pop(name) for name in ("usage", "task")])
    assert "lacks task, usage: truncated or altered" in refusal(folder)
    edit(folder, at("version", to=1))
    assert f"must be of version {VERSION}, not 1" in refusal(folder)
    for other in ("[]", '{"format": "another"}'):
        (folder / MANIFEST_NAME).write_text(other, encoding="utf-8")
        assert "is not a twophase-link manifest" in refusal(folder)
    for length in range(0, len(text) - 2, 211):
        (folder / MANIFEST_NAME).write_text(text[:length], encoding="utf-8")
        assert "truncated or altered" in refusal(folder)
    (folder / MANIFEST_NAME).unlink()
    assert refusal(folder).endswith("is no finished bundle: 'link.json' is missing")
    assert "is not a folder" in refusal(folder / "tx.onnx")


def test_a_missing_truncated_or_altered_file_is_named(folder):
    content = (folder / "rx.onnx").read_bytes()
    (folder / "rx.onnx").write_bytes(content[:3] + bytes([content[3] ^ 1]) + content[4:])
    assert "rx.onnx' is altered" in refusal(folder)
    (folder / "rx.onnx").write_bytes(content[:-1])
    assert f"rx.onnx' must have {len(content)} bytes, not {len(content) - 1}" in refusal(folder)
    (folder / "rx.onnx").unlink()
    assert "rx.onnx' is missing" in refusal(folder)


def test_a_well_formed_change_of_a_number_is_found(folder):
    edit(folder, at("codebooks", 0, 0, to=[0.25, 0.5]))
    assert "is altered: its digest is not that of its content" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("references", 0, "temperature", to="cold"), "'references[0].temperature' must be a number"),
        (at("link", "tokens", to=[0, 1]), "'tokens' must"),
        (at("llr_clip", to=0), "'llr_clip' must be above 0 and finite, not 0.0"),
        (at("classes", to=[]), "'classes' must name 1 to 10,000 classes"),
        (at("input_shape", to=[0]), "'input_shape' must hold sizes of at least 1"),
        (at("input_shape", to=[8, 8]), "'input_shape' must be one size where a front gives the features"),
        (at("codebooks", to=[[[0.0]]] * 3), "'codebooks' must hold 2 entries, one per codebook, not 3"),
        (at("codebooks", 0, to=[[0.0, 1.0]]), "'codebooks[0]' must have shape (4, 2)"),
        (at("codebooks", 1, 2, to=[0.0]), "'codebooks[1]' must have shape (16, 2), not 'another'"),
        (at("symbol_energy", to=[1.0]), "'symbol_energy' must hold 4 entries, one per mode, not 1"),
        (at("symbol_energy", 0, to=1.01), "'symbol_energy' must lie in 0.9999..1, as the points of 4x4qam"),
        (at("symbol_energy", 1, to=0.19), "'symbol_energy' must lie in 0.2..1.8, as the points of 4x16qam"),
        (at("class_frequency", to=[1.0]), "'class_frequency' must hold 4 entries, one per class, not 1"),
        (at("class_frequency", to=[0.0, 0.2, 0.3, 0.5]), "'class_frequency' must be above 0 and sum to 1"),
        (at("class_frequency", to=[0.2, 0.2, 0.2, 0.3]), "'class_frequency' must be above 0 and sum to 1"),
        (at("usage", 1, to=[1.0]), "'usage[1]' must have shape (16,)"),
        (at("labels", 0, to=[0, 1, 2, 2]), "'labels[0]' must be a permutation of 0..3"),
        (at("routing", "table", "modes", 2, to=4), "'routing.table.modes' must lie in 0..3, not 4"),
        (at("grid", to={"exponents": [-2], "latent_limit": 9}), "'grid' must hold 2 exponents, one per"),
        (at("grid", to={"exponents": [1, 0], "latent_limit": 9}), "'codebooks' must hold whole numbers"),
        *(
            (at("files", name, to={"sha256": "00" * 32, "bytes": 0}), "'files' must name files of the folder")
            for name in ("../x", "/x", "a/../x", "a//x", "", ".", "c:x", "a\\x", "a\nb", "a/")
        ),
        (at("files", "tx.onnx", to={"sha256": ""}), "'files['tx.onnx']' must hold its bytes and its SHA-256"),
        (at("files", "tx.onnx", to={"sha256": "", "bytes": -1}), "'files['tx.onnx']' must hold its bytes"),
        (at("files", "tx.onnx", to={"sha256": "AB", "bytes": 1}), "'files['tx.onnx']' must hold a SHA-256"),
        (at("references", 0, "soft", to="../soft.onnx"), "'soft' must be the plain name of an .onnx file"),
        (at("references", 0, "rx", to="/etc/passwd"), "'rx' must be the plain name of an .onnx file"),
        (at("references", 0, "temperature", to=0), "'temperature' must lie in 1e-06..1e+06, not 0"),
        (at("modes", to=[{"name": "lies", "symbols": 1}]), "'modes' must be what follows from the other"),
        (at("training", "symbol_energy", to=[1e6]), "'training' must not hold 'symbol_energy', which is a"),
        (at("training", "lossy", to=float("nan")), "'training.lossy' must be finite, not nan"),
        (at("training", "deep", to=json.loads("[" * 99 + "]" * 99)), "'training.deep[0][0]"),
        (at("conventions", "llr", to="P(b=0) first"), "'conventions' must be what follows"),
        (at("amplitudes", to=[1.0]), "it holds 'amplitudes', which no manifest has"),
        (at("link", "tokens", 0, to=10**9), "'tokens' must lie in 1..65536 for 4 codewords"),
        (at("usage", 0, to=[0.5, 0.5, 0.5, -0.5]), "'usage[0]' must be at least 0 and sum to 1"),
        (at("accuracy", "trials", to=0), "'trials' must lie in 1..100, not 0"),
        (at("accuracy", "trials", to=10**18), "'trials' must lie in 1..100, not 1000000000000000000"),
        (at("accuracy", "esn0_db", to=[]), "'esn0_db' must name 1 to 32 SNRs, not 0"),
        (at("accuracy", "correct", 0, to=11), "'correct' must lie in 0..10, not 11"),
        (at("conformance", "symbols_sha256", to="x"), "'symbols_sha256' must be a SHA-256"),
        (at("accuracy", "correct", to=[4]), "'correct' must hold 2 entries, one per SNR, not 1"),
        (at("accuracy", "symbols", to=[1.0] * 3), "'symbols' must hold 2 entries, one per SNR, not 3"),
        (
            at("conformance", "sets", 0, "folder", to="../test_data_set_0"),
            "'folder' must be 'test_data_set_'",
        ),
        (at("conformance", "sets", 0, "folder", to="test_data_set_1\n"), "'folder' must be 'test_data_set_'"),
        (
            at("conformance", "sets", 0, "graph", to="soft.onnx"),
            "'graph' must be 'tx.onnx', 'tx_head.onnx' or",
        ),
        (at("front", to={"backbone": "x", "max_length": 128}), "'front' lacks pooling"),
        (at("front", "max_length", to=1), "'max_length' must be at least 2 tokens, not 1"),
        (at("front", "backbone", to=""), "'backbone' must be a name or a path"),
        (at("front", "pooling", to=""), "'pooling' must name how tokens"),
    ],
)
def test_a_wrong_entry_is_refused_though_the_digest_is_right(folder, change, reason):
    edit(folder, change, sign=True)
    assert f"is altered: {reason}" in refusal(folder)


PROGRAMS = [f"programs/{part}.pt2" for part in ("tx_head", "rx", "soft", "rx_aligned")]
OTHER = Reference("learning", "another model", "soft.onnx", "rx_learning.onnx", 0.7)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"front": None}, ["eval.npz", "tx.onnx", "rx.onnx", "soft.onnx", "rx_aligned.onnx"]),
        ({"references": (OTHER,)}, ["eval.npz", "tx_head.onnx", "rx.onnx", "soft.onnx", "rx_learning.onnx"]),
        ({"kind": "run"}, ["eval.npz", *PROGRAMS]),
    ],
)
def test_a_bundle_or_run_must_list_what_it_cannot_do_without(folder, tmp_path, changes, needed):
    known = load_manifest(folder, "bundle")
    known = replace(known, **({"references": known.references[1:]} | changes))
    if known.front is not None:
        needed = [*needed, "tx.onnx" if known.kind == "bundle" else BACKBONE_PROGRAM, TOKENIZER_FILE]
    (tmp_path / "programs").mkdir()
    for name in needed:
        (tmp_path / name).write_bytes(b"x")
    write_manifest(tmp_path, known, tuple(needed))
    assert set(load_manifest(tmp_path, known.kind).files) == set(needed)
    for name in needed:
        write_manifest(tmp_path, known, tuple(file for file in needed if file != name))
        assert refusal(tmp_path, known.kind).endswith(f"must list {', '.join(needed)}; it lacks {name}")


def test_what_to_check_may_depend_on_the_manifest(folder):
    whole = load_manifest(folder, "bundle")
    (folder / "tx.onnx").unlink()
    for only in (lambda known: (known.head_file,), ("tx_head.onnx",)):
        assert load_manifest(folder, "bundle", only) == whole
    with pytest.raises(ArtifactError, match=r"tx\.onnx' is missing"):
        load_manifest(folder, "bundle", lambda known: known.whole_files)


@pytest.mark.parametrize("method", ["is_dir", "stat", "open"])
def test_a_bundle_without_read_permission_is_refused_in_one_line(folder, monkeypatch, method):
    # the permission bits do not hold for root, as whom containers run tests
    def refuse(path, *_arguments, **_named):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os if method == "open" else Path, method, refuse)
    message = refusal(folder)
    assert message.startswith(f"'{folder}")
    assert message.endswith("cannot be read: Permission denied")


def test_sets_have_folders_of_their_own():
    entry = VectorSet("test_data_set_0", "tx_head.onnx", "samples")
    with pytest.raises(InputError, match="'sets' must each have a folder of its own"):
        Conformance((entry, entry), "")
