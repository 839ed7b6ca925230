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

CONV, LDPC, LABEL = ConvCode(4, 8), LdpcCode(4, 8), label_code(3, 2)
CHECKS, LLR = parity_checks([[0, 1, 2]], 3), np.zeros((1, 3), np.float32)
PAIRS = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("function", "name", "calls"),
    [
        (ConvCode, "k", [(0, 4)]),
        (ConvCode, "n", [(8, 7)]),
        (ConvCode, "kernel", [(8, 16, "cuda")]),
        (LdpcCode, "k", [(0, 4), (3841, 9000)]),
        (LdpcCode, "n", [(8, 7)]),
        (LdpcCode, "iterations", [(8, 16, 0)]),
        (LdpcCode, "rule", [(8, 16, 20, "min")]),
        (LdpcCode, "kernel", [(8, 16, 20, "min-sum", "cuda")]),
        *((code.encode, "bits", [([0, 1, 1],), ([0, 1, 2, 1],)]) for code in (CONV, LDPC)),
        *((decode, "llr", [(np.zeros(7),)]) for decode in (CONV.decode, LDPC.decode)),
        (CONV.viterbi, "llr", [(np.full(8, np.nan),), (np.zeros(8, dtype=complex),)]),
        (parity_checks, "checks", [([[0]], 3), ([[0, 0, 1]], 3), ([[0, 3]], 3)]),
        (propagate, "llr", [(CHECKS, LLR[:, :2], 3)]),
        (propagate, "iterations", [(CHECKS, LLR, 0)]),
        (propagate, "rule", [(CHECKS, LLR, 3, "max")]),
        (row_column_interleaver, "n", [(0, 4)]),
        (rotating_interleaver, "n", [(10, 4), (4, 0)]),
        (label_code, "classes", [(1, 3), (257, 3)]),
        (label_code, "symbols", [(3, 0)]),
        (LABEL.decode, "received", [(np.zeros((4, 3)), 1.0), (np.nan * PAIRS, 1.0)]),
        (LABEL.decode, "noise_var", [(PAIRS, 0.0), (PAIRS, np.inf)]),
        (LABEL.word_error_bound, "esn0_db", [(np.nan,)]),
    ],
)
def test_bad_arguments_are_named(function, name, calls) -> None:
    for arguments in calls:
        with pytest.raises(InputError, match=f"'{name}' must"):
            function(*arguments)


def test_without_numba_there_is_one_kernel(monkeypatch) -> None:
    monkeypatch.setattr("twophase.sim.codes.code.available_kernels", lambda: ("numpy",))
    assert ConvCode(4, 8, "numpy").kernel == "numpy"
    with pytest.raises(InputError, match="'kernel' must be 'numpy', not 'numba'"):
        ConvCode(4, 8, "numba")
