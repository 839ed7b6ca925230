"""Names, types and shapes of the tensors that enter and leave each graph of a bundle.

Every tensor has a leading batch axis, called ``batch`` in the graphs; shapes here leave it out.

A transmitter of several modes also takes ``mode_request``, which may be left out: one number for all samples
or one for each; -1 leaves the mode to the router, any other number forces that mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from twophase.link.manifest import Manifest
from twophase.link.runtime import MODE_REQUEST

__all__ = ["BATCH_AXIS", "UNFORCED", "Port", "Signature", "signature_of"]

BATCH_AXIS = "batch"

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


def signature_of(graph_file: str, manifest: Manifest) -> Signature:
    """What the graph in ``graph_file`` takes and gives: a transmitter, a soft transmitter or a receiver."""
    modes = manifest.modes
    features: tuple[Port, ...] = (
        Port("input", "float32", manifest.input_shape),
        Port("snr_db", "float32", ()),
    )
    if len(modes) > 1:
        features = (*features, Port(MODE_REQUEST, "int64", (), "requests", UNFORCED))
    mode = Port("mode", "int64", ())
    indices = Port("indices", "int64", (modes.max_tokens,))
    if graph_file == "tx.onnx":
        bits = Port("bits", "uint8", (modes.max_bits,))
        symbols = Port("symbols", "int64", (modes.max_symbols,))
        counts = (Port("bit_count", "int64", ()), Port("symbol_count", "int64", ()))
        return Signature(features, (mode, indices, bits, symbols, *counts))
    if any(graph_file == reference.soft for reference in manifest.references):
        return Signature(features, (mode, Port("symbols_iq", "float32", (modes.max_symbols, 2))))
    outputs = (
        Port("logits", "float32", (len(manifest.classes),)),
        Port("posterior", "float32", (modes.max_tokens, modes.max_codebook_size)),
        indices,
    )
    return Signature((Port("llr", "float32", (modes.max_bits,)), mode), outputs)
