"""5G NR LDPC: the standard's structure, another implementation's words, decoding."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.sim.codes.code import collect
from twophase.sim.codes.ldpc import LdpcCode, encode_mother, lifting_size, shifts
from twophase.sim.codes.message_passing import parity_checks, propagate


def full_checks(z: int, number: int) -> np.ndarray:
    """The parity-check matrix, written out: identities with their columns moved right."""
    matrix = np.zeros((42 * z, 52 * z), dtype=np.int64)
    for row, entries in enumerate(shifts(number, z)):
        for column, shift in entries:
            block = np.roll(np.eye(z, dtype=np.int64), shift, axis=1)
            matrix[row * z : (row + 1) * z, column * z : (column + 1) * z] = block
    return matrix


def test_the_table_is_unaltered() -> None:
    text = resources.files("twophase.sim.codes").joinpath("bg2.csv").read_bytes()
    known = "93d682333e66a3ecaa3defe245989d0f7acca13ba9fc9e445bcc568384f1209a"
    assert hashlib.sha256(text).hexdigest() == known
    # Clause 5.3.2: 42 rows, 197 entries.
    assert [len(shifts(0, 2)), sum(map(len, shifts(0, 2)))] == [42, 197]


def test_lifting_sizes() -> None:
    sizes = {1: (2, 0), 12: (2, 0), 13: (3, 1), 24: (4, 0), 48: (8, 0), 100: (18, 4), 192: (32, 0)}
    sizes |= {193: (26, 6), 560: (72, 4), 561: (64, 0), 640: (72, 4), 641: (72, 4), 3840: (384, 1)}
    assert {k: lifting_size(k) for k in sizes} == sizes


@pytest.mark.parametrize("z", [2, 3, 5, 7, 9, 11, 13, 15, 4, 24])
def test_words_satisfy_the_written_out_checks(z) -> None:
    number = {2: 0, 4: 0, 3: 1, 24: 1, 5: 2, 7: 3, 9: 4, 11: 5, 13: 6, 15: 7}[z]
    information = np.random.default_rng(z).integers(0, 2, (20, 10 * z)).astype(np.uint8)
    word = encode_mother(information, z, number)
    np.testing.assert_array_equal(word[:, : 10 * z], information)
    assert not (word @ full_checks(z, number).T % 2).any()


# Words of LDPC5GEncoder(k, n, bg="bg2") of Sionna 2.2.0 for default_rng(k).integers(0, 2, (3, k)), packed.
SIONNA = {
    (12, 24): "b0e0fac3d6092b6e",
    (24, 48): "e7e6b3b4a72c9ebd",
    (48, 96): "781c81d8a97ad96c",
    (28, 40): "5572c23151cd7354",
    (100, 200): "f5746b43c4ef62fe",
    (200, 400): "9d597871df76e355",
    (292, 584): "bef897937718d8d1",
    (600, 1200): "ab909ecb4ddfee6d",
    (720, 1440): "da95ce836cb004d8",
    (1000, 3000): "42663ab749786726",
    (3840, 7680): "2e3e41e31b2b44f7",
}


@pytest.mark.parametrize(("k", "n"), SIONNA)
def test_words_are_those_of_sionna(k, n) -> None:
    words = LdpcCode(k, n).encode(np.random.default_rng(k).integers(0, 2, (3, k)))
    assert hashlib.sha256(np.packbits(words).tobytes()).hexdigest()[:16] == SIONNA[k, n]


@given(k=st.integers(1, 60), extra=st.floats(0, 12))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_rate_matching_sends_the_circular_buffer(k, extra) -> None:
    n = k + int(extra * k)
    code = LdpcCode(k, n)
    bits = np.random.default_rng(k).integers(0, 2, (1, k))
    filled = np.zeros((1, 10 * code.z), dtype=np.uint8)
    filled[:, :k] = bits
    word = encode_mother(filled, code.z, code.lifting_set)[0]
    held = [word[i] for i in range(2 * code.z, 52 * code.z) if not k <= i < 10 * code.z]
    expected = [held[i % len(held)] for i in range(n)]
    assert code.encode(bits)[0].tolist() == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.integers(1, 30), n=st.integers(0, 90), seed=st.integers(0, 1000))
def test_collecting_adds_what_was_sent(width, n, seed) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.integers(0, width, n)
    llr = rng.integers(-50, 50, (3, n)).astype(np.float32)
    expected = np.zeros((3, width), dtype=np.float32)
    np.add.at(expected, (slice(None), pattern), llr)
    np.testing.assert_array_equal(collect(llr, pattern, width), expected)


def test_fillers_and_unsent_checks_do_not_matter() -> None:
    # Against the same decoder on all 42 rows, fillers known with an LLR that no message outweighs.
    code = LdpcCode(20, 44, iterations=6)
    z = code.z
    assert 10 * z > 20
    rng = np.random.default_rng(0)
    word = code.encode(rng.integers(0, 2, (40, 20)))
    llr = 4 * (2.0 * word - 1 + 0.7 * rng.standard_normal(word.shape))
    mother = np.zeros((40, 52 * z), dtype=np.float32)
    mother[:, code.pattern] = llr
    mother[:, 20 : 10 * z] = -1e6
    # The compiled order within a base row: by degree without fillers.
    checks = []
    for rows in full_checks(z, code.lifting_set).reshape(42, z, -1):
        joined = [np.flatnonzero(row).tolist() for row in rows]
        checks += sorted(joined, key=lambda bits: sum(not 20 <= bit < 10 * z for bit in bits))
    slow = np.array([propagate(parity_checks(checks, 52 * z), row[None], 6)[0, :20] for row in mother])
    fast = code.decode(llr)
    # A frame may finish earlier or later, for the two see other checks; what is decided is the same.
    np.testing.assert_array_equal(slow > 0, fast > 0)
    assert (np.abs(slow - fast) < 1e-3).mean() > 0.5
