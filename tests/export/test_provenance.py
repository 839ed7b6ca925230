"""The mode table in the manifest, and its twin that people read."""

from __future__ import annotations

from dataclasses import replace

from tools.tiny_run import CONTENT, FOUR_MODES, run_manifest
from twophase.export.provenance import listing_lines, mode_listing


def test_a_table_is_listed_step_by_step() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    steps = mode_listing(manifest, {})
    rows = [(None, 5.0, "8x4qam", 5), (5.0, 10.0, "8x16qam", 3)]
    rows += [(10.0, 15.0, "16x4qam", 4), (15.0, None, "16x16qam", 2)]
    assert [tuple(step.values()) for step in steps] == rows
    assert list(steps[0]) == ["from_db", "to_db", "mode", "symbols"]
    _, *lines = listing_lines(manifest, {})
    for step, line in zip(steps, lines, strict=True):
        assert {step["mode"], str(step["symbols"])} <= set(line.split())
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
    assert list(second.values()) == [15.0, "repeat2", 2, 2.0, {"16x16qam": 1.0}]
    _, low, high = listing_lines(manifest, usage)
    assert low.split()[-6:] == ["16x4qam", "75.0", "%,", "8x4qam", "25.0", "%"]
    assert high.split()[-3:] == ["16x16qam", "100.0", "%"]
