"""Names, types and shapes of the tensors that enter and leave each graph of a bundle.

Every tensor has a leading batch axis, called ``batch`` in the graphs; shapes here leave it out.

A link that takes text has a transmitter in two forms: the head, from features on, which is what ``tx.onnx``
is elsewhere, and the whole, ``tx.onnx``, from token ids on.  The second axis of ids and mask is ``length``.

A transmitter of several modes also takes ``mode_request``, which may be left out: one number for all samples
or one for each; -1 leaves the mode to the router, any other number forces that mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from twophase.export.graphs.view import all_nodes
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = [
    "BATCH_AXIS",
    "FEATURES",
    "LENGTH_AXIS",
    "RANDOM_OPERATORS",
    "RX_FILE",
    "UNFORCED",
    "WHOLE_FILE",
    "Port",
    "Signature",
    "all_graphs",
    "backbone_signature",
    "check_interface",
    "check_operators",
    "deployed",
    "run_by_devices",
    "signature_of",
]


RX_FILE = "rx.onnx"
"""The receiver as it is deployed."""

WHOLE_FILE = "tx.onnx"
"""The transmitter as it is deployed: of a link that takes text the graph from token ids on."""

FEATURES = "features"
"""What the backbone gives, and the whole besides what it sends."""

BATCH_AXIS = "batch"

LENGTH_AXIS = "length"
"""Tokens of the longest text of a batch."""

UNFORCED = -1
"""Value of ``mode_request`` that leaves the mode to the router."""


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    dtype: str
    """Name of the numpy type."""
    shape: tuple[int, ...]
    """Shape of one sample's part, without the leading axis."""
    axis: str = BATCH_AXIS
    """Name of the leading axis."""
    default: int | None = None
    """What an input that may be left out is taken for; None if it may not."""
    free: tuple[str, ...] = ()
    """Names of free axes between the leading one and those of ``shape``."""

    @property
    def axes(self) -> tuple[str | int, ...]:
        """Every axis: the name of a free one, the size of a fixed one."""
        return (self.axis, *self.free, *self.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array has this shape, whatever its free axes."""
        fixed = len(shape) - len(self.shape)
        return fixed == 1 + len(self.free) and shape[fixed:] == self.shape


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph, in their order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs."""
        return [port.name for port in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return [port.name for port in self.outputs]


def deployed(manifest: Manifest) -> tuple[str, str]:
    """The pair of graphs that a link consists of, from features on; other graphs are references."""
    return manifest.head_file, RX_FILE


def run_by_devices(manifest: Manifest) -> tuple[str, ...]:
    """All graphs that a device may run: the pair, and the whole transmitter of a link that takes text."""
    return tuple(dict.fromkeys((WHOLE_FILE, *deployed(manifest))))


def all_graphs(manifest: Manifest) -> tuple[str, ...]:
    """Every graph of a bundle."""
    return tuple(dict.fromkeys((*manifest.graph_files, WHOLE_FILE)))


def signature_of(graph_file: str, manifest: Manifest) -> Signature:
    """What the graph in ``graph_file`` takes and gives: a transmitter, a soft transmitter or a receiver."""
    modes = manifest.modes
    routed: tuple[Port, ...] = (Port("snr_db", "float32", ()),)
    if len(modes) > 1:
        routed = (*routed, Port(MODE_REQUEST, "int64", (), "requests", UNFORCED))
    features = (Port("input", "float32", manifest.input_shape), *routed)
    mode = Port("mode", "int64", ())
    indices = Port("indices", "int64", (modes.max_tokens,))
    if graph_file in (manifest.head_file, WHOLE_FILE):
        bits = Port("bits", "uint8", (modes.max_bits,))
        symbols = Port("symbols", "int64", (modes.max_symbols,))
        counts = (Port("bit_count", "int64", ()), Port("symbol_count", "int64", ()))
        sent = (mode, indices, bits, symbols, *counts)
        if graph_file == manifest.head_file:
            return Signature(features, sent)
        backbone = backbone_signature(manifest)
        return Signature((*backbone.inputs, *routed), (*sent, *backbone.outputs))
    if any(graph_file == reference.soft for reference in manifest.references):
        return Signature(features, (mode, Port("symbols_iq", "float32", (modes.max_symbols, 2))))
    outputs = (
        Port("logits", "float32", (len(manifest.classes),)),
        Port("posterior", "float32", (modes.max_tokens, modes.max_codebook_size)),
        indices,
    )
    return Signature((Port("llr", "float32", (modes.max_bits,)), mode), outputs)


def backbone_signature(manifest: Manifest) -> Signature:
    """What makes features of tokens."""
    tokens = (
        Port("input_ids", "int64", (), free=(LENGTH_AXIS,)),
        Port("attention_mask", "int64", (), free=(LENGTH_AXIS,)),
    )
    return Signature(tokens, (Port(FEATURES, "float32", manifest.input_shape),))


def check_interface(model: ModelProto, signature: Signature) -> list[str]:
    """Problems of the names, types and shapes of a graph's inputs and outputs."""
    return [
        *_check_ports("input", list(model.graph.input), signature.inputs),
        *_check_ports("output", list(model.graph.output), signature.outputs),
        *_check_defaults(model, signature),
    ]


def _check_defaults(model: ModelProto, signature: Signature) -> list[str]:
    """Inputs that may be left out have the default of the signature, the others have none."""
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    problems = []
    for port in signature.inputs:
        wanted = None if port.default is None else [port.default]
        if (default := stored.get(port.name)) != wanted:
            rule = "no default" if wanted is None else f"the default {wanted}"
            problems.append(f"input '{port.name}' must have {rule}, not {default or 'none'}")
    return problems


def _check_ports(side: str, values: list[ValueInfoProto], ports: tuple[Port, ...]) -> list[str]:
    names, wanted = [value.name for value in values], [port.name for port in ports]
    if names != wanted:
        return [f"the {side}s must be {wanted}, not {names}"]
    problems = []
    for value, port in zip(values, ports, strict=True):
        tensor = value.type.tensor_type
        dtype = (
            onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "undefined"
        )
        if dtype != port.dtype:
            problems.append(f"{side} '{port.name}' must be {port.dtype}, not {dtype}")
        axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        if axes != list(port.axes):
            problems.append(f"{side} '{port.name}' must have shape {list(port.axes)}, not {axes}")
    return problems


RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Operators of ONNX that draw random numbers."""


def check_operators(model: ModelProto) -> list[str]:
    """Problems of a graph's operators: random ones, ones outside the ONNX standard, and ones of its own.

    A function of the model may have the name of a standard operator: what reads operators by their names, as
    the proofs do, would then read another graph than the one that runs.
    """
    functions = {(function.domain, function.name) for function in model.functions}
    problems = [
        f"'{function.domain}.{function.name}' is a function of the model's own, no standard operator"
        for function in model.functions
    ]
    for node in all_nodes(model):
        if node.op_type in RANDOM_OPERATORS:
            problems.append(f"{node.op_type} ('{node.name}') draws random numbers")
        elif node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            problems.append(f"{node.op_type} ('{node.name}') of '{node.domain}' is no standard operator")
    return problems
