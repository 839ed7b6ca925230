"""The card says what the manifest says, and nothing that depends on where it was made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools.tiny_run import FOUR_MODES, run_manifest
from twophase.export.artefacts.card import CARD_FILE, link_card, wilson
from twophase.link.manifest import Accuracy, Conformance, Manifest, VectorSet
from twophase.sim.theory.statistics import wilson_by_sample

ACCURACY = Accuracy(
    seed=3, trials=20, samples=50, esn0_db=(-5.0, 20.0), correct=(613, 1000), symbols=(6.25, 2.0)
)
GOLDEN = "0123456789abcdef" * 4


def bundled(manifest: Manifest, **export: object) -> Manifest:
    """A manifest as a bundle has it."""
    graphs = {
        name: {"sha256": f"{number:064x}", "bytes": 1000 * number}
        for number, name in enumerate(("tx.onnx", "rx.onnx", "eval.npz", CARD_FILE), start=1)
    }
    sets = (
        VectorSet("test_data_set_0", "tx.onnx", "test samples"),
        VectorSet("test_data_set_1", "rx.onnx", "what the first set sends"),
    )
    steps = [
        {"from_db": None, "to_db": 5.0, "mode": "8x4qam", "symbols": 5},
        {"from_db": 5.0, "to_db": 10.0, "mode": "8x16qam", "symbols": 3},
        {"from_db": 10.0, "to_db": None, "mode": "16x16qam", "symbols": 2},
    ]
    return replace(
        manifest,
        kind="bundle",
        accuracy=ACCURACY,
        conformance=Conformance(sets, GOLDEN),
        files=graphs,
        provenance={
            "command": "tp-train --task tiny",
            "export": {"modes": steps, "opset": 18, "ir_version": 8} | export,
        },
    )


FOUR = bundled(run_manifest(FOUR_MODES, ()))


def rows_of(card: str, heading: str) -> list[list[str]]:
    """Cells of the tables under a heading."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_equal_manifests_give_equal_cards_of_whole_tables() -> None:
    card = link_card(FOUR)
    assert card == link_card(replace(FOUR))
    assert card.endswith("\n")
    assert "\n\n\n" not in card
    table: list[str] = []
    for line in [*card.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            assert len(table) > 2
            assert len({row.count("|") for row in table}) == 1, table
            table = []
    assert "/" + "tmp" not in card


def test_the_card_does_not_depend_on_its_own_entry() -> None:
    without = {name: entry for name, entry in FOUR.files.items() if name != CARD_FILE}
    assert link_card(replace(FOUR, files=without)) == link_card(FOUR)


def test_accuracy_stands_with_intervals_on_samples_and_with_energy() -> None:
    card = link_card(FOUR)
    _, _, low, high = rows_of(card, "Accuracy, symbols and energy")
    assert low == ["-5 dB", "613 of 1000", "61.30 %", "47.5 to 73.5 %", "6.25", "6.25 Es"]
    assert high == ["20 dB", "1000 of 1000", "100.00 %", "92.9 to 100.0 %", "2.00", "2.00 Es"]
    assert "n = 50" in card
    assert "seed 3" in card
    assert "Not measured." in link_card(replace(FOUR, accuracy=None))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.613, 0.97, 1.0])
@pytest.mark.parametrize("count", [1, 50, 540])
def test_the_interval_is_the_simulators(share: float, count: int) -> None:
    # of samples that all succeed equally often
    assert wilson(share, count) == pytest.approx(wilson_by_sample([share] * count), abs=1e-9)
