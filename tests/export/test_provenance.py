"""The mode table in the manifest, and its twin that people read."""

from __future__ import annotations

from dataclasses import replace

from tools.tiny_run import CONTENT, FOUR_MODES, run_manifest
from twophase.export.provenance import listing_lines, mode_listing


def test_a_table_is_listed_step_by_step() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    steps = mode_listing(manifest, {})
    assert steps == [
        {"from_db": None, "to_db": 5.0, "mode": "8x4qam", "symbols": 5},
        {"from_db": 5.0, "to_db": 10.0, "mode": "8x16qam", "symbols": 3},
        {"from_db": 10.0, "to_db": 15.0, "mode": "16x4qam", "symbols": 4},
        {"from_db": 15.0, "to_db": None, "mode": "16x16qam", "symbols": 2},
    ]
    _, *lines = listing_lines(manifest, {})
    for step, line in zip(steps, lines, strict=True):
        assert {str(step["mode"]), str(step["symbols"])} <= set(line.split())
    table = replace(manifest.routing, router="table", hysteresis_db=6.0)
    wide = listing_lines(replace(manifest, routing=table), {})
    assert "hysteresis 6 dB" in wide[0]
    # steps that the SNR jumps over
    assert wide[-1].endswith("8x16qam, 16x4qam")


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
    _, low, high = listing_lines(manifest, usage)
    assert low.split()[-6:] == ["16x4qam", "75.0", "%,", "8x4qam", "25.0", "%"]
    assert high.split()[-3:] == ["16x16qam", "100.0", "%"]
