"""The inputs of the comparison: checked, seeded, in the range of the data."""

from __future__ import annotations

import numpy as np

from tools.tiny_run import FOUR_MODES, LLR_CLIP, eval_split, run_manifest
from twophase.export.compare.inputs import (
    CHUNK,
    RANDOM_SNRS_DB,
    SPLIT_SNRS_DB,
    feature_batches,
    llr_batches,
)

MANIFEST = run_manifest(FOUR_MODES, ())
SPLIT = eval_split(FOUR_MODES, 40)


def test_features_cover_the_split_and_the_range_of_the_data() -> None:
    batches = list(feature_batches(SPLIT["input"], 1, 5000, seed=7))
    split = [batch for batch in batches if batch.source == "test split"]
    assert [float(batch.snr_db[0]) for batch in split] == list(SPLIT_SNRS_DB)
    assert all(np.array_equal(batch.features, SPLIT["input"]) for batch in split)
    drawn = [batch for batch in batches if batch.source == "random"]
    features = np.concatenate([batch.features for batch in drawn])
    snr_db = np.concatenate([batch.snr_db for batch in drawn])
    assert features.shape == (5000, 2, 3)
    assert features.dtype == snr_db.dtype == np.float32
    assert snr_db.min() >= RANDOM_SNRS_DB[0]
    assert snr_db.max() <= RANDOM_SNRS_DB[1]
    assert np.ptp(snr_db) > 39
    # the noise reaches beyond the data by a few tenths of its spread, the uniform half does not
    low, high = SPLIT["input"].min(axis=0), SPLIT["input"].max(axis=0)
    outside = ((features < low) | (features > high)).any(axis=(1, 2)).mean()
    assert 0.0 < outside < 0.5
    again = list(feature_batches(SPLIT["input"], 1, 5000, seed=7))
    assert all(
        np.array_equal(one.features, other.features) for one, other in zip(batches, again, strict=True)
    )
    other = list(feature_batches(SPLIT["input"], 1, 5000, seed=8))
    assert not np.array_equal(batches[-1].features, other[-1].features)


def test_a_link_of_several_modes_is_asked_for_each() -> None:
    batches = list(feature_batches(SPLIT["input"], 3, 6 * CHUNK, seed=7))
    split = [batch for batch in batches if batch.source == "test split"]
    assert all(batch.request is None and set(batch.feed) == {"input", "snr_db"} for batch in split)
    forced = [batch for batch in batches if batch.source == "each mode"]
    assert [batch.request for batch in forced] == [0, 1, 2]
    assert [batch.feed["mode_request"].tolist() for batch in forced] == [[0], [1], [2]]
    for batch in forced:
        assert np.array_equal(batch.features, SPLIT["input"])
        assert (batch.snr_db[0], batch.snr_db[-1]) == (SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1])
    drawn = [batch.request for batch in batches if batch.source == "random"]
    assert drawn == [None, 0, None, 1, None, 2]
    assert {batch.source for batch in feature_batches(SPLIT["input"], 1, 100, seed=7)} == {
        "test split",
        "random",
    }


def test_llrs_are_clipped_and_zero_after_each_modes_bits() -> None:
    batches = list(llr_batches(MANIFEST, 3000, seed=1))
    extremes, mode = batches[0]
    assert mode.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert sorted(np.unique(extremes)) == [-LLR_CLIP, 0.0, LLR_CLIP]
    llr, mode = (np.concatenate(parts) for parts in zip(*batches[1:], strict=True))
    assert (llr.shape, llr.dtype, mode.dtype) == ((3000, MANIFEST.modes.max_bits), np.float32, np.int64)
    assert np.abs(llr).max() <= LLR_CLIP
    assert sorted(np.unique(mode)) == [0, 1, 2, 3]
    for number, entry in enumerate(MANIFEST.modes):
        rows = llr[mode == number]
        assert (rows[:, entry.channel_bits :] == 0).all()
        assert (rows[:, : entry.channel_bits] != 0).all()
    assert len(next(llr_batches(MANIFEST, 3000, seed=1, extremes=False))[0]) > 12
    ((_, mode),) = llr_batches(MANIFEST, 300, seed=1, extremes=False, mode=2)
    assert mode.tolist() == [2] * 300
