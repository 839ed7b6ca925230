"""What both ends take for codewords: the manifest's codebooks, byte for byte, its labels and its prior.

The canonical bytes of a codebook are its codewords as little-endian float32, one after the other.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from twophase.export.compare.inputs import llr_batches
from twophase.export.compare.tally import POSTERIOR_MARGIN, TOLERANCE
from twophase.export.graphs.run import GraphRunError, OnnxRuntime
from twophase.export.graphs.view import GraphError, GraphView
from twophase.export.proof.exact_sums import PRODUCTS
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.export.verify.audit import products_between
from twophase.export.verify.bundle import Bundle, CheckError, Finding
from twophase.link.bits import label_bits
from twophase.link.decode import codeword_log_posterior, hard_indices
from twophase.link.manifest import Manifest

__all__ = ["codebooks", "is_multiple", "received_labels"]

_LLR = 20.0
"""LLR of a bit, in favour of the one that was sent: no prior outweighs it below a million codewords."""

_MIXTURES, _RANDOM = 64, 64
"""Rows of random codewords, and of random LLRs, in each mode."""

_ROWS = 256
"""Rows run at once."""

_UNSEEN_SHARE = 0.1
"""The receiver's prior is the usage with so much of a uniform share, for codewords that were never seen."""


def codebooks(bundle: Bundle) -> Finding:
    """Transmitter and receiver hold the manifest's codebooks."""
    manifest = bundle.manifest
    problems: list[str] = []
    try:
        problems += _compare_transmitter(bundle.tx, bundle.searches, manifest)
    except CheckError as error:
        problems.append(f"'{manifest.head_file}': {error}")
    problems += _compare_receiver(bundle.view("rx.onnx"), manifest)
    count = len(manifest.codebooks)
    canonical = b"".join(manifest.codebook(index).astype("<f4").tobytes() for index in range(count))
    digest = hashlib.sha256(canonical).hexdigest()
    return Finding(problems, f"tx, rx and manifest hold the same {count}: SHA-256 {digest}")


def _compare_transmitter(view: GraphView, searches: tuple[ModeSearch, ...], manifest: Manifest) -> list[str]:
    """Problems of the codebooks that a transmitter searches: the manifest's, or times a power of two."""
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
        if not any(is_multiple(matrix, wanted) for matrix in held):
            problems.append(
                f"'{manifest.head_file}' searches other codewords than codebook {mode.codebook}"
                f"{_nearest(held, wanted)}"
            )
    return list(dict.fromkeys(problems))


def _compare_receiver(view: GraphView, manifest: Manifest) -> list[str]:
    """Problems of the codebooks that a receiver makes codeword means with: they must be the manifest's.

    These are the products of what the decoder computes, ``posterior`` and all before it, with stored matrices
    of a codebook's shape.
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


def is_multiple(matrix: NDArray[np.generic], table: NDArray[np.float64]) -> bool:
    """Whether a matrix is a table, rounded to float32, times a power of two, transposed or not."""
    values, largest = matrix.astype(np.float64), float(np.abs(table).max())
    for side in (values, values.T):
        if side.shape == table.shape and largest:
            ratio = float(np.abs(side).max()) / largest
            if np.frexp(ratio)[0] == 0.5 and np.array_equal(side / ratio, table.astype(np.float32)):
                return True
    return False


def _nearest(held: list[NDArray[np.float32]], wanted: NDArray[np.float64]) -> str:
    if not held:
        return ": no product with a stored matrix of its shape is there"
    errors = [np.abs(matrix - wanted).max(axis=1) for matrix in held]
    error = min(errors, key=lambda entry: float(entry.max()))
    return f": codeword {int(error.argmax())} differs by {error.max():.3g}"


def received_labels(bundle: Bundle) -> Finding:
    """Labels become their codewords again, and LLRs the posterior that NumPy computes.

    INT8 receivers as well: only what follows the posterior is quantised.
    """
    manifest = bundle.manifest
    runner = OnnxRuntime(bundle.model("rx.onnx"))
    problems: list[str] = []
    sent = 0
    for number, name in enumerate(manifest.modes.names):
        rows = _rows(manifest, number)
        sent += len(rows)
        got = _decided(runner, manifest, number, rows)
        differs = (got != rows).any(axis=1) if got.shape == rows.shape else np.ones(len(rows), dtype=bool)
        if differs.any():
            row = int(differs.argmax())
            problems.append(
                f"mode {number} ({name}): the labels of the codewords {_shown(rows, row)} are received as "
                f"{_shown(got, row)}, and {differs.sum()} of {len(rows)} rows otherwise than they were sent"
            )
    compared, found = _posteriors(runner, manifest)
    return Finding(
        problems + found,
        f"{sent:,} rows of labels come back as codewords; posteriors of {compared:,} samples are NumPy's",
    )


def _rows(manifest: Manifest, number: int) -> NDArray[np.int64]:
    """Every codeword at every token, then mixtures; -1 at tokens that the mode does not have."""
    mode = manifest.modes[number]
    mixed = np.random.default_rng([0, number]).integers(0, mode.codebook_size, (_MIXTURES, mode.tokens))
    each = np.repeat(np.arange(mode.codebook_size)[:, np.newaxis], mode.tokens, axis=1)
    rows = np.full((len(each) + len(mixed), manifest.modes.max_tokens), -1, dtype=np.int64)
    rows[:, : mode.tokens] = np.concatenate([each, mixed])
    return rows


def _decided(
    runner: OnnxRuntime, manifest: Manifest, number: int, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Indices that are received where ``rows`` were sent."""
    mode = manifest.modes[number]
    table = label_bits(manifest.label_array(mode.codebook))
    found = []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS, : mode.tokens]
        llr = np.zeros((len(part), manifest.modes.max_bits), dtype=np.float32)
        llr[:, : mode.information_bits] = _LLR * (2.0 * table[part].reshape(len(part), -1) - 1.0)
        found += runner.run(["indices"], {"llr": llr, "mode": np.full(len(part), number)})
    return np.concatenate(found)


def _posteriors(runner: OnnxRuntime, manifest: Manifest) -> tuple[int, list[str]]:
    """Samples compared, and one sentence for each mode whose posterior is not NumPy's."""
    problems: dict[int, str] = {}
    compared = 0
    for llr, modes in llr_batches(manifest, _RANDOM * len(manifest.modes), seed=0):
        posterior, indices = runner.run(["posterior", "indices"], {"llr": llr, "mode": modes})
        compared += len(llr)
        for number in np.unique(modes).tolist():
            here = modes == number
            problem = _unlike(llr[here], posterior[here], indices[here], manifest, number)
            if problem:
                name = manifest.modes.names[number]
                problems.setdefault(number, f"mode {number} ({name}): {problem}")
    return compared, list(problems.values())


def _unlike(
    llr: NDArray[np.float32],
    posterior: NDArray[np.float32],
    indices: NDArray[np.int64],
    manifest: Manifest,
    number: int,
) -> str | None:
    """How what was received differs from NumPy's posterior; None if it does not."""
    mode = manifest.modes[number]
    prior = np.asarray(manifest.usage[mode.codebook]) + _UNSEEN_SHARE / mode.codebook_size
    table = label_bits(manifest.label_array(mode.codebook))
    expected = codeword_log_posterior(
        llr[:, : mode.information_bits], table, np.log(prior / (1.0 + _UNSEEN_SHARE))
    )
    wanted = np.zeros((len(llr), manifest.modes.max_tokens, manifest.modes.max_codebook_size))
    if posterior.shape != wanted.shape:
        return f"'posterior' has shape {posterior.shape}, not {wanted.shape}"
    wanted[:, : mode.tokens, : mode.codebook_size] = np.exp(expected)
    error = np.abs(posterior - wanted)
    if not (error <= TOLERANCE * (1.0 + wanted)).all():
        return f"'posterior' differs by up to {error.max():.3g} from that of the manifest's labels and usage"
    # e^-margin is the ratio of the two largest; below it the decision may hang by a rounding error
    best = np.sort(expected, axis=-1)
    clear = best[..., -1] - best[..., -2] > 10.0 * POSTERIOR_MARGIN
    if (indices[:, : mode.tokens] != hard_indices(expected))[clear].any():
        return "'indices' are not the most probable codewords"
    return None


def _shown(rows: NDArray[np.int64], row: int) -> str:
    """A row up to its padding, its beginning if it is long."""
    values = rows[row][rows[row] >= 0].tolist()
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
