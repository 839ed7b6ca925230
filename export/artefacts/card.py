"""``LINK_CARD.md``: what a bundle is, for people, written from its manifest alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jinja2
from markupsafe import Markup

from twophase.export.compare.tally import EXCUSED_MARGIN
from twophase.link.escape import markdown, markdown_code
from twophase.link.manifest import Accuracy, Manifest
from twophase.link.quality import trained_quality

__all__ = ["CARD_FILE", "link_card", "wilson"]

CARD_FILE = "LINK_CARD.md"

_CONFIDENCE = 0.95

_CHOOSERS = {
    "snr": "A network that saw the SNR alone chose the mode; this is what it chooses.",
    "table": "The mode follows from a table of thresholds.",
}

_GRAPHS = (".onnx", ".ort")


def link_card(manifest: Manifest) -> str:
    """The card of a bundle; equal manifests give equal cards."""
    source = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda value: markdown(value) if type(value) is str else value,
    )
    environment.filters["code"] = _code
    export = manifest.provenance.get("export", {})
    int8, front = export.get("int8"), export.get("front", {})
    return environment.from_string(source).render(
        manifest=manifest,
        modes=list(zip(manifest.modes.names, manifest.modes, strict=True)),
        steps=export.get("modes", []),
        chooser=_CHOOSERS.get(manifest.routing.router, ""),
        tokens=_tokens(manifest),
        units=", ".join(f"2^{exponent}" for exponent in (manifest.grid.exponents if manifest.grid else ())),
        accuracy=_accuracy_rows(manifest.accuracy),
        quality=trained_quality(manifest.training),
        int8=int8,
        front=front,
        front_int8=front.get("int8"),
        deployed_front=front.get("int8", front),
        int8_accuracy=_int8_rows(int8["accuracy"]) if int8 else [],
        provenance=_provenance(manifest),
        files=[item for item in sorted(manifest.files.items()) if item[0].endswith(_GRAPHS)],
        excused=f"{EXCUSED_MARGIN:.0e}",
        db=lambda value: f"{value:g}",
        equal=_equal,
        range_of=_range_of,
        shape=lambda sizes: " x ".join(map(str, sizes)) or "()",
        shares=_shares,
        thousands=lambda value: f"{value:,}",
    )


def _code(text: object) -> Markup:
    """Markdown already, which is not escaped again."""
    return Markup(markdown_code(str(text)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of ``count`` (Wilson, 1927).

    Examples
    --------
    >>> low, high = wilson(1.0, 50)
    >>> round(low, 3), high
    (0.929, 1.0)
    """
    z2 = NormalDist().inv_cdf((1.0 + _CONFIDENCE) / 2.0) ** 2
    centre = (share + z2 / (2 * count)) / (1.0 + z2 / count)
    half = math.sqrt(z2 * (share * (1.0 - share) / count + z2 / (4 * count * count))) / (1.0 + z2 / count)
    # the exact ends at 0 and 1 are 0 and 1, which rounding must not move
    return (0.0 if share == 0.0 else max(0.0, centre - half)), (1.0 if share == 1.0 else centre + half)


def _accuracy_rows(accuracy: Accuracy | None) -> list[dict[str, float]]:
    if accuracy is None:
        return []
    total = accuracy.samples * accuracy.trials
    rows = []
    for esn0_db, correct, symbols in zip(accuracy.esn0_db, accuracy.correct, accuracy.symbols, strict=True):
        low, high = wilson(correct / total, accuracy.samples)
        rows.append(
            {
                "esn0_db": esn0_db,
                "correct": correct,
                "total": total,
                "share": correct / total,
                "low": low,
                "high": high,
                "symbols": symbols,
            }
        )
    return rows


def _int8_rows(record: Mapping[str, Any]) -> list[dict[str, float]]:
    total = record["samples"] * record["trials"]
    counted = zip(record["esn0_db"], record["float32"], record["int8"], strict=True)
    return [
        {"esn0_db": esn0_db, "float32": float32 / total, "int8": int8 / total}
        for esn0_db, float32, int8 in counted
    ]


def _tokens(manifest: Manifest) -> str:
    """How many indices of which codebook, in words."""
    link = manifest.link
    books = [
        f"{count} {'index' if count == 1 else 'indices'} of a codebook of {size}"
        for size, count in zip(link.codebook_sizes, link.tokens, strict=True)
    ]
    return f"{', or '.join(books)}; codewords of {link.embedding_dim} components"


def _provenance(manifest: Manifest) -> list[tuple[str, str]]:
    """What is known of the making, of those entries that a manifest may have."""
    training, provenance = manifest.training, manifest.provenance
    export = provenance.get("export", {})
    lines: list[tuple[str, str]] = [
        (f"training, {name.replace('_', ' ')}", f"{training[name]}")
        for name in ("method", "surrogate", "seed", "epochs", "alignment_start_epoch")
        if name in training
    ]
    if "command" in provenance:
        lines.append(("training, command", _code(provenance["command"])))
    for what, versions in (("trained", provenance.get("versions")), ("exported", export.get("versions"))):
        if versions:
            lines.append((f"{what} with", ", ".join(f"{name} {number}" for name, number in versions.items())))
    if "opset" in export:
        lines.append(("ONNX", f"opset {export['opset']}, IR version {export['ir_version']}"))
    if "proof" in export:
        proof = export["proof"]
        lines.append(
            (
                "proved",
                f"{proof['nodes_scanned']} nodes scanned, none random; {proof['integer_nodes']} after the "
                f"indices, all integers; all {proof['codewords']:,} codewords of all modes run through the "
                f"cut, {proof['combinations']:,} rows",
            )
        )
    return lines


def _equal(count: Mapping[str, int]) -> str:
    compared = count["compared"] if "compared" in count else count["sentences"]
    return f"{compared - count['different']:,} of {compared:,}"


def _range_of(lower: float | None, upper: float | None) -> str:
    if lower is None:
        return "any SNR" if upper is None else f"below {upper:g} dB"
    return f"from {lower:g} dB" if upper is None else f"{lower:g} to {upper:g} dB"


def _shares(shares: Mapping[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in ordered)
