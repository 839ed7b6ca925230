"""Frames side by side: the layout in which the compiled decoders work.

A decoder runs :data:`LANES` frames at once, one in each lane of the processor's vector registers.  Every lane
does the same arithmetic whatever its neighbours hold, so a frame's result does not depend on its batch.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LANES", "from_lanes", "to_lanes"]

LANES = 32
"""Frames that a compiled decoder runs at once.  Loops over 16 lanes would be unrolled before the compiler
looks for vector instructions, and stay scalar."""

Real = TypeVar("Real", bound=np.floating)


def to_lanes(values: NDArray[Real]) -> NDArray[Real]:
    """(frames, n) to (ceil(frames / LANES), n, LANES); lanes without a frame repeat the last one."""
    frames, n = values.shape
    groups = -(-frames // LANES)
    padded = np.pad(values, [(0, groups * LANES - frames), (0, 0)], mode="edge") if frames else values
    return np.ascontiguousarray(padded.reshape(groups, LANES, n).transpose(0, 2, 1))


def from_lanes(values: NDArray[Real], frames: int) -> NDArray[Real]:
    """Undo :func:`to_lanes`: (groups, n, LANES) to (frames, n)."""
    groups, n, lanes = values.shape
    return np.ascontiguousarray(values.transpose(0, 2, 1).reshape(groups * lanes, n)[:frames])
