"""Which kernel computes LLRs and decodes: numba where it is installed and works, else NumPy."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Literal

from twophase.link.demap import available_kernels
from twophase.link.errors import PackageError, first_line
from twophase.sim.settings import KernelName

__all__ = ["usable_kernel"]

_log = logging.getLogger(__name__)


def usable_kernel(wanted: KernelName | Literal["auto"]) -> KernelName:
    """The kernel to use; ``auto`` is numba where it is installed and works.

    Raises
    ------
    PackageError
        If numba is asked for and missing or broken.
    """
    if wanted == "numpy":
        return "numpy"
    if "numba" not in available_kernels():
        if wanted == "auto":
            return "numpy"
        raise PackageError(
            "the package 'numba' must be installed for the kernel numba: pip install 'twophase-link[sim]'"
        )
    try:
        import_module("twophase.link.demap_compiled")
    except Exception as error:  # numba may fail at its import in any way
        reason = f"{type(error).__name__}: {first_line(error)}"
        if wanted == "numba":
            raise PackageError(
                f"the package 'numba' must work for the kernel numba, but its import fails: {reason}"
            ) from error
        _log.warning("numba is installed, but its import fails (%s): NumPy computes instead", reason)
        return "numpy"
    return "numba"
