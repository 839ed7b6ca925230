"""What ``tp-export`` prints: what was written, compared and proved, and which mode is sent when."""

from __future__ import annotations

from collections.abc import Iterator

from twophase.export.bundle import BundleSummary
from twophase.export.compare import BY_PROGRAM, BY_SEARCH, Count, Tally
from twophase.export.listing import listing_lines
from twophase.export.mode import ModeProof

__all__ = ["report"]


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
            + ("integers only".rjust(14) if name == "tx.onnx" else errors)
        )
    lines.append("(largest differences of real outputs)")
    several = len(manifest.modes) > 1
    lines += ["", f"{'indices compared':<56} {'number':>12} {'different':>10} {'excused':>8}"]
    for name, tally in summary.tallies.items():
        for what, count in _rows(tally, several):
            lines.append(
                f"{name + ': ' + what:<56} {count.compared:>12,} {count.different:>10,} {count.excused:>8,}"
            )
    tokens = max(mode.tokens for mode in manifest.modes)
    seen = summary.tallies["tx.onnx"].samples_of_mode
    lines += [
        "",
        *listing_lines(manifest, summary.tallies["tx.onnx"].usage),
        "",
        f"codewords run through the cut: all {proof.codewords:,} of {len(manifest.modes)} mode(s) "
        f"at each of up to {tokens} tokens, {proof.combinations:,} rows",
        f"nodes: {proof.nodes:,} scanned, none random; "
        f"{proof.integer_nodes:,} behind the indices, all integers",
        f"mode: {_told(proof.mode)}",
        f"modes met in the comparison: {len(seen)} of {len(manifest.modes)}",
        f"bundle: {summary.folder}",
    ]
    return "\n".join(lines) + "\n"


def _rows(tally: Tally, several: bool) -> Iterator[tuple[str, Count]]:
    """What was compared, each way of grouping a batch in one sum; the manifest has them one by one."""
    between = {what: count for what, count in tally.counts.items() if what in (BY_PROGRAM, BY_SEARCH)}
    yield from between.items()
    batches = [count for what, count in tally.counts.items() if what not in between]
    if batches:
        beside = ", beside every mode" if several else ""
        yield f"alone, in sevens, reordered{beside}", _total(batches)
    if several and tally.mode_counts:
        yield "modes, in all these ways", _total(list(tally.mode_counts.values()))


def _total(counts: list[Count]) -> Count:
    return Count(
        sum(count.compared for count in counts),
        sum(count.different for count in counts),
        sum(count.excused for count in counts),
    )


def _told(proof: ModeProof) -> str:
    """What was proved of the choice of the mode."""
    how = f"the manifest's at every SNR ({proof.snr_points} run, between which nothing can change)"
    if proof.snr_points == 0:
        how = "an ArgMax over scores, told in a header"
    pairs = (
        f"; {proof.request_pairs} pairs of a requested and a routed one run" if proof.request_pairs else ""
    )
    return how + pairs
