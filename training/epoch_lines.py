"""An epoch on the terminal: a row of a table, or the two lines of the reported method.

What differs from mode to mode is summed up; ``metrics.jsonl`` and TensorBoard have every figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from twophase.training.monitor import EpochRecord

__all__ = ["TABLE_HEAD", "reported_lines", "table_row"]

TABLE_HEAD = (
    f"{'epoch':>5} {'phase':9} {'T':>5} {'loss':>8} {'val soft':>8} {'val hard':>8} "
    f"{'H codewords':>11} {'H symbols':>11} {'|LLR|':>11} {'symbols':>7} {'s':>5}"
)
"""Entropies of use in nats and mean |LLR| are the lowest and highest of all codebooks or modes; symbols are
those of a payload on average."""


def table_row(record: EpochRecord) -> str:
    """One line under ``TABLE_HEAD``."""
    phase = "hardening" if 0 < record.hard_forward < 1 else record.phase
    return (
        f"{record.epoch:5} {phase:9} {record.vq_temperature:5.3f} {record.losses['total']:8.4f} "
        f"{record.validation_accuracy_soft:8.4f} {record.validation_accuracy_hard:8.4f} "
        f"{_range(record.vq_entropy, 2):>11} {_range(record.symbol_entropy, 2):>11} "
        f"{_range(record.mean_abs_llr, 1):>11} {record.symbols_per_sample:7.4g} {record.seconds:5.1f}"
    )


def reported_lines(record: EpochRecord) -> tuple[str, str]:
    """Phase and temperatures, then losses and accuracies."""
    hard = str(record.hard_forward == 1) if record.hard_forward in (0, 1) else f"{record.hard_forward:.2f}"
    losses = " ".join(
        f"{name}={record.losses[name]:.4f}"
        for name in ("total", "task", "consistency", "entropy")
        if name in record.losses
    )
    return (
        f"[Epoch {record.epoch}] Phase={record.phase.upper()} | vq_T={record.vq_temperature:.3f} "
        f"sym_T={record.symbol_temperature:.3f} | hard_fwd={hard}",
        f"  {losses} | val soft={record.validation_accuracy_soft:.4f} "
        f"hard={record.validation_accuracy_hard:.4f}",
    )


def _range(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}..{high}"
