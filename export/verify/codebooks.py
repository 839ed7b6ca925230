"""The codebooks that the graphs of a bundle hold, byte for byte, and their hash.

The canonical bytes of a codebook are its codewords as little-endian float32, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from twophase.export.graphs.run import GraphRunError, OnnxRuntime
from twophase.export.graphs.view import GraphError, GraphView
from twophase.export.proof.exact_sums import PRODUCTS
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.export.verify.audit import products_between
from twophase.link.manifest import Manifest

__all__ = ["codebook_hash", "compare_receiver", "compare_transmitter"]


def codebook_hash(codebooks: Iterable[NDArray[np.floating]]) -> str:
    """SHA-256 of codebooks, shape (K, C) each, one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for codebook in codebooks:
        digest.update(np.ascontiguousarray(codebook, dtype="<f4").tobytes())
    return digest.hexdigest()


def compare_transmitter(view: GraphView, searches: tuple[ModeSearch, ...], manifest: Manifest) -> list[str]:
    """Problems of the codebooks that a transmitter searches: the manifest's, or times a power of two.

    Parameters
    ----------
    view
        The transmitter.
    searches
        The codebook search of each mode.
    manifest
        The link.
    """
    problems = []
    for search, mode in dict.fromkeys(zip(searches, manifest.modes, strict=True)):
        wanted = manifest.codebook(mode.codebook)
        products = products_between(view, ["indices"], [search.latents, "mode"])
        held = [
            matrix
            for node in products
            if node.input[0] == search.latents
            for matrix in _held(view, node, wanted.shape)
        ]
        if not any(_scaled_equal(matrix, wanted) for matrix in held):
            problems.append(
                f"'{manifest.head_file}' searches other codewords than codebook {mode.codebook}"
                f"{_nearest(held, wanted)}"
            )
    return list(dict.fromkeys(problems))


def compare_receiver(view: GraphView, manifest: Manifest) -> list[str]:
    """Problems of the codebooks that a receiver makes codeword means with: they must be the manifest's.

    These are the products of what the decoder computes, ``posterior`` and all before it, with stored matrices
    of a codebook's shape.

    Parameters
    ----------
    view
        The receiver.
    manifest
        The link.
    """
    decoder = {name for node in view.makers(["posterior", "indices"]) for name in node.output if name}
    products = [
        node
        for node in view.model.graph.node
        if node.op_type in PRODUCTS and node.output[0] not in decoder and decoder & set(node.input)
    ]
    codebooks = [manifest.codebook(index) for index in range(len(manifest.codebooks))]
    problems = []
    for index, wanted in enumerate(codebooks):
        held = [found for node in products if (found := _held(view, node, wanted.shape))]
        foreign = [found for found in held if not any(_equal(found, codebook) for codebook in codebooks)]
        if foreign or not any(_equal(found, wanted) for found in held):
            near = [matrix for found in foreign for matrix in found]
            problems.append(f"'rx.onnx' holds other codewords than codebook {index}{_nearest(near, wanted)}")
    return problems


def _held(view: GraphView, node: NodeProto, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """The stored matrix that a product multiplies with, and its transpose: those of a shape."""
    name = node.input[1]
    matrix = view.stored(name)
    if matrix is None and view.producer(name) is not None and not view.sources([name]):
        try:
            (matrix,) = OnnxRuntime(view.cut([], [name])).run([name], {})
        except (GraphError, GraphRunError):
            return []
    if matrix is None or matrix.ndim != 2:
        return []
    return [np.asarray(side, dtype=np.float32) for side in (matrix, matrix.T) if side.shape == shape]


def _equal(matrices: list[NDArray[np.float32]], codebook: NDArray[np.float64]) -> bool:
    return any(np.array_equal(matrix, codebook.astype(np.float32)) for matrix in matrices)


def _scaled_equal(matrix: NDArray[np.float32], wanted: NDArray[np.float64]) -> bool:
    largest = float(np.abs(wanted).max())
    ratio = float(np.abs(matrix).max()) / largest if largest else 0.0
    if ratio <= 0.0 or np.frexp(ratio)[0] != 0.5:
        return False
    return bool(np.array_equal(matrix / np.float32(ratio), wanted.astype(np.float32)))


def _nearest(held: list[NDArray[np.float32]], wanted: NDArray[np.float64]) -> str:
    if not held:
        return ": no product with a stored matrix of its shape is there"
    errors = [np.abs(matrix - wanted).max(axis=1) for matrix in held]
    error = min(errors, key=lambda entry: float(entry.max()))
    return f": codeword {int(error.argmax())} differs by {error.max():.3g}"
