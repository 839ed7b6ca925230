"""One process, or several of ``accelerate launch`` that tune together."""

from __future__ import annotations

import os
import warnings
from datetime import timedelta
from typing import Any

from twophase.link.errors import InputError, PackageError, first_line
from twophase.training.backbone.settings import TuneSettings

__all__ = ["is_main_process", "make_accelerator"]

PATIENCE = timedelta(hours=12)
"""How long processes wait while the main one computes hidden states."""


def is_main_process() -> bool:
    """Whether this is the process that writes and prints; the only one unless a launcher says otherwise."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(settings: TuneSettings) -> Any:
    """The ``accelerate.Accelerator`` of these settings; joins the processes of a launch.

    Raises
    ------
    InputError
        If the device is not there, cannot compute in that precision, or the launcher was told otherwise.
    PackageError
        If accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedType, InitProcessGroupKwargs
    except ImportError as error:
        raise PackageError(
            "tuning a backbone needs accelerate: pip install 'twophase-link[sentences]'"
        ) from error
    import torch

    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise InputError("device", "be auto or cpu where torch finds no CUDA device", settings.device)
    on_cpu = settings.device == "cpu" or not available
    if settings.mixed_precision == "fp16" and on_cpu:
        raise InputError("mixed_precision", "be no or bf16 without a GPU", settings.mixed_precision)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", settings.mixed_precision):
        raise InputError(
            "mixed_precision", f"be {launched}, which the launcher was told", settings.mixed_precision
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="accelerate")
        try:
            accelerator = Accelerator(
                mixed_precision=settings.mixed_precision,
                cpu=on_cpu,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        except ValueError as error:  # one setting for each process: accelerate keeps the first
            raise InputError(
                "mixed_precision and device", f"suit accelerate ({first_line(error)})", settings.device
            ) from error
    known = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in known:
        raise InputError(
            "the launcher",
            "run one process, or several with a copy of the model each",
            str(accelerator.distributed_type.value),
        )
    return accelerator
