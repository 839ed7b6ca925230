"""Names, types and shapes of the tensors that enter and leave each graph of a bundle.

Every tensor has a leading batch axis, called ``batch`` in the graphs; shapes here leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from twophase.link.manifest import Manifest

__all__ = ["BATCH_AXIS", "Port", "Signature", "signature_of"]

BATCH_AXIS = "batch"


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    dtype: str
    """Name of the numpy type."""
    shape: tuple[int, ...]
    """Shape of one sample's part, without the batch axis."""


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
    features = (Port("input", "float32", manifest.input_shape), Port("snr_db", "float32", ()))
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
