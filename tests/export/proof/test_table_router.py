"""The table takes the router's place: the graph forgets the router and changes in nothing else."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from tools.mutate import ahead, altered, producer, reader_of
from tools.tiny_run import CONTENT, eval_split
from twophase.export.compare.program import verify_soft, verify_transmitter
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.torch_program import IR_VERSION, OPSET
from twophase.export.graphs.view import GraphView, serialize
from twophase.export.options import exported_routing
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.export.proof.mode import check_mode, find_switch, install_table
from twophase.link.routing import SnrTable

FEATURES = eval_split(CONTENT, 40)["input"]
TABLE = SnrTable((2.5, 11.0), (3, 0, 2))


def routed_by_table(frozen):
    manifest = replace(frozen.manifest, routing=replace(frozen.manifest.routing, table=TABLE))
    return replace(manifest, routing=exported_routing(manifest, "table"))


def proved(model, manifest) -> HardProof:
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    return proof


def test_the_router_is_gone(content_tx, content_soft) -> None:
    for frozen in (content_tx, content_soft):
        before = serialize(frozen.model)
        assert b"router.weight" in before
        model = install_table(frozen.model, TABLE)
        assert serialize(frozen.model) == before
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
        view = GraphView(model)
        assert view.sources(["mode"], shapes="none") == {"snr_db", "mode_request"}
        assert view.inputs == {"input", "snr_db", "mode_request"}
        stored = {tensor.name for tensor in model.graph.initializer}
        assert not any(name.startswith("router.") for name in stored)
        read = {name for entry in model.graph.node for name in entry.input} | view.outputs
        assert stored <= read | {"mode_request"}
        assert all(read & set(entry.output) for entry in model.graph.node)


def test_the_table_is_proved_and_equals_torch_mode_by_mode(content_tx, content_soft) -> None:
    manifest = routed_by_table(content_tx)
    model = install_table(content_tx.model, TABLE)
    assert check_interface(model, signature_of("tx.onnx", manifest)) == []
    proof = proved(model, manifest)
    assert proof.mode.snr_points > 8
    tally = verify_transmitter(content_tx.program, model, proof, manifest, FEATURES, 600, 0, TABLE)
    assert (tally.failures, tally.different) == ({}, 0)
    assert set(tally.samples_of_mode) == {0, 1, 2, 3}
    # mode 1 is in no step of the table: it can only be asked for
    assert {mode for counts in tally.usage.values() for mode in counts} == {0, 2, 3}
    soft = install_table(content_soft.model, TABLE)
    mode, problems = check_mode(soft, manifest)
    assert problems == []
    tally = verify_soft("soft.onnx", content_soft.program, soft, mode, manifest, FEATURES, 500, 0, TABLE)
    assert tally.failures == {}
    # the same comparison with the router that the table replaced sees the difference
    tally = verify_transmitter(content_tx.program, model, proof, manifest, FEATURES, 0, 0)
    assert list(tally.failures) == ["torch and ONNX Runtime differ in 'mode'"]


@pytest.mark.parametrize("table", [SnrTable((), (1,)), SnrTable((0.0,), (1, 0))])
def test_a_table_may_replace_a_table_and_have_a_single_step(four_tx, table: SnrTable) -> None:
    model = install_table(install_table(four_tx.model, TABLE), table)
    assert serialize(model) == serialize(install_table(install_table(four_tx.model, table), table))
    manifest = replace(four_tx.manifest, routing=replace(four_tx.manifest.routing, table=table))
    proof = proved(model, manifest)
    tally = verify_transmitter(four_tx.program, model, proof, manifest, FEATURES, 100, 0, table)
    assert tally.failures == {}


def test_a_router_that_decides_more_than_the_mode_is_told(content_tx) -> None:
    """Indices that are selected by the routed mode, and not by the mode that is sent, do not come along."""
    switch = find_switch(GraphView(content_tx.model))
    assert switch is not None
    routed = switch[0].input[switch[1]]
    model = altered(content_tx.model, ahead(reader_of("mode"), f"same_mode = Identity({routed})"))
    _, problems = prove_hard(install_table(model, TABLE), routed_by_table(content_tx))
    assert any("'indices'" in problem for problem in problems), problems


def test_a_graph_without_a_place_for_it_comes_back_as_it_is(one_tx, four_tx) -> None:
    assert serialize(install_table(one_tx.model, TABLE)) == serialize(one_tx.model)
    model = altered(four_tx.model)
    where = producer(model, "mode")
    del where.input[0]
    for operator in ("Mul", "Nothing"):
        where.op_type = operator
        assert serialize(install_table(model, TABLE)) == serialize(model)
