"""Which differences are failures, which are excused, and how they are counted."""

from __future__ import annotations

import numpy as np
import pytest

from tools.tiny_run import CONTENT, FOUR_MODES, ONE_MODE, run_manifest
from twophase.export.compare.margins import Margins, read_margins
from twophase.export.compare.tally import (
    BY_PROGRAM,
    EXCUSED_MARGIN,
    Tally,
    check_modes,
    check_rules,
    compare_receptions,
    compare_soft,
    compare_transmissions,
)
from twophase.export.graphs.run import Values
from twophase.export.proof.hard import expected_bits
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.link.manifest import Manifest

MANIFEST = run_manifest(ONE_MODE, ())


def sent(indices: list[list[int]]) -> Values:
    array = np.array(indices)
    bits, symbols = expected_bits(array, MANIFEST.modes[0], MANIFEST.label_array(0))
    batch = len(array)
    return {
        "mode": np.zeros(batch, dtype=np.int64),
        "indices": array,
        "bits": bits,
        "symbols": symbols,
        "bit_count": np.full(batch, 12),
        "symbol_count": np.full(batch, 3),
    }


def margins(indices: list[list[int]], margin: float) -> Margins:
    array = np.array(indices)
    return Margins(array, np.full(array.shape, margin), np.full(len(array), margin))


@pytest.mark.parametrize(("margin", "excused"), [(0.5 * EXCUSED_MARGIN, True), (2.0 * EXCUSED_MARGIN, False)])
def test_a_different_index_is_excused_only_below_the_margin(margin: float, excused: bool) -> None:
    tally = Tally()
    theirs, ours = sent([[1, 2, 3], [4, 5, 6]]), sent([[1, 2, 3], [4, 0, 6]])
    compare_transmissions("a and b", theirs, ours, margins([[1, 2, 3], [4, 0, 6]], margin), tally)
    assert (tally.different, tally.excused) == (1, int(excused))
    if excused:
        # bits and symbols of that sample differ with its index: that is no failure of its own
        assert tally.failures == {}
    else:
        (failure,) = tally.failures.values()
        assert failure == (
            "a and b differ in 'indices' of 1 tokens: codewords 5 and 0 at token 1, "
            "margin 2.00e-05, not below 1e-05"
        )


@pytest.mark.parametrize("name", ["bits", "symbols", "bit_count", "symbol_count"])
def test_any_other_difference_is_a_failure(name: str) -> None:
    tally = Tally()
    theirs, ours = sent([[1, 2, 3], [4, 5, 6]]), sent([[1, 2, 3], [4, 5, 6]])
    theirs[name] = theirs[name].copy()
    theirs[name][1] ^= 1
    compare_transmissions("a and b", theirs, ours, margins([[1, 2, 3], [4, 5, 6]], 0.0), tally)
    assert list(tally.failures) == [f"a and b differ in '{name}'"]


@pytest.mark.parametrize(("margin", "excused"), [(0.5 * EXCUSED_MARGIN, True), (2.0 * EXCUSED_MARGIN, False)])
def test_a_different_mode_is_excused_only_below_the_margin(margin: float, excused: bool) -> None:
    tally = Tally()
    theirs, ours = sent([[1, 2, 3], [7, 7, 7]]), sent([[1, 2, 3], [4, 5, 6]])
    theirs["mode"] = np.array([0, 1])
    compare_transmissions("a and b", theirs, ours, margins([[1, 2, 3], [4, 5, 6]], margin), tally)
    count = tally.mode_counts["a and b"]
    assert (count.compared, count.different, count.excused) == (2, 1, int(excused))
    # what a sample sends in two modes is not compared: that would be no failure of its own
    assert tally.counts["a and b"].compared == 3
    assert (tally.different, tally.excused) == (1, int(excused))
    if excused:
        assert tally.failures == {}
    else:
        (failure,) = tally.failures.values()
        assert failure == "a and b differ in 'mode' in 1 samples: 1 and 0, margin 2.00e-05, not below 1e-05"


def test_the_margin_of_a_mode_is_the_gap_of_its_scores_and_a_request_has_none() -> None:
    scores = np.array(
        [[1.0, 4.0, 3.0, -8.0], [5.0, 5.0, 0.0, 0.0], [5.0, 5.0, 0.0, 0.0], [1, -1e30, -1e30, -1e30]]
    )
    rates = np.array([[2.0], [2.0], [2.0], [2.0]])
    inner, modes = {"scores": scores, "rates": rates}, np.array([1, 0, 0, 0])
    read = read_margins(inner, modes, (), MANIFEST, ("scores", "rates"))
    np.testing.assert_allclose(read.mode[:3], [1 / 8, 0.0, 0.0])
    assert read.mode[3] > 1e29
    read = read_margins(inner, modes, (), MANIFEST, ("scores",), np.array([-1, -1, 0, -1]))
    assert read.mode[1] == 0.0
    assert read.mode[2] == np.inf
    assert (read_margins(inner, modes, (), MANIFEST).mode == np.inf).all()


def test_modes_must_be_the_requested_ones_and_otherwise_the_tables() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    snr_db = np.array([0.0, 7.0, 20.0], dtype=np.float32)

    def failures(modes: list[int], feed: Values, of: Manifest = manifest) -> list[str]:
        tally = Tally()
        check_modes({"mode": np.array(modes)}, {"snr_db": snr_db, **feed}, of, tally)
        return list(tally.failures.values())

    assert failures([0, 1, 3], {}) == []
    assert failures([2, 1, 2], {"mode_request": np.array([2, -1, 2])}) == []
    assert failures([1, 1, 1], {"mode_request": np.array([1])}) == []
    assert failures([0, 2, 3], {}) == [
        "'mode' is 2 at 7 dB, where 1 is what the manifest's routing table gives"
    ]
    assert failures([0, 1, 3], {"mode_request": np.array([-1, -1, 2])}) == [
        "'mode' is 3 at 20 dB, where 2 is requested"
    ]
    assert failures([0, 1, 4], {}) == ["'mode' must lie in 0..3, not [0 1 4]"]
    # what a router makes of the content is not known beforehand
    assert failures([3, 0, 1], {}, run_manifest(CONTENT, ())) == []


def test_the_rules_of_the_manifest_are_checked() -> None:
    tally = Tally()
    ours = sent([[1, 2, 3], [4, 5, 6]])
    check_rules(ours, margins([[1, 2, 3], [4, 5, 6]], 1.0), MANIFEST, tally)
    assert tally.failures == {}
    ours["bits"][1, 11] = 1
    ours["symbols"][0, 2] ^= 1
    ours["bit_count"][:] = 9
    check_rules(ours, margins([[1, 2, 7], [4, 5, 6]], 1.0), MANIFEST, tally)
    assert tally.failures == {
        "float64 search and ONNX Runtime differ in 'indices'": "float64 search and ONNX Runtime differ in "
        "'indices' of 1 tokens: codewords 7 and 3 at token 2, margin 1.00e+00, not below 1e-05",
        "'bits'": "'bits' are not what the manifest gives for the indices in mode 0",
        "'symbols'": "'symbols' are not what the manifest gives for the indices in mode 0",
        "'bit_count'": "'bit_count' must be 12 in mode 0, not [9]",
    }


def test_margins_are_read_mode_by_mode() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    searches = tuple(
        ModeSearch("z", mode.tokens, book.T, -0.5 * np.square(book).sum(axis=1))
        for mode in FOUR_MODES.modes
        for book in [FOUR_MODES.codebook(mode.codebook)]
    )
    latents = np.stack([FOUR_MODES.codebook(0)[[5, 1, 7]], FOUR_MODES.codebook(1)[[9, 15, 2]]])
    read = read_margins({"z": latents}, np.array([1, 2]), searches, manifest)
    # mode 1 has three tokens of codebook 0, mode 2 has two of codebook 1
    assert read.nearest.tolist() == [[5, 1, 7], [9, 15, -1]]
    assert (read.margin[:, :2] > 0).all()
    assert read.margin[1, 2] == np.inf


def received(posterior: list[float], indices: list[int], logit: float) -> Values:
    return {
        "logits": np.full((1, 5), logit, dtype=np.float32),
        "posterior": np.tile(np.array(posterior, dtype=np.float32), (1, 3, 1)),
        "indices": np.array([indices]),
    }


def test_receivers_must_agree_within_the_tolerance() -> None:
    posterior = [0.5, 0.3, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0]
    ours, mode = received(posterior, [0, 0, 0], 2.0), np.zeros(1, dtype=np.int64)
    tally = Tally()
    compare_receptions(BY_PROGRAM, received(posterior, [0, 0, 0], 2.0002), ours, mode, MANIFEST, tally)
    assert tally.failures == {}
    compare_receptions("batches", received(posterior, [0, 0, 0], 2.0001), ours, mode, MANIFEST, tally)
    assert 0.5e-4 < tally.largest_batch_error < 1.5e-4
    assert 1e-4 < tally.largest_error < 3e-4
    compare_receptions(BY_PROGRAM, received(posterior, [0, 1, 0], 2.001), ours, mode, MANIFEST, tally)
    assert list(tally.failures) == [f"{BY_PROGRAM} differ in 'logits'", f"{BY_PROGRAM} differ in 'indices'"]


def test_a_receiver_may_name_either_of_two_equally_probable_codewords() -> None:
    posterior = [0.4, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0]
    tally = Tally()
    mode = np.zeros(1, dtype=np.int64)
    ours = received(posterior, [0, 0, 0], 1.0)
    compare_receptions("a and b", received(posterior, [1, 0, 0], 1.0), ours, mode, MANIFEST, tally)
    assert (tally.failures, tally.different, tally.excused) == ({}, 1, 1)


def test_a_receivers_indices_must_lie_in_range() -> None:
    tally = Tally()
    ours = received([1.0] + 7 * [0.0], [0, 8, 0], 1.0)
    compare_receptions("a and b", ours, ours, np.zeros(1, dtype=np.int64), MANIFEST, tally)
    assert list(tally.failures) == ["'indices'"]


def test_soft_symbols_must_agree_where_the_modes_do() -> None:
    ours = {"mode": np.zeros(2, dtype=np.int64), "symbols_iq": np.zeros((2, 3, 2), dtype=np.float32)}
    near, clear = margins([[0], [0]], 0.0), margins([[0], [0]], 1.0)
    other_mode = {
        "mode": np.array([0, 1]),
        "symbols_iq": np.array([[[0, 0]] * 3, [[1, 1]] * 3], dtype=np.float32),
    }
    tally = Tally()
    compare_soft("a and b", ours, ours, clear, tally)
    compare_soft("a and b", other_mode, ours, near, tally)
    assert tally.failures == {}
    assert tally.mode_counts["a and b"].excused == 1
    compare_soft("a and b", other_mode, ours, clear, tally)
    compare_soft("a and b", ours | {"symbols_iq": ours["symbols_iq"] + np.float32(1e-3)}, ours, clear, tally)
    assert list(tally.failures) == ["a and b differ in 'mode'", "a and b differ in 'symbols_iq'"]
