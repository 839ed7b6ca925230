"""Write qam_points.json: the constellations of TS 38.211 clauses 5.1.3 to 5.1.6, in integers.

Each formula is copied term by term from the standard (version 17), before the factor 1/sqrt(scale_squared).
Run it in this folder with any Python 3; it needs nothing else.
"""

import json
from pathlib import Path

FILE = Path(__file__).with_name("qam_points.json")


def qpsk(b: list[int]) -> tuple[int, int]:
    """Clause 5.1.3; scale sqrt(2)."""
    return (1 - 2 * b[0]), (1 - 2 * b[1])


def qam16(b: list[int]) -> tuple[int, int]:
    """Clause 5.1.4; scale sqrt(10)."""
    return (1 - 2 * b[0]) * (2 - (1 - 2 * b[2])), (1 - 2 * b[1]) * (2 - (1 - 2 * b[3]))


def qam64(b: list[int]) -> tuple[int, int]:
    """Clause 5.1.5; scale sqrt(42)."""
    return (
        (1 - 2 * b[0]) * (4 - (1 - 2 * b[2]) * (2 - (1 - 2 * b[4]))),
        (1 - 2 * b[1]) * (4 - (1 - 2 * b[3]) * (2 - (1 - 2 * b[5]))),
    )


def qam256(b: list[int]) -> tuple[int, int]:
    """Clause 5.1.6; scale sqrt(170)."""
    return (
        (1 - 2 * b[0]) * (8 - (1 - 2 * b[2]) * (4 - (1 - 2 * b[4]) * (2 - (1 - 2 * b[6])))),
        (1 - 2 * b[1]) * (8 - (1 - 2 * b[3]) * (4 - (1 - 2 * b[5]) * (2 - (1 - 2 * b[7])))),
    )


def make() -> dict[str, dict[str, object]]:
    """Order -> squared scale and the points of 0..M-1 as pairs of integers."""
    formulas = {4: (qpsk, 2), 16: (qam16, 10), 64: (qam64, 42), 256: (qam256, 170)}
    return {
        str(order): {
            "scale_squared": scale_squared,
            "points": [
                list(formula([int(digit) for digit in f"{number:0{order.bit_length() - 1}b}"]))
                for number in range(order)
            ],
        }
        for order, (formula, scale_squared) in formulas.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make()) + "\n", encoding="utf-8")
