"""Each task's defaults where they differ from ``TrainConfig``'s; EXPERIMENTS.md has why."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "preset_of"]

_SENTENCES: dict[str, Any] = {
    "epochs": 30,
    "alignment_start_epoch": 12,
    "train_snr_low_db": -6.0,
    "train_snr_high_db": 18.0,
    "codebook_sizes": (2, 4),
    "tokens": (16, 2),
    "qam_orders": (4, 16),
}

_FEATURES: dict[str, Any] = {
    "epochs": 60,
    "alignment_start_epoch": 20,
    "train_snr_low_db": -6.0,
    "train_snr_high_db": 18.0,
    "codebook_sizes": (2, 4, 16),
    "tokens": (48, 14, 3),
    "qam_orders": (4, 16, 64),
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {
        "epochs": 250,
        "alignment_start_epoch": 85,
        "train_snr_low_db": -6.0,
        "train_snr_high_db": 18.0,
        "input_noise": 0.08,
        "augmentation": 0.3,
        "codebook_sizes": (2, 4, 16),
        "tokens": (48, 14, 3),
        "qam_orders": (4, 16, 64),
    },
    "reviews": _SENTENCES,
    "sst2": _SENTENCES,
    "csv": _SENTENCES,
    "npz": _FEATURES,
}


def preset_of(task: str) -> dict[str, Any]:
    """Defaults of a task; those of ``npz`` for a task of one's own."""
    return PRESETS.get(task, _FEATURES)
