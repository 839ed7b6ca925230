"""Parity checks from a design file in the format of MacKay's alist, as commpy ships them.

Lines: bits and checks; largest degrees; degree of each bit; degree of each check; the checks of each bit; the
bits of each check, numbered from 1.
"""

from __future__ import annotations

from pathlib import Path

from twophase.link.errors import ArtifactError
from twophase.sim.codes.message_passing import Checks, parity_checks

__all__ = ["read_design"]


def read_design(path: Path) -> Checks:
    """Read the checks of a code.

    Raises
    ------
    ArtifactError
        If the file is missing or its lists do not agree with one another.
    """
    try:
        text = path.read_text(encoding="ascii")
        lines = [[int(word) for word in line.split()] for line in text.splitlines()]
        width, count = lines[0]
        bit_degrees, check_degrees = lines[2], lines[3]
        of_bits, of_checks = lines[4 : 4 + width], lines[4 + width : 4 + width + count]
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"'{path}' is no design file of a code") from error
    # Lists may be filled up with zeros.
    by_bit = [[check for check in row if check] for row in of_bits]
    by_check = [[bit for bit in row if bit] for row in of_checks]
    edges = {(bit, check) for bit, row in enumerate(by_bit, 1) for check in row}
    same = {(bit, check) for check, row in enumerate(by_check, 1) for bit in row}
    agree = edges == same and [len(row) for row in by_bit] == bit_degrees
    if not (agree and [len(row) for row in by_check] == check_degrees):
        raise ArtifactError(f"'{path}' lists other checks for its bits than bits for its checks")
    return parity_checks([[bit - 1 for bit in row] for row in by_check], width)
