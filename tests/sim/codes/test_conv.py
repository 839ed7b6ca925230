"""The convolutional code: commpy's trellis, exhaustive decoding, published spectrum, equal kernels."""

from __future__ import annotations

import numpy as np
import pytest
from commpy.channelcoding import Trellis, conv_encode, viterbi_decode
from scipy.special import logsumexp

from twophase.link.bits import indices_to_bits
from twophase.sim.codes.conv import (
    GENERATORS,
    MEMORY,
    OUTPUTS,
    STATES,
    ConvCode,
    puncturing,
    weight_spectrum,
)


def test_trellis_encoder_and_decisions_are_commpys() -> None:
    trellis = Trellis(np.array([MEMORY]), np.array([GENERATORS]), polynomial_format="LSB")
    registers = np.arange(2 * STATES).reshape(2, STATES).T  # (state, input)
    np.testing.assert_array_equal(OUTPUTS[registers], trellis.output_table)
    np.testing.assert_array_equal(registers >> 1, trellis.next_state_table)
    for k in (1, 5, 40):
        bits = np.random.default_rng(k).integers(0, 2, k)
        theirs = conv_encode(np.concatenate([bits, np.zeros(MEMORY, dtype=int)]), trellis, "cont")
        np.testing.assert_array_equal(ConvCode(k, 2 * (k + MEMORY)).encode(bits), theirs)
    code, rng = ConvCode(40, 92), np.random.default_rng(0)
    bits = rng.integers(0, 2, (3, 40))
    word = code.encode(bits)
    llr = 1.4 * (2.0 * word - 1 + 1.2 * rng.standard_normal(word.shape))
    # commpy ends in the best state, not in state zero: a clear tail leads both there.
    llr[:, -12:] = 40.0 * word[:, -12:] - 20.0
    theirs = [viterbi_decode(row.copy(), trellis, tb_depth=46, decoding_type="soft")[:40] for row in llr]
    ours = code.viterbi(llr)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != bits).any()  # errors too are the same


def test_the_spectrum_is_the_published_one() -> None:
    # Each further step lets every first event begin once more: a_10, a_12, a_14 = 11, 38, 193 (Frenger,
    # Orten and Ottosson, IEEE Commun. Letters 3(11), 1999).  Odd weights do not exist.
    first, second = (weight_spectrum(steps, np.arange(2 * steps)) for steps in (80, 81))
    assert (second - first)[:15].tolist() == [0] * 10 + [11, 0, 38, 0, 193]
    assert first[1::2].sum() == 0


@pytest.mark.parametrize(("k", "n"), [(6, 24), (6, 12), (7, 20)])
def test_the_spectrum_counts_words(k, n) -> None:
    code = ConvCode(k, n)
    words = code.encode(indices_to_bits(np.arange(1, 2**k), k))
    counts = np.bincount(words.sum(axis=1), minlength=64)[:15]
    np.testing.assert_array_equal(weight_spectrum(code.steps, code.pattern), counts)


@pytest.mark.parametrize(("k", "n", "distance"), [(12, 24, 5), (24, 48, 6), (48, 96, 7), (28, 40, 3)])
def test_puncturing_sends_bits_in_order_and_keeps_some_distance(k, n, distance) -> None:
    pattern = puncturing(k + MEMORY, n)
    assert len(pattern) == n
    assert (np.diff(pattern) > 0).all()
    assert 0 <= pattern[0] <= pattern[-1] < 2 * (k + MEMORY)
    spectrum = weight_spectrum(k + MEMORY, pattern)
    assert int(np.argmax(spectrum > 0)) == distance
    # None of the low weights is common: an unlucky pattern would let every step begin such a path.
    assert spectrum[distance] < k
    np.testing.assert_array_equal(puncturing(k + MEMORY, 300), np.arange(300) % (2 * (k + MEMORY)))


@pytest.mark.parametrize(("k", "n"), [(6, 24), (6, 12), (7, 40)])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_decoders_equal_exhaustive_search(k, n, kernel) -> None:
    code = ConvCode(k, n, kernel)
    llr = 2 * np.random.default_rng(0).standard_normal((50, n))
    information = indices_to_bits(np.arange(2**k), k)
    metric = llr @ code.encode(information).T.astype(float)
    np.testing.assert_array_equal(code.viterbi(llr), information[np.argmax(metric, axis=1)])
    exact = [
        logsumexp(metric[:, bit == 1], axis=1) - logsumexp(metric[:, bit == 0], axis=1)
        for bit in information.T
    ]
    np.testing.assert_allclose(code.decode(llr), np.transpose(exact), rtol=2e-5, atol=2e-5)
