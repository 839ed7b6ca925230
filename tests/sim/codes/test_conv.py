"""The convolutional code: commpy's trellis, exhaustive decoding, published spectrum, equal kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from commpy.channelcoding import Trellis, conv_encode, viterbi_decode
from scipy.special import logsumexp, ndtr

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


def test_errors_are_as_many_as_theory_says() -> None:
    """K = 7, rate 1/2, Eb/N0 of 3.5 dB: between the published union bound and half its first term."""
    # Ones of information on paths of distance 10, 12, ... (Proakis, table 8.2-2, and Frenger et al.); what is
    # cut off would add less than a tenth.
    weights = np.array([36, 211, 1404, 11633, 77433, 502690, 3322763])
    ratio, code, rng = 10**0.35 / 2, ConvCode(500, 1012, "numba"), np.random.default_rng(0)
    terms = weights * ndtr(-np.sqrt(2 * np.arange(10, 24, 2) * ratio))
    bits = rng.integers(0, 2, (10_000, 500))
    word = code.encode(bits)
    received = 2.0 * word - 1 + math.sqrt(0.5 / ratio) * rng.standard_normal(word.shape)
    wrong = (code.viterbi(4 * ratio * received) != bits).mean(axis=1)
    rate, deviation = wrong.mean(), wrong.std() / math.sqrt(len(wrong))
    # 4.5 sigma above.  Below, the rate of ten seeds, 8.1e-5 +- 1.35e-5, is as far from 2.0e-5: a false alarm
    # in 7e-6 of all seeds, were the count of some 90 frames in error normal.
    assert terms[0] / 2 < rate < terms.sum() + 4.5 * deviation
