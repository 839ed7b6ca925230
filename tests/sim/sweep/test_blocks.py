"""Blocks cut the trials of a point without gap or overlap."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.sweep.blocks import BLOCK_TRIALS, Block, trial_blocks


@given(st.integers(0, 300), st.integers(0, 300))
def test_blocks_hold_every_trial_once_and_in_order(first: int, count: int) -> None:
    blocks = list(trial_blocks(("a mode", -2.5), first, first + count))
    assert [trial for block in blocks for trial in block.trials] == list(range(first, first + count))
    assert all(block.point == ("a mode", -2.5) for block in blocks)
    # Only the last may be shorter; a block travels, and is a key.
    assert all(block.count == BLOCK_TRIALS for block in blocks[:-1])
    assert all(1 <= block.count <= BLOCK_TRIALS for block in blocks)
    assert {pickle.loads(pickle.dumps(block)) for block in blocks} == set(blocks)


@pytest.mark.parametrize(("first", "count", "name"), [(-1, 5, "first"), (0, 0, "count")])
def test_bad_blocks_are_refused(first: int, count: int, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        Block("", 0.0, first, count)
