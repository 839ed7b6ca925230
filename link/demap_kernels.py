"""Demapper kernels compiled by numba; importing this module imports numba, so import it late.

Blocks of symbols go through in three steps whose loops become SIMD code: what was received to slope and power
of the metrics, metrics to the LLRs of one axis, rows of LLRs to bits side by side.  Operations are neither
fused nor reordered, so that a symbol's LLRs do not depend on its batch.

With S = 2 Re(y h*) / N0 (Im for the other axis) and G = |h|^2 / N0 the metric of amplitude a is S a - G a^2.
All bits but the first have the same label at a and -a, and the first tells the sign: half of the amplitudes,
taken with |S|, serve for both signs, and the weight of -a is that of a times exp(-2 a |S|).

libm's exp is a call, one number at a time, and would take most of the time.  Here exp(x) = 2^n exp(r) with n
the integer nearest to x / ln 2 and r by a two-part ln 2 (Cody and Waite, "Software Manual for the Elementary
Functions", 1980).  log(a/b) = k ln 2 + 2 artanh((u - b) / (u + b)) with a = 2^k u; the bit patterns of a and
b, subtracted as integers, give log2(a/b) to 0.09, and k from it leaves u/b within 1/1.51..1.51.  Series are
cut where the rest is below half a unit in the last place.  Both stand in this file because numba's cache
notices changes of one file only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twophase.link.files import keeps_compiled

__all__ = ["any_constellation", "exact_axes", "exp_nonpositive", "general_axes", "log_ratio", "maxlog_axes"]

# Division by zero gives infinity, as in numpy: numba's own default is a branch, which keeps loops scalar.
_compiled = njit(cache=keeps_compiled(), nogil=True, error_model="numpy")

_BLOCK = 256  # symbols per pass: metrics and sums of 256-QAM then stay in the first cache
_FLOOR = 1e-280  # under the logarithm: seen only where |LLR| is beyond MAX_CLIP

_Floats = NDArray[Any]
_Labels = NDArray[np.uint8]
_Given = tuple[_Floats, _Floats, _Floats, tuple[Any, Any, Any, Any]]
"""Received, (2 * symbols,), N0, (symbols,), gain, (2 * symbols,), of which both may be one symbol's for all;
bounds of magnitudes, their inverse, of ratios, and what is still finite."""
_Axis = tuple[_Floats, _Floats, int]
"""S and G of a block of symbols on one axis, and how many they are; every other row of results is its own."""

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: added to a number, it leaves the nearest integer in the low bits
_SHIFT_BITS = np.int64(np.float64(_SHIFT).view(np.int64))
_PER_LN2, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10


@_compiled
def exp_nonpositive(x: float) -> float:
    """exp(x) for x <= 0 within 2 units in the last place; below -708 exp(-708), so never 0 or subnormal."""
    held = max(x, -708.0)
    shifted = held * _PER_LN2 + _SHIFT
    n = shifted - _SHIFT
    r = (held - n * _LN2_HIGH) - n * _LN2_LOW
    p = r * (1 / 479001600) + 1 / 39916800  # 1/12!, 1/11!, ...
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = (p * r + 0.5) * r * r + r + 1.0
    bits = (np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)
    power: float = np.int64(bits).view(np.float64)
    return p * power


@_compiled
def log_ratio(a: float, b: float) -> float:
    """log(a / b) of positive normal numbers within 4 units in the last place, also where a / b is near 1."""
    i, j = np.float64(a).view(np.int64), np.float64(b).view(np.int64)
    k = (i - j + np.int64(1 << 51)) >> np.int64(52)
    near = np.int64(i - (k << np.int64(52))).view(np.float64)
    n = np.int64(k + _SHIFT_BITS).view(np.float64) - _SHIFT
    s = (near - b) / (near + b)
    z = s * s
    p = z * (1 / 21) + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    p = p * z + 1
    ratio: float = n * _LN2_HIGH + (n * _LN2_LOW + 2.0 * s * p)
    return ratio


@_compiled
def _unfit(values: _Floats, least: Any, largest: Any) -> bool:
    """Whether a magnitude is above ``largest`` or not above ``least``, or a value is NaN."""
    wrong = False
    for i in range(values.size):
        size = abs(values[i])
        wrong |= not (size > least) or not (size <= largest)
    return wrong


@_compiled
def _faded(given: _Given, start: int, count: int, faded: _Floats) -> bool:
    """Write 1 / sqrt N0, h / sqrt N0 (real, imaginary) and |h|^2 / N0 of a block into the rows of ``faded``.

    Where one N0 and gain serve all symbols they are read at the first block only.  Returns whether one is not
    finite, or N0 not positive.
    """
    _, n0, h, (huge, small, ratio, largest) = given
    zero = huge - huge
    if start > 0 and n0.size == 1 and h.size == 2:
        return False
    scale, re, im, power = faded[0], faded[1], faded[2], faded[3]
    if n0.size == 1:
        wrong = not (n0[0] > 0) or not (n0[0] <= largest)
        scale[:count] = n0[0]
    else:
        block = n0[start : start + count]
        wrong = _unfit(block, zero, largest)
        for i in range(count):
            wrong |= block[i] < 0
            scale[i] = block[i]
    gains = h if h.size == 2 else h[2 * start : 2 * (start + count)]
    wrong |= _unfit(gains, -largest, largest)
    if h.size == 2:
        re[:count] = h[0]
        im[:count] = h[1]
    else:
        for i in range(count):
            for part in range(2):
                faded[1 + part, i] = gains[2 * i + part]
    one = huge / huge
    for i in range(count):
        scale[i] = one / np.sqrt(min(max(scale[i], small), huge))
    for i in range(count):
        absent = abs(re[i]) <= small and abs(im[i]) <= small
        a = min(max(min(max(re[i], -huge), huge) * scale[i], -ratio), ratio)
        b = min(max(min(max(im[i], -huge), huge) * scale[i], -ratio), ratio)
        re[i] = zero if absent else a
        im[i] = zero if absent else b
    for i in range(count):
        power[i] = re[i] * re[i] + im[i] * im[i]
    return wrong


@_compiled
def _matched(given: _Given, start: int, count: int, slopes: _Floats, faded: _Floats) -> bool:
    """Write S of both axes and, as the last row of ``faded``, G for a block of symbols.

    Returns whether something given is not finite, or N0 not positive.
    """
    y, _, _, (huge, _, ratio, largest) = given
    block = y[2 * start : 2 * (start + count)]
    wrong = _faded(given, start, count, faded) or _unfit(block, -largest, largest)
    real, imaginary, scale, re, im = slopes[0], slopes[1], faded[0], faded[1], faded[2]
    for i in range(count):  # written so, and alone, the compiler takes numbers apart by shuffles
        for part in range(2):
            slopes[part, i] = block[2 * i + part]
    for i in range(count):
        a = min(max(min(max(real[i], -huge), huge) * scale[i], -ratio), ratio)
        b = min(max(min(max(imaginary[i], -huge), huge) * scale[i], -ratio), ratio)
        u, v = a * re[i] + b * im[i], b * re[i] - a * im[i]
        real[i] = u + u
        imaginary[i] = v + v
    return wrong


@_compiled
def _interleave(rows: _Floats, start: int, count: int, llr: _Floats) -> None:
    """(bits, block) to (symbols * bits,), from symbol ``start`` on."""
    width = rows.shape[0]
    out = llr[start * width : (start + count) * width]
    # With a width that the compiler knows, a loop becomes shuffles in registers; not for rows of 64 bytes.
    if width == 2:
        for i in range(count):
            for bit in range(2):
                out[i * 2 + bit] = rows[bit, i]
    elif width == 4:
        for i in range(count):
            for bit in range(4):
                out[i * 4 + bit] = rows[bit, i]
    elif width == 6:
        for i in range(count):
            for bit in range(6):
                out[i * 6 + bit] = rows[bit, i]
    elif width == 8 and rows.itemsize == 4:
        for i in range(count):
            for bit in range(8):
                out[i * 8 + bit] = rows[bit, i]
    else:
        for bit in range(width):
            row = rows[bit]
            for i in range(count):
                out[i * width + bit] = row[i]


@_compiled
def _maxlog_1(axis: _Axis, levels: _Floats, clip: Any, rows: _Floats) -> None:
    (slope, _, count), sign = axis, rows[0]
    double = levels[0] + levels[0]
    for i in range(count):
        sign[i] = min(max(-double * slope[i], -clip), clip)


@_compiled
def _maxlog_2(axis: _Axis, levels: _Floats, clip: Any, rows: _Floats) -> None:
    slope, power, count = axis
    sign, outer = rows[0], rows[2]
    a, b = levels[0], levels[1]
    for i in range(count):
        s, g = abs(slope[i]), power[i]
        p, q = a * (s - g * a), b * (s - g * b)
        # The nearest of the other sign is always -a, at a metric of p - 2 a |S|.
        own = min((max(p, q) - p) + (a + a) * s, clip)
        sign[i] = -own if slope[i] > 0 else own
        outer[i] = min(max(q - p, -clip), clip)


@_compiled
def _maxlog_4(axis: _Axis, levels: _Floats, clip: Any, rows: _Floats) -> None:
    slope, power, count = axis
    sign, outer, edge = rows[0], rows[2], rows[4]
    a, b, c, d = levels[0], levels[1], levels[2], levels[3]
    for i in range(count):
        s, g = abs(slope[i]), power[i]
        p, q, r, t = a * (s - g * a), b * (s - g * b), c * (s - g * c), d * (s - g * d)
        inside, outside = max(p, q), max(r, t)
        own = min((max(inside, outside) - p) + (a + a) * s, clip)
        sign[i] = -own if slope[i] > 0 else own
        outer[i] = min(max(outside - inside, -clip), clip)
        edge[i] = min(max(max(p, t) - max(q, r), -clip), clip)


@_compiled
def _maxlog_8(axis: _Axis, levels: _Floats, clip: Any, rows: _Floats) -> None:
    slope, power, count = axis
    sign, outer, edge, last = rows[0], rows[2], rows[4], rows[6]
    a, b, c, d = levels[0], levels[1], levels[2], levels[3]
    e, f, j, k = levels[4], levels[5], levels[6], levels[7]
    for i in range(count):
        s, g = abs(slope[i]), power[i]
        p, q, r, t = a * (s - g * a), b * (s - g * b), c * (s - g * c), d * (s - g * d)
        u, v, w, x = e * (s - g * e), f * (s - g * f), j * (s - g * j), k * (s - g * k)
        pq, rt, uv, wx = max(p, q), max(r, t), max(u, v), max(w, x)
        inside, outside = max(pq, rt), max(uv, wx)
        own = min((max(inside, outside) - p) + (a + a) * s, clip)
        sign[i] = -own if slope[i] > 0 else own
        outer[i] = min(max(outside - inside, -clip), clip)
        edge[i] = min(max(max(pq, wx) - max(rt, uv), -clip), clip)
        last[i] = min(max(max(max(p, t), max(u, x)) - max(max(q, r), max(v, w)), -clip), clip)


@_compiled
def maxlog_axes(given: _Given, levels: _Floats, clip: Any, llr: _Floats) -> bool:
    """Max-log LLRs of a TS 38.211 QAM into ``llr``, (symbols * bits,); the positive ``levels`` only.

    Returns whether an input was not finite, or a noise variance not positive; ``llr`` then means nothing.
    """
    total, half = given[0].size // 2, levels.size
    width = 2 * (1 + (half > 1) + (half > 2) + (half > 4))
    slopes, faded = np.empty((2, _BLOCK), levels.dtype), np.empty((4, _BLOCK), levels.dtype)
    rows = np.empty((width, _BLOCK), levels.dtype)
    wrong = False
    for start in range(0, total, _BLOCK):
        n = min(_BLOCK, total - start)
        wrong |= _matched(given, start, n, slopes, faded)
        for number in range(2):
            axis, out = (slopes[number], faded[3], n), rows[number:]
            if half == 1:
                _maxlog_1(axis, levels, clip, out)
            elif half == 2:
                _maxlog_2(axis, levels, clip, out)
            elif half == 4:
                _maxlog_4(axis, levels, clip, out)
            else:
                _maxlog_8(axis, levels, clip, out)
        _interleave(rows, start, n, llr)
    return wrong


@_compiled
def _exact_axis(
    axis: _Axis, levels: _Floats, is_one: _Labels, clip: Any, metric: _Floats, sums: _Floats, rows: _Floats
) -> None:
    """One axis in float64: weights relative to the largest, which serve every bit.

    The weaker group of a bit may underflow, but only where |LLR| is beyond MAX_CLIP.  ``metric`` has a row
    for each level and three more.
    """
    slope, power, count = axis
    best, image, step = metric[levels.size], metric[levels.size + 1], metric[levels.size + 2]
    double = levels[0] + levels[0]
    for i in range(count):
        image[i] = exp_nonpositive(-double * abs(slope[i]))
        step[i] = image[i] * image[i]
        best[i] = -np.inf
    for k in range(levels.size):
        a, m = levels[k], metric[k]
        for i in range(count):
            m[i] = a * (abs(slope[i]) - power[i] * a)
            best[i] = max(best[i], m[i])
    sums[:] = 0.0
    for k in range(levels.size):
        m, own, other = metric[k], sums[0, 0], sums[0, 1]
        for i in range(count):
            weight = exp_nonpositive(m[i] - best[i])
            mirrored = weight * image[i]
            image[i] *= step[i]
            own[i] += weight
            other[i] += mirrored
            m[i] = weight + mirrored
        for bit in range(1, is_one.shape[1]):
            group = sums[bit, is_one[k, bit]]
            for i in range(count):
                group[i] += m[i]
    for bit in range(is_one.shape[1]):
        zeros, ones, row = sums[bit, 0], sums[bit, 1], rows[2 * bit]
        for i in range(count):
            row[i] = min(max(log_ratio(max(ones[i], _FLOOR), max(zeros[i], _FLOOR)), -clip), clip)
    sign = rows[0]
    for i in range(count):
        sign[i] = -sign[i] if slope[i] < 0 else sign[i]


@_compiled
def exact_axes(given: _Given, levels: _Floats, is_one: _Labels, clip: Any, llr: _Floats) -> bool:
    """Exact LLRs of a TS 38.211 QAM, computed in float64, into ``llr``, (symbols * bits,).

    ``levels`` are the positive amplitudes, (half,), and ``is_one`` their bits, (half, bits of an axis).
    Returns what :func:`maxlog_axes` does.
    """
    total, (half, bits) = given[0].size // 2, is_one.shape
    slopes, faded = np.empty((2, _BLOCK)), np.empty((4, _BLOCK))
    metric, sums = np.empty((half + 3, _BLOCK)), np.empty((bits, 2, _BLOCK))
    rows = np.empty((2 * bits, _BLOCK), llr.dtype)
    wrong = False
    for start in range(0, total, _BLOCK):
        n = min(_BLOCK, total - start)
        wrong |= _matched(given, start, n, slopes, faded)
        for number in range(2):
            axis = (slopes[number], faded[3], n)
            _exact_axis(axis, levels, is_one, clip, metric, sums, rows[number:])
        _interleave(rows, start, n, llr)
    return wrong


@_compiled
def _general_axis(
    axis: _Axis,
    levels: _Floats,
    is_one: _Labels,
    exact: bool,
    clip: float,
    known: _Floats,
    metric: _Floats,
    rows: _Floats,
) -> None:
    """One axis without any symmetry, with priors; ``metric`` has a row for each level and three more."""
    slope, power, count = axis
    best, zeros, ones = metric[levels.size], metric[levels.size + 1], metric[levels.size + 2]
    best[:] = -np.inf
    for k in range(levels.size):
        a, m = levels[k], metric[k]
        for i in range(count):
            m[i] = a * (slope[i] - power[i] * a)
        for bit in range(0, known.shape[0], 2):
            if is_one[k, bit // 2]:
                prior = known[bit]
                for i in range(count):
                    m[i] += prior[i]
        for i in range(count):
            best[i] = max(best[i], m[i])
    if exact:
        for k in range(levels.size):
            m = metric[k]
            for i in range(count):
                m[i] = exp_nonpositive(m[i] - best[i])
    for bit in range(is_one.shape[1]):
        metric[levels.size + 1 :] = 0.0 if exact else -np.inf
        for k in range(levels.size):
            m, group = metric[k], metric[levels.size + 1 + is_one[k, bit]]
            if exact:
                for i in range(count):
                    group[i] += m[i]
            else:
                for i in range(count):
                    group[i] = max(group[i], m[i])
        row = rows[2 * bit]
        if exact:
            for i in range(count):
                row[i] = min(max(log_ratio(max(ones[i], _FLOOR), max(zeros[i], _FLOOR)), -clip), clip)
        else:
            for i in range(count):
                row[i] = min(max(ones[i] - zeros[i], -clip), clip)


@_compiled
def general_axes(
    given: _Given,
    prior: _Floats,
    levels: _Floats,
    is_one: _Labels,
    exact: bool,
    clip: float,
    llr: _Floats,
) -> bool:
    """LLRs of any square QAM, with priors, computed in float64, into ``llr``, (symbols * bits,).

    ``levels`` are ALL amplitudes of an axis, (L,), ``is_one`` their bits, (L, bits of an axis), and ``prior``
    a-priori LLRs in the shape of ``llr``, or empty.  Returns what :func:`maxlog_axes` does.
    """
    total, (size, bits) = given[0].size // 2, is_one.shape
    width = 2 * bits
    slopes, faded = np.empty((2, _BLOCK)), np.empty((4, _BLOCK))
    metric = np.empty((size + 3, _BLOCK))
    rows = np.empty((width, _BLOCK), llr.dtype)
    known = np.empty((width if prior.size else 0, _BLOCK))
    wrong = False
    for start in range(0, total, _BLOCK):
        n = min(_BLOCK, total - start)
        wrong |= _matched(given, start, n, slopes, faded)
        for bit in range(known.shape[0]):
            for i in range(n):
                known[bit, i] = prior[(start + i) * width + bit]
        for number in range(2):
            axis, own = (slopes[number], faded[3], n), known[number:]
            _general_axis(axis, levels, is_one, exact, clip, own, metric, rows[number:])
        _interleave(rows, start, n, llr)
    return wrong


@_compiled
def any_constellation(
    y: _Floats, n0: _Floats, h: _Floats, prior: _Floats, points: _Floats, clip: Any, llr: _Floats
) -> None:
    """Exact float64 LLRs of any labelled points into ``llr``, (symbols, log2 M).

    ``y`` and ``h`` are (symbols, 2), real and imaginary part, ``points`` (M, 2); ``prior`` is in the shape of
    ``llr``, or empty.  Bit by bit the weights with that bit set are added to those without it, which leaves
    the weights of the remaining bits.
    """
    size, (count, width) = points.shape[0], llr.shape
    metric = np.empty(size)
    for i in range(count):
        a, b, re, im, scale = y[i, 0], y[i, 1], h[i, 0], h[i, 1], n0[i]
        for k in range(size):
            u = a - (re * points[k, 0] - im * points[k, 1])
            v = b - (re * points[k, 1] + im * points[k, 0])
            metric[k] = -(u * u + v * v) / scale
        if prior.size:
            for k in range(size):
                for bit in range(width):
                    if (k >> (width - 1 - bit)) & 1:
                        metric[k] += prior[i, bit]
        best = -np.inf
        for k in range(size):
            best = max(best, metric[k])
        for k in range(size):
            metric[k] = exp_nonpositive(metric[k] - best)
        half = size // 2
        for bit in range(width):
            zeros, ones = 0.0, 0.0
            for k in range(half):
                zeros += metric[k]
                ones += metric[half + k]
                metric[k] += metric[half + k]
            half //= 2
            llr[i, bit] = min(max(log_ratio(max(ones, _FLOOR), max(zeros, _FLOOR)), -clip), clip)
