"""Proof that the transmitter picks codewords by a plain nearest-codeword search.

On the graph: every way from ``indices`` back to the features leads through an ArgMax or ArgMin, with integers
only after it, and before it through affine operations only, back to a product of the latents with stored
numbers.  So no Softmax, no noise and no temperature that depends on the input can stand between the latents
and the decision.  After the decisions, indices are moved and selected by the mode, but not computed with
(see ``cut``).  (``mode`` ends the walk: which codebook is searched may depend on it.)

In numbers: that affine part must be the nearest-codeword rule over the manifest's codebook, see
``nearest_codeword``.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from twophase.export.graphs.view import INTEGER_TYPES, GraphView, attribute
from twophase.export.proof.cut import Kind, problems_of_combining
from twophase.export.proof.nearest_codeword import ModeSearch, Rule, Search, misfit_of_link, read_rule
from twophase.link.manifest import Manifest

__all__ = ["prove_search"]

_REAL = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})
_ONE_TO_ONE = frozenset({"Flatten", "Identity", "Neg", "Reshape", "Squeeze", "Unsqueeze"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Where"})


def prove_search(view: GraphView, manifest: Manifest) -> tuple[tuple[ModeSearch, ...], list[str]]:
    """The search of each mode, proved to be for the nearest codeword; none, and why, if a proof fails."""
    searches, problems = _find_searches(view)
    if problems:
        return (), problems
    by_mode = [search for search in searches if search.by_mode]
    if by_mode and len(searches) > 1:
        return (), [
            "'indices' mix searches over one codebook with searches over codebooks that the mode selects"
        ]
    if by_mode:
        return _prove_selected(view, manifest, by_mode[0])
    return _prove_separate(view, manifest, searches)


def _prove_selected(
    view: GraphView, manifest: Manifest, search: Search
) -> tuple[tuple[ModeSearch, ...], list[str]]:
    """One search over the codebook that the mode selects."""
    found: list[ModeSearch] = []
    problems: list[str] = []
    for number, mode in enumerate(manifest.modes):
        rule = read_rule(view, search, manifest, number)
        reason = rule if isinstance(rule, str) else misfit_of_link(rule, manifest, mode.codebook)
        if isinstance(rule, str) or reason is not None:
            problems.append(f"the search '{search.node}' in mode {number}: {reason}")
        else:
            found.append(_mode_search(search, mode.tokens, rule, mode.codebook_size))
    return (() if problems else tuple(found)), problems


def _prove_separate(
    view: GraphView, manifest: Manifest, searches: list[Search]
) -> tuple[tuple[ModeSearch, ...], list[str]]:
    """One search for each codebook; which is whose is found by comparing the codewords."""
    rules: dict[Search, Rule] = {}
    problems: list[str] = []
    for search in searches:
        rule = read_rule(view, search, manifest, None)
        if isinstance(rule, str):
            problems.append(f"the search '{search.node}': {rule}")
        else:
            rules[search] = rule
    if problems:
        return (), problems
    reasons: dict[int, list[str]] = {index: [] for index in range(len(manifest.codebooks))}
    users: dict[int, dict[str, Search]] = {index: {} for index in reasons}
    owned: set[Search] = set()
    for search, rule in rules.items():
        for index in reasons:
            reason = misfit_of_link(rule, manifest, index)
            if reason is None:
                users[index][search.latents] = search
                owned.add(search)
            else:
                reasons[index].append(f"'{search.node}' does not: {reason}")
    for index, found in users.items():
        if not found:
            problems.append(f"no search uses codebook {index} of the manifest; {'; '.join(reasons[index])}")
        elif len(found) > 1:
            problems.append(f"codebook {index} is searched with different latents: {sorted(found)}")
    problems.extend(
        f"the search '{search.node}' uses no codebook of the manifest"
        for search in searches
        if search not in owned
    )
    if problems:
        return (), problems
    chosen = [next(iter(users[mode.codebook].values())) for mode in manifest.modes]
    return tuple(
        _mode_search(search, mode.tokens, rules[search], mode.codebook_size)
        for search, mode in zip(chosen, manifest.modes, strict=True)
    ), []


def _mode_search(search: Search, tokens: int, rule: Rule, size: int) -> ModeSearch:
    return ModeSearch(search.latents, tokens, rule[0][:, :size], rule[1][:size])


def _find_searches(view: GraphView) -> tuple[list[Search], list[str]]:
    """Walk from ``indices`` back to every ArgMax and ArgMin; only integers may stand on the way."""
    searches: list[Search] = []
    problems: list[str] = []
    decisions: dict[str, Kind] = {}
    seen = {"mode"}
    stack = ["indices"]
    while stack:
        name = stack.pop()
        if name in seen or view.is_constant(name):
            continue
        seen.add(name)
        node = view.producer(name)
        if view.element_type(name) not in INTEGER_TYPES:
            made = f"made by {node.op_type} ('{node.name}')" if node is not None else "an input of the graph"
            problems.append(
                f"'indices' are computed from the real-valued '{name}', {made}, without an ArgMax"
            )
        elif node is None:
            problems.append(f"'indices' are computed from the input '{name}' without an ArgMax")
        elif node.op_type in ("ArgMax", "ArgMin"):
            decisions[name] = Kind.INDEX
            found = _search_at(view, node)
            if isinstance(found, str):
                problems.append(found)
            else:
                searches.append(found)
        elif any(item.HasField("g") for item in node.attribute):
            problems.append(
                f"'indices' pass through {node.op_type} ('{node.name}'): no branches or loops here"
            )
        else:
            stack.extend(source for source in node.input if source)
    if not searches and not problems:
        problems.append("no ArgMax or ArgMin stands before 'indices': they do not depend on the features")
    if not problems:
        given = {"mode": Kind.MODE, **decisions}
        found_after = problems_of_combining(view, given, ["indices"], Kind.INDEX)
        problems.extend(f"between the decisions and 'indices': {problem}" for problem in found_after)
    return sorted(searches, key=lambda search: search.node), problems


def _search_at(view: GraphView, node: NodeProto) -> Search | str:
    """Walk from an ArgMax back to the product with the codebook; only affine operations on the way."""
    given = ("mode",)
    scores = name = node.input[0]
    axes = view.shape(scores)
    axis = attribute(node, "axis", 0)
    if axes is None or axis not in (-1, len(axes) - 1):
        return f"{node.op_type} ('{node.name}') must decide over the last axis of '{scores}', not axis {axis}"
    while True:
        maker = view.producer(name)
        if maker is None:
            return f"{node.op_type} ('{node.name}') decides over '{name}' without a product with a codebook"
        operands = [source for source in maker.input if source and not view.is_constant(source, given)]
        if maker.op_type in ("MatMul", "Gemm"):
            label, latents = f"{maker.op_type} ('{maker.name}') before the decision", maker.input[0]
            if operands != [latents]:
                return f"{label} must multiply latents (first) with a stored codebook: {operands}"
            if attribute(maker, "transA", 0):
                return f"{label} must not transpose the latents"
            by_mode = bool(view.sources([scores], [latents], shapes="none"))
            return Search(
                node.name or node.output[0], latents, scores, 1 if node.op_type == "ArgMax" else -1, by_mode
            )
        if (problem := _problem_of_node(view, maker, operands)) is not None:
            return problem
        name = operands[0]


def _problem_of_node(view: GraphView, node: NodeProto, operands: list[str]) -> str | None:
    """Why a node between the codebook product and the decision is not affine in one tensor."""
    label = f"{node.op_type} ('{node.name}')"
    affine = node.op_type in _ARITHMETIC or node.op_type in _ONE_TO_ONE or node.op_type == "Cast"
    if not affine:
        return (
            f"{label} stands between the codebook product and the decision: "
            "only affine operations may (no Softmax, no noise, no mixture of codewords)"
        )
    if len(operands) != 1:
        return f"{label} before the decision combines {operands}: only one may vary, the rest must be stored"
    if node.op_type == "Cast" and view.element_type(node.output[0]) not in _REAL:
        return f"{label} before the decision rounds the scores"
    if node.op_type == "Div" and operands[0] != node.input[0]:
        return f"{label} before the decision divides by '{operands[0]}': not affine"
    if node.op_type == "Where" and operands[0] == node.input[0]:
        return f"{label} before the decision is switched by '{operands[0]}': not affine"
    if node.op_type in _ONE_TO_ONE and operands[0] != node.input[0]:
        return f"{label} before the decision takes its shape from '{operands[0]}'"
    return None
