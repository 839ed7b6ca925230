"""What no code takes, and how it is named."""

from __future__ import annotations

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.codes.code import rotating_interleaver, row_column_interleaver
from twophase.sim.codes.conv import ConvCode
from twophase.sim.codes.label_code import label_code
from twophase.sim.codes.ldpc import LdpcCode
from twophase.sim.codes.message_passing import parity_checks, propagate

CHECKS = parity_checks([[0, 1, 2]], 3)
LLR = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        *((lambda code=code: code(0, 4), "k") for code in (ConvCode, LdpcCode)),
        *((lambda code=code: code(8, 7), "n") for code in (ConvCode, LdpcCode)),
        *((lambda code=code: code(8, 16, kernel="cuda"), "kernel") for code in (ConvCode, LdpcCode)),
        *((lambda code=code: code(4, 8).encode([0, 1, 1]), "bits") for code in (ConvCode, LdpcCode)),
        *((lambda code=code: code(4, 8).decode(np.zeros(7)), "llr") for code in (ConvCode, LdpcCode)),
        (lambda: ConvCode(4, 8).encode([0, 1, 2, 1]), "bits"),
        (lambda: ConvCode(4, 8).decode(np.full(8, np.nan)), "llr"),
        (lambda: ConvCode(4, 8).viterbi(np.zeros(8, dtype=complex)), "llr"),
        (lambda: LdpcCode(3841, 9000), "k"),
        (lambda: LdpcCode(8, 16, iterations=0), "iterations"),
        (lambda: LdpcCode(8, 16, rule="min"), "rule"),
        (lambda: parity_checks([[0]], 3), "checks"),
        (lambda: parity_checks([[0, 0, 1]], 3), "checks"),
        (lambda: parity_checks([[0, 3]], 3), "checks"),
        (lambda: propagate(CHECKS, LLR[:, :2], 3), "llr"),
        (lambda: propagate(CHECKS, LLR, 0), "iterations"),
        (lambda: propagate(CHECKS, LLR, 3, "max"), "rule"),
        (lambda: row_column_interleaver(0, 4), "n"),
        (lambda: rotating_interleaver(10, 4), "n"),
        (lambda: rotating_interleaver(4, 0), "n"),
        (lambda: label_code(1, 3), "classes"),
        (lambda: label_code(257, 3), "classes"),
        (lambda: label_code(3, 0), "symbols"),
        (lambda: label_code(3, 2).decode(np.zeros((4, 3)), 1.0), "received"),
        (lambda: label_code(3, 2).decode(np.full((4, 2), np.nan), 1.0), "received"),
        (lambda: label_code(3, 2).decode(np.zeros((4, 2)), 0.0), "noise_var"),
        (lambda: label_code(3, 2).decode(np.zeros((4, 2)), np.inf), "noise_var"),
        (lambda: label_code(3, 2).word_error_bound(np.nan), "esn0_db"),
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
