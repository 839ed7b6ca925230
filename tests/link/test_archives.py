"""Archives that are not what they say, and graphs that ask for more than a link needs."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from twophase.link.archives import array_names, read_arrays
from twophase.link.errors import ArtifactError
from twophase.link.manifest import load_manifest
from twophase.link.sizes import problem_of_sizes
from twophase.link.wire import problem_of_graph, problem_of_ort


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members:
            target.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_comes_back(tmp_path: Path, save) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.array(["x", "äö"]),
        "c": np.array(3),
        "d": np.zeros((0, 4)),
    }
    save(tmp_path / "x.npz", **arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert array_names(tmp_path / "x.npz") == set(arrays)
    assert set(read_arrays(tmp_path / "x.npz", only=("b", "z"))) == {"b"}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("a.npy", b"no array")], "'a.npy' is no array"),
        ([("a.npy", header("(10**30, 64)"))], "'a.npy' is no array"),
        ([("a.npy", header(f"({10**30}, 64)"))], "not of the size that its header says"),
        ([("a.npy", header("(2,)") + bytes(4))], "not of the size that its header says"),
        ([("a.npy", header("(-1,)") + bytes(4))], "not of the size that its header says"),
        ([("a.npy", header(f"({10**9},)", "'<U0'"))], "neither numbers nor text"),
        ([("a.npy", header("(1,)", "'|O'") + bytes(8))], "neither numbers nor text"),
        ([("a.npy", header("(1,)", "[('x', '<f4')]") + bytes(4))], "neither numbers nor text"),
        ([("a.npy", header("()") + bytes(4)), ("a.npy", header("()") + bytes(4))], "'a.npy' more than once"),
        ([("a.npy", header(f"({75 << 20},)") + bytes(75 << 22))], "take 314,572,8"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_is_not_what_it_says_is_refused_before_it_is_unpacked(
    tmp_path: Path, members: list[tuple[str, bytes]], why: str
) -> None:
    path = archive(tmp_path / "x.npz", *members)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=why.replace("(", r"\(")) as caught:
        read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def model(*nodes: onnx.NodeProto, **stored: np.ndarray) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 5]) for name in ("x", "y")]
    initial = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def external() -> onnx.ModelProto:
    made = model(helper.make_node("Add", ["x", "w"], ["y"]), w=np.ones(5, np.float32))
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    return made


def branching() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "b", [], [])
    return model(helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body))


def constant_outside() -> onnx.ModelProto:
    value = numpy_helper.from_array(np.ones(5, np.float32))
    value.data_location = TensorProto.EXTERNAL
    return model(
        helper.make_node("Constant", [], ["w"], value=value), helper.make_node("Add", ["x", "w"], ["y"])
    )


def own_function() -> onnx.ModelProto:
    made = model(helper.make_node("Relu", ["x"], ["y"]))
    opset = [helper.make_opsetid("", 18)]
    node = helper.make_node("Exp", ["a"], ["b"])
    made.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [node], opset))
    return made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (external(), "keeps weights in another file"),
        (constant_outside(), "keeps weights in another file"),
        (branching(), "uses the operator 'If'"),
        (own_function(), "brings functions of its own"),
        (model(helper.make_node("Relu", ["x"], ["y"], domain="evil")), "uses operators of 'evil'"),
        (model(helper.make_node("RandomNormalLike", ["x"], ["y"])), "uses the operator 'RandomNormalLike'"),
    ],
)
def test_a_graph_that_asks_for_more_than_a_link_needs_is_refused(made: onnx.ModelProto, why: str) -> None:
    content = made.SerializeToString()
    assert why in str(problem_of_graph(content))
    # A parser merges what stands after one another: no part of it is overlooked.
    assert why in str(
        problem_of_graph(content + model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString())
    )
    assert problem_of_graph(content[:-1]) is not None


def test_loops_are_found_in_onnx_runtimes_own_format() -> None:
    assert problem_of_ort(b"ORTM" + (4).to_bytes(4, "little") + b"Loop\0") == "holds branches or loops"
    assert problem_of_ort(b"ORTM" + (7).to_bytes(4, "little") + b"LoopNot\0") is None


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (
            [helper.make_node("ConstantOfShape", ["huge"], ["c"])],
            "makes 'c' of 8,388,608 entries for 1 samples",
        ),
        ([helper.make_node("Expand", ["x", "huge"], ["c"])], "does not type-check|makes 'c'"),
        ([helper.make_node("Tile", ["x", "huge"], ["c"])], "makes 'c' of"),
        (
            [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["c"]),
             helper.make_node("MatMul", ["c", "c"], ["d"])],
            None,
        ),
        (
            [helper.make_node("Cast", ["x"], ["n"], to=TensorProto.INT64),
             helper.make_node("Expand", ["one", "n"], ["c"])],
            "cannot be followed|does not type-check",
        ),
    ],
)  # fmt: skip
def test_the_sizes_of_a_graph_are_known_before_it_runs(tiny_bundle, nodes, why: str | None) -> None:
    manifest = load_manifest(tiny_bundle("snr"), "bundle")
    huge, one = np.array([1 << 12, 1 << 11]), np.ones(1, np.float32)
    made = model(*nodes, helper.make_node("Relu", ["x"], ["y"]), huge=huge, one=one)
    problem = problem_of_sizes(made, manifest, onnx.shape_inference.infer_shapes)
    assert problem is None if why is None else any(part in str(problem) for part in why.split("|"))


def test_graphs_as_they_are_exported_pass(tiny_bundle) -> None:
    folder = tiny_bundle("content", text=True)
    for name in load_manifest(folder, "bundle").graph_files:
        assert problem_of_graph((folder / name).read_bytes()) is None


def test_content_in_memory_is_read_as_the_file_is() -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(3))
    assert read_arrays(Path("nowhere.npz"), stream.getvalue())["a"].tolist() == [0, 1, 2]
