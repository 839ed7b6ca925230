"""The table takes the router's place: the graph forgets the router and changes in nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from tools.mutate import insert_before, node, producer
from tools.tiny_run import CONTENT, INPUT_SHAPE, eval_split
from twophase.export.compare.program import verify_soft, verify_transmitter
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.torch_program import IR_VERSION, OPSET
from twophase.export.graphs.view import GraphView, serialize
from twophase.export.options import exported_routing
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.mode import check_mode, find_switch
from twophase.export.proof.table_router import install_table
from twophase.link.routing import SnrTable

FEATURES = eval_split(CONTENT, 40)["input"]
TABLE = SnrTable((2.5, 11.0), (3, 0, 2))
OUTPUTS = ["mode", "indices", "bits", "symbols", "bit_count", "symbol_count"]


def routed_by_table(frozen):
    manifest = replace(frozen.manifest, routing=replace(frozen.manifest.routing, table=TABLE))
    return replace(manifest, routing=exported_routing(manifest, "table"))


def test_the_router_is_gone(content_tx, content_soft) -> None:
    for frozen in (content_tx, content_soft):
        before = serialize(frozen.model)
        model = install_table(frozen.model, TABLE)
        assert serialize(frozen.model) == before
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
        view = GraphView(model)
        assert view.sources(["mode"], shapes="none") == {"snr_db", "mode_request"}
        assert {"input", "snr_db", "mode_request"} == {value.name for value in model.graph.input}
        stored = {tensor.name for tensor in model.graph.initializer}
        assert "router.weight" in {tensor.name for tensor in frozen.model.graph.initializer}
        assert not any(name.startswith("router.") for name in stored)
        read = {name for entry in model.graph.node for name in entry.input}
        assert stored - read <= {"mode_request"}
        made = {name for entry in model.graph.node for name in entry.output}
        assert all(
            any(name in read or name in view.outputs for name in entry.output) for entry in model.graph.node
        )
        assert read <= made | stored | view.inputs | {""}


def test_the_table_is_proved_and_equals_torch_mode_by_mode(content_tx, content_soft) -> None:
    manifest = routed_by_table(content_tx)
    model = install_table(content_tx.model, TABLE)
    assert check_interface(model, signature_of("tx.onnx", manifest)) == []
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    assert proof.mode.snr_points > 8
    tally = verify_transmitter(content_tx.program, model, proof, manifest, FEATURES, 600, 0, TABLE)
    assert tally.failures == {}
    assert tally.different == 0
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


def test_forced_modes_are_sent_as_before(content_tx) -> None:
    rng = np.random.default_rng(1)
    feed = {
        "input": rng.standard_normal((64, *INPUT_SHAPE)).astype(np.float32),
        "snr_db": rng.uniform(-10, 30, 64).astype(np.float32),
        "mode_request": rng.integers(0, 4, 64),
    }
    before = OnnxRuntime(content_tx.model).run(OUTPUTS, feed)
    after = OnnxRuntime(install_table(content_tx.model, TABLE)).run(OUTPUTS, feed)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    del feed["mode_request"]
    mode, *_ = OnnxRuntime(install_table(content_tx.model, TABLE)).run(OUTPUTS, feed)
    np.testing.assert_array_equal(mode, TABLE.choose(feed["snr_db"]))


@pytest.mark.parametrize("table", [SnrTable((), (1,)), SnrTable((0.0,), (1, 0))])
def test_a_table_may_replace_a_table_and_have_a_single_step(four_tx, table: SnrTable) -> None:
    model = install_table(install_table(four_tx.model, TABLE), table)
    manifest = replace(four_tx.manifest, routing=replace(four_tx.manifest.routing, table=table))
    assert serialize(model) == serialize(install_table(install_table(four_tx.model, table), table))
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    tally = verify_transmitter(four_tx.program, model, proof, manifest, FEATURES, 100, 0, table)
    assert tally.failures == {}


def test_a_router_that_decides_more_than_the_mode_is_told(content_tx) -> None:
    """Indices that are selected by the routed mode, and not by the mode that is sent, do not come along."""
    model = content_tx.copy()
    choice = find_switch(GraphView(model))
    assert choice is not None
    name = choice.where.input[choice.position]
    reader = next(entry for entry in model.graph.node if "mode" in entry.input)
    insert_before(model, reader, list(reader.input).index("mode"), [node("Identity", [name], "same_mode")])
    manifest = routed_by_table(content_tx)
    _, problems = prove_hard(install_table(model, TABLE), manifest)
    assert any("'indices'" in problem for problem in problems), problems


def test_a_graph_without_a_place_for_it_comes_back_as_it_is(one_tx, four_tx) -> None:
    assert serialize(install_table(one_tx.model, TABLE)) == serialize(one_tx.model)
    model = four_tx.copy()
    where = producer(model, "mode")
    where.op_type = "Mul"
    del where.input[0]
    assert serialize(install_table(model, TABLE)) == serialize(model)
    where.op_type = "Nothing"
    assert serialize(install_table(model, TABLE)) == serialize(model)
