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
from twophase.export.terminal import folded
from twophase.link.manifest import Manifest

__all__ = ["report", "vector_lines"]


def report(summary: BundleSummary) -> str:
    """The report on a bundle, with a line break at its end."""
    proof, manifest = summary.proof, summary.manifest
    lines = [
        f"{'graph':<20} {'kB':>8} {'sha256':<14} {'samples':>9} {'from torch':>14} {'between batches':>16}"
    ]
    for name, tally in summary.tallies.items():
        entry = manifest.files[name]
        samples = sum(tally.samples.values())
        errors = f"{tally.largest_error:>14.1e} {tally.largest_batch_error:>16.1e}"
        lines.append(
            f"{name:<20} {entry['bytes'] / 1000:>8.1f} {entry['sha256'][:12]:<14} {samples:>9,} "
            + ("integers only".rjust(14) if name == manifest.head_file else errors)
        )
    lines += _whole_lines(manifest)
    lines.append("(largest differences of real outputs)")
    several = len(manifest.modes) > 1
    lines += ["", f"{'indices compared':<58} {'number':>12} {'different':>10} {'excused':>8}"]
    for name, tally in summary.tallies.items():
        for what, count in _rows(tally, several):
            lines.append(
                f"{name + ': ' + what:<58} {count.compared:>12,} {count.different:>10,} {count.excused:>8,}"
            )
    for what, compared, different in _whole_rows(manifest):
        lines.append(f"{what:<58} {compared:>12,} {different:>10,} {0:>8,}")
    tokens = max(mode.tokens for mode in manifest.modes)
    head = summary.tallies[manifest.head_file]
    seen = head.samples_of_mode
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
        f"modes met in the comparison: {len(seen)} of {len(manifest.modes)}",
        *_text_lines(manifest),
        "",
        *_accuracy_lines(manifest),
        *_int8_lines(manifest),
        "",
        *vector_lines(manifest),
        f"bundle: {summary.folder}",
    ]
    return "\n".join(folded(lines)) + "\n"


def _whole_lines(manifest: Manifest) -> Iterator[str]:
    """The whole of a link that takes text, as a row of the first table."""
    record = _text_record(manifest)
    if record is None:
        return
    entry, deployed = manifest.files[WHOLE_FILE], record.get("int8", record)
    from_torch = f"{record['torch']['largest']:>14.1e}" if deployed is record else "in float32".rjust(14)
    yield (
        f"{WHOLE_FILE:<20} {entry['bytes'] / 1000:>8.1f} {entry['sha256'][:12]:<14} "
        f"{record['sentences']:>9,} {from_torch} {deployed['padded']['largest']:>16.1e}"
    )


def _whole_rows(manifest: Manifest) -> Iterator[tuple[str, int, int]]:
    """What was compared of it, and how often it differed."""
    record = _text_record(manifest)
    if record is None:
        return
    deployed = record.get("int8", record)
    for what, count in (
        ("transmissions, the head's on its features", deployed["head"]),
        ("alone and in padded batches", deployed["padded"]["indices"]),
        ("its own features and the run's", record["run"]["indices"]),
    ):
        yield f"{WHOLE_FILE}: {what}", count["compared"], count["different"]


def _text_lines(manifest: Manifest) -> Iterator[str]:
    """How many sentences depend on rounding errors of their features."""
    record = _text_record(manifest)
    if record is None:
        return
    deployed = record.get("int8", record)
    yield (
        f"text: {record['sentences']:,} sentences, {record['tokens']:,} tokens as the tokenizer gives them; "
        f"sentences with another index: {deployed['padded']['different']} in padded batches, "
        f"{record['run']['different']} on the run's features ({record['allowed']} may)"
    )


def _text_record(manifest: Manifest) -> dict[str, Any] | None:
    record: dict[str, Any] | None = manifest.provenance["export"].get("front")
    return record


def _accuracy_lines(manifest: Manifest) -> Iterator[str]:
    """What the manifest says of the accuracy."""
    accuracy = manifest.accuracy
    if accuracy is None:
        return
    total = accuracy.samples * accuracy.trials
    yield f"accuracy over AWGN, {accuracy.samples} test samples sent {accuracy.trials} times each"
    for esn0_db, correct, symbols in zip(accuracy.esn0_db, accuracy.correct, accuracy.symbols, strict=True):
        yield f"{esn0_db:>6g} dB   {100 * correct / total:6.2f} %   {symbols:6.2f} symbols per sample"


def _int8_lines(manifest: Manifest) -> Iterator[str]:
    """INT8 next to the float32 graphs that it was made from."""
    record = manifest.provenance["export"].get("int8")
    if record is None:
        return
    yield ""
    yield f"{'INT8 and float32':<20} {'float32 kB':>12} {'int8 kB':>10} {'share':>8}"
    for name, size in record["bytes"].items():
        kilobytes = f"{size['float32'] / 1000:>12.1f} {size['int8'] / 1000:>10.1f}"
        yield f"{name:<20} {kilobytes} {100 * size['int8'] / size['float32']:>6.1f} %"
    for what, count in (
        ("indices sent, test split", record["indices"]["test_split"]),
        ("indices sent, random inputs", record["indices"]["random"]),
        ("indices received", record["received"]),
        ("classes decided from the same LLRs", record["decisions"]),
    ):
        if count["compared"]:
            equal = count["compared"] - count["different"]
            share = 100 * equal / count["compared"]
            yield f"{what:<36} {equal:>12,} of {count['compared']:>12,} equal   {share:7.3f} %"
    yield from _int8_text_lines(manifest)
    measured = record["accuracy"]
    total = measured["samples"] * measured["trials"]
    for esn0_db, before, after in zip(
        measured["esn0_db"], measured["float32"], measured["int8"], strict=True
    ):
        shares = f"float32 {100 * before / total:6.2f} %   int8 {100 * after / total:6.2f} %"
        yield f"{esn0_db:>6g} dB   {shares}   {100 * (after - before) / total:+.2f} points"


def _int8_text_lines(manifest: Manifest) -> Iterator[str]:
    """The whole in INT8 next to the whole in float32."""
    record = _text_record(manifest)
    if record is None:
        return
    compared_with = record["int8"]["float32"]
    indices, decisions = compared_with["indices"], compared_with["decisions"]
    equal = {
        "sentences with equal indices": (compared_with["sentences"], compared_with["different"]),
        "indices of sentences": (indices["compared"], indices["different"]),
        "classes of sentences, no noise": (decisions["compared"], decisions["different"]),
    }
    for what, (compared, different) in equal.items():
        share = 100 * (compared - different) / compared
        yield f"{what:<36} {compared - different:>12,} of {compared:>12,} equal   {share:7.3f} %"
    share = 100 * compared_with["features"]
    yield f"features: root mean square difference {share:.2f} % of their standard deviation"


def vector_lines(manifest: Manifest) -> Iterator[str]:
    """The conformance vectors."""
    if manifest.conformance is None:
        return
    size = sum(entry["bytes"] for name, entry in manifest.files.items() if name.startswith("test_data_set_"))
    yield f"conformance vectors: {len(manifest.conformance.sets)} sets, {size / 1000:.0f} kB"
    yield f"golden hash of the symbols: {manifest.conformance.symbols_sha256}"
    if manifest.front is not None and all(entry.graph != "tx.onnx" for entry in manifest.conformance.sets):
        yield "none of them is of tx.onnx as a whole: no test sentence is decided clearly enough for that"


def _rows(tally: Tally, several: bool) -> Iterator[tuple[str, Count]]:
    """What was compared, each way of grouping a batch in one sum; the manifest has them one by one."""
    between = {what: count for what, count in tally.counts.items() if what in (BY_PROGRAM, BY_SEARCH)}
    yield from between.items()
    batches = [count for what, count in tally.counts.items() if what not in between]
    if batches:
        mixed = ", mixed modes" if several else ""
        yield f"alone, in sevens, reordered{mixed}", _total(batches)
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
