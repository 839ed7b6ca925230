"""Programs that would run code of their own when loaded are refused before torch sees them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from twophase.export.graphs.torch_program import check_archive, load_program
from twophase.link.errors import ArtifactError


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
