"""How strong are the tests?  Alter a module in one place at a time and see whether a test notices.

    python benchmarks/mutation.py run link/bits.py link/header.py --out before.jsonl
    python benchmarks/mutation.py run 'export/proof/*.py' --mutants 15 --out before.jsonl
    python benchmarks/mutation.py run link/header.py --tests tests/link/test_header.py
    python benchmarks/mutation.py compare before.jsonl after.jsonl

Mutants are a sample, by a seed, of all alterations of comparisons, arithmetic, and/or/not, numbers,
conditions, ``raise``, calls for their effect, returned values.  One is known by module, place, original and
altered text: the same seed gives the same ones as long as the module stays as it is, whatever becomes of the
tests.  ``compare`` lists what was noticed before and is not any more, and exits 1 if there is any.

A mutant runs in a process forked from one that has imported all third-party packages: the altered module is
served when it is first imported.  It is killed if a test fails, or if it uses three times the processor time
that the tests otherwise take.  Quick tests come first; the first failure ends the run.  Hypothesis draws the
same examples each time and shrinks nothing.  Processes that a test starts run the module unaltered, so that
tests which only look at such a process kill nothing.

Tests of a module, unless named: those of the folder of its package in ``tests`` that are called after it
(``test_header*.py``); else those that import it; else those that import what imports it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("link", "training", "export", "sim")
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.MatMult: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One alteration: of node ``node`` in the order of :func:`ast.walk`, by its ``choice``-th alteration."""

    module: str
    line: int
    column: int
    original: str
    mutated: str
    node: int
    choice: int

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """What tells it from others."""
        return self.module, self.line, self.column, self.original, self.mutated


def alterations(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield _with(node, ops=[*ops[:place], other(), *ops[place + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            yield _with(node, op=ARITHMETIC[type(op)]())
        case ast.BoolOp(op=op):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If() | ast.While() | ast.IfExp():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield ast.Return(ast.Constant(None))


def _with(node: ast.AST, **changes: Any) -> ast.AST:
    altered = copy.copy(node)
    for name, value in changes.items():
        setattr(altered, name, value)
    return altered


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _executed(tree: ast.Module) -> list[tuple[ast.AST, ast.AST]]:
    """Nodes with what holds them, without annotations, ``__all__`` and what only type checkers see."""
    found: list[tuple[ast.AST, ast.AST]] = []

    def visit(parent: ast.AST) -> None:
        for name, value in ast.iter_fields(parent):
            if name in ("annotation", "returns"):
                continue
            for node in value if isinstance(value, list) else [value]:
                if not isinstance(node, ast.AST) or _is_silent(node):
                    continue
                found.append((parent, node))
                visit(node)

    visit(tree)
    return found


def _is_silent(node: ast.AST) -> bool:
    text = ast.unparse(node).split("\n", 1)[0] if isinstance(node, ast.Assign | ast.If) else ""
    return text.startswith(("__all__ =", "if TYPE_CHECKING"))


def mutants(module: str) -> list[Mutant]:
    """All of them, in the order of the source."""
    found: list[Mutant] = []
    for number, (_, node) in enumerate(_executed(ast.parse((ROOT / module).read_text(encoding="utf-8")))):
        for choice, altered in enumerate(alterations(node)):
            texts = (" ".join(ast.unparse(each).split("\n", 1)[0].split())[:160] for each in (node, altered))
            found.append(Mutant(module, node.lineno, node.col_offset, *texts, number, choice))  # type: ignore[attr-defined]
    return found


def altered_code(mutant: Mutant) -> CodeType:
    """The whole module with the alteration."""
    path = ROOT / mutant.module
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parent, node = _executed(tree)[mutant.node]
    new = ast.copy_location(list(alterations(node))[mutant.choice], node)
    for name, value in ast.iter_fields(parent):
        if value is node:
            setattr(parent, name, new)
        elif isinstance(value, list):
            setattr(parent, name, [new if each is node else each for each in value])
    return compile(ast.fix_missing_locations(tree), str(path), "exec")


class Server(SourceFileLoader):
    """Finds and loads one module, altered."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self.code = code

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Of the altered module alone."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Altered, never from a cache of bytecode."""
        return self.code


class Watch:
    """Plugin of pytest: the first failure and the time that each test takes; quick tests come first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.known, self.seconds, self.failure = seconds, {}, ""  # type: ignore[var-annotated]

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Files by their time, in a file its tests by theirs."""
        files: dict[str, float] = {}
        for item in items:
            files[str(item.path)] = files.get(str(item.path), 0.0) + self.known.get(item.nodeid, 0.0)
        items.sort(key=lambda item: (files[str(item.path)], str(item.path), self.known.get(item.nodeid, 0.0)))

    def pytest_collectreport(self, report: Any) -> None:
        """A module that cannot even be imported."""
        if report.failed:
            self.failure = self.failure or report.nodeid

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Each phase of each test."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failure = self.failure or report.nodeid


def run_tests(tests: Sequence[str], seconds: dict[str, float], folder: Path) -> dict[str, Any]:
    """Pytest in this process."""
    import pytest
    from hypothesis import Phase, settings

    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=phases)
    settings.load_profile("mutation")
    watch = Watch(seconds)
    words = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*words, f"--basetemp={folder / 'base'}", *tests], plugins=[watch])
    loaded = [
        name
        for name, each in sys.modules.items()
        if name in leaves() or not _is_ours(getattr(each, "__file__", None))
    ]
    return {"status": int(status), "failure": watch.failure, "seconds": watch.seconds, "loaded": loaded}


def _is_ours(file: str | None) -> bool:
    return file is None or (file.startswith(str(ROOT)) and "site-packages" not in file)


def in_a_process(work: Callable[[Path], dict[str, Any]], cpu_limit: float) -> dict[str, Any]:
    """What ``work`` returns in a forked process, with its processor time; status -1 beyond the limit."""
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        os.setsid()
        with suppress(OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_limit) + 1, int(cpu_limit) + 2))
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            (folder / "result").write_text(json.dumps(work(folder)), encoding="utf-8")
        finally:
            sys.stdout.flush()
            os._exit(0)
    while not (ended := os.wait4(process, os.WNOHANG))[0]:
        if time.monotonic() - start > 20 * cpu_limit:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
    result: dict[str, Any] = {"status": -1, "failure": "time limit", "log": log}
    if (folder / "result").exists():
        result |= json.loads((folder / "result").read_text(encoding="utf-8"))
    elif not ended[1]:
        raise RuntimeError(f"no result of the tests\n{log}")
    result["cpu"] = ended[2].ru_utime + ended[2].ru_stime
    shutil.rmtree(folder, ignore_errors=True)
    return result


def serve(mutant: Mutant, tests: Sequence[str], seconds: dict[str, float], folder: Path) -> dict[str, Any]:
    """The tests over the altered module: what of ours stands on other modules of ours is imported anew."""
    name = dotted(mutant.module)
    for loaded in [each for each in sys.modules if each.startswith("twophase.")]:
        if loaded == name or loaded not in leaves():
            package, _, last = loaded.rpartition(".")
            del sys.modules[loaded]
            with suppress(AttributeError, KeyError):
                delattr(sys.modules[package], last)
    if "numba" in sys.modules and "numba" in imports(mutant.module):
        sys.modules["numba"].config.CACHE_DIR = str(folder / "numba")  # its cache does not see constants
    sys.meta_path.insert(0, Server(name, str(ROOT / mutant.module), altered_code(mutant)))  # type: ignore[arg-type]
    return run_tests(tests, seconds, folder)


def dotted(module: str) -> str:
    """``twophase.link.bits`` of ``link/bits.py``."""
    return "twophase." + module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imports(file: str) -> frozenset[str]:
    """Modules that a file imports, late imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return frozenset(found)


@cache
def product() -> tuple[str, ...]:
    """All modules of the four packages."""
    return tuple(
        str(path.relative_to(ROOT)) for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))
    )


@cache
def leaves() -> frozenset[str]:
    """Modules of ours that import none of ours: one copy serves all mutants of others."""
    return frozenset(
        dotted(module)
        for module in product()
        if not any(name.startswith("twophase") for name in imports(module))
    )


def tests_of(module: str) -> list[str]:
    """Named after the module, else importing it, else importing an importer."""
    files = sorted((ROOT / "tests" / module.split("/", 1)[0]).rglob("test_*.py"))
    own = [file for file in files if file.name.startswith(f"test_{Path(module).stem}")]
    wanted = {dotted(module)}
    for _ in range(3):
        own = own or [file for file in files if imports(str(file.relative_to(ROOT))) & wanted]
        wanted |= {dotted(each) for each in product() if imports(each) & wanted}
    return [str(file.relative_to(ROOT)) for file in own]


def examine(module: str, tests: Sequence[str], chosen: Sequence[Mutant]) -> Iterator[dict[str, Any]]:
    """The outcome of each mutant of a module."""
    base = in_a_process(lambda folder: run_tests(tests, {}, folder), 1200)
    if base["status"] != 0:
        raise SystemExit(f"{module}: the tests fail without any alteration\n{base['log']}")
    for name in base["loaded"]:
        with suppress(Exception):
            importlib.import_module(name)
    print(f"{module}: {len(chosen)} mutants, tests take {base['cpu']:.1f} s: {' '.join(tests)}", flush=True)
    for mutant in chosen:

        def work(folder: Path, mutant: Mutant = mutant) -> dict[str, Any]:
            return serve(mutant, tests, base["seconds"], folder)

        found = in_a_process(work, 3 * base["cpu"] + 10)
        killed = found["status"] != 0
        print(f"  {'killed  ' if killed else 'SURVIVED'} {found['cpu']:5.1f} s  {mutant.line}: ", end="")
        print(f"{mutant.original}  ->  {mutant.mutated}  {found['failure']}", flush=True)
        yield asdict(mutant) | {"killed": killed, "by": found["failure"], "cpu": round(found["cpu"], 2)}


def run(arguments: argparse.Namespace) -> int:
    """Write a line of JSON for each mutant, and a summary."""
    modules = [
        str(path.relative_to(ROOT)) for entry in arguments.modules for path in sorted(ROOT.glob(entry))
    ]
    named = dict(entry.split("=", 1) for entry in arguments.map)
    rows: list[dict[str, Any]] = []
    with arguments.out.open("w", encoding="utf-8") as out:
        for module in modules:
            every = mutants(module)
            dice = random.Random(f"{arguments.seed} {module}")
            chosen = sorted(
                dice.sample(every, min(arguments.mutants, len(every))), key=lambda each: each.node
            )
            own = named[module].split(",") if module in named else tests_of(module)
            tests = arguments.tests or own
            if not chosen or not tests:
                print(f"{module}: {len(every)} mutants, {len(tests)} files of tests; left out")
                continue
            for row in examine(module, tests, chosen):
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
    summary(rows)
    return 0


def summary(rows: Iterable[dict[str, Any]]) -> None:
    """A markdown table: mutants and how many were killed."""
    rows = list(rows)
    print("| module | mutants | killed | CPU s |\n|---|---|---|---|")
    for module in [*dict.fromkeys(row["module"] for row in rows), "all"]:
        own = [row for row in rows if module in (row["module"], "all")]
        killed = sum(row["killed"] for row in own)
        print(f"| {module} | {len(own)} | {killed} | {sum(row['cpu'] for row in own):.0f} |")


def compare(arguments: argparse.Namespace) -> int:
    """List what was killed before and is not after; exit status 1 if there is any."""
    before, after = (
        {
            tuple(row[name] for name in ("module", "line", "column", "original", "mutated")): row
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        }
        for path in (arguments.before, arguments.after)
    )
    shared = before.keys() & after.keys()
    lost = sorted(key for key in shared if before[key]["killed"] and not after[key]["killed"])
    won = [key for key in shared if after[key]["killed"] and not before[key]["killed"]]
    for module, line, _, original, mutated in lost:
        row = before[module, line, _, original, mutated]
        print(f"lost: {module}:{line}: {original}  ->  {mutated}  (before: {row['by']})")
    print("| module | mutants | killed before | killed after |\n|---|---|---|---|")
    for module in [*dict.fromkeys(key[0] for key in before if key in shared), "all"]:
        own = [key for key in shared if module in (key[0], "all")]
        counts = (sum(rows[key]["killed"] for key in own) for rows in (before, after))
        print(f"| {module} | {len(own)} | {' | '.join(map(str, counts))} |")
    print(f"{len(lost)} lost, {len(won)} won, {len(before.keys() ^ after.keys())} in one file only")
    return 1 if lost else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    running = parts.add_parser("run", help="alter modules and run their tests")
    running.add_argument("modules", nargs="+", help="files or patterns, from the root of the repository")
    running.add_argument("--tests", nargs="+", default=[], help="files of tests for all these modules")
    running.add_argument(
        "--map", nargs="+", default=[], metavar="MODULE=TESTS", help="for one; commas between"
    )
    running.add_argument("--mutants", type=int, default=12, help="of each module")
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--out", type=Path, default=Path("mutation.jsonl"))
    running.set_defaults(call=run)
    comparing = parts.add_parser("compare", help="what was noticed before and is not after")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.set_defaults(call=compare)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    status: int = arguments.call(arguments)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
