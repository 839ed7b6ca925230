"""Every error that the package raises on purpose, drawn once.

::

    LinkError
    ├── InputError           an argument, configuration or array breaks a rule        exit 2
    ├── ArtifactError        a file is missing, truncated, altered, of another version exit 2
    ├── PackageError         a package is missing or is the wrong one                  exit 2
    └── VerificationError    what was built does not do what it must; lists everything exit 1

Messages name argument, rule and value: ``'snr' must be START:STOP, not '20:'``.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ArtifactError",
    "InputError",
    "LinkError",
    "PackageError",
    "VerificationError",
    "first_line",
    "remedy",
]


class LinkError(Exception):
    """Base of all errors raised on purpose; the commands print it as one line."""

    exit_status = 2


class InputError(LinkError, ValueError):
    """An argument, a configuration value or an array breaks a stated rule.

    Parameters
    ----------
    name
        The argument at fault.
    rule
        What it must be, as the words after "must".
    value
        What it was.
    """

    def __init__(self, name: str, rule: str, value: object) -> None:
        super().__init__(f"'{name}' must {rule}, not {value!r}")
        self.name = name
        self.rule = rule
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.rule, self.value)  # so that worker processes can raise it


class ArtifactError(LinkError):
    """A file of a run or bundle is missing, truncated, altered or of another version."""


class PackageError(LinkError):
    """A package that a command needs is missing, or another one stands in its place."""


class VerificationError(LinkError):
    """An artefact fails its proof.  Carries every failure found, not only the first.

    Parameters
    ----------
    subject
        What was verified.
    problems
        One sentence for each failure.
    """

    exit_status = 1

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{subject} failed {len(self.problems)} check(s):\n{listed}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.subject, self.problems)


def first_line(error: BaseException) -> str:
    """What a foreign library's error says, cut to one line; its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def remedy(extra: str) -> str:
    """How to get what an extra of this distribution, which no index has yet, brings."""
    return f"pip install '.[{extra}]' in the folder of twophase-link's source"
