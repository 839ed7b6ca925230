"""Checks of a bundle that read its files and graphs, and run no more than the part after the indices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto

from twophase.export.artefacts.card import CARD_FILE, link_card
from twophase.export.backbone.compare import problems_of_tokenizer
from twophase.export.backbone.merge import unlike_proved
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.signature import (
    RX_FILE,
    WHOLE_FILE,
    check_interface,
    check_operators,
    run_by_devices,
    signature_of,
)
from twophase.export.graphs.view import all_nodes
from twophase.export.int8.nodes import INT8_IR_VERSION, INT8_OPSET
from twophase.export.proof.exact import prove_exact
from twophase.export.proof.hard import SENT, prove_cut, prove_integers, prove_table
from twophase.export.proof.input_scale import check_input_scale
from twophase.export.verify.bundle import Bundle, CheckError, Finding
from twophase.link.bits import bits_to_symbols, symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.manifest import TOKENIZER_FILE

__all__ = [
    "as_trained",
    "bijection",
    "card",
    "constellation",
    "contained",
    "cut",
    "exactness",
    "files",
    "formats",
    "input_scale",
    "integers",
    "interfaces",
    "mode",
    "operators",
    "search",
    "static_quantisation",
    "table",
    "takes_text",
    "tokenizer",
    "types",
]

_FLOAT_FORMAT = (18, 8)
"""Operator set and IR version of float graphs."""

_ENERGY_TOLERANCE = 1e-12

_NAMED = 10
"""So many files that the manifest does not list are named."""


def files(bundle: Bundle) -> Finding:
    """Every file of the manifest is there with its hash, and the manifest with its digest.

    Files that it does not list are named, and no fault: nothing reads them.
    """
    manifest = bundle.manifest
    size = sum(int(entry["bytes"]) for entry in manifest.files.values())
    detail = f"{len(manifest.files)} files, {size / 1000:,.0f} kB, SHA-256 as listed"
    if others := bundle.unlisted_files():
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        detail += f"; not listed: {', '.join(map(repr, others[:_NAMED]))}{more}"
    return Finding(bundle.manifest_problems, detail)


def card(bundle: Bundle) -> Finding:
    """The card says what the manifest says."""
    text = bundle.content(CARD_FILE)
    problems = (
        []
        if text == link_card(bundle.manifest).encode()
        else [f"'{CARD_FILE}' is not made from the manifest"]
    )
    return Finding(problems, f"{CARD_FILE} says what the manifest says")


def types(bundle: Bundle) -> Finding:
    """The ONNX checker and full shape inference."""
    problems: list[str] = []
    nodes = 0
    for file in bundle.graphs:
        try:
            nodes += sum(1 for _ in all_nodes(bundle.view(file).model))
        except CheckError as error:
            problems.append(str(error))
    return Finding(problems, f"{len(bundle.graphs)} graphs, {nodes:,} nodes")


def formats(bundle: Bundle) -> Finding:
    """Operator set, IR version and domains."""
    problems: list[str] = []
    for file, model in _models(bundle, problems):
        int8 = bundle.manifest.precision == "int8" and file in run_by_devices(bundle.manifest)
        opset, ir_version = (INT8_OPSET, INT8_IR_VERSION) if int8 else _FLOAT_FORMAT
        if model.ir_version != ir_version:
            problems.append(f"'{file}' must be of IR version {ir_version}, not {model.ir_version}")
        found = sorted((entry.domain, entry.version) for entry in model.opset_import)
        foreign = sorted({domain for domain, _ in found} - {"", "ai.onnx"})
        if foreign:
            problems.append(f"'{file}' needs operators of {', '.join(map(repr, foreign))}, not of ONNX alone")
        if [version for domain, version in found if domain in ("", "ai.onnx")] != [opset]:
            problems.append(f"'{file}' must use opset {opset} of ONNX, not {found}")
    wanted = f"opset {_FLOAT_FORMAT[0]}, IR {_FLOAT_FORMAT[1]}"
    if bundle.manifest.precision == "int8":
        wanted = f"INT8 graphs opset {INT8_OPSET}, IR {INT8_IR_VERSION}; others {wanted}"
    return Finding(problems, f"{wanted}; ONNX's own domain only")


def interfaces(bundle: Bundle) -> Finding:
    """Names, types and shapes of inputs and outputs."""
    problems = _in_graphs(
        bundle, lambda file, model: check_interface(model, signature_of(file, bundle.manifest))
    )
    return Finding(problems, "names, types and shapes are the manifest's")


def operators(bundle: Bundle) -> Finding:
    """No random operators and none outside the standard, branches and functions included."""
    problems = _in_graphs(bundle, lambda file, model: check_operators(model))
    models = [model for _, model in _models(bundle, [])]
    inner = sum(sum(1 for _ in all_nodes(model)) - len(model.graph.node) for model in models)
    return Finding(problems, f"none; {inner} nodes in branches, loops and functions looked at")


def static_quantisation(bundle: Bundle) -> Finding:
    """No quantisation by what happens to be in a batch."""

    def dynamic(file: str, model: ModelProto) -> list[str]:
        return [
            f"{node.op_type} ('{node.name}') makes a sample depend on the others in its batch"
            for node in all_nodes(model)
            if node.op_type.startswith("Dynamic")
        ]

    return Finding(_in_graphs(bundle, dynamic), "none: a sample does not depend on its batch")


def mode(bundle: Bundle) -> Finding:
    """``mode`` is the requested one or that of the manifest's routing."""
    proof, problems = bundle.mode_proof
    if proof is None:
        return Finding(problems, "")
    how = (
        "an ArgMax over scores, signalled in a header"
        if proof.scores
        else f"the manifest's at every SNR ({proof.snr_points} run)"
    )
    pairs = f"; {proof.request_pairs} pairs of requested and routed" if proof.request_pairs else ""
    return Finding([], how + pairs)


def search(bundle: Bundle) -> Finding:
    """``indices`` are nearest-codeword decisions over the manifest's codebooks."""
    searches, problems = bundle.search_proof
    names = {entry.latents for entry in searches}
    return Finding(problems, f"nearest codeword, {len(names)} searches for {len(searches)} modes")


def cut(bundle: Bundle) -> Finding:
    """What is sent follows from ``indices`` and ``mode`` alone."""
    return Finding(prove_cut(bundle.tx), f"{', '.join(SENT)} follow from indices and mode alone")


def integers(bundle: Bundle) -> Finding:
    """After ``indices`` there are integers only."""
    nodes, problems = prove_integers(bundle.cut)
    return Finding(problems, f"{nodes} nodes after the indices, all integers")


def table(bundle: Bundle) -> Finding:
    """Every codeword of every mode, run through the cut."""
    rows, problems = prove_table(bundle.cut, bundle.manifest)
    words = sum(entry.codebook_size for entry in bundle.manifest.modes)
    return Finding(
        problems, f"all {words:,} codewords of {len(bundle.manifest.modes)} modes, {rows:,} rows of indices"
    )


def bijection(bundle: Bundle) -> Finding:
    """In every mode each codeword has bits of its own at the first token: as many patterns as there are."""
    manifest = bundle.manifest
    part = OnnxRuntime(bundle.cut.cut(["indices", "mode"], SENT))
    problems = []
    for number, entry in enumerate(manifest.modes):
        size, width = entry.codebook_size, entry.bits_per_index
        indices = np.full((size, manifest.modes.max_tokens), -1, dtype=np.int64)
        indices[:, : entry.tokens] = np.arange(size)[:, np.newaxis]
        (bits,) = part.run(["bits"], {"indices": indices, "mode": np.full(size, number)})
        patterns = np.unique(bits[:, :width], axis=0)
        if len(patterns) != size or not np.isin(patterns, (0, 1)).all():
            problems.append(
                f"mode {number} ({entry.name}): {size} codewords have {len(patterns)} patterns of bits"
            )
    return Finding(problems, f"codewords and bits one to one in all {len(manifest.modes)} modes")


def constellation(bundle: Bundle) -> Finding:
    """The constellations have unit average energy, and bits and points belong together one to one."""
    problems = []
    orders = sorted({entry.order for entry in bundle.manifest.modes})
    for order in orders:
        made = qam(order)
        energy = float(np.mean(np.abs(made.points) ** 2))
        if abs(energy - 1.0) > _ENERGY_TOLERANCE:
            problems.append(f"{order}-QAM has an average energy of {energy}, not 1")
        numbers = np.arange(order)[:, np.newaxis]
        bits = symbols_to_bits(numbers, made.bits_per_symbol)
        if len(set(made.points.tolist())) != order or len(np.unique(bits, axis=0)) != order:
            problems.append(f"{order}-QAM has points, or bits, that are not distinct")
        if not np.array_equal(bits_to_symbols(bits, made.bits_per_symbol), numbers):
            problems.append(f"{order}-QAM: bits do not give the points back that they were made of")
    return Finding(problems, f"{', '.join(map(str, orders))} points: unit average energy, bits one to one")


def input_scale(bundle: Bundle) -> Finding:
    """The transmitter scales its input as the manifest says."""
    scale = bundle.manifest.input
    each = "one for each feature" if len(scale.exponent) > 1 else "one for all features"
    return Finding(check_input_scale(bundle.tx, bundle.manifest), f"{scale.dtype}; {each}")


def exactness(bundle: Bundle) -> Finding:
    """The indices are the same on every runtime."""
    manifest = bundle.manifest
    proof, problems = prove_exact(bundle.tx, manifest)
    if manifest.grid is None and proof is None:
        return Finding([], f"not exact by construction: float search ({problems[0]})", note=True)
    if proof is None:
        return Finding(problems, "")
    sums = ""
    if (tightest := proof.tightest) is not None:
        sums = f"; largest sum {tightest.largest:,.0f} of {tightest.limit:,} units in {tightest.node}"
    given = "" if proof.mode is None else "; given the mode, which real scores decide"
    return Finding([], f"indices the same on every runtime, {proof.nodes} nodes{sums}{given}")


def as_trained(bundle: Bundle) -> Finding:
    """The soft path of the deployed model has a receiver of its own; in float32 the same, byte for byte."""
    own = [entry.rx for entry in bundle.manifest.references if entry.name == "aligned"]
    if not own:
        return Finding([], "no soft reference of the deployed model")
    if own[0] == RX_FILE:
        return Finding([f"reference 'aligned' has '{RX_FILE}' itself as its receiver: it shows nothing"], "")
    if bundle.manifest.precision != "float32":
        return Finding([], f"{own[0]} is a graph of its own, in float32")
    same = bundle.graph_bytes(RX_FILE) == bundle.graph_bytes(own[0])
    problems = [] if same else [f"'{RX_FILE}' is not '{own[0]}', the receiver as trained"]
    return Finding(problems, f"{RX_FILE} is {own[0]}, byte for byte")


def takes_text(bundle: Bundle) -> bool:
    """Whether the transmitter takes text."""
    return bundle.manifest.front is not None


def contained(bundle: Bundle) -> Finding:
    """``tx.onnx`` is the head, which the other checks prove, after what makes features of tokens alone."""
    view, head = bundle.view(WHOLE_FILE), bundle.model(bundle.manifest.head_file)
    problems = [f"'{WHOLE_FILE}': {problem}" for problem in unlike_proved(view, head, bundle.manifest)]
    nodes = len(head.graph.node)
    ahead = len(view.model.graph.node) - nodes
    return Finding(
        problems, f"all {nodes} nodes of {bundle.manifest.head_file}; {ahead} ahead see tokens alone"
    )


def tokenizer(bundle: Bundle) -> Finding:
    """The tokenizer gives the token ids of the test split for its texts."""
    sentences = bundle.sentences
    problems = [
        f"'{TOKENIZER_FILE}': {problem}"
        for problem in problems_of_tokenizer(bundle.folder, sentences, bundle.manifest)
    ]
    return Finding(
        problems, f"{len(sentences):,} sentences, {int(sentences.lengths.sum()):,} tokens as recorded"
    )


def _in_graphs(bundle: Bundle, find: Callable[[str, ModelProto], list[str]]) -> list[str]:
    """What ``find`` says of each graph, after its name; and why graphs cannot be read."""
    problems: list[str] = []
    for file, model in _models(bundle, problems):
        problems += [f"'{file}': {problem}" for problem in find(file, model)]
    return problems


def _models(bundle: Bundle, problems: list[str]) -> list[tuple[str, ModelProto]]:
    """The graphs that can be read; problems of the others go to ``problems``."""
    found = []
    for file in bundle.graphs:
        try:
            found.append((file, bundle.model(file)))
        except CheckError as error:
            problems.append(str(error))
    return found
