"""Graphs carry the names of the contract and nothing that tells where they were made."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tools.mutate import node
from tools.tiny_run import (
    FOUR_MODES,
    INPUT_SHAPE,
    TinyTransmitter,
    export_program,
    feature_inputs,
    run_manifest,
)
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.torch_program import (
    IR_VERSION,
    OPSET,
    canonical,
    check_archive,
    freeze,
    load_program,
)
from twophase.export.graphs.view import serialize
from twophase.link.errors import ArtifactError


def quiet_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def test_names_versions_and_the_batch_axis(four_tx, four_rx, four_soft) -> None:
    for name, frozen in (("tx.onnx", four_tx), ("rx.onnx", four_rx), ("soft.onnx", four_soft)):
        model = frozen.model
        assert check_interface(model, signature_of(name, frozen.manifest)) == []
        assert model.ir_version == IR_VERSION == 8
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
        assert OPSET == 18
        axes = {
            axis.dim_param
            for value in (*model.graph.input, *model.graph.output, *model.graph.value_info)
            for axis in value.type.tensor_type.shape.dim
        }
        assert axes == ({"", "batch"} if name == "rx.onnx" else {"", "batch", "requests"})


def test_nothing_tells_where_a_graph_was_made(four_tx) -> None:
    content = serialize(four_tx.model)
    for trace in (b"tiny_run", b".py", b"forward", str(Path.home()).encode(), str(Path.cwd()).encode()):
        assert trace not in content
    assert serialize(four_tx.model) == serialize(four_tx.copy()) == serialize(canonical(four_tx.model))


def test_metadata_and_doc_strings_go_at_every_depth() -> None:
    def told(entry, text: str = "/home/user/model.py"):
        entry.doc_string = text
        if hasattr(entry, "metadata_props"):
            helper.set_model_props(entry, {"stack_trace": text})
        return entry

    value = helper.make_tensor_value_info
    inner = told(node("Identity", ["x"], "same"))
    branch = helper.make_graph([inner], "then", [], [told(value("same", TensorProto.FLOAT, ["s7"]))])
    other = helper.make_graph(
        [node("Neg", ["x"], "less")], "else", [], [value("less", TensorProto.FLOAT, ["s7"])]
    )
    chosen = told(node("If", ["c"], "y", then_branch=told(branch), else_branch=other))
    graph = helper.make_graph(
        [chosen],
        "main",
        [told(value("x", TensorProto.FLOAT, ["s7"])), value("c", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, ["2*s7 + s77"])],
        [told(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))],
    )
    body = told(node("Identity", ["a"], "b"))
    function = told(helper.make_function("own", "F", ["a"], ["b"], [body], [helper.make_opsetid("", 18)]))
    model: ModelProto = told(helper.make_model(told(graph), functions=[function]))
    content = serialize(canonical(model))
    assert b"/home" not in content
    assert b"stack_trace" not in content
    assert b"/home" in serialize(model)
    renamed = canonical(model).graph.output[0].type.tensor_type.shape.dim[0].dim_param
    assert renamed == "2*batch + s77"


def test_a_program_with_another_number_of_tensors_is_refused(four_rx) -> None:
    with pytest.raises(ArtifactError) as caught:
        freeze("programs/tx.pt2", four_rx.program, signature_of("tx.onnx", four_rx.manifest))
    assert str(caught.value) == (
        "'programs/tx.pt2' must take 3 and give 6 tensors (input, snr_db, mode_request -> mode, indices, "
        "bits, symbols, bit_count, symbol_count), not 2 and 3"
    )


def test_the_request_may_be_left_out_and_is_one_for_all_or_one_for_each(four_tx) -> None:
    model = four_tx.model
    session = onnxruntime.InferenceSession(
        serialize(model), quiet_options(), providers=["CPUExecutionProvider"]
    )
    reference = ReferenceEvaluator(model)
    assert [entry.name for entry in session.get_inputs()] == ["input", "snr_db"]
    assert [entry.name for entry in session.get_overridable_initializers()] == ["mode_request"]
    features = np.random.default_rng(0).standard_normal((5, *INPUT_SHAPE)).astype(np.float32)
    feed = {"input": features, "snr_db": np.array([-3, 6, 11, 16, 25], dtype=np.float32)}
    routed = [0, 1, 2, 3, 3]
    for request, wanted in (
        ({}, routed),
        ({"mode_request": np.array([-1])}, routed),
        ({"mode_request": np.array([2])}, [2] * 5),
        ({"mode_request": np.array([1, -1, 0, -1, 2])}, [1, 1, 0, 3, 2]),
    ):
        assert session.run(["mode"], feed | request)[0].tolist() == wanted
        assert reference.run(["mode"], feed | request)[0].tolist() == wanted


def test_a_request_that_is_no_single_number_is_refused() -> None:
    class PerSample(TinyTransmitter):
        def forward(self, features, snr_db, mode_request):  # type: ignore[no-untyped-def, override]
            return super().forward(features, snr_db, mode_request[:1])

    inputs = (*feature_inputs(FOUR_MODES)[:2], torch.full((3,), -1))
    program = export_program(PerSample(FOUR_MODES), inputs)
    with pytest.raises(ArtifactError, match=r"'tx' must take 'mode_request' with shape \(1,\), not \(3,\)"):
        freeze("tx", program, signature_of("tx.onnx", run_manifest(FOUR_MODES, ())))


def test_an_operation_without_onnx_counterpart_is_told() -> None:
    class Odd(torch.nn.Module):
        def forward(
            self, features: torch.Tensor, snr_db: torch.Tensor, mode_request: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            return snr_db.to(torch.int64), torch.linalg.svdvals(
                features[..., None] + snr_db[:, None, None, None]
            )

    program = export_program(Odd(), (torch.rand(4, 2, 3), torch.rand(4), torch.full((1,), -1)))
    with pytest.raises(ArtifactError, match=r"'odd' cannot be converted to ONNX: .+"):
        freeze("odd", program, signature_of("soft.onnx", run_manifest(FOUR_MODES, ("aligned",))))


def test_the_exporter_is_quiet_and_leaves_loggers_as_they_were(
    four_soft, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("onnxscript")
    before = logger.level
    with caplog.at_level(logging.INFO):
        freeze("soft", four_soft.program, signature_of("soft.onnx", four_soft.manifest))
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert capfd.readouterr() == ("", "")
    assert logger.level == before


# --- programs that would run code of their own when loaded are refused before torch sees them


def repack(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write ``source`` again after ``change`` of its records, named without the archive's folder."""
    with zipfile.ZipFile(source) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(f"tx/{name}", content)
    return target


def in_program(alter: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(records: dict[str, bytes]) -> None:
        program = json.loads(records["models/model.json"])
        alter(program)
        records["models/model.json"] = json.dumps(program).encode()

    return change


class Opener:
    """Unpickling it opens a file for writing."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.fixture
def program(bare_run: Path) -> Path:
    return bare_run / "programs" / "tx.pt2"


def test_a_program_of_plain_tensors_loads(program: Path, tmp_path: Path) -> None:
    check_archive(program)
    again = load_program(repack(program, tmp_path / "again.pt2", lambda records: None))
    assert len(again.graph_signature.user_outputs) == 6


def pickled_weight(records: dict[str, bytes]) -> None:
    name = "data/weights/model_weights_config.json"
    config = json.loads(records[name])
    config["config"]["first.weight"]["use_pickle"] = True
    records[name] = json.dumps(config).encode()


def compiled_library(records: dict[str, bytes]) -> None:
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


def legacy_weights(records: dict[str, bytes]) -> None:
    records["data/weights/model.pt"] = b""


def operation_outside_the_standard(program: dict[str, Any]) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def expression_with_code(program: dict[str, Any]) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    sizes = next(entry["sizes"] for entry in values.values() if "as_expr" in entry["sizes"][0])
    sizes[0]["as_expr"]["expr_str"] = "__import__('os').getcwd()"


def expression_with_another_name(program: dict[str, Any]) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    sizes = next(entry["sizes"] for entry in values.values() if "as_expr" in entry["sizes"][0])
    sizes[0]["as_expr"]["expr_str"] = "eval('s1')"


def guard_with_code(program: dict[str, Any]) -> None:
    program["guards_code"].append("print(1)")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pickled_weight, "'first.weight' is stored as a pickle"),
        (compiled_library, "it holds 'data/aotinductor/model/model.so'"),
        (legacy_weights, "it holds 'data/weights/model.pt'"),
        (in_program(operation_outside_the_standard), "it calls 'torch.os.system'"),
        (in_program(expression_with_code), "\"__import__('os').getcwd()\" is more than arithmetic"),
        (in_program(expression_with_another_name), "\"eval('s1')\" is more than arithmetic"),
        (in_program(guard_with_code), "its guard 'print(1)' is more than a comparison of sizes"),
    ],
)
def test_what_could_run_code_is_refused(
    program: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    altered = repack(program, tmp_path / "tx.pt2", change)
    with pytest.raises(ArtifactError) as caught:
        load_program(altered)
    assert reason in str(caught.value)
    assert f"'{altered}' is refused: " in str(caught.value)


def test_example_inputs_that_are_no_tensors_are_refused_and_not_run(program: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def change(records: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        torch.save(((Opener(str(trace)),), {}), buffer)
        records["data/sample_inputs/model.pt"] = buffer.getvalue()

    altered = repack(program, tmp_path / "tx.pt2", change)
    with pytest.raises(ArtifactError, match="example inputs are no plain tensors"):
        load_program(altered)
    assert not trace.exists()


@pytest.mark.parametrize("length", [0, 100, -1, -200])
def test_a_truncated_program_is_refused(program: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "tx.pt2"
    cut.write_bytes(program.read_bytes()[:length])
    with pytest.raises(ArtifactError, match="is no saved program: truncated or altered"):
        load_program(cut)


def test_a_missing_record_a_missing_file_and_another_version_are_told(program: Path, tmp_path: Path) -> None:
    altered = repack(program, tmp_path / "a.pt2", lambda records: records.pop("models/model.json"))
    with pytest.raises(ArtifactError, match="truncated or altered"):
        load_program(altered)
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        load_program(tmp_path / "none.pt2")
    newer = repack(program, tmp_path / "b.pt2", lambda records: records.update(archive_version=b"99"))
    with pytest.raises(ArtifactError, match=r"is no program that torch .* can load: .*99"):
        load_program(newer)
