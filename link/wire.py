"""What an ONNX file asks of who runs it, read from its bytes: a device has no ``onnx`` to parse it with.

ONNX Runtime loads weights from other files (for a model given as bytes from the working directory), runs
loops of any length, and calls functions under the names of standard operators.  None of it is needed for a
link, and a file with any of it is refused before a session is made.

The encoding is that of protocol buffers: https://protobuf.dev/programming-guides/encoding/.  Field numbers
are those of onnx.proto.  What a parser would skip is skipped; what it would merge is looked at in each part.

Of ONNX Runtime's own format, a flat buffer, no more is looked for than operators that hold graphs: the name
of an operator stands there as a string with its length, which no other way of writing it can replace.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["OPERATORS", "problem_of_graph", "problem_of_ort"]

OPERATORS = frozenset(
    word
    for line in (
        "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift",
        "Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum",
        "DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike",
        "Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater",
        "GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization",
        "IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger",
        "Max MaxPool Mean Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul",
        "QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax",
        "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements",
        "ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split",
        "Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor",
    )
    for word in line.split()
)
"""Operators of ONNX that a link may use: each computes tensors of tensors once, and from nothing else."""

_HOLDING_GRAPHS = ("If", "Loop", "Scan", "SequenceMap")

_MODEL = {7: "graph", 20: "training", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_NODE = {4: "operator", 5: "attribute", 7: "domain"}
_ATTRIBUTE = {5: "tensor", 6: "subgraph", 10: "tensor", 11: "subgraph", 22: "sparse", 23: "sparse"}
_TENSOR = {13: "external", 14: "location"}
_PARTS = {"graph": _GRAPH, "node": _NODE, "attribute": _ATTRIBUTE, "tensor": _TENSOR}
_REFUSED = {
    "external": "keeps weights in another file, which is never read",
    "function": "brings functions of its own",
    "sparse": "holds sparse tensors",
    "subgraph": "holds branches or loops",
    "training": "holds a part for training",
}
_LENGTH, _FIXED = 2, {1: 8, 5: 4}


def problem_of_graph(content: bytes) -> str | None:
    """Why a file of ONNX is not to be run, as the words after its name; None if nothing speaks against it."""
    try:
        return next(_problems(memoryview(content), _MODEL), None)
    except (IndexError, ValueError):
        return "is no ONNX graph: truncated or altered"


def problem_of_ort(content: bytes) -> str | None:
    """The same of a file in ONNX Runtime's own format."""
    named = (len(name).to_bytes(4, "little") + name.encode() for name in _HOLDING_GRAPHS)
    return _REFUSED["subgraph"] if any(map(content.__contains__, named)) else None


def _problems(message: memoryview, known: dict[int, str]) -> Iterator[str]:
    for number, value in _fields(message):
        what = known.get(number)
        if what == "location":
            if value:
                yield _REFUSED["external"]
        elif what is None or isinstance(value, int):
            continue
        elif what in _REFUSED:
            yield _REFUSED[what]
        elif what == "operator":
            if (name := str(value, "utf-8")) not in OPERATORS:
                yield f"uses the operator {name[:40]!r}, which a link does not need"
        elif what == "domain":
            if (name := str(value, "utf-8")) not in ("", "ai.onnx"):
                yield f"uses operators of {name[:40]!r}, not of ONNX"
        else:
            yield from _problems(value, _PARTS[what])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: bytes, or a number where it is one of variable length."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place, 5)
        kind = tag & 7
        if kind == 0:
            value, place = _number(message, place, 10)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            size, place = _number(message, place, 5)
        else:
            size = _FIXED.get(kind, -1)
        if tag >> 32 or size < 0 or place + size > len(message):
            raise ValueError("no message of this encoding")
        if kind == _LENGTH:
            yield tag >> 3, message[place : place + size]
        place += size


def _number(message: memoryview, place: int, most: int) -> tuple[int, int]:
    """A number of variable length of at most so many bytes, and the place after it."""
    value = 0
    for shift in range(most):
        byte = message[place + shift]
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, place + shift + 1
    raise ValueError("a number is too long")
