"""From which Es/N0 on sentences arrive: at most 1 % of them with an error, by channel code and constellation.

Measured by ``python benchmarks/text_modes.py`` (default options: 2,000 sentences of 505 bits on average, in
steps of 0.25 dB).
"""

from __future__ import annotations

from functools import cache

from twophase.sim.beside.text_code import Scheme

__all__ = ["TABLE", "scheme_at"]

TABLE: tuple[tuple[Scheme, float, float], ...] = (
    (Scheme("conv", 1, 2, 4, 8), -5.5, -5.0),
    (Scheme("conv", 1, 2, 4, 4), -2.5, -1.75),
    (Scheme("conv", 1, 2, 4, 2), 0.75, 1.75),
    (Scheme("conv", 1, 2, 4, 1), 3.5, 6.25),
    (Scheme("conv", 1, 2, 16, 1), 9.25, 12.0),
    (Scheme("conv", 1, 2, 64, 1), 14.0, 16.5),
    (Scheme("conv", 1, 2, 256, 1), 18.75, 21.25),
    (Scheme("ldpc", 1, 5, 4, 16), -15.0, -15.0),
    (Scheme("ldpc", 1, 5, 4, 8), -12.25, -12.0),
    (Scheme("ldpc", 1, 5, 4, 4), -9.0, -9.0),
    (Scheme("ldpc", 1, 5, 4, 2), -6.0, -5.75),
    (Scheme("ldpc", 1, 5, 4, 1), -3.0, -2.25),
    (Scheme("ldpc", 1, 5, 16, 1), 1.25, 2.5),
    (Scheme("ldpc", 1, 3, 4, 1), -0.25, 1.0),
    (Scheme("ldpc", 1, 3, 16, 1), 4.5, 6.0),
    (Scheme("ldpc", 1, 3, 64, 1), 8.0, 10.0),
    (Scheme("ldpc", 1, 2, 4, 1), 2.0, 4.5),
    (Scheme("ldpc", 1, 2, 16, 1), 7.25, 10.0),
    (Scheme("ldpc", 1, 2, 64, 1), 11.75, 14.5),
    (Scheme("ldpc", 1, 2, 256, 1), 15.5, 18.5),
    (Scheme("ldpc", 2, 3, 4, 1), 4.0, 7.75),
    (Scheme("ldpc", 2, 3, 16, 1), 10.0, 13.75),
    (Scheme("ldpc", 2, 3, 64, 1), 15.0, 18.5),
    (Scheme("ldpc", 2, 3, 256, 1), 19.5, 23.25),
    (Scheme("ldpc", 3, 4, 4, 1), 5.0, 10.0),
    (Scheme("ldpc", 3, 4, 16, 1), 11.25, 15.75),
    (Scheme("ldpc", 3, 4, 64, 1), 16.75, 20.75),
    (Scheme("ldpc", 3, 4, 256, 1), 21.75, 25.75),
    (Scheme("ldpc", 5, 6, 4, 1), 6.5, 13.25),
    (Scheme("ldpc", 5, 6, 16, 1), 13.0, 19.5),
    (Scheme("ldpc", 5, 6, 64, 1), 18.75, 24.25),
    (Scheme("ldpc", 5, 6, 256, 1), 24.0, 29.25),
)
"""A scheme and its lowest Es/N0 in dB over AWGN, and over Rayleigh fading by the symbol with known gains."""

_COLUMNS = ("awgn", "rayleigh")


def scheme_at(esn0_db: float, column: str) -> Scheme:
    """The scheme of most bits per symbol that delivers 99 % of the sentences; the sturdiest if none does.

    Parameters
    ----------
    esn0_db
        Es/N0 in dB.
    column
        ``awgn`` or ``rayleigh``.

    Examples
    --------
    >>> scheme_at(3.0, "awgn").name
    'ldpc 1/2, QPSK'
    """
    for scheme, threshold_db in _ordered(column):
        if threshold_db <= esn0_db:
            return scheme
    return min(_ordered(column), key=lambda entry: entry[1])[0]


@cache
def _ordered(column: str) -> tuple[tuple[Scheme, float], ...]:
    """Most bits per symbol first, and of equals the sturdier."""
    place = _COLUMNS.index(column)
    entries = [(scheme, thresholds_db[place]) for scheme, *thresholds_db in TABLE]
    return tuple(sorted(entries, key=lambda entry: (-entry[0].efficiency, entry[1])))
