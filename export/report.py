"""What ``tp-export`` prints: what was written, compared and proved, and which mode is sent when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twophase.export.build import BundleSummary
from twophase.export.compare.tally import BY_PROGRAM, BY_SEARCH, Count, Tally
from twophase.export.graphs.signature import WHOLE_FILE
from twophase.export.proof.exact import ExactProof
from twophase.export.proof.mode import ModeProof
from twophase.export.provenance import listing_lines
from twophase.link.command import folded
from twophase.link.manifest import Manifest

__all__ = ["report"]


def report(summary: BundleSummary) -> str:
    """The report on a bundle, with a line break at its end."""
    proof, manifest = summary.proof, summary.manifest
    export = manifest.provenance["export"]
    text = export.get("front")
    lines = [
        f"{'graph':<20} {'kB':>8} {'sha256':<14} {'samples':>9} {'from torch':>14} {'between batches':>16}"
    ]
    for name, tally in summary.tallies.items():
        errors = f"{tally.largest_error:>14.1e} {tally.largest_batch_error:>16.1e}"
        if name == manifest.head_file:
            errors = "integers only".rjust(14)
        lines.append(_graph_line(name, manifest, sum(tally.samples.values()), errors))
    if text is not None:
        lines.append(_whole_line(text, manifest))
    lines.append("(largest differences of real outputs)")
    several = len(manifest.modes) > 1
    lines += ["", f"{'indices compared':<58} {'number':>12} {'different':>10} {'excused':>8}"]
    for name, tally in summary.tallies.items():
        for what, count in _rows(tally, several):
            lines.append(_count_line(f"{name}: {what}", count))
    if text is not None:
        lines += _whole_counts(text)
    tokens = max(mode.tokens for mode in manifest.modes)
    head = summary.tallies[manifest.head_file]
    lines += [
        "",
        *listing_lines(manifest, head.usage),
        "",
        f"codewords run through the cut: all {proof.codewords:,} of {len(manifest.modes)} mode(s) "
        f"at each of up to {tokens} tokens, {proof.combinations:,} rows",
        f"nodes: {proof.nodes:,} scanned, none random; "
        f"{proof.integer_nodes:,} after the indices, all integers",
        f"mode: {_choice(proof.mode)}",
        f"search: {_exactness(proof.exact)}",
        f"modes met in the comparison: {len(head.samples_of_mode)} of {len(manifest.modes)}",
    ]
    if text is not None:
        lines.append(_text_line(text))
    lines += ["", *_accuracy_lines(manifest)]
    if "int8" in export:
        lines += _int8_lines(export["int8"], text)
    lines += ["", *_vector_lines(manifest), f"bundle: {summary.folder}"]
    return "\n".join(folded(lines)) + "\n"


def _graph_line(name: str, manifest: Manifest, samples: int, errors: str) -> str:
    entry = manifest.files[name]
    return f"{name:<20} {entry['bytes'] / 1000:>8.1f} {entry['sha256'][:12]:<14} {samples:>9,} {errors}"


def _count_line(what: str, count: Count) -> str:
    return f"{what:<58} {count.compared:>12,} {count.different:>10,} {count.excused:>8,}"


def _whole_line(text: dict[str, Any], manifest: Manifest) -> str:
    """The whole of a link that takes text, as a row of the first table."""
    from_torch = "in float32".rjust(14) if "int8" in text else f"{text['torch']['largest']:>14.1e}"
    between = text.get("int8", text)["padded"]["largest"]
    return _graph_line(WHOLE_FILE, manifest, text["sentences"], f"{from_torch} {between:>16.1e}")


def _whole_counts(text: dict[str, Any]) -> Iterator[str]:
    """What was compared of it, and how often it differed."""
    deployed = text.get("int8", text)
    for what, count in (
        ("transmissions, the head's on its features", deployed["head"]),
        ("alone and in padded batches", deployed["padded"]["indices"]),
        ("its own features and the run's", text["run"]["indices"]),
    ):
        yield _count_line(f"{WHOLE_FILE}: {what}", Count(**count))


def _text_line(text: dict[str, Any]) -> str:
    """How many sentences depend on rounding errors of their features."""
    padded = text.get("int8", text)["padded"]
    return (
        f"text: {text['sentences']:,} sentences, {text['tokens']:,} tokens as the tokenizer gives them; "
        f"sentences with another index: {padded['different']} in padded batches, "
        f"{text['run']['different']} on the run's features ({text['allowed']} may)"
    )


def _accuracy_lines(manifest: Manifest) -> Iterator[str]:
    accuracy = manifest.accuracy
    assert accuracy is not None
    total = accuracy.samples * accuracy.trials
    yield f"accuracy over AWGN, {accuracy.samples} test samples sent {accuracy.trials} times each"
    for esn0_db, correct, symbols in zip(accuracy.esn0_db, accuracy.correct, accuracy.symbols, strict=True):
        yield f"{esn0_db:>6g} dB   {100 * correct / total:6.2f} %   {symbols:6.2f} symbols per sample"


def _int8_lines(record: dict[str, Any], text: dict[str, Any] | None) -> Iterator[str]:
    """INT8 next to the float32 graphs that it was made from."""
    yield ""
    yield f"{'INT8 and float32':<20} {'float32 kB':>12} {'int8 kB':>10} {'share':>8}"
    for name, size in record["bytes"].items():
        kilobytes = f"{size['float32'] / 1000:>12.1f} {size['int8'] / 1000:>10.1f}"
        yield f"{name:<20} {kilobytes} {100 * size['int8'] / size['float32']:>6.1f} %"
    counts = {
        "indices sent, test split": record["indices"]["test_split"],
        "indices sent, random inputs": record["indices"]["random"],
        "indices received": record["received"],
        "classes, same random LLRs": record["decisions"],
    }
    whole = None if text is None else text["int8"]["float32"]
    if whole is not None:
        counts["sentences with equal indices"] = {
            "compared": whole["sentences"],
            "different": whole["different"],
        }
        counts["indices of sentences"] = whole["indices"]
        counts["classes of sentences, no noise"] = whole["decisions"]
    for what, count in counts.items():
        if count["compared"]:
            equal = count["compared"] - count["different"]
            share = 100 * equal / count["compared"]
            yield f"{what:<36} {equal:>12,} of {count['compared']:>12,} equal   {share:7.3f} %"
    yield "    (random LLRs hold less to go by than sent ones; what counts is the accuracy below)"
    if whole is not None:
        share = 100 * whole["features"]
        yield f"features: root mean square difference {share:.2f} % of their standard deviation"
    measured = record["accuracy"]
    total = measured["samples"] * measured["trials"]
    for esn0_db, before, after in zip(
        measured["esn0_db"], measured["float32"], measured["int8"], strict=True
    ):
        shares = f"float32 {100 * before / total:6.2f} %   int8 {100 * after / total:6.2f} %"
        yield f"{esn0_db:>6g} dB   {shares}   {100 * (after - before) / total:+.2f} points"


def _vector_lines(manifest: Manifest) -> Iterator[str]:
    assert manifest.conformance is not None
    size = sum(entry["bytes"] for name, entry in manifest.files.items() if name.startswith("test_data_set_"))
    yield f"conformance vectors: {len(manifest.conformance.sets)} sets, {size / 1000:.0f} kB"
    yield f"golden hash of the symbols: {manifest.conformance.symbols_sha256}"
    if manifest.front is not None and all(entry.graph != "tx.onnx" for entry in manifest.conformance.sets):
        yield "none of them is of tx.onnx as a whole: no test sentence is decided clearly enough for that"


def _rows(tally: Tally, several: bool) -> Iterator[tuple[str, Count]]:
    """What was compared, each way of grouping a batch in one sum; the manifest has them one by one."""
    grouped = []
    for what, count in tally.counts.items():
        if what in (BY_PROGRAM, BY_SEARCH):
            yield what, count
        else:
            grouped.append(count)
    if grouped:
        mixed = ", mixed modes" if several else ""
        yield f"alone, in sevens, reordered{mixed}", _total(grouped)
    if several and tally.mode_counts:
        yield "modes, in all these ways", _total(list(tally.mode_counts.values()))


def _total(counts: list[Count]) -> Count:
    return Count(
        sum(count.compared for count in counts),
        sum(count.different for count in counts),
        sum(count.excused for count in counts),
    )


def _exactness(proof: ExactProof | None) -> str:
    """Whether the indices are the same on every runtime."""
    if proof is None:
        return "in float32; near ties may fall either way on another runtime (--search float)"
    tightest = proof.tightest
    reach = "" if tightest is None else f", the largest {tightest.largest:,.0f} of {tightest.limit:,} units"
    given = "" if proof.mode is None else f"; given the mode: {proof.mode}"
    return f"on an integer grid, the same on every runtime: {len(proof.sums)} sums exact{reach}{given}"


def _choice(proof: ModeProof) -> str:
    """What was proved of the choice of the mode."""
    how = f"the manifest's at every SNR ({proof.snr_points} run, between which nothing can change)"
    if proof.snr_points == 0:
        how = "an ArgMax over scores, signalled in a header"
    pairs = (
        f"; {proof.request_pairs} pairs of a requested and a routed one run" if proof.request_pairs else ""
    )
    return how + pairs
