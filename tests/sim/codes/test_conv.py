"""The convolutional code: commpy's trellis, exhaustive decoding, published spectrum, equal kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from commpy.channelcoding import Trellis, conv_encode, viterbi_decode
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfc, logsumexp

from twophase.link.bits import indices_to_bits
from twophase.link.errors import InputError
from twophase.sim.codes.conv import (
    BCJR_CLIP,
    GENERATORS,
    MEMORY,
    OUTPUTS,
    STATES,
    ConvCode,
    puncturing,
    weight_spectrum,
)


def noisy(code, frames, esn0_db, seed=0):
    """Information bits and LLRs of binary antipodal signalling."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (frames, code.k))
    noise_var = 10 ** (-esn0_db / 10)
    received = 2.0 * code.encode(bits) - 1 + math.sqrt(noise_var / 2) * rng.standard_normal((frames, code.n))
    return bits, 4 * received / noise_var


def test_trellis_encoder_and_decisions_are_commpys() -> None:
    trellis = Trellis(np.array([MEMORY]), np.array([GENERATORS]), polynomial_format="LSB")
    registers = np.arange(2 * STATES).reshape(2, STATES).T  # (state, input)
    np.testing.assert_array_equal(OUTPUTS[registers], trellis.output_table)
    np.testing.assert_array_equal(registers >> 1, trellis.next_state_table)
    for k in (1, 5, 40):
        bits = np.random.default_rng(k).integers(0, 2, k)
        theirs = conv_encode(np.concatenate([bits, np.zeros(MEMORY, dtype=int)]), trellis, "cont")
        np.testing.assert_array_equal(ConvCode(k, 2 * (k + MEMORY)).encode(bits), theirs)
    code = ConvCode(40, 92)
    bits, llr = noisy(code, 3, -4.5)
    # commpy ends in the best state, not in state zero: a clear tail leads both there.
    llr[:, -12:] = 40.0 * code.encode(bits)[:, -12:] - 20.0
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


@pytest.mark.parametrize(("k", "rate"), [(1, 0.4), (1, 0.8), (7, 0.45), (16, 0.6), (31, 0.5), (40, 0.8)])
def test_puncturing_keeps_what_it_is_asked_for(k, rate) -> None:
    steps, n = k + MEMORY, max(k, math.ceil(k / rate))
    pattern = puncturing(steps, n)
    assert len(pattern) == n
    if n <= 2 * steps:
        assert (np.diff(pattern) > 0).all()
        assert pattern[0] >= 0
        assert pattern[-1] < 2 * steps
    else:
        np.testing.assert_array_equal(pattern, np.arange(n) % (2 * steps))


@pytest.mark.parametrize(("k", "n", "distance"), [(12, 24, 5), (24, 48, 6), (48, 96, 7), (28, 40, 3)])
def test_baselines_codes_have_their_distance(k, n, distance) -> None:
    spectrum = weight_spectrum(k + MEMORY, puncturing(k + MEMORY, n))
    assert int(np.argmax(spectrum > 0)) == distance
    # None of the low weights is common: an unlucky pattern would let every step begin such a path.
    assert spectrum[distance] < k


@pytest.mark.parametrize(("k", "n"), [(6, 24), (6, 12), (7, 40)])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_decoders_equal_exhaustive_search(k, n, kernel) -> None:
    code = ConvCode(k, n, kernel)
    _, llr = noisy(code, 50, -3.0)
    information = indices_to_bits(np.arange(2**k), k)
    metric = llr @ code.encode(information).T.astype(float)
    np.testing.assert_array_equal(code.viterbi(llr), information[np.argmax(metric, axis=1)])
    exact = [
        logsumexp(metric[:, bit == 1], axis=1) - logsumexp(metric[:, bit == 0], axis=1)
        for bit in information.T
    ]
    np.testing.assert_allclose(code.decode(llr), np.transpose(exact), rtol=2e-5, atol=2e-5)


@given(
    k=st.sampled_from([1, 9, 34, 70]),
    extra=st.sampled_from([0.0, 0.4, 1.3, 3.0]),
    frames=st.integers(1, 70),
    scale=st.sampled_from([0.1, 3.0, 200.0, 1e9]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_both_kernels_give_the_same_numbers(k, extra, frames, scale, seed) -> None:
    n = k + int(extra * k)
    llr = scale * np.random.default_rng(seed).standard_normal((frames, n))
    slow, fast = ConvCode(k, n), ConvCode(k, n, "numba")
    np.testing.assert_array_equal(slow.decode(llr), fast.decode(llr))
    np.testing.assert_array_equal(slow.viterbi(llr), fast.viterbi(llr))


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_a_frame_is_decoded_alike_in_any_batch(kernel) -> None:
    code = ConvCode(24, 48, kernel)
    _, llr = noisy(code, 70, -2.0)
    together, bits = code.decode(llr), code.viterbi(llr)
    for row in (0, 31, 32, 69):
        np.testing.assert_array_equal(code.decode(llr[row]), together[row])
        np.testing.assert_array_equal(code.viterbi(llr[row : row + 1]), bits[row : row + 1])
    np.testing.assert_array_equal(code.decode(llr[::-1]), together[::-1])
    np.testing.assert_array_equal(code.decode(llr.reshape(7, 10, 48)), together.reshape(7, 10, 24))


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 30.0, 1e30])
def test_no_llr_is_too_large(kernel, size) -> None:
    code = ConvCode(200, 412, kernel)
    # All say one with the same force, which is far from every word.
    soft = code.decode(np.full((3, 412), size))
    assert np.isfinite(soft).all()
    bits = np.random.default_rng(1).integers(0, 2, (3, 200))
    sure = code.decode(size * (2.0 * code.encode(bits) - 1))
    assert np.isfinite(sure).all()
    if size >= BCJR_CLIP:
        np.testing.assert_array_equal(sure > 0, bits)


def test_errors_are_as_many_as_theory_says() -> None:
    # K = 7, rate 1/2, Eb/N0 3.5 dB: bit error rate between the first term of the union bound and all of it.
    # Weights of information on paths of distance 10, 12, ...: 36, 211, 1404, 11633, 77433, 502690, 3322763
    # (Proakis, table 8.2-2 and Frenger et al.); their sum is taken at 0.5 dB less for what is cut off.
    ratio = 10**0.35 / 2
    weights = np.array([36, 211, 1404, 11633, 77433, 502690, 3322763])
    tail = erfc(np.sqrt(np.arange(10, 24, 2) * ratio)) / 2
    code = ConvCode(500, 1012, "numba")
    bits, llr = noisy(code, 2000, 10 * math.log10(ratio))
    wrong = (code.viterbi(llr) != bits).mean(axis=1)
    rate, deviation = float(wrong.mean()), float(wrong.std() / math.sqrt(len(wrong)))
    # False alarm 3e-7 on either side.
    assert 36 * tail[0] / 2 - 5 * deviation < rate < weights @ tail + 5 * deviation
    assert 1e-5 < rate < 3e-4


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ConvCode(0, 4), "k"),
        (lambda: ConvCode(8, 7), "n"),
        (lambda: ConvCode(8, 16, "cuda"), "kernel"),
        (lambda: ConvCode(4, 8).encode([0, 1, 2, 1]), "bits"),
        (lambda: ConvCode(4, 8).encode([0, 1, 1]), "bits"),
        (lambda: ConvCode(4, 8).decode(np.zeros(7)), "llr"),
        (lambda: ConvCode(4, 8).decode(np.full(8, np.nan)), "llr"),
        (lambda: ConvCode(4, 8).viterbi(np.zeros(8, dtype=complex)), "llr"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()


def test_without_numba_there_is_one_kernel(monkeypatch) -> None:
    monkeypatch.setattr("twophase.sim.codes.code.available_kernels", lambda: ("numpy",))
    assert ConvCode(4, 8, "numpy").kernel == "numpy"
    with pytest.raises(InputError, match="'kernel' must be 'numpy', not 'numba'"):
        ConvCode(4, 8, "numba")
