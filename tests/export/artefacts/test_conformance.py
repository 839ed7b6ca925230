"""Conformance vectors: what they hold, that they replay, and that a runtime which errs is told of."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from tools.tiny_run import (
    EXPONENT,
    FOUR_GRID,
    FOUR_MODES,
    GridSpec,
    GridTransmitter,
    eval_split,
    export_program,
    feature_inputs,
    grid_manifest,
)
from twophase.export.artefacts.conformance import read_set, replay, set_files, write_vectors
from twophase.export.artefacts.ties import TieSearch
from twophase.export.compare.tally import EXCUSED_MARGIN, POSTERIOR_MARGIN
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import serialize
from twophase.export.proof.hard import prove_hard
from twophase.link.errors import ArtifactError, VerificationError
from twophase.link.manifest import Manifest

Arrays = list[NDArray[Any]]
FEATURES = eval_split(FOUR_MODES, 40)["input"]


@dataclass
class Vectors:
    """Graphs of a link, and the vectors that were written of them."""

    folder: Path
    manifest: Manifest
    graphs: dict[str, bytes]
    search: TieSearch

    def sets_of(self, graph: str) -> list[tuple[str, Values, Values]]:
        assert self.manifest.conformance is not None
        entries = [entry for entry in self.manifest.conformance.sets if entry.graph == graph]
        return [(entry.description, *read_set(self.folder, entry)) for entry in entries]

    def run(self, graph: str, names: list[str], feed: Values) -> Arrays:
        return OnnxRuntime(self.graphs[graph]).run(names, feed)


def written(folder: Path, tx: ModelProto, rx: ModelProto, manifest: Manifest) -> Vectors:
    graphs = {"tx.onnx": serialize(tx), "rx.onnx": serialize(rx)}
    proof, problems = prove_hard(tx, manifest)
    assert proof is not None, problems
    folder.mkdir(exist_ok=True)
    conformance = write_vectors(folder, graphs, manifest, FEATURES, proof, 0)
    search = TieSearch(graphs["tx.onnx"], manifest, proof)
    return Vectors(folder, replace(manifest, conformance=conformance), graphs, search)


@pytest.fixture(scope="module")
def vectors(four_tx, four_rx, tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """Of a link of four modes in float32.  Read only."""
    return written(tmp_path_factory.mktemp("vectors"), four_tx.model, four_rx.model, four_tx.manifest)


def test_the_sets_come_in_order_with_tensors_in_the_order_of_the_graph(vectors: Vectors) -> None:
    assert replay(vectors.run, vectors.folder, vectors.manifest) == []
    entries = vectors.manifest.conformance.sets
    assert [entry.folder for entry in entries] == [f"test_data_set_{number}" for number in range(7)]
    assert [entry.graph for entry in entries] == ["tx.onnx"] * 4 + ["rx.onnx"] * 3
    for entry in entries:
        signature = signature_of(entry.graph, vectors.manifest)
        inputs, outputs = read_set(vectors.folder, entry)
        assert list(inputs) == signature.input_names
        assert list(outputs) == signature.output_names
        for port in (*signature.inputs, *signature.outputs):
            value = {**inputs, **outputs}[port.name]
            assert (value.dtype, value.shape[1:]) == (port.dtype, port.shape)
            assert np.isfinite(value).all()
    listed = set_files(vectors.folder, vectors.manifest.conformance)
    there = [str(path.relative_to(vectors.folder)) for path in vectors.folder.rglob("*.pb")]
    assert sorted(listed) == sorted(there)


def test_the_golden_hash_is_that_of_the_symbols_that_are_sent(vectors: Vectors) -> None:
    stream = bytearray()
    for _, _, sent in vectors.sets_of("tx.onnx"):
        for mode, symbols, count in zip(sent["mode"], sent["symbols"], sent["symbol_count"], strict=True):
            stream += bytes([mode, *symbols[:count]])
    assert vectors.manifest.conformance.symbols_sha256 == hashlib.sha256(stream).hexdigest()


def test_every_mode_is_requested_and_met(vectors: Vectors) -> None:
    ordinary, ties, requested, extremes = vectors.sets_of("tx.onnx")
    assert ordinary[1]["mode_request"].tolist() == [-1]  # one for all samples
    assert set(ordinary[2]["mode"]) == {0, 1, 2, 3}
    for _, inputs, outputs in (ties, requested):
        np.testing.assert_array_equal(inputs["mode_request"], outputs["mode"])
        assert set(outputs["mode"]) == {0, 1, 2, 3}
    assert {-1, 0, 1, 2, 3} == set(extremes[1]["mode_request"])
    for edge in np.float32(vectors.manifest.routing.table.thresholds_db):
        near = {edge, np.nextafter(edge, np.float32(-np.inf)), np.nextafter(edge, np.float32(np.inf))}
        assert near <= set(extremes[1]["snr_db"])
    assert set(vectors.sets_of("rx.onnx")[1][1]["mode"]) == {0, 1, 2, 3}


def test_near_ties_are_near_but_not_nearer_than_float32_decides(vectors: Vectors) -> None:
    margins = [vectors.search.decide(inputs).margin for _, inputs, _ in vectors.sets_of("tx.onnx")]
    for margin in margins:
        assert margin.min() >= EXCUSED_MARGIN
    # a pool of 512 samples for each mode has some a hundred times nearer than ordinary samples are
    assert margins[1].max() < np.median(margins[0]) / 100.0


def test_a_receivers_vectors_are_decided_clearly(vectors: Vectors) -> None:
    for _, inputs, outputs in vectors.sets_of("rx.onnx"):
        for row, mode in enumerate(inputs["mode"]):
            posterior = outputs["posterior"][row, : vectors.manifest.modes[mode].tokens].astype(np.float64)
            second, first = np.sort(posterior, axis=-1)[:, -2:].T
            assert ((first - second) / first >= POSTERIOR_MARGIN).all()
    # at LLRs of 0 this receiver, which knows no prior, finds all codewords equally probable
    description, *_ = vectors.sets_of("rx.onnx")[1]
    assert description.startswith("extremes in each mode: all LLRs 0, 100 and -100; left out: 4 ")


class CoarseSpec(GridSpec):
    """Codewords of small whole numbers, so that a latent vector now and then is equally near to two."""

    def codebook(self, index: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, 5, index])
        shape = (self.link.codebook_sizes[index], self.link.embedding_dim)
        return (rng.integers(-4, 5, shape) * 2.0**EXPONENT).astype(np.float32)


def test_on_a_grid_ties_and_neighbours_that_differ_are_kept(four_rx, tmp_path: Path) -> None:
    spec = CoarseSpec(FOUR_GRID.link, FOUR_GRID.router)
    manifest = grid_manifest(spec)
    program = export_program(GridTransmitter(spec), feature_inputs(spec))
    tx = freeze("tx.onnx", program, signature_of("tx.onnx", manifest))
    vectors = written(tmp_path, tx, four_rx.model, manifest)
    sets = vectors.sets_of("tx.onnx")
    assert "left out" not in "".join(description for description, _, _ in sets)
    _, (_, ties, sent), _, (_, extremes, _) = sets
    assert vectors.search.decide(ties).margin.min() == 0.0
    largest = np.finfo(np.float32).max
    for name in ("input", "snr_db"):
        assert {largest, -largest} <= set(extremes[name].ravel())
    # two samples of one mode and SNR that no float32 lies between, of which one has another codeword
    rows = ties["input"].reshape(len(ties["input"]), -1)
    pairs = [
        (one, other)
        for one in range(len(rows))
        for other in range(one)
        if ties["snr_db"][one] == ties["snr_db"][other]
        and (sent["indices"][one] != sent["indices"][other]).any()
    ]
    assert pairs
    for one, other in pairs:
        middle = ((rows[one].astype(np.float64) + rows[other]) / 2.0).astype(np.float32)
        assert any(np.array_equal(middle, end) for end in (rows[one], rows[other]))


def test_a_mode_that_the_content_decides_is_clear(content_tx, four_rx, tmp_path: Path) -> None:
    vectors = written(tmp_path, content_tx.model, four_rx.model, content_tx.manifest)
    for _, inputs, _ in vectors.sets_of("tx.onnx"):
        margin = vectors.search.decide(inputs).mode_margin
        assert margin.min() >= EXCUSED_MARGIN
        assert np.isfinite(margin[np.broadcast_to(inputs["mode_request"] < 0, len(margin))]).all()
    assert replay(vectors.run, vectors.folder, vectors.manifest) == []


def erring(vectors: Vectors, graph: str, spoil: Callable[[Values], object]) -> list[str]:
    """What is told of a runtime that gives other outputs when it first runs a graph."""
    called: set[str] = set()

    def run(name: str, names: list[str], feed: Values) -> Arrays:
        values = dict(zip(names, (value.copy() for value in vectors.run(name, names, feed)), strict=True))
        if name == graph and graph not in called:
            spoil(values)
        called.add(name)
        return list(values.values())

    return replay(run, vectors.folder, vectors.manifest)


def other_symbol(values: Values) -> None:
    values["symbols"][3, 0] ^= 1


def no_number(values: Values) -> None:
    values["posterior"][0, 0, 0] = np.nan


def other_class(values: Values) -> None:
    values["logits"][2] = values["logits"][2, ::-1]


def cut_off(values: Values) -> None:
    values["symbols"] = values["symbols"][:, :-1]


def rounded(values: Values) -> None:
    values["logits"] += np.float32(2e-5)


STREAM = "the symbol stream has the SHA-256 "


@pytest.mark.parametrize(
    ("graph", "spoil", "told"),
    [
        ("tx.onnx", other_symbol, ["(tx.onnx): 'symbols' differs in 1 of 40 samples", STREAM]),
        ("tx.onnx", cut_off, ["'symbols' has shape (40, 4), not (40, 5)", STREAM]),
        ("rx.onnx", no_number, ["(rx.onnx): 'posterior' differs in 1 of 16 samples, first in sample 0: nan"]),
        ("rx.onnx", other_class, ["'logits' differs in 1 of 16", "the decided class differs in 1 of 16"]),
        ("rx.onnx", rounded, []),
    ],
)
def test_a_runtime_that_errs_is_told_of(vectors: Vectors, graph: str, spoil, told: list[str]) -> None:
    problems = erring(vectors, graph, spoil)
    assert len(problems) == len(told)
    for problem, part in zip(problems, told, strict=True):
        assert part in problem


def test_a_graph_that_does_not_run_is_a_problem_and_ends_nothing(vectors: Vectors) -> None:
    def run(name: str, names: list[str], feed: Values) -> Arrays:
        if name == "tx.onnx":
            raise GraphRunError("no kernel for ArgMax")
        return vectors.run(name, names, feed)

    *problems, last = replay(run, vectors.folder, vectors.manifest)
    assert problems == [
        f"test_data_set_{number} (tx.onnx) does not run: no kernel for ArgMax" for number in range(4)
    ]
    assert last.startswith(f"{STREAM}{hashlib.sha256().hexdigest()}, not ")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (truncated, r"output_2.pb' is no tensor of ONNX: truncated or altered"),
        (Path.unlink, r"test_data_set_1' must hold output_0.pb to output_4.pb without a gap"),
    ],
)
def test_damaged_vectors_are_named(vectors: Vectors, tmp_path: Path, spoil, told: str) -> None:
    folder = shutil.copytree(vectors.folder, tmp_path / "bundle")
    spoil(folder / "test_data_set_1" / "output_2.pb")
    with pytest.raises(ArtifactError, match=told):
        replay(vectors.run, folder, vectors.manifest)


def test_a_receiver_that_does_not_run_fails_the_export(four_tx, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="the conformance vectors failed 1 check"):
        written(tmp_path, four_tx.model, four_tx.model, four_tx.manifest)
