"""Texts to token ids, as the tokenizer of a bundle has it; ``tokenizers`` is needed by links of text alone.

>>> encoder = TextEncoder(Path("runs/reviews/bundle/tokenizer.json"), max_length=128)   # doctest: +SKIP
>>> ids, mask = encoder.encode("a charming film")   # doctest: +SKIP
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import ArtifactError, InputError, PackageError, first_line, remedy
from twophase.link.files import read_plain

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["TextEncoder", "pack_texts", "unpack_texts"]


def pack_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of all texts, shape (total,), and the offset at which each ends, shape (texts,).

    Raises
    ------
    InputError
        If a text cannot be written in UTF-8.

    Examples
    --------
    >>> content, ends = pack_texts(["ab", "ü"])
    >>> content.tolist(), ends.tolist()
    ([97, 98, 195, 188], [2, 4])
    """
    try:
        written = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise InputError("texts", "be text that UTF-8 can hold", error.object[error.start]) from None
    ends = np.cumsum([len(entry) for entry in written], dtype=np.int64)
    return np.frombuffer(b"".join(written), dtype=np.uint8), ends


def unpack_texts(content: NDArray[np.generic], ends: NDArray[np.generic]) -> tuple[str, ...]:
    """The texts; inverse of :func:`pack_texts`.

    Raises
    ------
    InputError
        If the arrays are no such pair.
    """
    if content.dtype != np.uint8 or content.ndim != 1:
        raise InputError("text", "be bytes in one row", f"{content.dtype} of shape {content.shape}")
    if ends.dtype.kind not in "iu" or ends.ndim != 1:
        raise InputError("text_ends", "be whole numbers in one row", f"{ends.dtype} of shape {ends.shape}")
    places = [0, *ends.tolist()]
    if places != sorted(places) or places[-1] != content.size:
        raise InputError("text_ends", f"rise to {content.size}, the number of bytes", places[-1])
    whole = content.tobytes()
    try:
        return tuple(whole[start:end].decode() for start, end in pairwise(places))
    except UnicodeDecodeError as error:
        raise InputError("text", "be UTF-8", error.object[error.start : error.end]) from None


PAD_TOKENS = ("[PAD]", "<pad>")
"""What tokenizers call the token that fills rows, where the file does not say which it is."""

_log = logging.getLogger(__name__)


class TextEncoder:
    """The tokenizer of a text link.

    It gives what the ``tokenizers`` library gives, whatever padding and truncation the file asks for, with
    special tokens.  Several threads may use it at once.

    Parameters
    ----------
    tokenizer
        A ``tokenizer.json``.
    max_length
        Tokens of a text, special ones included; the rest is cut, and a warning logged.
    content
        What the file holds, where it has been read and checked.

    Raises
    ------
    ArtifactError
        If the file is no tokenizer.
    InputError
        If ``max_length`` leaves no token to a text.
    PackageError
        If ``tokenizers`` is not installed.
    """

    def __init__(self, tokenizer: Path, max_length: int, content: bytes | None = None) -> None:
        self._path = tokenizer
        self._tokenizer = _load(tokenizer, content)
        special: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= special:
            raise InputError("max_length", f"be at least {special + 1} for this tokenizer", max_length)
        self.max_length = max_length
        self.pad_id = _pad_id(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, direction="right")
        self._cut = 0
        self._counting = threading.Lock()

    @property
    def cut(self) -> int:
        """How many texts were longer than ``max_length`` so far."""
        return self._cut

    def encode(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and mask of one text, both (1, length); the mask is all ones.

        Raises
        ------
        InputError
            If it is no string, holds nothing but space, cannot be written in UTF-8, or gives no token.
        ArtifactError
            If the tokenizer fails.
        """
        (row,) = self._rows([text], ["text"])
        return _alone(row)

    def encode_each(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Token ids and mask of each text by itself, as :meth:`encode` has them.

        Raises
        ------
        InputError, ArtifactError
            As :meth:`encode`; it names the text.
        """
        return [_alone(row) for row in self._rows(texts, _numbered(texts))]

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Token ids and masks, both (texts, longest); rows end in the id for padding, where the mask is 0.

        Raises
        ------
        InputError, ArtifactError
            As :meth:`encode`; it names the text.
        """
        rows = self._rows(texts, _numbered(texts))
        shape = len(rows), max(map(len, rows), default=0)
        ids = np.full(shape, self.pad_id, dtype=np.int32)
        mask = np.zeros(shape, dtype=np.uint8)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask

    def _rows(self, texts: Sequence[str], names: Sequence[str]) -> list[list[int]]:
        """Ids of each text; one warning if some are cut."""
        for name, text in zip(names, texts, strict=True):
            _check(name, text)
        rows: list[list[int]] = []
        cut = 0
        # One by one: the library's batches take threads of their own, which do not survive a fork.
        for name, text in zip(names, texts, strict=True):
            encoding = self._encoding(text)
            if all(encoding.special_tokens_mask):  # a zero-width space leaves no other
                raise InputError(name, "hold something that the tokenizer knows", _shown(text))
            rows.append(encoding.ids)
            cut += bool(encoding.overflowing)
        if cut:
            with self._counting:
                self._cut += cut
            _log.warning("%d of %d texts cut to %d tokens", cut, len(rows), self.max_length)
        return rows

    def _encoding(self, text: str) -> Encoding:
        try:
            return self._tokenizer.encode(text)
        except BaseException as error:
            _check_of_library(error)
            raise ArtifactError(
                f"'{self._path}' cannot encode {_shown(text)!r}: {first_line(error)}"
            ) from error


def _check_of_library(error: BaseException) -> None:
    """Raise what is none of the library's: it raises no narrower type than Exception, and Rust's panics."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def _load(path: Path, content: bytes | None) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise PackageError(f"a link of text needs the package 'tokenizers': {remedy('text')}") from error
    text = read_plain(path) if content is None else content
    try:
        return Tokenizer.from_str(text.decode("utf-8"))
    except BaseException as error:
        _check_of_library(error)
        raise ArtifactError(f"'{path}' is no tokenizer: {first_line(error)}") from error


def _pad_id(tokenizer: Tokenizer) -> int:
    """The id that the file pads with, or that of a token of such a name, or 0: the mask is what counts."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(token) for token in PAD_TOKENS)
    return next((number for number in known if number is not None), 0)


def _check(name: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InputError(name, "be a non-empty string", _shown(text))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(name, "be text that UTF-8 can hold", _shown(text)) from None


def _numbered(texts: Sequence[str]) -> list[str]:
    return [f"text[{number}]" for number in range(len(texts))]


def _alone(row: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.array([row], dtype=np.int64)
    return ids, np.ones_like(ids)


def _shown(value: object) -> str:
    """What an error shows of a text: its type if it is none, and not a whole book."""
    if not isinstance(value, str):
        return type(value).__name__
    return value if len(value) <= 40 else f"{value[:37]}..."
