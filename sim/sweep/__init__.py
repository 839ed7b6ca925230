"""Blocks of trials: where they run, what is kept of them, when a point is finished."""
