"""Conformance vectors: what they hold, that they replay, and that a runtime which errs is told of."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tools.tiny_run import (
    EXPONENT,
    FOUR_GRID,
    FOUR_MODES,
    ONE_MODE,
    GridSpec,
    TinyReceiver,
    eval_split,
    export_program,
    receiver_inputs,
    write_grid_bundle,
)
from twophase.export.artefacts.conformance import read_set, replay, set_files, write_vectors
from twophase.export.artefacts.ties import TieSearch
from twophase.export.compare.tally import EXCUSED_MARGIN, POSTERIOR_MARGIN
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import serialize
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.link.errors import ArtifactError, VerificationError
from twophase.link.manifest import Manifest, load_manifest

Run = Callable[[str, list[str], Values], list[NDArray[Any]]]


def hard(tx) -> HardProof:
    proof, problems = prove_hard(tx.model, tx.manifest)
    assert proof is not None, problems
    return proof


def written(folder: Path, tx, rx) -> tuple[Manifest, dict[str, bytes]]:
    graphs = {"tx.onnx": serialize(tx.model), "rx.onnx": serialize(rx.model)}
    features = eval_split_of(tx)
    folder.mkdir(exist_ok=True)
    conformance = write_vectors(folder, graphs, tx.manifest, features, hard(tx), 0)
    return replace(tx.manifest, conformance=conformance), graphs


def eval_split_of(tx) -> NDArray[np.float32]:
    return eval_split(replace(FOUR_MODES, link=tx.manifest.link), 40)["input"]


def runner(graphs: dict[str, bytes]) -> Run:
    sessions = {name: OnnxRuntime(content) for name, content in graphs.items()}
    return lambda graph, names, feed: sessions[graph].run(names, feed)


def sets_of(folder: Path, manifest: Manifest, graph: str) -> list[tuple[str, Values, Values]]:
    assert manifest.conformance is not None
    return [
        (entry.description, *read_set(folder, entry))
        for entry in manifest.conformance.sets
        if entry.graph == graph
    ]


@pytest.fixture(scope="module")
def vectors(
    four_tx, four_rx, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest, dict[str, bytes]]:
    """Of a link of four modes in float32.  Read only."""
    folder = tmp_path_factory.mktemp("vectors")
    return folder, *written(folder, four_tx, four_rx)


class CoarseSpec(GridSpec):
    """Codewords of small whole numbers, so that a latent vector now and then is equally near to two."""

    def codebook(self, index: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, 5, index])
        shape = (self.link.codebook_sizes[index], self.link.embedding_dim)
        return (rng.integers(-4, 5, shape) * 2.0**EXPONENT).astype(np.float32)


@pytest.fixture(scope="module")
def grid_bundle(make_shared) -> Path:
    spec = CoarseSpec(FOUR_GRID.link, FOUR_GRID.router)
    return make_shared("coarse-grid-bundle", lambda folder: write_grid_bundle(folder, spec))


def test_every_graph_gives_its_vectors_again(vectors) -> None:
    folder, manifest, graphs = vectors
    assert replay(runner(graphs), folder, manifest) == []


def test_the_sets_come_in_order_with_tensors_in_the_order_of_the_graph(vectors) -> None:
    folder, manifest, _ = vectors
    entries = manifest.conformance.sets
    assert [entry.folder for entry in entries] == [f"test_data_set_{number}" for number in range(7)]
    assert [entry.graph for entry in entries] == ["tx.onnx"] * 4 + ["rx.onnx"] * 3
    for entry in entries:
        signature = signature_of(entry.graph, manifest)
        inputs, outputs = read_set(folder, entry)
        assert list(inputs) == signature.input_names
        assert list(outputs) == signature.output_names
        for port in (*signature.inputs, *signature.outputs):
            value = {**inputs, **outputs}[port.name]
            assert value.dtype == port.dtype
            assert value.shape[1:] == port.shape
            assert np.isfinite(value).all()
    listed = set_files(folder, manifest.conformance)
    assert len(set(listed)) == len(listed)
    assert set(listed) == {str(path.relative_to(folder)) for path in folder.rglob("*.pb")}


def test_the_golden_hash_is_that_of_the_symbols_that_are_sent(vectors) -> None:
    folder, manifest, _ = vectors
    stream = bytearray()
    for _, _, outputs in sets_of(folder, manifest, "tx.onnx"):
        for row in range(len(outputs["mode"])):
            stream.append(outputs["mode"][row])
            for place in range(outputs["symbol_count"][row]):
                stream.append(outputs["symbols"][row, place])
    assert manifest.conformance.symbols_sha256 == hashlib.sha256(stream).hexdigest()


def test_every_mode_is_requested_and_met(vectors) -> None:
    folder, manifest, _ = vectors
    ordinary, ties, requested, extremes = sets_of(folder, manifest, "tx.onnx")
    assert ordinary[1]["mode_request"].tolist() == [-1]  # one for all samples
    assert set(ordinary[2]["mode"]) == {0, 1, 2, 3}
    for _, inputs, outputs in (ties, requested):
        np.testing.assert_array_equal(inputs["mode_request"], outputs["mode"])
        assert set(outputs["mode"]) == {0, 1, 2, 3}
    assert {-1, 0, 1, 2, 3} == set(extremes[1]["mode_request"])
    for threshold in manifest.routing.table.thresholds_db:
        edge = np.float32(threshold)
        beside = {edge, np.nextafter(edge, np.float32(-np.inf)), np.nextafter(edge, np.float32(np.inf))}
        assert beside <= set(extremes[1]["snr_db"])
    for _, inputs, _ in sets_of(folder, manifest, "rx.onnx")[1:2]:
        assert set(inputs["mode"]) == {0, 1, 2, 3}


def test_near_ties_are_near_but_not_nearer_than_float32_decides(vectors, four_tx) -> None:
    folder, manifest, graphs = vectors
    search = TieSearch(graphs["tx.onnx"], manifest, hard(four_tx))
    margins = [search.decide(inputs).margin for _, inputs, _ in sets_of(folder, manifest, "tx.onnx")]
    for margin in margins:
        assert margin.min() >= EXCUSED_MARGIN
    # a pool of 512 samples for each mode has some a hundred times nearer than ordinary samples are
    assert margins[1].max() < np.median(margins[0]) / 100.0


def test_a_receivers_vectors_are_decided_clearly(vectors) -> None:
    folder, manifest, _ = vectors
    for _, inputs, outputs in sets_of(folder, manifest, "rx.onnx"):
        tokens = np.array([mode.tokens for mode in manifest.modes])[inputs["mode"]]
        for row, count in enumerate(tokens):
            second, first = np.sort(outputs["posterior"][row, :count].astype(np.float64), axis=-1)[:, -2:].T
            assert ((first - second) / first >= POSTERIOR_MARGIN).all()
    # at LLRs of 0 this receiver, which knows no prior, finds all codewords equally probable
    descriptions = [description for description, _, _ in sets_of(folder, manifest, "rx.onnx")]
    assert descriptions[1].startswith("extremes in each mode: all LLRs 0, 100 and -100; left out: 4 ")


def test_on_a_grid_ties_and_neighbours_that_differ_are_kept(grid_bundle: Path) -> None:
    manifest = load_manifest(grid_bundle, "bundle")
    model = onnx.load(grid_bundle / "tx.onnx")
    proof, problems = prove_hard(model, manifest)
    assert proof is not None, problems
    search = TieSearch((grid_bundle / "tx.onnx").read_bytes(), manifest, proof)
    _, ties, _, extremes = sets_of(grid_bundle, manifest, "tx.onnx")
    decided = search.decide(ties[1])
    assert decided.margin.min() == 0.0
    largest = np.finfo(np.float32).max
    assert {largest, -largest} <= set(extremes[1]["input"].ravel())
    assert {largest, -largest} <= set(extremes[1]["snr_db"])
    assert "left out" not in "".join(text for text, _, _ in sets_of(grid_bundle, manifest, "tx.onnx"))
    # two samples of one mode and SNR that no float32 lies between, of which one has another codeword
    rows = [row.ravel() for row in ties[1]["input"]]
    pairs = [
        (one, other)
        for one in range(len(rows))
        for other in range(one)
        if ties[1]["snr_db"][one] == ties[1]["snr_db"][other]
        and (ties[2]["indices"][one] != ties[2]["indices"][other]).any()
    ]
    assert pairs
    for one, other in pairs:
        middle = ((rows[one].astype(np.float64) + rows[other]) / 2.0).astype(np.float32)
        assert any(np.array_equal(middle, end) for end in (rows[one], rows[other]))


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    vectors, four_tx, four_rx, tmp_path: Path
) -> None:
    folder, manifest, graphs = vectors
    again, _ = written(tmp_path / "again", four_tx, four_rx)
    assert again.conformance == manifest.conformance
    for name in set_files(folder, manifest.conformance):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    (tmp_path / "other").mkdir()
    other = write_vectors(
        tmp_path / "other", graphs, four_tx.manifest, eval_split_of(four_tx), hard(four_tx), 1
    )
    assert other.symbols_sha256 != manifest.conformance.symbols_sha256


def test_a_link_of_one_mode_asks_for_none(one_tx, tmp_path: Path) -> None:
    rx = freeze(
        "rx",
        export_program(TinyReceiver(ONE_MODE), receiver_inputs(ONE_MODE)),
        signature_of("rx.onnx", one_tx.manifest),
    )
    graphs = {"tx.onnx": serialize(one_tx.model), "rx.onnx": serialize(rx)}
    conformance = write_vectors(tmp_path, graphs, one_tx.manifest, eval_split_of(one_tx), hard(one_tx), 0)
    assert [entry.graph for entry in conformance.sets] == ["tx.onnx"] * 3 + ["rx.onnx"] * 3
    inputs, outputs = read_set(tmp_path, conformance.sets[0])
    assert list(inputs) == ["input", "snr_db"]
    assert set(outputs["mode"]) == {0}
    assert replay(runner(graphs), tmp_path, replace(one_tx.manifest, conformance=conformance)) == []


def test_a_mode_that_the_content_decides_is_clear(content_tx, four_rx, tmp_path: Path) -> None:
    manifest, graphs = written(tmp_path, content_tx, four_rx)
    search = TieSearch(graphs["tx.onnx"], manifest, hard(content_tx))
    for _, inputs, _ in sets_of(tmp_path, manifest, "tx.onnx"):
        found = search.decide(inputs)
        assert found.mode_margin.min() >= EXCUSED_MARGIN
        assert np.isfinite(
            found.mode_margin[np.broadcast_to(inputs["mode_request"] < 0, len(found.margin))]
        ).all()
    assert replay(runner(graphs), tmp_path, manifest) == []


def other_symbol(values: Values) -> None:
    values["symbols"][3, 0] ^= 1


def no_number(values: Values) -> None:
    values["posterior"][0, 0, 0] = np.nan


def other_class(values: Values) -> None:
    values["logits"][2] = values["logits"][2, ::-1]


def cut_off(values: Values) -> None:
    values["symbols"] = values["symbols"][:, :-1]


@pytest.mark.parametrize(
    ("graph", "spoil", "told"),
    [
        (
            "tx.onnx",
            other_symbol,
            ["(tx.onnx): 'symbols' differs in 1 of 40 samples", "the symbol stream has the SHA-256 "],
        ),
        (
            "tx.onnx",
            cut_off,
            ["'symbols' has shape (40, 4), not (40, 5)", "the symbol stream has the SHA-256 "],
        ),
        ("rx.onnx", no_number, ["(rx.onnx): 'posterior' differs in 1 of 16 samples, first in sample 0: nan"]),
        (
            "rx.onnx",
            other_class,
            ["'logits' differs in 1 of 16", "the decided class differs in 1 of 16 samples"],
        ),
    ],
)
def test_a_runtime_that_errs_is_told_of(vectors, graph: str, spoil, told: list[str]) -> None:
    folder, manifest, graphs = vectors
    right = runner(graphs)
    called: list[str] = []

    def wrong(name: str, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        values = dict(zip(outputs, (value.copy() for value in right(name, outputs, feed)), strict=True))
        if name == graph and graph not in called:
            spoil(values)
        called.append(name)
        return list(values.values())

    problems = replay(wrong, folder, manifest)
    assert len(problems) == len(told)
    for problem, part in zip(problems, told, strict=True):
        assert part in problem


def test_rounding_errors_are_none(vectors) -> None:
    folder, manifest, graphs = vectors
    right = runner(graphs)

    def near(name: str, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        values = right(name, outputs, feed)
        return [value + np.float32(2e-5) if value.dtype == np.float32 else value for value in values]

    assert replay(near, folder, manifest) == []


def test_a_graph_that_does_not_run_is_a_problem_and_ends_nothing(vectors) -> None:
    folder, manifest, graphs = vectors

    def refuse(name: str, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        if name == "tx.onnx":
            raise GraphRunError("no kernel for ArgMax")
        return runner(graphs)(name, outputs, feed)

    *problems, last = replay(refuse, folder, manifest)
    assert problems == [
        f"test_data_set_{number} (tx.onnx) does not run: no kernel for ArgMax" for number in range(4)
    ]
    assert last.startswith(f"the symbol stream has the SHA-256 {hashlib.sha256().hexdigest()}, not ")


def truncated(folder: Path) -> None:
    path = folder / "test_data_set_1" / "output_2.pb"
    path.write_bytes(path.read_bytes()[:-5])


def gone(folder: Path) -> None:
    (folder / "test_data_set_1" / "output_2.pb").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (truncated, r"output_2.pb' is no tensor of ONNX: truncated or altered"),
        (gone, r"test_data_set_1' must hold output_0.pb to output_4.pb without a gap"),
    ],
)
def test_damaged_vectors_are_named(vectors, tmp_path: Path, spoil, told: str) -> None:
    folder, manifest, graphs = vectors
    shutil.copytree(folder, tmp_path / "bundle")
    spoil(tmp_path / "bundle")
    with pytest.raises(ArtifactError, match=told):
        replay(runner(graphs), tmp_path / "bundle", manifest)


def test_a_receiver_that_does_not_run_fails_the_export(four_tx, tmp_path: Path) -> None:
    graphs = {"tx.onnx": serialize(four_tx.model), "rx.onnx": serialize(four_tx.model)}
    with pytest.raises(VerificationError, match="the conformance vectors failed 1 check"):
        write_vectors(tmp_path, graphs, four_tx.manifest, eval_split_of(four_tx), hard(four_tx), 0)
