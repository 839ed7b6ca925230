"""The card says what the manifest says, and nothing that depends on where it was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_run import FOUR_MODES, run_manifest
from twophase.export.artefacts.card import CARD_FILE, link_card, wilson
from twophase.link.manifest import Accuracy, Conformance, VectorSet
from twophase.sim.theory.statistics import wilson_by_sample

ACCURACY = Accuracy(
    seed=3, trials=20, samples=50, esn0_db=(-5.0, 20.0), correct=(613, 1000), symbols=(6.25, 2.0)
)
STEPS = [
    {"from_db": None, "to_db": 5.0, "mode": "8x4qam", "symbols": 5},
    {"from_db": 5.0, "to_db": None, "mode": "16x16qam", "symbols": 2},
]
FOUR = replace(
    run_manifest(FOUR_MODES, ()),
    kind="bundle",
    accuracy=ACCURACY,
    conformance=Conformance((VectorSet("test_data_set_0", "tx.onnx", "test samples"),), "0123" * 16),
    files={
        name: {"sha256": 16 * f"{number:04x}", "bytes": 1000 * number}
        for number, name in enumerate(("tx.onnx", "rx.onnx", "eval.npz", CARD_FILE), start=1)
    },
    provenance={"command": "tp-train", "export": {"modes": STEPS, "opset": 18, "ir_version": 8}},
)
"""A manifest as a bundle has it."""


def tables_of(card: str) -> list[list[list[str]]]:
    """The cells of every table."""
    tables: list[list[list[str]]] = [[]]
    for line in card.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def test_a_card_consists_of_whole_tables_and_says_nothing_of_the_machine() -> None:
    card = link_card(FOUR)
    assert card.endswith("\n")
    assert "/" + "tmp" not in card
    assert "\n\n\n" not in card
    assert len(tables_of(card)) > 3
    for table in tables_of(card):
        assert len(table) > 2
        assert len({len(row) for row in table}) == 1, table
    assert ["below 5 dB", "8x4qam", "5"] in [row for table in tables_of(card) for row in table]


def test_names_of_users_are_text_and_survive_a_file(tmp_path: Path) -> None:
    names = ("a\r\n# b", "<script>", "[x](javascript:f)", "c|d\x1b[2J", "\ud800`e`")
    card = link_card(replace(FOUR, task="`\r<i>", classes=names))
    (tmp_path / "card.md").write_text(card, encoding="utf-8")
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == card
    assert len(card.splitlines()) == len(link_card(FOUR).splitlines())
    for absent in ("<script", "\n# b", "\x1b"):
        assert absent not in card
    task = r"- Task: `` `\x0d<i> ``, 5 classes: a\\x0d\\x0a# b, &lt;script&gt;, "
    assert task + r"\[x\](javascript&#58;f), c\|d\\x1b\[2J, \\ud800\`e\`" in card


def test_the_card_does_not_depend_on_its_own_entry() -> None:
    without = {name: entry for name, entry in FOUR.files.items() if name != CARD_FILE}
    assert link_card(replace(FOUR, files=without)) == link_card(FOUR)


def test_accuracy_stands_with_intervals_on_samples_and_with_energy() -> None:
    card = link_card(FOUR)
    rows = [row for table in tables_of(card) for row in table]
    assert ["-5 dB", "613 of 1000", "61.30 %", "47.5 to 73.5 %", "6.25", "6.25 Es"] in rows
    assert ["20 dB", "1000 of 1000", "100.00 %", "92.9 to 100.0 %", "2.00", "2.00 Es"] in rows
    assert "n = 50" in card
    assert "seed 3" in card
    assert "Not measured." in link_card(replace(FOUR, accuracy=None))


def test_how_good_it_is_stands_before_the_accuracy() -> None:
    training = {
        "deployed": {"train_accuracy_hard": 0.976, "validation_accuracy_hard": 0.55},
        "ceiling": {"train_accuracy": 0.99, "validation_accuracy": 0.9},
        "majority_share": 0.3,
        "samples": {"validation": 100},
    }
    card = " ".join(link_card(replace(FOUR, training=training)).split())
    assert "55.00 % in validation, 97.60 % on the training samples; without a channel" in card
    assert "Warning: overfitted: 97.6 % on its training samples, 55.0 % in validation; more samples" in card
    assert card.index("frequent class gives 30.00 %") < card.index("Measured by the exporter")


@given(share=st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0), count=st.integers(1, 1000))
def test_the_interval_is_the_simulators(share: float, count: int) -> None:
    # of samples that all succeed equally often
    assert wilson(share, count) == pytest.approx(wilson_by_sample([share] * count), abs=1e-9)
