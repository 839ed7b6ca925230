"""Whether the deployed graphs are stored and multiplied in what the manifest calls their precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from twophase.export.graphs.signature import deployed, run_by_devices
from twophase.export.graphs.view import REAL_TYPES, GraphView, all_nodes, subgraphs
from twophase.export.int8.nodes import maker_before_reshaping
from twophase.export.int8.weights import check_weights
from twophase.export.proof.exact_sums import PRODUCTS
from twophase.export.verify.bundle import Bundle, CheckError, Finding
from twophase.export.verify.codewords import is_multiple
from twophase.link.bits import label_bits
from twophase.link.manifest import Manifest

__all__ = ["stored_precision"]

_LARGEST = 4096
"""Real numbers that an INT8 graph may store in one tensor, tables of the manifest aside."""


def stored_precision(bundle: Bundle) -> Finding:
    """Graphs in float32 quantise nothing; in INT8 what is quantised is so on both sides, in static steps."""
    problems: list[str] = []
    products = 0
    for file in run_by_devices(bundle.manifest):
        try:
            view = bundle.view(file)
            head = bundle.model(bundle.manifest.head_file)
        except CheckError as error:
            problems.append(str(error))
            continue
        if bundle.manifest.precision == "float32":
            found = _quantised(view)
        elif file not in deployed(bundle.manifest):
            found = check_weights(view.model, head)
        else:
            count, found = _products(view)
            products += count
            found += _large_tensors(view, bundle.manifest)
        problems += [f"'{file}' is no {bundle.manifest.precision} graph: {problem}" for problem in found]
    if bundle.manifest.precision == "float32":
        return Finding(problems, "float32: nothing is quantised")
    more = "; weights of the backbone in int8" if bundle.manifest.front is not None else ""
    return Finding(problems, f"int8: {products} products of uint8 with stored uint8, in powers of two{more}")


def _quantised(view: GraphView) -> list[str]:
    """Nodes that quantise, and weights stored in 8 bits of which real numbers are made."""
    problems = [
        f"{node.op_type} ('{node.name}') quantises"
        for node in all_nodes(view.model)
        if "Quantize" in node.op_type or "QLinear" in node.op_type or node.op_type.endswith("Integer")
    ]
    in_bytes = (tensor.name for tensor in _stored(view) if tensor.data_type == TensorProto.INT8)
    return problems + [f"'{name}' is stored in int8" for name in in_bytes]


def _products(view: GraphView) -> tuple[int, list[str]]:
    """Products in INT8, of which there must be one, and what is wrong with those that are half in it."""
    count = 0
    problems: list[str] = []
    for node in view.model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        sides = [_dequantiser(view, name) for name in node.input[:2]]
        if sides == [None, None]:
            continue
        label = f"{node.op_type} ('{node.name}')"
        wrong = [
            f"{label}: {fault}"
            for name, side, is_stored in zip(node.input, sides, (False, True), strict=False)
            if (fault := _fault(view, name, side, is_stored=is_stored)) is not None
        ]
        problems += wrong
        count += not wrong
    if not count:
        problems.append("no product multiplies uint8 with stored uint8")
    return count, problems


def _dequantiser(view: GraphView, name: str) -> NodeProto | None:
    """The DequantizeLinear that an operand comes from, reshaped or not."""
    node = maker_before_reshaping(view, name)
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _fault(view: GraphView, name: str, node: NodeProto | None, *, is_stored: bool) -> str | None:
    """Why an operand is not uint8 in static steps of a power of two."""
    if node is None:
        return f"'{name}' is not after a DequantizeLinear, the other operand is"
    held = node.input[0]
    if view.element_type(held) != TensorProto.UINT8:
        return f"'{held}' is not uint8"
    maker = view.producer(held)
    if is_stored and view.stored(held) is None:
        return f"'{held}' is not stored"
    if not is_stored and (maker is None or maker.op_type != "QuantizeLinear"):
        return f"'{held}' is not made by QuantizeLinear"
    for entry in [node] if maker is None else [node, maker]:
        scale = view.stored(entry.input[1])
        if scale is None or scale.size != 1:
            return f"the scale of {entry.op_type} ('{entry.name}') is not one stored number"
        step = float(scale.reshape(()))
        if not 0.0 < step < np.inf or np.frexp(step)[0] != 0.5:
            return f"the scale of {entry.op_type} ('{entry.name}') is {step:g}, not a power of two"
        if len(entry.input) > 2 and view.stored(entry.input[2]) is None:
            return f"the zero point of {entry.op_type} ('{entry.name}') is not stored"
    return None


def _large_tensors(view: GraphView, manifest: Manifest) -> list[str]:
    tables = [table for index in range(len(manifest.codebooks)) for table in _tables(manifest, index)]
    return [
        f"'{tensor.name}' stores {int(np.prod(tensor.dims)):,} real numbers"
        for tensor in _stored(view)
        if tensor.data_type in REAL_TYPES
        and int(np.prod(tensor.dims)) > _LARGEST
        and not _is_offset(tensor, manifest)
        and not any(is_multiple(np.squeeze(numpy_helper.to_array(tensor)), table) for table in tables)
    ]


def _stored(view: GraphView) -> Iterator[TensorProto]:
    """Tensors of the graph, and of its constants, branches and functions."""
    yield from view.model.graph.initializer
    for node in all_nodes(view.model):
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t
            yield from item.tensors
        for graph in subgraphs(node):
            yield from graph.initializer


def _is_offset(tensor: TensorProto, manifest: Manifest) -> bool:
    """Whether there is one number for each codeword, as the search's offsets and the prior are."""
    size = int(np.prod(tensor.dims))
    return bool(max(tensor.dims) == size and size in manifest.link.codebook_sizes)


def _tables(manifest: Manifest, index: int) -> Iterator[NDArray[np.float64]]:
    """A codebook, and its labels as signs."""
    yield manifest.codebook(index)
    yield label_bits(manifest.label_array(index)).astype(np.float64) - 0.5
