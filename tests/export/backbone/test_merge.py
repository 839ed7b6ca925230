"""Backbone and head in one graph, and what is not that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto

from tools.mutate import Alteration, after, ahead, cases, changed, insert_behind, node, store
from tools.tiny_bundle import CLASSES, write_tiny_bundle
from twophase.export.backbone.merge import check_whole, merge, unlike_proved
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import GraphView
from twophase.link.errors import ArtifactError
from twophase.link.manifest import Front, Manifest, load_manifest

Head = tuple[ModelProto, Manifest]


def backbone_of() -> ModelProto:
    """The sum of rows of a table; its inner names are some of the head's."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        backbone (int64[batch, length] input_ids, int64[batch, length] attention_mask)
            => (float[batch, {CLASSES + 1}] features) {{
            scores = Gather(one, input_ids)
            mask = Cast<to=1>(attention_mask)
            column = Unsqueeze(mask, axis_one)
            counted = Mul(scores, column)
            features = ReduceSum<keepdims=0>(counted, zero)
        }}""")
    store(model, "one", np.random.default_rng(0).standard_normal((20, CLASSES + 1)).astype(np.float32))
    store(model, "axis_one", np.array([2]))
    store(model, "zero", np.array([1]))
    return model


def head_of(folder: Path, router: str) -> Head:
    write_tiny_bundle(folder, router=router, references=())  # type: ignore[arg-type]
    manifest = replace(load_manifest(folder, "bundle"), front=Front("a table", 16), files={})
    return onnx.load(folder / "tx.onnx"), manifest


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Head:
    return head_of(tmp_path_factory.mktemp("whole") / "bundle", "content")


@pytest.fixture
def whole(head: Head) -> ModelProto:
    return merge(backbone_of(), *head)


def test_the_whole_is_the_head_after_the_backbone(whole: ModelProto, head: Head) -> None:
    model, manifest = head
    assert check_whole(whole, model, manifest) == []
    ids = np.random.default_rng(1).integers(0, 20, (12, 5))
    mask = (np.arange(5) < np.arange(12)[:, np.newaxis] % 5 + 1).astype(np.int64)
    tokens = {"input_ids": ids, "attention_mask": mask}
    routed = {"snr_db": np.linspace(-5, 20, 12, dtype=np.float32), "mode_request": np.arange(12) % 5 - 1}
    names = [value.name for value in whole.graph.output]
    *sent, features = OnnxRuntime(whole).run(names, tokens | routed)
    assert names[-1] == "features"
    (wanted,) = OnnxRuntime(backbone_of()).run(["features"], tokens)
    np.testing.assert_array_equal(features, wanted)
    by_head = OnnxRuntime(model).run(names[:-1], {"input": features, **routed})
    for ours, theirs in zip(sent, by_head, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_names_are_taken_for_what_they_are(head: Head) -> None:
    model, manifest = head
    clash = ModelProto()
    clash.CopyFrom(model)
    clash.graph.node[0].name = "features"
    assert check_whole(merge(backbone_of(), clash, manifest), clash, manifest) == []
    insert_behind(clash, "mode", [node("Identity", ["mode_before"], "features")])
    with pytest.raises(ArtifactError, match="has a tensor 'features'"):
        merge(backbone_of(), clash, manifest)


def scores(model: ModelProto) -> tuple[NodeProto, int]:
    return next(entry for entry in model.graph.node if "scores" in entry.output), 0


def left_over(model: ModelProto) -> None:
    model.graph.node.append(node("Neg", ["features"], "nothing"))


FOREIGN = cases(
    soft_symbols=(
        after(
            "symbols",
            "weights = Softmax<axis=-1>(scores); top = ArgMax<axis=1>(weights); leaked = Mul(top, none);"
            "symbols = Add(it, leaked)",
            none=0,
        ),
        "of the head is not in it as it is",
    ),
    other_table=(changed("symbols_table", lambda value: value ^ 1), "'symbols_table', which the head stores"),
    features_see_the_snr=(
        after("features", "shown = Unsqueeze(snr_db, snr_axis); features = Add(it, shown)", snr_axis=[1]),
        "'features' depend on 'snr_db', not on tokens alone",
    ),
    altered_after_the_features=(ahead(scores, "turned = Neg(it)"), "of the head is not in it as it is"),
    left_over=(left_over, "belongs to neither backbone nor head"),
    moved_default=(
        changed("mode_request", lambda value: np.array([1])),
        "'mode_request', which the head stores",
    ),
)


@pytest.mark.parametrize(("alter", "reasons"), FOREIGN)
def test_what_is_not_the_proved_head_is_told(
    alter: Alteration, reasons: tuple[str, ...], whole: ModelProto, head: Head
) -> None:
    alter(whole)
    problems = unlike_proved(GraphView(whole), *head)
    assert any(reasons[0] in problem for problem in problems), problems
    assert set(problems) <= set(check_whole(whole, *head))


def test_features_made_by_the_head_are_told(tmp_path: Path) -> None:
    """A part of the head that sees no features may stand ahead of them in the graph, and must not."""
    head = head_of(tmp_path / "bundle", "snr")
    looped = merge(backbone_of(), *head)
    nodes = [NodeProto.FromString(entry.SerializeToString()) for entry in looped.graph.node]
    del looped.graph.node[:]
    looped.graph.node.extend(sorted(nodes, key=lambda entry: "snr_column" not in entry.output))
    insert_behind(looped, "features", [node("Add", ["features_before", "snr_column"], "features")])
    problems = unlike_proved(GraphView(looped), *head)
    assert "'features' are made from 'snr_column' of the head" in problems


def test_parts_of_two_operator_sets_are_refused(head: Head) -> None:
    backbone = backbone_of()
    backbone.opset_import[0].version = 21
    with pytest.raises(ArtifactError, match="one operator set"):
        merge(backbone, *head)


def test_random_operators_ahead_of_the_head_are_told(whole: ModelProto, head: Head) -> None:
    insert_behind(whole, "features", [node("Dropout", ["features_before"], "features")])
    assert any("Dropout" in problem and "random" in problem for problem in check_whole(whole, *head))
