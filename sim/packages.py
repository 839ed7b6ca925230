"""What a result is computed with: versions, the code itself, and the right ``commpy``.

PyPI's ``commpy`` is an unrelated package with the same import name.  Installed next to scikit-commpy it
overwrites ``commpy/__init__.py`` and leaves the rest, so that imports fail far from the cause or, worse, work
by halves.  The check looks at files only and imports nothing.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import platform
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

import twophase.link
from twophase.link.demap import available_kernels
from twophase.link.errors import PackageError, first_line, remedy
from twophase.sim.settings import KernelName

__all__ = ["code_sha256", "require_scikit_commpy", "usable_kernel", "versions"]


_REPORTED = ("twophase-link", "scikit-commpy", "numpy", "scipy", "onnxruntime", "numba", "llvmlite")
_USED = ("commpy/__init__.py", "commpy/channels.py", "commpy/modulation.py", "commpy/utilities.py")
_REMEDY = "run: pip uninstall -y commpy scikit-commpy && pip install scikit-commpy==0.8.0"


def require_scikit_commpy() -> None:
    """PackageError unless ``import commpy`` gives scikit-commpy, whole and unaltered."""
    spec = PathFinder.find_spec("commpy")
    if spec is None:
        raise PackageError(f"the package 'scikit-commpy' must be installed, and is not: {remedy('sim')}")
    try:
        installed = distribution("scikit-commpy")
    except PackageNotFoundError:
        raise _wrong(spec.origin) from None
    expected = Path(str(installed.locate_file(_USED[0]))).resolve()
    if spec.origin is None or Path(spec.origin).resolve() != expected:
        raise _wrong(spec.origin)
    for entry in installed.files or ():
        if entry.as_posix() in _USED and entry.hash is not None:
            path = Path(str(entry.locate()))
            digest = hashlib.new(entry.hash.mode, path.read_bytes() if path.is_file() else b"").digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != entry.hash.value:
                raise _wrong(str(path))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on; ``missing`` if not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _REPORTED}


@cache
def code_sha256() -> str:
    """SHA-256, in hexadecimal, over all files of the packages ``link`` and ``sim``: code and its data.

    Computed once in a process, so that it is that of the code that runs.
    """
    state = hashlib.sha256()
    for package in (Path(twophase.link.__file__).parent, Path(__file__).parent):
        files = {path.relative_to(package).as_posix(): path for path in package.rglob("*")}
        for name, path in sorted(files.items()):
            # Caches and what editors leave are no code.
            if path.is_file() and not any(
                part == "__pycache__" or part[0] == "." for part in name.split("/")
            ):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                state.update(f"{package.name}/{name} {digest}\n".encode())
    return state.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _wrong(found: str | None) -> PackageError:
    where = found or "a folder without __init__.py"
    return PackageError(
        f"the package 'commpy' must be the one of scikit-commpy, not '{where}' "
        f"(PyPI's 'commpy' is another project and overwrites it); {_REMEDY}"
    )


_log = logging.getLogger(__name__)


def usable_kernel(wanted: KernelName | Literal["auto"]) -> KernelName:
    """The kernel to use; ``auto`` is numba where it works, PackageError if that is asked for and does not."""
    if wanted == "numpy":
        return "numpy"
    if "numba" not in available_kernels():
        if wanted == "auto":
            return "numpy"
        raise PackageError(f"the package 'numba' must be installed for the kernel numba: {remedy('sim')}")
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
