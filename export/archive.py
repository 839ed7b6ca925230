"""Whether a saved program can be loaded without running code of its own.

``torch.export.load`` of torch 2.13 reads plain tensors as raw bytes beside a JSON description of the
operations: no pickle.  It does run code of the file's choosing in these cases, each found in its source:

- weights or constants stored as pickles (tensor subclasses, script and opaque objects; files of torch 2.8 and
  older), which it loads with ``weights_only=False``;
- example inputs that ``torch.load(weights_only=True)`` refuses: it then loads them without that protection;
- compiled libraries in the archive;
- symbolic sizes, which go through ``sympy.sympify``, that is ``eval``; guards, which become Python source;
- operations named by a dotted path below ``torch`` (``torch.os.system``), which run with the program.

None of these is needed for a trained link, so an archive with one of them is refused here.  This is no
sandbox, and a hash in a manifest does not tell who wrote the file: export runs that you trained or trust.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from twophase.link.errors import ArtifactError

__all__ = ["check_archive"]

_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights/weight|constants/tensor)_\d+|data/(weights/model_weights|constants/model_constants)_config\.json"
)
_TARGETS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub|truediv)"
)
_NAMES = frozenset(
    {
        *("Symbol", "Integer", "Add", "Mul", "Pow", "Max", "Min"),
        *("Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv"),
        *("integer", "positive", "nonnegative", "nonzero", "True", "False"),
    }
)
_EXPRESSION = re.compile(r"('[su]\d+'|[A-Za-z_]\w*|\d+|[-+*/(),= ])*")
_GUARD = re.compile(r"(L\['\w+'\]|\.size\(\)\[\d+\]|\d+|[<>=!]=|[<>]|\b(and|or|not)\b|[-+*%() ])*")


def check_archive(path: Path) -> None:
    """Check that ``path`` is a program archive of plain tensors and standard operations.

    Raises
    ------
    ArtifactError
        If it is missing, damaged or would run code of its own when loaded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            problem = next(_problems(archive), None)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise ArtifactError(f"'{path}' is no saved program: truncated or altered ({error})") from error
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}") from error
    if problem is not None:
        raise ArtifactError(f"'{path}' is refused: {problem}")


def _problems(archive: zipfile.ZipFile) -> Iterator[str]:
    records = {name.partition("/")[2]: name for name in archive.namelist()}
    program = json.loads(archive.read(records["models/model.json"]))
    for record in records:
        if not _RECORDS.fullmatch(record):
            yield f"it holds '{record}', which a program of plain tensors has not (saved by another torch?)"
    for record, name in records.items():
        if record.endswith("_config.json"):
            for tensor, entry in json.loads(archive.read(name))["config"].items():
                if entry["use_pickle"]:
                    yield f"'{tensor}' is stored as a pickle, which can run code"
    try:
        torch.load(io.BytesIO(archive.read(records["data/sample_inputs/model.pt"])), weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, torch.export.load would go on without protection
        yield f"its example inputs are no plain tensors ({type(error).__name__})"
    for key, text in _strings(program):
        if key == "target" and not _TARGETS.fullmatch(text):
            yield f"it calls '{text}', which is no standard tensor operation"
        if key == "expr_str" and not (
            _EXPRESSION.fullmatch(text) and _NAMES.issuperset(re.findall(r"(?<!')\b[A-Za-z_]\w*", text))
        ):
            yield f"its symbolic size {text!r} is more than arithmetic"
        if key == "guards_code" and not _GUARD.fullmatch(text):
            yield f"its guard {text!r} is more than a comparison of sizes"


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a JSON value with the key that it, or the list around it, stands under."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _strings(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, key)
    elif isinstance(value, str):
        yield key, value
