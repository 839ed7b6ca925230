"""All checks of a bundle, each by itself: every one is made and listed, whatever the others find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twophase.export.checking import graph_checks, runtime_checks
from twophase.export.checking.subject import CheckError, Finding, Subject
from twophase.export.session import GraphRunError
from twophase.link.errors import LinkError, first_line

__all__ = ["NAMES", "SLOW", "Check", "State", "run_checks"]

State = Literal["pass", "fail", "note", "left out"]

_CHECKS: tuple[tuple[str, Callable[[Subject], Finding]], ...] = (
    ("manifest and hashes", graph_checks.files),
    ("ONNX checker", graph_checks.types),
    ("opset, IR, domains", graph_checks.formats),
    ("inputs and outputs", graph_checks.interfaces),
    ("random operators", graph_checks.operators),
    ("dynamic quantisation", graph_checks.static_quantisation),
    ("mode", graph_checks.mode),
    ("codebook search", graph_checks.search),
    ("cut", graph_checks.cut),
    ("integers only", graph_checks.integers),
    ("all codewords", graph_checks.table),
    ("labels one to one", graph_checks.bijection),
    ("constellation", graph_checks.constellation),
    ("codebook hash", graph_checks.codebooks),
    ("exactness", graph_checks.exactness),
    ("vectors: ONNX Runtime", runtime_checks.replayed_optimised),
    ("vectors: unoptimised", runtime_checks.replayed_unoptimised),
    ("vectors: onnx.reference", runtime_checks.replayed_by_reference),
    ("search in NumPy", runtime_checks.numpy_search),
    ("batch 1 = batch n", runtime_checks.alone_and_in_batches),
    ("threads", runtime_checks.threads),
    ("accuracy", runtime_checks.accuracy),
    ("latency", runtime_checks.latency),
)

NAMES = tuple(name for name, _ in _CHECKS)
"""Names of all checks, in order."""

SLOW = ("vectors: onnx.reference", "accuracy", "latency")
"""Checks that take longest and prove least about the graphs themselves."""


@dataclass(frozen=True)
class Check:
    """One check and what it found."""

    name: str
    state: State
    """``note``: it only tells something; ``left out``: it was not made."""
    detail: str
    """What was compared, or why it failed, on one line."""
    problems: tuple[str, ...] = ()
    """One sentence for each failure."""

    @property
    def passed(self) -> bool:
        """Whether it did not fail."""
        return self.state != "fail"


def run_checks(
    bundle: Path,
    leave_out: Collection[str] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> Iterator[Check]:
    """Make all checks of a bundle.

    Parameters
    ----------
    bundle
        Its folder.
    leave_out
        Names of checks that are listed, and not made.
    progress
        Is told the name of each check before it begins.

    Raises
    ------
    ArtifactError
        If the folder is no bundle of this version at all.
    """
    progress(NAMES[0])
    subject = Subject(bundle)
    for name, find in _CHECKS:
        if name in leave_out:
            yield Check(name, "left out", "not asked for")
            continue
        progress(name)
        yield _made(name, find, subject)


def _made(name: str, find: Callable[[Subject], Finding], subject: Subject) -> Check:
    try:
        finding = find(subject)
    except (CheckError, GraphRunError, LinkError) as error:
        return _failed(name, [first_line(error)])
    except Exception as error:  # noqa: BLE001 - a graph that breaks a library must fail, and alone
        return _failed(name, [f"the check broke off: {type(error).__name__}: {first_line(error)}"])
    if finding.problems:
        return _failed(name, finding.problems)
    return Check(name, "note" if finding.note else "pass", finding.detail)


def _failed(name: str, problems: list[str]) -> Check:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Check(name, "fail", problems[0] + more, tuple(problems))
