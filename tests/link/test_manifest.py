import errno
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


def example():
    rng = np.random.default_rng(0)
    link = LinkConfig(codebook_sizes=(4, 8), tokens=(3, 2), qam_orders=(4, 16), embedding_dim=2)
    return Manifest(
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
        class_frequency=(1 / 2,) * 2,
        llr_clip=100.0,
        references=(Reference("aligned", "the same model", "soft.onnx", "rx.onnx", 0.7),),
        training={"method": "two-phase", "epochs": 30},
        provenance={"command": "tp-train"},
    )


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    write_manifest(tmp_path, example(), tuple(FILES))
    return tmp_path


def edit(folder, change):
    """Alter the manifest itself."""
    path = folder / MANIFEST_NAME
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def resign(folder, change):
    """Alter the manifest and let it look untouched."""

    def all_of_it(value):
        change(value)
        value["digest"] = manifest._digest(value)

    edit(folder, all_of_it)


def refusal(folder, kind="bundle"):
    with pytest.raises(ArtifactError) as caught:
        load_manifest(folder, kind)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip(folder):
    loaded = load_manifest(folder, "bundle")
    assert replace(loaded, files={}) == example()
    assert loaded.conventions == CONVENTIONS
    for name, content in FILES.items():
        assert loaded.files[name] == {"sha256": sha256_of(folder / name), "bytes": len(content)}
    assert set(loaded.files) == set(FILES)


def test_tables_come_back_as_arrays(folder):
    loaded = load_manifest(folder, "bundle")
    assert loaded.codebook(1).shape == (8, 2)
    assert loaded.codebook(1).dtype == np.float64
    np.testing.assert_array_equal(loaded.codebook(1), example().codebooks[1])
    np.testing.assert_array_equal(loaded.label_array(0), example().labels[0])
    assert loaded.label_array(0).dtype == np.int64


def test_modes_follow_from_the_link_and_are_written_for_the_reader(folder):
    assert load_manifest(folder, "bundle").modes == example().link.modes
    written = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert written["modes"][3] == {"name": "8x16qam", "information_bits": 6, "channel_bits": 8, "symbols": 2}
    assert (written["format"], written["version"]) == ("twophase-link", VERSION)


def test_modes_of_one_name_are_told_apart_for_the_reader(folder):
    link = LinkConfig(codebook_sizes=(4, 4), tokens=(3, 2), qam_orders=(4,), embedding_dim=2)
    names = ("codebooks", "labels", "usage", "symbol_energy")
    twice = {name: (getattr(example(), name)[0],) * 2 for name in names}
    write_manifest(folder, replace(example(), link=link, routing=fixed_routing(), **twice), tuple(FILES))
    written = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert [mode["name"] for mode in written["modes"]] == ["4x4qam#0", "4x4qam#1"]


def test_the_routing_is_readable_as_it_stands(folder):
    written = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert written["routing"] == {
        "router": "content",
        "table": {"thresholds_db": [-1.25, 7.5], "modes": [2, 0, 3]},
        "hysteresis_db": 0.0,
        "header": [{"from_db": -10.0, "code": "repeat4"}, {"from_db": 6.5, "code": "plain"}],
    }
    assert {"mode", "header"} <= written["conventions"].keys()


def test_the_header_is_made_for_the_modes_of_the_link(folder):
    header = load_manifest(folder, "bundle").header
    assert (header.modes_count, header.max_symbols) == (4, 4)
    assert header.symbol_count([0.0, 10.0]).tolist() == [4, 1]
    assert replace(example(), routing=fixed_routing()).header.max_symbols == 0


def test_a_routing_must_fit_the_modes():
    with pytest.raises(InputError, match=r"'routing\.table\.modes' must lie in 0\.\.3, not 4"):
        replace(example(), routing=Routing("snr", SnrTable((0.0,), (0, 4)), 0.0, ()))


def test_same_content_same_bytes(folder):
    first = (folder / MANIFEST_NAME).read_bytes()
    write_manifest(folder, example(), tuple(reversed(FILES)))
    assert (folder / MANIFEST_NAME).read_bytes() == first


def test_labels_must_be_permutations():
    with pytest.raises(InputError, match=r"'labels\[1\]' must be a permutation of 0\.\.7"):
        replace(example(), labels=((0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6, 6)))


def test_a_folder_without_manifest_is_not_finished(folder):
    (folder / MANIFEST_NAME).unlink()
    assert refusal(folder).endswith("is no finished bundle: 'link.json' is missing")
    assert "is not a folder" in refusal(folder / "elsewhere")
    assert "is not a folder" in refusal(folder / "tx.onnx")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"{name}' is missing" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_its_sizes(folder, name):
    (folder / name).write_bytes(FILES[name][:-1])
    assert f"{name}' must have {len(FILES[name])} bytes, not {len(FILES[name]) - 1}" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_is_found(folder, name):
    content = bytearray(FILES[name])
    content[3] ^= 1
    (folder / name).write_bytes(content)
    assert f"{name}' is altered" in refusal(folder)


def test_another_version_is_refused_with_both_numbers(folder):
    edit(folder, lambda value: value.update(version=1))
    assert f"must be of version {VERSION}, not 1" in refusal(folder)


def test_a_run_is_no_bundle(folder):
    assert "must describe a run, not a 'bundle'" in refusal(folder, "run")


@pytest.mark.parametrize("name", ["codebooks", "usage"])
def test_a_well_formed_change_of_a_number_is_found(folder, name):
    def change(value):
        value[name][0][0] = [0.25, 0.5] if name == "codebooks" else 0.2

    edit(folder, change)
    with pytest.raises(ArtifactError, match="is altered: its digest is not that of its content"):
        load_manifest(folder, "bundle")


def test_a_truncated_manifest_is_refused(folder):
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    for length in range(0, len(text) - 2, 61):
        (folder / MANIFEST_NAME).write_text(text[:length], encoding="utf-8")
        assert "truncated or altered" in refusal(folder)


@pytest.mark.parametrize("text", ["[]", "3", '{"format": "another"}', "{}", "null"])
def test_other_json_is_no_manifest(folder, text):
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    assert "is not a twophase-link manifest" in refusal(folder)


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Manifest)} - {"kind"}))
def test_a_missing_entry_is_named(folder, name):
    edit(folder, lambda value: value.pop(name))
    assert f"lacks {name}" in refusal(folder)


@pytest.mark.parametrize("wrong", [None, 7, "text", [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize("name", ["link", "routing", "labels", "references", "files", "codebooks", "usage"])
def test_an_entry_of_another_form_is_refused(folder, name, wrong):
    edit(folder, lambda value: value.update({name: wrong}))
    assert "altered" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["labels"][0].reverse() or value["labels"][0].append(9),
        lambda value: value["labels"].pop(),
        lambda value: value["link"].update(tokens=[0, 1]),
        lambda value: value["link"].update(extra=1),
        lambda value: value["link"].pop("tokens"),
        lambda value: value["link"].update(qam_orders=[8]),
        lambda value: value["references"][0].pop("rx"),
        lambda value: value["codebooks"][0].pop(),
        lambda value: value["codebooks"][1][2].pop(),
        lambda value: value["codebooks"].pop(),
        lambda value: value["usage"][1].append(0.0),
        lambda value: value["routing"].pop("table"),
        lambda value: value["routing"]["table"]["thresholds_db"].pop(),
        lambda value: value["routing"]["header"].reverse(),
        lambda value: value["files"]["tx.onnx"].pop("sha256"),
        lambda value: value["files"].update({"tx.onnx": 3}),
    ],
)
def test_an_altered_definition_is_refused(folder, change):
    edit(folder, change)
    assert "altered" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"llr_clip": "a"}, "'llr_clip' must be a number, not 'a'"),
        ({"llr_clip": True}, "'llr_clip' must be a number, not True"),
        ({"llr_clip": float("nan")}, "'llr_clip' must be finite, not nan"),
        ({"llr_clip": 10**400}, "'llr_clip' must be finite, not 1000"),
        ({"llr_clip": 0}, "'llr_clip' must be above 0 and finite, not 0.0"),
        ({"training": []}, "'training' must be an object, not []"),
        ({"provenance": "x"}, "'provenance' must be an object, not 'x'"),
        ({"conventions": {"snr": 1}}, "'conventions.snr' must be a text, not 1"),
        ({"task": None}, "'task' must be a text, not None"),
        ({"references": {}}, "'references' must be a list, not {}"),
        ({"references": [3]}, "'references[0]' must be an object, not 3"),
        ({"classes": "ab"}, "'classes' must be a list, not 'ab'"),
        ({"classes": ["a", 2]}, "'classes[1]' must be a text, not 2"),
        ({"classes": []}, "'classes' must name at least one class"),
        ({"input_shape": 8}, "'input_shape' must be a list, not 8"),
        ({"input_shape": [8, 8.0]}, "'input_shape[1]' must be a whole number, not 8.0"),
        ({"input_shape": [8, 0]}, "'input_shape' must hold sizes of at least 1"),
        ({"files": []}, "'files' must be an object, not []"),
        ({"files": {"tx.onnx": []}}, "'files.tx.onnx' must be an object, not []"),
    ],
)
def test_an_entry_of_the_wrong_type_is_refused_though_the_digest_is_right(folder, change, reason):
    resign(folder, lambda value: value.update(change))
    assert f"is altered: {reason}" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda value: value["references"][0].update(temperature="cold"),
            "'references[0].temperature' must be a n",
        ),
        (lambda value: value["references"][0].update(soft=1), "'references[0].soft' must be a text, not 1"),
        (lambda value: value["references"][0].update(more=1), "'references[0]' has no more"),
        (lambda value: value["references"][0].pop("rx"), "'references[0]' lacks rx"),
        (
            lambda value: value["link"].update(tokens=[3, 2.0]),
            "'link.tokens[1]' must be a whole number, not 2.0",
        ),
        (
            lambda value: value["link"].update(embedding_dim="2"),
            "'link.embedding_dim' must be a whole number",
        ),
        (lambda value: value["codebooks"][0][1].__setitem__(0, "x"), "'codebooks[0][1][0]' must be a number"),
        (
            lambda value: value["codebooks"].append([[0.0]]),
            "'codebooks' must hold 2 entries, one per codebook",
        ),
        (
            lambda value: value["routing"]["table"]["modes"].__setitem__(2, 4),
            "'routing.table.modes' must lie in 0..3, not 4",
        ),
        (
            lambda value: value["routing"]["header"][0].update(code="rm13"),
            "'code' must be one of plain, repeat2,",
        ),
        (
            lambda value: value["routing"].update(header=[]),
            "'header' must name a code for the router 'content'",
        ),
        (lambda value: value["routing"].update(router="x"), "'routing.router' must be one of 'fixed', 'con"),
        (lambda value: value["usage"].pop(), "'usage' must hold 2 entries, one per codebook, not 1"),
        (
            lambda value: value["labels"][0].__setitem__(1, 1.0),
            "'labels[0][1]' must be a whole number, not 1.0",
        ),
        (
            lambda value: value["files"].update({"../x": {"sha256": "", "bytes": 0}}),
            "'../x' is no file of the",
        ),
        (
            lambda value: value["files"].update({"/x": {"sha256": "", "bytes": 0}}),
            "'/x' is no file of the folder",
        ),
        (lambda value: value["files"]["tx.onnx"].pop("bytes"), "no hash of 'tx.onnx'"),
    ],
)
def test_a_wrong_detail_is_refused_though_the_digest_is_right(folder, change, reason):
    resign(folder, change)
    assert f"is altered: {reason}" in refusal(folder)


def test_whole_numbers_may_stand_for_real_ones(folder):
    resign(folder, lambda value: value.update(llr_clip=50))
    loaded = load_manifest(folder, "bundle").llr_clip
    assert (loaded, type(loaded)) == (50.0, float)


@pytest.mark.parametrize("name", ["tx.onnx", "rx.onnx", "soft.onnx", "eval.npz"])
def test_a_bundle_must_list_its_graphs_and_its_split(folder, name):
    write_manifest(folder, example(), tuple(set(FILES) - {name}))
    wanted = "must list eval.npz, tx.onnx, rx.onnx, soft.onnx; it lacks"
    assert refusal(folder).endswith(f"{wanted} {name}")


def test_a_bundle_must_list_the_receiver_of_every_reference(folder):
    own = Reference("learning", "another model", "soft.onnx", "rx_learning.onnx", 0.7)
    write_manifest(folder, replace(example(), references=(*example().references, own)), tuple(FILES))
    assert refusal(folder).endswith("it lacks rx_learning.onnx")


@pytest.mark.parametrize(
    "name", [None, "programs/tx.pt2", "programs/rx.pt2", "programs/soft.pt2", "eval.npz"]
)
def test_a_run_must_list_its_programs_and_its_split(tmp_path, name):
    run = replace(example(), kind="run")
    files = ["eval.npz", *map(program_file, run.graph_files)]
    (tmp_path / "programs").mkdir()
    for file in files:
        (tmp_path / file).write_bytes(b"x")
    write_manifest(tmp_path, run, tuple(file for file in files if file != name))
    if name is None:
        assert set(load_manifest(tmp_path, "run").files) == set(files)
    else:
        wanted = "must list eval.npz, programs/tx.pt2, programs/rx.pt2, programs/soft.pt2; it lacks"
        assert refusal(tmp_path, "run").endswith(f"{wanted} {name}")


@pytest.mark.parametrize("method", ["is_dir", "is_file", "stat", "open", "read_text"])
def test_a_bundle_without_read_permission_is_told_in_one_line(folder, monkeypatch, method):
    # the permission bits do not hold for root, as whom containers run tests
    def refuse(path, *_arguments, **_named):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, method, refuse)
    message = refusal(folder)
    assert message.startswith(f"'{folder}")
    assert message.endswith("cannot be read: Permission denied")


def on_grid(component=0.25, exponents=(-2, -3)):
    books = tuple(tuple((k * 0.25, component) for k in range(size)) for size in (4, 8))
    return replace(example(), codebooks=books, grid=Grid(exponents, 1023))


def test_codebooks_on_a_grid_come_back_in_units(folder):
    write_manifest(folder, on_grid(), tuple(FILES))
    loaded = load_manifest(folder, "bundle")
    assert loaded.grid == Grid((-2, -3), 1023)
    assert loaded.grid_codebook(0).tolist() == [[k, 1] for k in range(4)]
    assert loaded.grid_codebook(1).tolist() == [[2 * k, 2] for k in range(8)]
    assert loaded.grid_codebook(1).dtype == np.int64


def test_codebooks_off_their_grid_are_refused():
    with pytest.raises(InputError, match=r"'codebooks' must hold whole numbers of the grid's units.*0\.5"):
        on_grid(component=0.125)
    with pytest.raises(InputError, match=r"'codebooks' must hold .* within \+-127, not 128"):
        on_grid(component=32.0)
    with pytest.raises(InputError, match="'grid' must hold 2 exponents, one per codebook, not 1"):
        on_grid(exponents=(-2,))
    with pytest.raises(InputError, match="'grid' must be there"):
        example().grid_codebook(0)


def test_a_grid_off_which_the_codebooks_were_moved_is_altered(folder):
    write_manifest(folder, on_grid(), tuple(FILES))
    resign(folder, lambda value: value["grid"].update(exponents=[-1, -3]))
    assert "is altered: 'codebooks' must hold whole numbers" in refusal(folder)


def test_what_the_exporter_measured_travels_along(folder):
    accuracy = Accuracy(3, 2, 5, (-5.0, 0.5), (4, 10), (24.0, 12.5))
    vectors = Conformance((VectorSet("test_data_set_0", "tx.onnx", "near ties"),), "ab" * 32)
    full = replace(example(), accuracy=accuracy, conformance=vectors, precision="int8")
    write_manifest(folder, full, tuple(FILES))
    loaded = load_manifest(folder, "bundle")
    assert (loaded.accuracy, loaded.conformance, loaded.precision) == (accuracy, vectors, "int8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trials": 0}, "'trials' must be at least 1, not 0"),
        ({"samples": 0}, "'samples' must be at least 1, not 0"),
        ({"esn0_db": [], "correct": [], "symbols": []}, "'esn0_db' must name at least one SNR"),
        ({"correct": [4]}, "'correct' must hold 2 entries, one per SNR, not 1"),
        ({"symbols": [1.0, 2.0, 3.0]}, "'symbols' must hold 2 entries, one per SNR, not 3"),
    ],
)
def test_an_accuracy_that_says_nothing_is_altered(folder, change, told):
    accuracy = Accuracy(3, 2, 5, (-5.0, 0.5), (4, 10), (24.0, 12.5))
    write_manifest(folder, replace(example(), accuracy=accuracy), tuple(FILES))
    resign(folder, lambda value: value["accuracy"].update(change))
    assert f"is altered: {told}" in refusal(folder)


def test_vectors_outside_the_bundle_are_altered(folder):
    vectors = Conformance((VectorSet("test_data_set_0", "tx.onnx", "near ties"),), "ab" * 32)
    write_manifest(folder, replace(example(), conformance=vectors), tuple(FILES))
    resign(folder, lambda value: value["conformance"]["sets"][0].update(folder="../test_data_set_0"))
    assert "is altered: 'folder' must be 'test_data_set_' and a number" in refusal(folder)


TEXT_FILES = {**FILES, "tx_head.onnx": b"head", TOKENIZER_FILE: b"{}"}


def of_text():
    return replace(example(), input_shape=(384,), front=Front("a backbone", 128))


@pytest.fixture
def text_folder(folder):
    for name, content in TEXT_FILES.items():
        (folder / name).write_bytes(content)
    write_manifest(folder, of_text(), tuple(TEXT_FILES))
    return folder


def test_a_front_travels_along(text_folder):
    loaded = load_manifest(text_folder, "bundle")
    assert loaded.front == Front("a backbone", 128, "mean")
    assert set(loaded.files) == set(TEXT_FILES)
    written = json.loads((text_folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert written["front"] == {"backbone": "a backbone", "max_length": 128, "pooling": "mean"}


def test_a_front_stands_ahead_of_the_head():
    assert (example().head_file, example().whole_files) == ("tx.onnx", ())
    assert example().graph_files == ("tx.onnx", "rx.onnx", "soft.onnx")
    assert (of_text().head_file, of_text().whole_files) == ("tx_head.onnx", ("tx.onnx", "tokenizer.json"))
    assert of_text().graph_files == ("tx_head.onnx", "rx.onnx", "soft.onnx")
    assert program_file(of_text().head_file) == "programs/tx_head.pt2"


@pytest.mark.parametrize("name", ["tx.onnx", "tx_head.onnx", TOKENIZER_FILE])
def test_a_bundle_of_text_must_list_its_head_the_whole_and_the_tokenizer(text_folder, name):
    write_manifest(text_folder, of_text(), tuple(set(TEXT_FILES) - {name}))
    wanted = "must list eval.npz, tx_head.onnx, rx.onnx, soft.onnx, tx.onnx, tokenizer.json; it lacks"
    assert refusal(text_folder).endswith(f"{wanted} {name}")


@pytest.mark.parametrize("name", ["tx.onnx", "tx_head.onnx", TOKENIZER_FILE])
def test_an_altered_file_of_a_bundle_of_text_is_found(text_folder, name):
    (text_folder / name).write_bytes(TEXT_FILES[name][:-1] + b"?")
    assert f"{name}' is altered" in refusal(text_folder)


@pytest.mark.parametrize("name", [None, "programs/tx_head.pt2", BACKBONE_PROGRAM, TOKENIZER_FILE])
def test_a_run_of_text_must_list_its_backbone_and_its_tokenizer(tmp_path, name):
    run = replace(of_text(), kind="run")
    programs = [f"programs/{part}.pt2" for part in ("tx_head", "rx", "soft", "backbone")]
    files = ["eval.npz", *programs, TOKENIZER_FILE]
    (tmp_path / "programs").mkdir()
    for file in files:
        (tmp_path / file).write_bytes(b"x")
    write_manifest(tmp_path, run, tuple(file for file in files if file != name))
    if name is None:
        assert set(load_manifest(tmp_path, "run").files) == set(files)
    else:
        assert refusal(tmp_path, "run").endswith(f"must list {', '.join(files)}; it lacks {name}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"front": {"backbone": "x", "max_length": 128}}, "'front' lacks pooling"),
        ({"front": "minilm"}, "'front' must be an object, not 'minilm'"),
        ({"front": {"backbone": "x", "max_length": 1, "pooling": "mean"}}, "'max_length' must be at least 2"),
        (
            {"front": {"backbone": "", "max_length": 9, "pooling": "mean"}},
            "'backbone' must be a name or a path",
        ),
        ({"front": {"backbone": "x", "max_length": 9, "pooling": ""}}, "'pooling' must name how tokens"),
        ({"input_shape": [8, 8]}, "'input_shape' must be one size where a front gives the features"),
    ],
)
def test_a_wrong_front_is_refused_though_the_digest_is_right(text_folder, change, reason):
    resign(text_folder, lambda value: value.update(change))
    assert f"is altered: {reason}" in refusal(text_folder)


def test_what_to_check_may_depend_on_the_manifest(text_folder):
    (text_folder / "tx.onnx").unlink()
    assert load_manifest(text_folder, "bundle", lambda known: (known.head_file,)) == load_manifest(
        text_folder, "bundle", ("tx_head.onnx",)
    )
    with pytest.raises(ArtifactError, match=r"tx\.onnx' is missing"):
        load_manifest(text_folder, "bundle", lambda known: known.whole_files)
