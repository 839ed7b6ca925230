"""All checks of a bundle, each by itself: every one is made and listed, whatever the others find.

What they prove together is that the bundle is hard, exact and consistent: what is sent are codewords under
their labels and nothing else, every runtime sends the same, and manifest, graphs, vectors and accuracy agree.
They do not prove where it comes from.  Hashes lie in ``link.json``, and who alters a bundle can sign it anew,
vectors and accuracy included: an encoder with one weight changed to another whole number is simply another
model.  Without a trusted digest of ``link.json`` nobody can distinguish such a model from the original.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from twophase.export.artefacts.card import CARD_FILE
from twophase.export.graphs.run import GraphRunError
from twophase.export.verify import codewords, graph_checks, precision, run_checks
from twophase.export.verify.bundle import Bundle, CheckError, Finding
from twophase.link.errors import LinkError, first_line

__all__ = ["NAMES", "OPTIONAL", "SLOW", "Check", "State", "check_bundle"]

State = Literal["pass", "fail", "note", "left out"]

_CHECKS: tuple[tuple[str, Callable[[Bundle], Finding]], ...] = (
    ("manifest and hashes", graph_checks.files),
    ("link card", graph_checks.card),
    ("ONNX checker", graph_checks.types),
    ("opset, IR, domains", graph_checks.formats),
    ("inputs and outputs", graph_checks.interfaces),
    ("random operators", graph_checks.operators),
    ("dynamic quantisation", graph_checks.static_quantisation),
    ("mode", graph_checks.mode),
    ("scale of the input", graph_checks.input_scale),
    ("codebook search", graph_checks.search),
    ("cut", graph_checks.cut),
    ("integers only", graph_checks.integers),
    ("all codewords", graph_checks.table),
    ("labels one to one", graph_checks.bijection),
    ("precision", precision.stored_precision),
    ("constellation", graph_checks.constellation),
    ("codebook hash", codewords.codebooks),
    ("exactness", graph_checks.exactness),
    ("labels of the receiver", codewords.received_labels),
    ("receiver as trained", graph_checks.as_trained),
    ("head in tx.onnx", graph_checks.contained),
    ("tokenizer", graph_checks.tokenizer),
    ("text to symbols", run_checks.text_to_symbols),
    ("vectors: ONNX Runtime", run_checks.replayed_optimised),
    ("vectors: unoptimised", run_checks.replayed_unoptimised),
    ("vectors: onnx.reference", run_checks.replayed_by_reference),
    ("ort/ files", run_checks.replayed_converted),
    ("search in NumPy", run_checks.numpy_search),
    ("batch 1 = batch n", run_checks.alone_and_in_batches),
    ("threads", run_checks.threads),
    ("accuracy", run_checks.accuracy),
    ("latency", run_checks.latency),
)

_APPLIES: dict[str, Callable[[Bundle], bool]] = {
    "link card": lambda bundle: CARD_FILE in bundle.manifest.files,
    "head in tx.onnx": graph_checks.takes_text,
    "tokenizer": graph_checks.takes_text,
    "text to symbols": graph_checks.takes_text,
    "ort/ files": run_checks.has_ort_files,
}
"""Checks of what not every bundle holds; they are not listed where it does not."""

NAMES = tuple(name for name, _ in _CHECKS)
"""Names of all checks, in order."""

OPTIONAL = tuple(_APPLIES)
"""Those of what not every bundle holds."""

SLOW = ("vectors: onnx.reference", "accuracy", "latency")
"""Checks that take longest and prove least about the graphs themselves."""


@dataclass(frozen=True)
class Check:
    """One check and what it found."""

    name: str
    state: State
    """``note``: it only states something; ``left out``: it was not made."""
    detail: str
    """What was compared, or why it failed, on one line."""
    problems: tuple[str, ...] = ()
    """One sentence for each failure."""

    @property
    def passed(self) -> bool:
        """Whether it did not fail."""
        return self.state != "fail"


def check_bundle(
    bundle: Bundle,
    leave_out: Collection[str] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> Iterator[Check]:
    """Make all checks of a bundle, those in ``leave_out`` excepted, which are listed all the same.

    ``progress`` is given the name of each check before it begins.
    """
    for name, find in _CHECKS:
        if name in _APPLIES and not _APPLIES[name](bundle):
            continue
        if name in leave_out:
            yield Check(name, "left out", "not asked for")
            continue
        progress(name)
        yield _made(name, find, bundle)


def _made(name: str, find: Callable[[Bundle], Finding], bundle: Bundle) -> Check:
    try:
        finding = find(bundle)
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
