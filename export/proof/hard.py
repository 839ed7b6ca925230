"""Proof that a transmitter graph is hard: what it sends is a function of codeword indices alone.

Six proofs on the graph, each of which can fail with a reason of its own:

operators   no node draws random numbers, anywhere, subgraphs and functions included
mode        ``mode`` is a requested one or the one of the manifest's routing (see ``mode``)
search      ``indices`` are nearest-codeword decisions over the manifest's codebook (see ``search``)
cut         bits, symbols and counts follow from ``indices`` and ``mode`` alone, through integers only, and
            nothing there depends on how the indices of several tokens combine (see ``cut``)
table       that part, run on every codeword of every mode at every token, gives the manifest's labels as
            bits, and symbols that are those bits, packed
exact       on an integer grid: every sum between input and indices is exact in any order (see ``exact``)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from twophase.export.graphs.run import GraphRunError, OnnxRuntime
from twophase.export.graphs.signature import check_operators
from twophase.export.graphs.view import INTEGER_TYPES, GraphView, all_nodes, problem_of_cut
from twophase.export.proof.cut import Kind, problems_of_combining
from twophase.export.proof.exact import ExactProof, prove_exact
from twophase.export.proof.mode import ModeProof, prove_mode, view_with
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.export.proof.search import prove_search
from twophase.link.bits import bits_to_symbols, label_bits, pad_bits
from twophase.link.manifest import Manifest
from twophase.link.modes import Mode

__all__ = ["SENT", "HardProof", "expected_bits", "prove_cut", "prove_hard", "prove_integers", "prove_table"]

SENT = ["bits", "symbols", "bit_count", "symbol_count"]
"""Outputs that must follow from ``indices`` and ``mode`` alone."""

_CHUNK = 4096
_MIXTURES = 1024


@dataclass(frozen=True)
class HardProof:
    """What was proved of a transmitter."""

    nodes: int
    """Nodes scanned, those of subgraphs and functions included."""
    integer_nodes: int
    """Nodes between the indices and what is sent; all give integers."""
    codewords: int
    """Codewords of all modes, each run at every token."""
    combinations: int
    """Rows of indices run through the cut."""
    searches: tuple[ModeSearch, ...]
    """The codebook search of each mode."""
    mode: ModeProof
    """How the mode is chosen."""
    exact: ExactProof | None
    """Why the indices are the same on every runtime; None for a link that is searched in float32."""


def prove_hard(model: ModelProto, manifest: Manifest) -> tuple[HardProof | None, list[str]]:
    """The proof that a transmitter is hard, None if it fails, and one sentence for each problem found."""
    view, problems = view_with(model, ("mode", "indices", *SENT))
    if view is None:
        return None, problems
    mode, problems = prove_mode(view, manifest)
    problems = check_operators(model) + problems
    searches, found = prove_search(view, manifest)
    problems += found
    found = prove_cut(view)
    integer_nodes = rows = 0
    if not found:
        integer_nodes, found = prove_integers(view)
    problems += found
    if not found:
        rows, found = prove_table(view, manifest)
        problems += found
    exact, found = (None, []) if manifest.grid is None else prove_exact(view, manifest)
    problems += found
    if problems or mode is None:
        return None, problems
    nodes = sum(1 for _ in all_nodes(model))
    codewords = sum(mode.codebook_size for mode in manifest.modes)
    return HardProof(nodes, integer_nodes, codewords, rows, searches, mode, exact), []


def expected_bits(
    indices: NDArray[np.int64], mode: Mode, labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bits and symbols that the manifest asks for, (batch, channel_bits) and (batch, symbols).

    ``indices`` has the shape (batch, tokens); ``labels`` are those of the codewords of the mode's codebook.
    """
    bits = pad_bits(label_bits(labels)[indices].reshape(len(indices), -1), mode.bits_per_symbol)
    return bits, bits_to_symbols(bits, mode.bits_per_symbol)


def prove_cut(view: GraphView) -> list[str]:
    """Why what is sent cannot be cut off after ``indices`` and ``mode``; empty if it can."""
    problem = problem_of_cut(view, ["indices", "mode"], SENT)
    return [] if problem is None else [problem]


def prove_integers(view: GraphView) -> tuple[int, list[str]]:
    """Prove that a cut that ``prove_cut`` has proved computes with integers, and keeps tokens apart.

    Returns the number of its nodes, and one sentence for each problem: a tensor that is no integer; if there
    is none, a node after which what is sent may depend on how the indices of several tokens combine.
    """
    nodes = view.cut(["indices", "mode"], SENT).graph.node
    problems = []
    for node in nodes:
        for name in (*node.input, *node.output):
            if name and view.element_type(name) not in INTEGER_TYPES:
                kind = TensorProto.DataType.Name(view.element_type(name))
                problems.append(
                    f"'{name}' at {node.op_type} ('{node.name}') is {kind}: integers only after 'indices'"
                )
    if not problems:
        given = {"indices": Kind.INDEX, "mode": Kind.MODE}
        problems = problems_of_combining(view, given, SENT, Kind.SUM)
    return len(nodes), list(dict.fromkeys(problems))


def prove_table(view: GraphView, manifest: Manifest) -> tuple[int, list[str]]:
    """Run every codeword of every mode, at every token, through the cut and compare with the manifest.

    After ``prove_integers`` each entry of what is sent is a sum over tokens of functions of one index each,
    given the mode; so are the bits and symbols that the manifest asks for.  Two such sums that agree wherever
    all tokens but one are at 0 agree everywhere, and so the run is exhaustive: for indices that are codewords
    of the mode at its tokens and -1 after them, as ``indices`` are defined.

    Returns the number of rows of indices that were run, and one sentence for each problem.
    """
    part = OnnxRuntime(view.cut(["indices", "mode"], SENT))
    rows = 0
    problems: list[str] = []
    for number, mode in enumerate(manifest.modes):
        labels = manifest.label_array(mode.codebook)
        for indices in _combinations(mode):
            rows += len(indices)
            padded = np.full((len(indices), manifest.modes.max_tokens), -1, dtype=np.int64)
            padded[:, : mode.tokens] = indices
            try:
                got = part.run(SENT, {"indices": padded, "mode": np.full(len(indices), number)})
            except GraphRunError as error:
                problems.append(
                    f"mode {number} ({mode.name}): the part after 'indices' does not run: {error}"
                )
                break
            found = _compare_with_table(got, indices, mode, labels, manifest)
            if found:
                problems.extend(f"mode {number} ({mode.name}): {problem}" for problem in found)
                break
    return rows, problems


def _combinations(mode: Mode) -> Iterator[NDArray[np.int64]]:
    """Every codeword at every token with the rest at 0, all tokens alike, and mixtures of a fixed seed."""
    size, tokens = mode.codebook_size, mode.tokens
    words = np.arange(size, dtype=np.int64)
    for token in range(tokens):
        for start in range(0, size, _CHUNK):
            some = words[start : start + _CHUNK]
            rows = np.zeros((len(some), tokens), dtype=np.int64)
            rows[:, token] = some
            yield rows
    for start in range(0, size, _CHUNK):
        yield np.repeat(words[start : start + _CHUNK, np.newaxis], tokens, axis=1)
    yield np.random.default_rng(0).integers(0, size, (_MIXTURES, tokens))


def _compare_with_table(
    got: list[NDArray[Any]],
    indices: NDArray[np.int64],
    mode: Mode,
    labels: NDArray[np.int64],
    manifest: Manifest,
) -> list[str]:
    bits, symbols, bit_count, symbol_count = got
    wanted_bits = np.zeros((len(indices), manifest.modes.max_bits), dtype=np.uint8)
    wanted_symbols = np.zeros((len(indices), manifest.modes.max_symbols), dtype=np.int64)
    wanted_bits[:, : mode.channel_bits], wanted_symbols[:, : mode.symbols] = expected_bits(
        indices, mode, labels
    )
    problems = []
    if not np.isin(bits, (0, 1)).all():
        problems.append(f"'bits' hold {np.setdiff1d(bits, (0, 1))[0]}, neither 0 nor 1")
    inside = (np.asarray(symbols) >= 0) & (np.asarray(symbols) < mode.order)
    if not inside.all():
        problems.append(
            f"'symbols' hold {symbols[~inside][0]}, outside the {mode.order} constellation points"
        )
    problems.extend(_shared_labels(bits, indices, mode))
    for name, values, wanted in (("bits", bits, wanted_bits), ("symbols", symbols, wanted_symbols)):
        if values.shape != wanted.shape:
            problems.append(f"'{name}' have shape {values.shape}, not {wanted.shape}")
        elif (differs := (values != wanted).any(axis=1)).any():
            row = int(np.argmax(differs))
            problems.append(
                f"'{name}' of indices {indices[row].tolist()} are {values[row].tolist()}, "
                f"but the manifest's labels give {wanted[row].tolist()}"
            )
    for name, values, count in (
        ("bit_count", bit_count, mode.channel_bits),
        ("symbol_count", symbol_count, mode.symbols),
    ):
        if (np.asarray(values) != count).any():
            problems.append(f"'{name}' is {np.unique(values).tolist()}, not {count}")
    return problems


def _shared_labels(bits: NDArray[Any], indices: NDArray[np.int64], mode: Mode) -> list[str]:
    """Name two codewords that one pattern of bits stands for."""
    for token in range(mode.tokens):
        part = bits[:, token * mode.bits_per_index : (token + 1) * mode.bits_per_index]
        owner: dict[bytes, int] = {}
        for word, pattern in zip(indices[:, token].tolist(), part, strict=True):
            if owner.setdefault(pattern.tobytes(), word) != word:
                first = owner[pattern.tobytes()]
                return [f"codewords {first} and {word} share the bits {pattern.tolist()} at token {token}"]
    return []
