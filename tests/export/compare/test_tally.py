"""Which differences are failures, which are excused, and how they are counted."""

from __future__ import annotations

import numpy as np
import pytest

from tools.tiny_run import CONTENT, FOUR_MODES, ONE_MODE, run_manifest
from twophase.export.compare.tally import (
    BY_PROGRAM,
    EXCUSED_MARGIN,
    Margins,
    Tally,
    check_modes,
    check_rules,
    compare_receptions,
    compare_soft,
    compare_transmissions,
    read_margins,
)
from twophase.export.graphs.run import Values
from twophase.export.proof.hard import expected_bits
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.link.manifest import Manifest

MANIFEST = run_manifest(ONE_MODE, ())
INDICES = [[1, 2, 3], [4, 5, 6]]
MODE = np.zeros(1, dtype=np.int64)


def sent(indices: list[list[int]]) -> Values:
    array = np.array(indices)
    bits, symbols = expected_bits(array, MANIFEST.modes[0], MANIFEST.label_array(0))
    counts = {"bit_count": np.full(len(array), 12), "symbol_count": np.full(len(array), 3)}
    mode = np.zeros(len(array), dtype=np.int64)
    return {"mode": mode, "indices": array, "bits": bits, "symbols": symbols, **counts}


def margins(margin: float, indices: list[list[int]] = INDICES) -> Margins:
    array = np.array(indices)
    return Margins(array, np.full(array.shape, margin), np.full(len(array), margin))


@pytest.mark.parametrize("excused", [True, False])
@pytest.mark.parametrize(
    ("other_indices", "other_modes", "failure"),
    [
        # bits and symbols of that sample differ with its index: that is no failure of its own
        ([[1, 2, 3], [4, 0, 6]], [0, 0], "'indices' of 1 tokens: codewords 5 and 0 at token 1"),
        # what a sample sends in two modes is not compared
        ([[1, 2, 3], [7, 7, 7]], [0, 1], "'mode' in 1 samples: 0 and 1"),
    ],
)
def test_another_index_or_mode_is_excused_only_below_the_margin(
    other_indices: list[list[int]], other_modes: list[int], failure: str, excused: bool
) -> None:
    tally = Tally()
    ours = sent(other_indices) | {"mode": np.array(other_modes)}
    margin = margins((0.5 if excused else 2.0) * EXCUSED_MARGIN, other_indices)
    compare_transmissions("a and b", sent(INDICES), ours, margin, tally)
    assert tally.counts["a and b"].compared == (6 if other_modes == [0, 0] else 3)
    assert tally.mode_counts["a and b"].compared == 2
    assert (tally.different, tally.excused) == (1, int(excused))
    wanted = f"a and b differ in {failure}, margin 2.00e-05, not below 1e-05"
    assert list(tally.failures.values()) == ([] if excused else [wanted])


@pytest.mark.parametrize("name", ["bits", "symbols", "bit_count", "symbol_count"])
def test_any_other_difference_is_a_failure(name: str) -> None:
    tally = Tally()
    theirs = sent(INDICES)
    theirs[name][1] ^= 1
    compare_transmissions("a and b", theirs, sent(INDICES), margins(0.0), tally)
    assert list(tally.failures) == [f"a and b differ in '{name}'"]


def test_the_margin_of_a_mode_is_the_gap_of_its_scores_and_a_request_has_none() -> None:
    scores = np.array([[1.0, 4.0, 3.0, -8.0], [5, 5, 0, 0], [5, 5, 0, 0], [1, -1e30, -1e30, -1e30]])
    inner, modes = {"scores": scores, "rates": np.full((4, 1), 2.0)}, np.array([1, 0, 0, 0])
    read = read_margins(inner, modes, (), MANIFEST, ("scores", "rates"))
    np.testing.assert_allclose(read.mode[:3], [1 / 8, 0.0, 0.0])
    assert read.mode[3] > 1e29
    read = read_margins(inner, modes, (), MANIFEST, ("scores",), np.array([-1, -1, 0, -1]))
    assert read.mode[1:3].tolist() == [0.0, np.inf]
    assert (read_margins(inner, modes, (), MANIFEST).mode == np.inf).all()


def test_modes_must_be_the_requested_ones_and_otherwise_the_tables() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    snr_db = np.array([0.0, 7.0, 20.0], dtype=np.float32)

    def failures(modes: list[int], requests: list[int] | None = None, of: Manifest = manifest) -> list[str]:
        tally = Tally()
        feed = {"snr_db": snr_db} | ({} if requests is None else {"mode_request": np.array(requests)})
        check_modes({"mode": np.array(modes)}, feed, of, tally)
        return list(tally.failures.values())

    assert failures([0, 1, 3]) == failures([2, 1, 2], [2, -1, 2]) == failures([1, 1, 1], [1]) == []
    told = "'mode' is 2 at 7 dB, where 1 is what the manifest's routing table gives"
    assert failures([0, 2, 3]) == [told]
    assert failures([0, 1, 3], [-1, -1, 2]) == ["'mode' is 3 at 20 dB, where 2 is requested"]
    assert failures([0, 1, 4]) == ["'mode' must lie in 0..3, not [0 1 4]"]
    # what a router makes of the content is not known beforehand
    assert failures([3, 0, 1], of=run_manifest(CONTENT, ())) == []


def test_the_rules_of_the_manifest_are_checked() -> None:
    tally = Tally()
    ours = sent(INDICES)
    check_rules(ours, margins(1.0), MANIFEST, tally)
    assert tally.failures == {}
    ours["bits"][1, 11] = 1
    ours["symbols"][0, 2] ^= 1
    ours["bit_count"][:] = 9
    check_rules(ours, margins(1.0, [[1, 2, 7], [4, 5, 6]]), MANIFEST, tally)
    search = "float64 search and ONNX Runtime differ in 'indices'"
    assert tally.failures == {
        search: f"{search} of 1 tokens: codewords 7 and 3 at token 2, margin 1.00e+00, not below 1e-05",
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
    padded = np.zeros((1, 3, 8), dtype=np.float32)
    padded[..., : len(posterior)] = posterior
    logits = np.full((1, 5), logit, dtype=np.float32)
    return {"logits": logits, "posterior": padded, "indices": np.array([indices])}


def test_receivers_must_agree_within_the_tolerance() -> None:
    posterior = [0.5, 0.3, 0.2]
    ours = received(posterior, [0, 0, 0], 2.0)
    tally = Tally()
    compare_receptions(BY_PROGRAM, received(posterior, [0, 0, 0], 2.0002), ours, MODE, MANIFEST, tally)
    compare_receptions("batches", received(posterior, [0, 0, 0], 2.0001), ours, MODE, MANIFEST, tally)
    assert tally.failures == {}
    assert tally.largest_batch_error == pytest.approx(1e-4, rel=0.01)
    assert tally.largest_error == pytest.approx(2e-4, rel=0.01)
    compare_receptions(BY_PROGRAM, received(posterior, [0, 1, 0], 2.001), ours, MODE, MANIFEST, tally)
    assert list(tally.failures) == [f"{BY_PROGRAM} differ in 'logits'", f"{BY_PROGRAM} differ in 'indices'"]


def test_a_receiver_may_name_either_of_two_equally_probable_codewords() -> None:
    posterior = [0.4, 0.4, 0.2]
    tally = Tally()
    ours, theirs = received(posterior, [0, 0, 0], 1.0), received(posterior, [1, 0, 0], 1.0)
    compare_receptions("a and b", theirs, ours, MODE, MANIFEST, tally)
    assert (tally.failures, tally.different, tally.excused) == ({}, 1, 1)


def test_a_receivers_indices_must_lie_in_range() -> None:
    tally = Tally()
    ours = received([1.0], [0, 8, 0], 1.0)
    compare_receptions("a and b", ours, ours, MODE, MANIFEST, tally)
    assert list(tally.failures) == ["'indices'"]


def test_soft_symbols_must_agree_where_the_modes_do() -> None:
    ours = {"mode": np.zeros(2, dtype=np.int64), "symbols_iq": np.zeros((2, 3, 2), dtype=np.float32)}
    other_mode = {"mode": np.array([0, 1]), "symbols_iq": ours["symbols_iq"] + np.float32([[[0]], [[1]]])}
    tally = Tally()
    compare_soft("a and b", ours, ours, margins(1.0), tally)
    compare_soft("a and b", other_mode, ours, margins(0.0), tally)
    assert tally.failures == {}
    assert tally.mode_counts["a and b"].excused == 1
    compare_soft("a and b", other_mode, ours, margins(1.0), tally)
    compare_soft(
        "a and b", ours | {"symbols_iq": ours["symbols_iq"] + np.float32(1e-3)}, ours, margins(1.0), tally
    )
    assert list(tally.failures) == ["a and b differ in 'mode'", "a and b differ in 'symbols_iq'"]
