"""INT8: the products of encoder and classifier in static QDQ form; search and integer path as they are.

Transmitter on an integer grid.  It computes with whole numbers already, so nothing is calibrated and nothing
is lost: QuantizeLinear takes the place of Mul, Round, Clip, weights and biases are stored as the integers
that they are, and every tensor that is left has the values that it had.  The indices are the same.

Transmitter in float32, and receiver.  What a product multiplies is rounded to 8 bits, in steps that cover the
values seen on calibration data; weights are rounded to 8 bits.  Products give float32, so that activations
are computed as before.

The graphs are rewritten here and not by ``onnxruntime.quantization.quantize_static``, which chooses nodes by
names and types (by default the codebook search too), takes scales that are no powers of two, and whose names
and byte order are its own: each would have to be pinned down, and checked after, with as much code.
``check_quantized`` accounts for every node, whoever made the graph.
"""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
from onnx import ModelProto, NodeProto

from twophase.export.graphs.run import Values
from twophase.export.graphs.view import GraphError, GraphView
from twophase.export.int8.calibrate import observe
from twophase.export.int8.check import check_quantized
from twophase.export.int8.nodes import (
    WEIGHT_ZERO_POINT,
    NodeWriter,
    Product,
    classifier_products,
    encoder_products,
    power_of_two_scale,
    rounding_before,
)
from twophase.link.errors import ArtifactError
from twophase.link.manifest import Manifest

__all__ = ["check_quantized", "quantize_receiver", "quantize_transmitter"]


def quantize_transmitter(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
    """The INT8 form of a transmitter, all float32; a copy.

    On a grid it gives the same indices, and ``calibration`` is not read; else these are inputs of the
    transmitter by name, see ``calibrate.load_calibration``.  ``ArtifactError`` if the encoder cannot be made
    INT8, or, on a grid, not without changing a value.
    """
    view = _view(model)
    products = encoder_products(view)
    if manifest.grid is not None:
        return _rewrite_grid(view, model, products)
    return _rewrite_calibrated(model, products, calibration)


def quantize_receiver(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
    """The INT8 form of a receiver, all float32; a copy.  ``calibration``: see ``calibrate.receptions``.

    ``ArtifactError`` if the classifier cannot be made INT8, or one of its products is one with a codebook.
    """
    products = classifier_products(_view(model))
    for product in products:
        for index in range(len(manifest.codebooks)):
            codebook = manifest.codebook(index).astype(np.float32)
            if any(np.array_equal(codebook, side) for side in (product.weights, product.weights.T)):
                raise ArtifactError(
                    f"{product.node.op_type} ('{product.node.name}') before 'logits' is the product with "
                    f"codebook {index}: it has to stay as it is, and the decoder was not found"
                )
    return _rewrite_calibrated(model, products, calibration)


def _rewrite_grid(view: GraphView, model: ModelProto, products: tuple[Product, ...]) -> ModelProto:
    writer = NodeWriter(model)
    replaced: dict[str, NodeProto] = {}
    dropped: set[str] = set()
    outputs = {product.output for product in products}
    for product in products:
        label = f"{product.node.op_type} ('{product.node.name}') of the encoder"
        rounding = rounding_before(view, product.source)
        if rounding is None:
            raise ArtifactError(
                f"{label} on an integer grid must multiply what Round and Clip to 256 whole "
                f"numbers give; '{product.source}' is something else"
            )
        numbers = [product.weights] if product.bias is None else [product.weights, product.bias]
        if any((values != np.rint(values)).any() for values in numbers):
            raise ArtifactError(f"{label} on an integer grid must have whole numbers for weights and bias")
        source, step, zero_point = rounding.source, rounding.step, -rounding.lowest
        if source not in outputs:
            # a value that no int32 holds must not reach a runtime's rounding
            source = _clipped(writer, source, step, zero_point)
        # QuantizeLinear in steps, DequantizeLinear in whole numbers: the values that the rounding gives
        quantized = writer.quantize(source, step, zero_point, f"{rounding.output}_quantized")
        writer.dequantize(quantized, 1.0, zero_point, rounding.output)
        dropped.update(node.output[0] for node in rounding.nodes)
        replaced[product.output] = _product_node(writer, product, product.source, 1.0, 1.0)
    _check_dropped(view, dropped)
    return writer.model(replaced, dropped)


def _check_dropped(view: GraphView, dropped: set[str]) -> None:
    """What the roundings held in between must not be read elsewhere; what they give may be."""
    inner = {name for name in dropped if (node := view.producer(name)) and node.op_type != "Clip"}
    for node in view.model.graph.node:
        read = inner & set(node.input)
        if read and node.output[0] not in dropped:
            raise ArtifactError(f"{node.op_type} ('{node.name}') reads '{min(read)}' inside a rounding")
    if read := inner & view.outputs:
        raise ArtifactError(f"the output '{min(read)}' lies inside a rounding")


def _rewrite_calibrated(model: ModelProto, products: tuple[Product, ...], calibration: Values) -> ModelProto:
    writer = NodeWriter(model)
    replaced: dict[str, NodeProto] = {}
    ranges = observe(model, tuple(dict.fromkeys(product.source for product in products)), calibration)
    for product in products:
        source = product.source
        scale, zero_point = _activation_step(*ranges[source])
        clipped = _clipped(writer, source, scale, zero_point)
        quantized = writer.quantize(clipped, scale, zero_point, f"{source}_quantized")
        activation = writer.dequantize(quantized, scale, zero_point, f"{source}_dequantized")
        weight_scale = power_of_two_scale(float(np.abs(product.weights).max()), WEIGHT_ZERO_POINT - 1)
        replaced[product.output] = _product_node(writer, product, activation, scale, weight_scale)
    return writer.model(replaced, set())


def _activation_step(low: float, high: float) -> tuple[float, int]:
    """The smallest power of two whose 256 multiples around a zero point cover low..0..high, and that point.

    Of values on both sides of zero the uppermost step may be missing: that costs as much there as doubled
    steps would everywhere, and -1..1 has steps that codewords on a grid of 2^-7 are whole numbers of.  Spare
    steps go to both sides in proportion.
    """
    scale = power_of_two_scale(high - low, 256)
    while True:
        below, above = math.ceil(-low / scale), math.ceil(high / scale)
        if below <= 255 and below + above <= (256 if below and above else 255):
            break
        scale *= 2
    spare = max(0, 255 - below - above)
    return scale, below + (spare * below // (below + above) if below else 0)


def _clipped(writer: NodeWriter, source: str, scale: float, zero_point: int) -> str:
    """As Max and Min: of a Clip on an input, ONNX Runtime 1.19 to 1.23 make a graph that they cannot load."""
    low = writer.number(f"{source}_low", -zero_point * scale)
    high = writer.number(f"{source}_high", (255 - zero_point) * scale)
    return writer.node(
        "Min", [writer.node("Max", [source, low], f"{source}_raised"), high], f"{source}_clipped"
    )


def _product_node(
    writer: NodeWriter, product: Product, activation: str, scale: float, weight_scale: float
) -> NodeProto:
    """The product with its weights and bias in integers."""
    node = deepcopy(product.node)
    inputs = [activation, writer.weights(product.node.input[1], product.weights, weight_scale)]
    if product.bias is not None:
        inputs.append(writer.bias(product.node.input[2], product.bias, scale * weight_scale))
    del node.input[:]
    node.input.extend(inputs)
    return node


def _view(model: ModelProto) -> GraphView:
    try:
        return GraphView(model)
    except GraphError as error:
        raise ArtifactError(f"the graph does not type-check: {error}") from error
