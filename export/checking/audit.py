"""Margin audit: how clearly codewords are chosen on the test split, and what another arithmetic would change.

The margin of a token is how much its best codeword's score lies above the second best's.  On an integer grid
it is a whole number, the difference of two squared distances in units of the grid, and zero is a tie that
goes to the lower index.  Elsewhere it is relative, see ``rule.ModeSearch``.

The share of tokens with another index is measured on variants of the graph, run by ONNX Runtime:

one ulp             what is rounded to whole latents, or latents that are not rounded, moved to a neighbouring
                    float32, up or down at random
float16 encoder     operands and results of the encoder's products rounded to float16
float16, search too those of the codebook search as well; scores beyond 65,504 overflow
int8                the INT8 graph, if there is one; else, off the grid, weights and activations of the
                    encoder's products rounded to 8 bits, in one step size for each tensor
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.checking.variants import opened, products_between, rounding_of, with_float16, with_int8
from twophase.export.graph import GraphView
from twophase.export.inputs import SPLIT_SNRS_DB
from twophase.export.rule import ModeSearch
from twophase.export.session import Session, Values
from twophase.link.manifest import Manifest
from twophase.link.runtime import MODE_REQUEST

__all__ = ["QUANTILES", "VARIANTS", "Audit", "CodebookAudit", "audit_margins"]

QUANTILES = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9)
"""Shares of tokens below the margins that are told."""

VARIANTS = ("one ulp", "float16 encoder", "float16, search too", "int8")

_DECADES = tuple(10.0**power for power in range(-7, 1))
_OCTAVES = tuple(4.0**power for power in range(13))


@dataclass(frozen=True)
class CodebookAudit:
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
    codebooks: tuple[CodebookAudit, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, of types that JSON has."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Two tables: margins, and shares of tokens with another index."""
        head = f"{'codebook':<10} {'tokens':>9} {'ties':>7}"
        lines = [head + "".join(f" {name:>10}" for name in _quantile_names()) + "  margin"]
        for book in self.codebooks:
            values = "".join(f" {value:>10.4g}" for value in book.quantiles.values())
            unit = "units of the grid" if book.whole else "relative"
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
    """Measure margins and variants on the test split.

    Parameters
    ----------
    model
        The transmitter.
    searches
        The codebook search of each mode, as ``prove.HardProof`` has them.
    manifest
        The link.
    features
        The test split, shape (n, *input_shape); SNRs go from -5 to 20 dB over it.
    seed
        Of the signs of the noise.
    int8
        The same transmitter in INT8.

    Raises
    ------
    GraphRunError
        If a variant does not run.
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
) -> CodebookAudit:
    mode = manifest.modes[number]
    snr_db = np.linspace(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], len(features), dtype=np.float32)
    feed: Values = {"input": features, "snr_db": snr_db}
    if len(manifest.modes) > 1:
        feed[MODE_REQUEST] = np.array([number])
    rounded = rounding_of(view, search.latents)
    encoder = products_between(view, [search.latents], ["mode"])
    every = [node.output[0] for node in products_between(view, ["indices"], ["mode"])]
    sources = [node.input[0] for node in encoder]
    wanted = list(dict.fromkeys(["indices", search.latents, rounded, *sources]))
    base = dict(zip(wanted, _run(view.model, wanted, feed), strict=True))

    def other(variant: ModelProto, **more: NDArray[Any]) -> int:
        (indices,) = _run(variant, ["indices"], feed | more)
        return int((indices != base["indices"])[:, : mode.tokens].sum())

    shaken, given = opened(view, rounded)
    signs = np.random.default_rng([seed, mode.codebook]).choice([-np.inf, np.inf], base[rounded].shape)
    half = [node.output[0] for node in encoder]
    different: dict[str, int | None] = {
        "one ulp": other(shaken, **{given: np.nextafter(base[rounded], signs.astype(np.float32))}),
        "float16 encoder": other(with_float16(view, half)),
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
    levels = np.quantile(margins, QUANTILES, method="inverted_cdf")
    return CodebookAudit(
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


def _run(model: ModelProto, names: list[str], feed: Values) -> list[NDArray[Any]]:
    probe = ModelProto()
    probe.CopyFrom(model)
    given = {value.name for value in (*probe.graph.output, *probe.graph.input)}
    known = {value.name: value for value in probe.graph.value_info}
    probe.graph.output.extend(known[name] for name in names if name not in given)
    inner = [name for name in names if name not in feed]
    results = dict(zip(inner, Session(probe.SerializeToString()).run(inner, feed), strict=True))
    return [results[name] if name in results else feed[name] for name in names]


def _quantile_names() -> list[str]:
    return ["least" if share == 0.0 else f"{100 * share:g} %" for share in QUANTILES]


def _name(book: CodebookAudit) -> str:
    return f"{book.codebook} (K={book.codewords})"


def _share(book: CodebookAudit, variant: str) -> str:
    count = book.different[variant]
    if count is None:
        return "not measured"
    return f"{count:,} ({100 * count / book.tokens:.2g} %)" if count else "0"
