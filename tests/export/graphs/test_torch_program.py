"""Graphs carry the names of the contract and nothing that tells where they were made."""

from __future__ import annotations

import io
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tools.tiny_run import (
    FOUR_MODES,
    INPUT_SHAPE,
    TinySpec,
    TinyTransmitter,
    export_program,
    feature_inputs,
    run_manifest,
)
from twophase.export.graphs.run import OnnxReference, OnnxRuntime
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.torch_program import (
    IR_VERSION,
    OPSET,
    canonical,
    freeze,
    load_program,
)
from twophase.export.graphs.view import serialize
from twophase.link.errors import ArtifactError


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


def stamp(message: Any) -> None:
    """Put a path into every doc string and all metadata, at every depth."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                stamp(inner)
    names = message.DESCRIPTOR.fields_by_name
    if {"doc_string", "metadata_props"} <= set(names):
        message.doc_string = "/home/user/model.py"
        message.metadata_props.add(key="stack_trace", value="/home/user/model.py")


def test_metadata_and_doc_strings_go_at_every_depth() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 18, "own": 1]>
        main (float[s7] x, bool c) => (float[twice] y) <float[1] w = {1.0}> {
            y = If (c) <
                then_branch = then () => (float[s7] same) { same = Identity(x) },
                else_branch = other () => (float[s7] less) { less = Neg(x) }
            >
        }
        <domain: "own", opset_import: ["": 18]>
        F (a) => (b) { b = Identity(a) }""")
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "2*s7 + s77"
    bare = serialize(canonical(model))
    stamp(model)
    assert serialize(model).count(b"/home") > 20
    assert serialize(canonical(model)) == bare
    assert b"/home" not in bare
    assert canonical(model).graph.output[0].type.tensor_type.shape.dim[0].dim_param == "2*batch + s77"


def test_the_request_may_be_left_out_and_is_one_for_all_or_one_for_each(four_tx) -> None:
    runtimes = [OnnxRuntime(four_tx.model), OnnxReference(four_tx.model)]
    features = np.random.default_rng(0).standard_normal((5, *INPUT_SHAPE)).astype(np.float32)
    feed = {"input": features, "snr_db": np.array([-3, 6, 11, 16, 25], dtype=np.float32)}
    routed = [0, 1, 2, 3, 3]
    for request, wanted in (
        ({}, routed),
        ({"mode_request": np.array([-1])}, routed),
        ({"mode_request": np.array([2])}, [2] * 5),
        ({"mode_request": np.array([1, -1, 0, -1, 2])}, [1, 1, 0, 3, 2]),
    ):
        assert [runtime.run(["mode"], feed | request)[0].tolist() for runtime in runtimes] == [wanted] * 2


class RequestForEach(TinyTransmitter):
    """Takes a request for each of three samples."""

    def forward(self, features, snr_db, mode_request):  # type: ignore[no-untyped-def, override]
        return super().forward(features, snr_db, mode_request[:1])


class Odd(torch.nn.Module):
    """Something that ONNX cannot compute."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()

    def forward(self, features, snr_db, mode_request):  # type: ignore[no-untyped-def]
        return snr_db.to(torch.int64), torch.linalg.svdvals(features + snr_db[:, None, None])


@pytest.mark.parametrize(
    ("kind", "requests", "file", "reason"),
    [
        (RequestForEach, 3, "tx.onnx", "'it' must take 'mode_request' with shape (1,), not (3,)"),
        (Odd, 1, "soft.onnx", "'it' cannot be converted to ONNX: "),
        (
            Odd,
            1,
            "tx.onnx",
            "'it' must take 3 and give 6 tensors (input, snr_db, mode_request -> mode, indices, bits, "
            "symbols, bit_count, symbol_count), not 3 and 2",
        ),
    ],
)
def test_what_is_no_program_of_a_link_is_refused_and_nothing_else_is_said(
    kind, requests: int, file: str, reason: str, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    logger = logging.getLogger("onnxscript")
    before = logger.level
    inputs = (*feature_inputs(FOUR_MODES)[:2], torch.full((requests,), -1))
    program = export_program(kind(FOUR_MODES), inputs)
    capfd.readouterr()
    with pytest.raises(ArtifactError) as caught, caplog.at_level(logging.INFO):
        freeze("it", program, signature_of(file, run_manifest(FOUR_MODES, ("aligned",))))
    assert str(caught.value).startswith(reason)
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


class Opener:
    """Unpickling it opens a file for writing."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.fixture
def program(one_run: Path) -> Path:
    return one_run / "programs" / "tx.pt2"


def test_a_program_of_plain_tensors_loads(program: Path, tmp_path: Path) -> None:
    load_program(program)
    again = load_program(repack(program, tmp_path / "again.pt2", lambda records: None))
    assert len(again.graph_signature.user_outputs) == 6


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    ("record", "pattern", "replacement", "reason"),
    [
        (WEIGHTS, '"use_pickle": false', '"use_pickle": true', "is stored as a pickle"),
        ("data/aotinductor/model/model.so", "", "", "it holds 'data/aotinductor/model/model.so'"),
        ("data/weights/model.pt", "", "", "it holds 'data/weights/model.pt'"),
        (PROGRAM, '"target": "[^"]+"', '"target": "torch.os.system"', "it calls 'torch.os.system'"),
        (PROGRAM, '"expr_str": "[^"]+"', '"expr_str": "eval(\'s1\')"', "is more than arithmetic"),
        (PROGRAM, '"expr_str": "[^"]+"', '"expr_str": "(s1).imag"', "is more than arithmetic"),
        (PROGRAM, r'"guards_code": \[', '"guards_code": ["print(1)"], "": [', "its guard 'print(1)' is more"),
    ],
)
def test_what_could_run_code_is_refused(
    program: Path, tmp_path: Path, record: str, pattern: str, replacement: str, reason: str
) -> None:
    def change(records: dict[str, bytes]) -> None:
        text, count = re.subn(pattern, replacement, records.get(record, b"").decode(), count=1)
        assert count == 1
        records[record] = text.encode()

    altered = repack(program, tmp_path / "tx.pt2", change)
    with pytest.raises(ArtifactError) as caught:
        load_program(altered)
    assert str(caught.value).startswith(f"'{altered}' is refused: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "compression", "reason"),
    [
        ("tx", zipfile.ZIP_STORED, f"it holds 'tx/{WEIGHTS}' more than once"),
        ("other", zipfile.ZIP_STORED, "its records are not in one folder"),
        (None, zipfile.ZIP_DEFLATED, "is compressed, which torch does not"),
    ],
)
def test_what_is_checked_is_what_torch_is_given(
    program: Path, tmp_path: Path, folder: str | None, compression: int, reason: str
) -> None:
    # torch takes the first of two records of one name, Python's zipfile the last.
    trace, altered = tmp_path / "trace", tmp_path / "tx.pt2"
    with zipfile.ZipFile(program) as source:
        records = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
    tensor = re.search(rb'"path_name": "(\w+)"', records[WEIGHTS])[1].decode()
    pickled = {
        WEIGHTS: records[WEIGHTS].replace(b'"use_pickle": false', b'"use_pickle": true'),
        f"data/weights/{tensor}": pickle.dumps(Opener(str(trace))),
    }
    with zipfile.ZipFile(altered, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the second record of one name
        for top, named in (("tx" if folder is None else folder, pickled if folder else {}), ("tx", records)):
            for name, content in named.items():
                archive.writestr(f"{top}/{name}", content)
    with pytest.raises(ArtifactError, match=reason):
        load_program(altered)
    assert not trace.exists()


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


def test_a_damaged_a_missing_and_a_newer_program_are_told(program: Path, tmp_path: Path) -> None:
    damaged = [repack(program, tmp_path / "a.pt2", lambda records: records.pop(PROGRAM))]
    for length in (0, 100, -200):
        damaged.append(tmp_path / f"{length}.pt2")
        damaged[-1].write_bytes(program.read_bytes()[:length])
    for path in damaged:
        with pytest.raises(ArtifactError, match="is no saved program: truncated or altered"):
            load_program(path)
    with pytest.raises(ArtifactError, match=r"none\.pt2' is missing"):
        load_program(tmp_path / "none.pt2")
    newer = repack(program, tmp_path / "b.pt2", lambda records: records.update(archive_version=b"99"))
    with pytest.raises(ArtifactError, match=r"is no program that torch .* can load: .*99"):
        load_program(newer)
