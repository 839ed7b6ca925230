"""Margin audit: how clearly codewords are chosen on the test split, and what another arithmetic would change.

The margin of a token is how much its best codeword's score lies above the second best's.  On an integer grid
it is a whole number, the difference of two squared distances in units of the grid, and zero is a tie that
goes to the lower index.  Elsewhere it is relative, see ``nearest_codeword.ModeSearch``.

The share of tokens with another index is measured on variants of the graph, which are made by rewriting it
for this alone, and run by ONNX Runtime:

one ulp             what is rounded to whole latents, or latents that are not rounded, moved to a neighbouring
                    float32, up or down at random
float16 encoder     operands and results of the encoder's products rounded to float16
float16, search too those of the codebook search as well; scores beyond 65,504 overflow
int8                the INT8 graph, if there is one; else, off the grid, weights and activations of the
                    encoder's products rounded to 8 bits, in one step size for each tensor
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact_sums import PRODUCTS
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = ["VARIANTS", "Audit", "audit_margins", "products_between", "with_float16", "with_int8"]

_MOVING = frozenset({"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_CLIPPING = frozenset({"Clip", "Max", "Min"})

_TINY = float(np.finfo(np.float32).tiny)

_STEPS = 255
"""An 8-bit number distinguishes this many steps."""


def products_between(view: GraphView, names: Collection[str], stop: Collection[str]) -> list[NodeProto]:
    """Products of real matrices that tensors are made with, in the order of the graph, not past ``stop``."""
    return [
        node
        for node in view.makers(names, stop)
        if node.op_type in PRODUCTS and view.element_type(node.output[0]) == TensorProto.FLOAT
    ]


def _rounding_of(view: GraphView, latents: str) -> str:
    """The tensor that is rounded to whole latents; ``latents`` itself if nothing rounds them."""
    name = latents
    while (node := view.producer(name)) is not None:
        if node.op_type == "Round":
            return str(node.input[0])
        varying = [source for source in node.input if source and not view.is_constant(source)]
        if node.op_type not in _MOVING | _CLIPPING or len(varying) != 1:
            break
        name = varying[0]
    return latents


def _fed_at(view: GraphView, name: str) -> tuple[ModelProto, str]:
    """The model with a tensor as one more input, in the place of what makes it; and that input's name."""
    model: ModelProto = ModelProto.FromString(view.model.SerializeToString())
    given = f"{name}_given"
    for node in model.graph.node:
        for position, source in enumerate(node.input):
            if source == name:
                node.input[position] = given
    model.graph.input.append(
        helper.make_tensor_value_info(given, view.element_type(name), [None] * len(view.shape(name) or ()))
    )
    return model, given


def with_float16(view: GraphView, products: Collection[str]) -> ModelProto:
    """Operands and results of some products, named by what they make, rounded to float16; sums are not."""

    def through_half(source: str, target: str) -> list[NodeProto]:
        return [
            helper.make_node("Cast", [source], [f"{target}_half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{target}_half"], [target], to=TensorProto.FLOAT),
        ]

    def rewrite(node: NodeProto) -> list[NodeProto]:
        made, before = node.output[0], []
        for position, source in enumerate(node.input):
            if source:
                node.input[position] = f"{made}_operand_{position}"
                before += through_half(source, node.input[position])
        node.output[0] = f"{made}_single"
        return [*before, node, *through_half(f"{made}_single", made)]

    return _rewritten(view, products, rewrite, {})


def with_int8(view: GraphView, ranges: Mapping[str, tuple[float, float]]) -> ModelProto:
    """Products, by what they make, with weights and activations rounded to 8 bits.

    Each tensor is rounded to whole multiples of one step: the activation (first operand) to the 256 that
    cover its range, ``ranges[product]``, the stored weights to the 255 that cover their largest magnitude.
    """
    stored: dict[str, NDArray[np.float32]] = {}

    def rewrite(node: NodeProto) -> list[NodeProto]:
        made = node.output[0]
        low, high = ranges[made]
        step = max(high - low, _TINY) / _STEPS
        least = np.rint(low / step)
        for key, value in (("step", step), ("least", least), ("most", least + _STEPS)):
            stored[f"{made}_{key}"] = np.array(value, dtype=np.float32)
        source, target = node.input[0], f"{made}_rounded"
        node.input[0] = target
        before = [
            helper.make_node("Div", [source, f"{made}_step"], [f"{target}_units"]),
            helper.make_node("Round", [f"{target}_units"], [f"{target}_whole"]),
            helper.make_node(
                "Clip", [f"{target}_whole", f"{made}_least", f"{made}_most"], [f"{target}_clipped"]
            ),
            helper.make_node("Mul", [f"{target}_clipped", f"{made}_step"], [target]),
        ]
        weights = view.stored(node.input[1])
        if weights is not None:
            unit = max(float(np.abs(weights).max()), _TINY) / (_STEPS // 2)
            node.input[1] = f"{made}_weights"
            stored[node.input[1]] = (np.rint(weights / unit) * unit).astype(np.float32)
        return [*before, node]

    return _rewritten(view, ranges, rewrite, stored)


def _rewritten(
    view: GraphView,
    products: Collection[str],
    rewrite: Callable[[NodeProto], list[NodeProto]],
    stored: Mapping[str, NDArray[np.float32]],
) -> ModelProto:
    """A copy with some nodes, named by what they make, replaced; ``stored`` may be filled meanwhile."""
    nodes: list[NodeProto] = []
    model: ModelProto = ModelProto.FromString(view.model.SerializeToString())
    for node in view.model.graph.node:
        copy = NodeProto.FromString(node.SerializeToString())
        nodes += rewrite(copy) if node.output[0] in products else [copy]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return model


_QUANTILES = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9)
"""Shares of tokens below the margins that are reported."""

VARIANTS = ("one ulp", "float16 encoder", "float16, search too", "int8")

_DECADES = tuple(10.0**power for power in range(-7, 1))
_OCTAVES = tuple(4.0**power for power in range(13))


@dataclass(frozen=True)
class _CodebookAudit:
    """The tokens of one codebook."""

    codebook: int
    codewords: int
    tokens: int
    """Tokens of all samples."""
    whole: bool
    """Whether margins are whole numbers in units of the grid; else they are relative."""
    ties: int
    """Tokens whose best two codewords have the same score."""
    quantiles: dict[str, float]
    """Margin that a share of the tokens does not exceed, by that share."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    """Tokens with margins below the first of ``edges``, between two of them, and from the last one up."""
    different: dict[str, int | None]
    """Tokens that get another index, by variant; None where a variant was not measured."""


@dataclass(frozen=True)
class Audit:
    """The margin audit of a transmitter."""

    samples: int
    seed: int
    codebooks: tuple[_CodebookAudit, ...]

    def lines(self) -> list[str]:
        """Two tables: margins, and shares of tokens with another index."""
        head = f"{'codebook':<10} {'tokens':>9} {'ties':>7}"
        lines = [head + "".join(f" {name:>9}" for name in _quantile_names()) + "  margin"]
        for book in self.codebooks:
            values = "".join(f" {value:>9.4g}" for value in book.quantiles.values())
            unit = "in units" if book.whole else "relative"
            lines.append(f"{_name(book):<10} {book.tokens:>9,} {book.ties:>7,}{values}  {unit}")
        lines += ["", f"{'other indices':<10}" + "".join(f" {name:>20}" for name in VARIANTS)]
        for book in self.codebooks:
            lines.append(f"{_name(book):<13}" + "".join(f" {_share(book, name):>20}" for name in VARIANTS))
        return lines


def audit_margins(
    model: ModelProto,
    searches: tuple[ModeSearch, ...],
    manifest: Manifest,
    features: NDArray[np.float32],
    *,
    seed: int = 0,
    int8: ModelProto | None = None,
) -> Audit:
    """Measure margins and variants on the test split, (n, *input_shape), at SNRs from -5 to 20 dB over it.

    ``searches``: the codebook search of each mode, as ``hard.HardProof`` has them.  ``seed``: of the signs of
    the noise.  ``int8``: the same transmitter in INT8.  ``GraphRunError`` if a variant does not run.
    """
    view = GraphView(model)
    modes = {mode.codebook: number for number, mode in reversed(list(enumerate(manifest.modes)))}
    books = [
        _audit_codebook(view, searches[modes[index]], modes[index], manifest, features, seed, int8)
        for index in sorted(modes)
    ]
    return Audit(len(features), seed, tuple(books))


def _audit_codebook(
    view: GraphView,
    search: ModeSearch,
    number: int,
    manifest: Manifest,
    features: NDArray[np.float32],
    seed: int,
    int8: ModelProto | None,
) -> _CodebookAudit:
    mode = manifest.modes[number]
    snr_db = np.linspace(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], len(features), dtype=np.float32)
    feed: Values = {"input": features, "snr_db": snr_db}
    if len(manifest.modes) > 1:
        feed[MODE_REQUEST] = np.array([number])
    rounded = _rounding_of(view, search.latents)
    encoder = products_between(view, [search.latents], ["mode"])
    every = [node.output[0] for node in products_between(view, ["indices"], ["mode"])]
    sources = [node.input[0] for node in encoder]
    wanted = list(dict.fromkeys(["indices", search.latents, rounded, *sources]))
    base = OnnxRuntime(view.model, inner=wanted).read(wanted, feed)

    def other(variant: ModelProto, **more: NDArray[Any]) -> int:
        (indices,) = OnnxRuntime(variant).run(["indices"], feed | more)
        return int((indices != base["indices"])[:, : mode.tokens].sum())

    shaken, given = _fed_at(view, rounded)
    signs = np.random.default_rng([seed, mode.codebook]).choice([-np.inf, np.inf], base[rounded].shape)
    different: dict[str, int | None] = {
        "one ulp": other(shaken, **{given: np.nextafter(base[rounded], signs.astype(np.float32))}),
        "float16 encoder": other(with_float16(view, [node.output[0] for node in encoder])),
        "float16, search too": other(with_float16(view, every)),
        "int8": None,
    }
    if int8 is not None:
        different["int8"] = other(int8)
    elif manifest.grid is None:
        ranges = {node.output[0]: _range(base[node.input[0]]) for node in encoder}
        different["int8"] = other(with_int8(view, ranges))
    latents = base[search.latents].reshape(len(features), -1, manifest.link.embedding_dim)[:, : mode.tokens]
    margins = _margins(latents, search, mode.codebook, manifest)
    whole = manifest.grid is not None
    edges = _OCTAVES if whole else _DECADES
    counts = np.bincount(np.digitize(margins.ravel(), edges), minlength=len(edges) + 1)
    levels = np.quantile(margins, _QUANTILES, method="inverted_cdf")
    return _CodebookAudit(
        codebook=mode.codebook,
        codewords=mode.codebook_size,
        tokens=margins.size,
        whole=whole,
        ties=int((margins == 0).sum()),
        quantiles=dict(zip(_quantile_names(), map(float, levels), strict=True)),
        edges=edges,
        counts=tuple(int(count) for count in counts),
        different=different,
    )


def _margins(
    latents: NDArray[np.float32], search: ModeSearch, codebook: int, manifest: Manifest
) -> NDArray[np.float64]:
    """Shape (batch, tokens)."""
    if manifest.grid is None:
        return search.nearest(latents)[1]
    words = manifest.grid_codebook(codebook)
    whole = latents.astype(np.int64)
    scores = 2 * (whole @ words.T) - (words * words).sum(axis=1)
    best = np.partition(scores, -2, axis=-1)[..., -2:]
    return (best[..., 1] - best[..., 0]).astype(np.float64)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Range that is to be covered; zero is in it."""
    return min(float(values.min()), 0.0), max(float(values.max()), 0.0)


def _quantile_names() -> list[str]:
    return ["least" if share == 0.0 else f"{100 * share:g} %" for share in _QUANTILES]


def _name(book: _CodebookAudit) -> str:
    return f"{book.codebook} (K={book.codewords})"


def _share(book: _CodebookAudit, variant: str) -> str:
    count = book.different[variant]
    if count is None:
        return "not measured"
    return f"{count:,} ({100 * count / book.tokens:.2g} %)" if count else "0"
