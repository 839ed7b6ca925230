"""A sentence as bits, without loss: the shortest of three codes after a field that says which it is.

::

    | code: 2 bits | length: 10 bits | the sentence |

    five      5 bits a character, for sentences of :data:`FIVE_BIT` alone: lower case, space, . , ' - ?
    huffman   a Huffman code of bytes, fitted on the training texts, so that both ends have it already
    deflate   zlib's raw deflate at level 9, of the UTF-8

The length counts characters (five) or bytes (the others; those of the compressed form for deflate).  From
1023 on it stands in 24 further bits after ten ones.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.sentences import Sentences

__all__ = ["FIELD_BITS", "FIVE_BIT", "SOURCES", "TextSource", "messages_of", "source_of"]

FIVE_BIT = " abcdefghijklmnopqrstuvwxyz.,'-?"
"""The 32 characters of the code of 5 bits."""
SOURCES = ("five", "huffman", "deflate")
"""In the order of the selector."""
SELECTOR_BITS, LENGTH_BITS, LONG_BITS = 2, 10, 24
FIELD_BITS = SELECTOR_BITS + LENGTH_BITS
"""Bits of the field in front, but for the longest sentences."""

_FIVE = {character: number for number, character in enumerate(FIVE_BIT)}
_ESCAPE = (1 << LENGTH_BITS) - 1
Bits = NDArray[np.uint8]


class TextSource:
    """Sentences to bits and back.

    ``huffman_lengths``, shape (256,), are the bits of each byte's codeword; Kraft's inequality must hold.

    Examples
    --------
    >>> source = TextSource(np.full(256, 8))
    >>> bits = source.encode("a fine film")
    >>> source_of(bits), bits.size, source.decode(bits)
    ('five', 67, 'a fine film')
    """

    def __init__(self, huffman_lengths: ArrayLike) -> None:
        self._codewords = _canonical(np.asarray(huffman_lengths, dtype=np.int64))
        self._symbols = {codeword: byte for byte, codeword in enumerate(self._codewords)}

    def encode(self, text: str) -> Bits:
        """Bits of a sentence, field included: the shortest form, the first of equals.

        InputError if it is empty, or too long for the field.
        """
        if not text:
            raise InputError("text", "not be empty", text)
        content = text.encode()
        packed = _deflated(content)
        fits = set(text) <= _FIVE.keys()
        forms = [
            ("".join(format(_FIVE[character], "05b") for character in text) if fits else "", len(text)),
            ("".join(self._codewords[byte] for byte in content), len(content)),
            ("".join(format(byte, "08b") for byte in packed), len(packed)),
        ]
        whole = [
            format(number, f"0{SELECTOR_BITS}b") + _length(count) + body
            for number, (body, count) in enumerate(forms)
            if body
        ]
        shortest = min(whole, key=len)
        return np.array([*map(int, shortest)], dtype=np.uint8)

    def decode(self, bits: ArrayLike) -> str:
        """The sentence of :meth:`encode`; what follows its bits is not looked at.

        InputError if these are no bits of a sentence.
        """
        spelled = "".join(map(str, np.asarray(bits, dtype=np.uint8).tolist()))
        try:
            return self._decode(spelled)
        except (ValueError, IndexError, KeyError, zlib.error) as error:
            raise InputError("bits", "be those of a sentence", f"{len(spelled)} others") from error

    def _decode(self, spelled: str) -> str:
        source = SOURCES[int(spelled[:SELECTOR_BITS], 2)]
        at = FIELD_BITS
        count = int(spelled[SELECTOR_BITS:at], 2)
        if count == _ESCAPE:
            at += LONG_BITS
            count = int(spelled[FIELD_BITS:at], 2)
        if source == "five":
            return "".join(FIVE_BIT[int(spelled[at + 5 * n : at + 5 * n + 5], 2)] for n in range(count))
        if source == "deflate":
            packed = bytes(int(spelled[at + 8 * n : at + 8 * n + 8], 2) for n in range(count))
            return zlib.decompress(packed, -zlib.MAX_WBITS).decode()
        content = bytearray()
        while len(content) < count:
            end = at + 1
            while spelled[at:end] not in self._symbols:
                end += 1
                if end > len(spelled):
                    raise ValueError("no codeword")
            content.append(self._symbols[spelled[at:end]])
            at = end
        return content.decode()


@lru_cache(maxsize=2)
def messages_of(sentences: Sentences) -> tuple[Bits, ...]:
    """Bits of each sentence; kept, for every point of a sweep sends the same."""
    source = TextSource(sentences.huffman_lengths)
    return tuple(source.encode(text) for text in sentences.texts)


def source_of(bits: ArrayLike) -> str:
    """Which of :data:`SOURCES` a sentence's bits are of."""
    first, second = np.asarray(bits)[:SELECTOR_BITS].tolist()
    return SOURCES[2 * first + second]


def _length(count: int) -> str:
    if count < _ESCAPE:
        return format(count, f"0{LENGTH_BITS}b")
    if count >> LONG_BITS:
        raise InputError("text", f"be shorter than {1 << LONG_BITS} bytes", count)
    return "1" * LENGTH_BITS + format(count, f"0{LONG_BITS}b")


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return packer.compress(content) + packer.flush()


def _canonical(lengths: NDArray[np.int64]) -> list[str]:
    """Codewords of given lengths, each the one before plus 1: the canonical code of deflate (RFC 1951)."""
    codewords = [""] * len(lengths)
    value, width = 0, 0
    for byte in sorted(range(len(lengths)), key=lambda byte: (int(lengths[byte]), byte)):
        value <<= int(lengths[byte]) - width
        width = int(lengths[byte])
        codewords[byte] = format(value, f"0{width}b")
        value += 1
    return codewords
