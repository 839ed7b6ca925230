"""The mode table that people read, and its twin in the manifest."""

from __future__ import annotations

from dataclasses import replace

from tools.tiny_run import CONTENT, FOUR_MODES, run_manifest
from twophase.export.provenance import listing_lines, mode_listing


def test_a_table_is_listed_step_by_step() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    assert mode_listing(manifest, {}) == [
        {"from_db": None, "to_db": 5.0, "mode": "8x4qam", "symbols": 5},
        {"from_db": 5.0, "to_db": 10.0, "mode": "8x16qam", "symbols": 3},
        {"from_db": 10.0, "to_db": 15.0, "mode": "16x4qam", "symbols": 4},
        {"from_db": 15.0, "to_db": None, "mode": "16x16qam", "symbols": 2},
    ]
    heading, *lines = listing_lines(manifest, {})
    assert heading == "mode by the SNR that each end estimates (router: snr; no header)"
    assert [line.split() for line in lines] == [
        ["below", "5", "dB", "8x4qam", "5", "symbols"],
        ["5", "to", "10", "dB", "8x16qam", "3", "symbols"],
        ["10", "to", "15", "dB", "16x4qam", "4", "symbols"],
        ["from", "15", "dB", "16x16qam", "2", "symbols"],
    ]
    held = replace(manifest, routing=replace(manifest.routing, router="table", hysteresis_db=1.5))
    assert listing_lines(held, {})[0].endswith("(router: table, hysteresis 1.5 dB; no header)")
    assert len(listing_lines(held, {})) == 5
    wide = replace(manifest, routing=replace(manifest.routing, router="table", hysteresis_db=6.0))
    assert listing_lines(wide, {})[-1] == (
        "narrower than the hysteresis, which a wandering SNR steps over: 8x16qam, 16x4qam"
    )


def test_modes_by_content_are_listed_as_shares_at_each_snr() -> None:
    manifest = run_manifest(CONTENT, ())
    usage = {15.0: {3: 10}, -5.0: {2: 30, 0: 10}}
    first, second = mode_listing(manifest, usage)
    # a quarter sends five symbols, the rest four
    assert first == {
        "esn0_db": -5.0,
        "header": "hamming84",
        "header_symbols": 4,
        "payload_symbols": 4.25,
        "shares": {"8x4qam": 0.25, "16x4qam": 0.75},
    }
    assert (second["header"], second["header_symbols"], second["payload_symbols"]) == ("repeat2", 2, 2.0)
    assert second["shares"] == {"16x16qam": 1.0}
    heading, *lines = listing_lines(manifest, usage)
    assert heading.startswith("mode by content, signalled in a header")
    assert [line.split() for line in lines] == [
        ["-5", "dB", "hamming84", "4", "+", "4.25", "16x4qam", "75.0", "%,", "8x4qam", "25.0", "%"],
        ["15", "dB", "repeat2", "2", "+", "2.00", "16x16qam", "100.0", "%"],
    ]
