"""The inputs of the comparison: checked, seeded, in the range of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tools.tiny_run import FOUR_MODES, LLR_CLIP, ONE_MODE, eval_split, run_manifest
from twophase.export.compare.inputs import (
    CHUNK,
    RANDOM_SNRS_DB,
    SPLIT_SNRS_DB,
    FeatureBatch,
    feature_batches,
    llr_batches,
)
from twophase.link.input_scale import InputScale
from twophase.link.manifest import Manifest

MANIFEST, ONE = (run_manifest(spec, ()) for spec in (FOUR_MODES, ONE_MODE))
FEATURES = eval_split(FOUR_MODES, 40)["input"]


def drawn(manifest: Manifest, count: int, seed: int) -> dict[str, list[FeatureBatch]]:
    """Batches by their source."""
    found: dict[str, list[FeatureBatch]] = {}
    for batch in feature_batches(FEATURES, manifest, count, seed):
        found.setdefault(batch.source, []).append(batch)
    return found


def test_features_cover_the_split_and_the_range_of_the_data() -> None:
    batches, again, other = (drawn(ONE, 5000, seed) for seed in (7, 7, 8))
    assert list(batches) == ["test split", "random"]
    assert [set(batch.snr_db) for batch in batches["test split"]] == [{snr_db} for snr_db in SPLIT_SNRS_DB]
    assert all(np.array_equal(batch.features, FEATURES) for batch in batches["test split"])
    features, same, others = (
        np.concatenate([batch.features for batch in each["random"]]) for each in (batches, again, other)
    )
    snr_db = np.concatenate([batch.snr_db for batch in batches["random"]])
    assert features.shape == (5000, 2, 3)
    assert features.dtype == snr_db.dtype == np.float32
    assert RANDOM_SNRS_DB[0] <= snr_db.min() < snr_db.max() - 39 <= RANDOM_SNRS_DB[1] - 39
    # the noise reaches beyond the data by a few tenths of its spread, the uniform half does not
    low, high = FEATURES.min(axis=0), FEATURES.max(axis=0)
    outside = ((features < low) | (features > high)).any(axis=(1, 2)).mean()
    assert 0.0 < outside < 0.5
    np.testing.assert_array_equal(features, same)
    assert not np.array_equal(features, others)


def test_a_link_of_several_modes_is_asked_for_each() -> None:
    batches = drawn(MANIFEST, 8 * CHUNK, 7)
    assert all(set(batch.feed) == {"input", "snr_db"} for batch in batches["test split"])
    forced = batches["each mode"]
    assert [batch.feed["mode_request"].tolist() for batch in forced] == [[0], [1], [2], [3]]
    for batch in forced:
        np.testing.assert_array_equal(batch.features, FEATURES)
        assert (batch.snr_db[0], batch.snr_db[-1]) == (SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1])
    assert [batch.request for batch in batches["random"]] == [None, 0, None, 1, None, 2, None, 3]


def test_pixels_stay_whole_and_in_their_range() -> None:
    pixels = replace(MANIFEST, input=InputScale("uint8", exponent=(8,), limit=2.0))
    drawn_too = np.concatenate(
        [batch.features for batch in feature_batches(np.abs(FEATURES) * 200, pixels, 500, 0)][-1:]
    )
    assert np.array_equal(drawn_too, np.rint(drawn_too))
    assert (drawn_too.min(), drawn_too.max()) == (0, 255)


def test_llrs_are_clipped_and_zero_after_each_modes_bits() -> None:
    (extremes, mode), *others = llr_batches(MANIFEST, 3000, seed=1)
    assert mode.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert set(extremes.ravel()) == {-LLR_CLIP, 0.0, LLR_CLIP}
    llr, mode = (np.concatenate(parts) for parts in zip(*others, strict=True))
    assert (llr.shape, llr.dtype, mode.dtype) == ((3000, MANIFEST.modes.max_bits), np.float32, np.int64)
    assert np.abs(llr).max() <= LLR_CLIP
    for number, entry in enumerate(MANIFEST.modes):
        rows = llr[mode == number]
        assert len(rows) > 600
        assert (rows[:, entry.channel_bits :] == 0).all()
        assert (rows[:, : entry.channel_bits] != 0).all()
    assert len(next(llr_batches(MANIFEST, 3000, seed=1, extremes=False))[0]) > 12
    ((_, mode),) = llr_batches(MANIFEST, 300, seed=1, extremes=False, mode=2)
    assert mode.tolist() == [2] * 300
