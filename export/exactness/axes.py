"""Rules that look at the sizes of axes: which entries an index picks, and which axes a reduction takes."""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from twophase.export.exactness.lattice import Exact, NotExactError, of_type
from twophase.export.exactness.sums import Step, reduced_sizes
from twophase.export.graph import attribute

__all__ = ["decide", "gather", "reduce_extreme", "shape_of"]


def gather(step: Step) -> Exact:
    """Rule of Gather, GatherElements and GatherND: runtimes differ in what an index out of range does.

    Raises
    ------
    NotExactError
        If an index is not proved to lie within -size..size-1 of the axis it picks from.
    """
    index = step.given(1)
    size = min(_sizes_picked_from(step))
    if not -size <= index.low <= index.high <= size - 1:
        raise NotExactError(
            f"its index may be {index.low:.4g} to {index.high:.4g}, and its axis has {size} entries"
        )
    return step.given(0).moved()


def _sizes_picked_from(step: Step) -> list[int]:
    """Sizes of the axes that the index counts along, at least one."""
    shape, index_shape = step.shapes[0], step.shapes[1]
    sizes: list[int | None] = []
    if shape is not None and step.node.op_type != "GatherND":
        axis = attribute(step.node, "axis", 0)
        sizes = [shape[axis]] if -len(shape) <= axis < len(shape) else []
    elif shape is not None and index_shape and index_shape[-1] is not None:
        first = attribute(step.node, "batch_dims", 0)
        sizes = list(shape[first : first + index_shape[-1]])
    known = [size for size in sizes if size is not None]
    if not known or len(known) != len(sizes):
        raise NotExactError("it picks from an axis whose size is not known")
    return known


def decide(step: Step) -> Exact:
    """Rule of ArgMax and ArgMin: the first of ties, a place on an axis."""
    if attribute(step.node, "select_last_index", 0):
        raise NotExactError("of equal entries it takes the last one; ties must go to the lowest index")
    shape, axis = step.shapes[0], attribute(step.node, "axis", 0)
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    if size == 0:
        raise NotExactError("it decides between no entries")
    return Exact(0, 0.0, of_type(step.kind).high if size is None else size - 1.0)


def reduce_extreme(step: Step) -> Exact:
    """Rule of ReduceMax and ReduceMin."""
    if 0 in reduced_sizes(step):
        raise NotExactError("it reduces no entries")
    return step.given(0).moved()


def shape_of(step: Step) -> Exact:
    """Rule of Shape and Size: never negative, and the sizes themselves where all are known."""
    shape = step.shapes[0]
    whole = Exact(0, 0.0, of_type(TensorProto.INT64).high)
    if shape is None or None in shape or step.node.op_type == "Size" or _is_part(step.node):
        return whole
    sizes = [float(size) for size in shape if size is not None]
    return Exact(0, min(sizes, default=0.0), max(sizes, default=0.0))


def _is_part(node: NodeProto) -> bool:
    return bool(attribute(node, "start", 0)) or any(item.name == "end" for item in node.attribute)
