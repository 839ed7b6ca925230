"""What the code base itself measures: files, lines, import circles, README, start of the commands.

    python benchmarks/house.py                                   this checkout
    python benchmarks/house.py --repo DIR --python DIR/.venv/bin/python
    python benchmarks/house.py --sweep OLD_PYTHON OLD_BUNDLE NEW_PYTHON NEW_BUNDLE [--trials 5] [--rounds 3]

Prints tables in Markdown, of the files that git tracks.  An import counts wherever it stands: at the top, in
a function, under TYPE_CHECKING.  ``--sweep`` times 21 points, 0 to 20 dB, of both checkouts in turn on one
thread, each in a process of its own, and divides the shortest CPU times, on which other work on the machine
has less influence.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = ("link", "training", "export", "sim")
NAMESPACE = "twophase"
SMALL = 60

Graph = dict[str, set[str]]


def tracked(repo: Path, pattern: str) -> list[Path]:
    """The files that git tracks, in order."""
    listed = subprocess.run(
        ["git", "-C", repo, "ls-files", "-z", pattern], capture_output=True, text=True, check=True
    )
    return [Path(name) for name in listed.stdout.split("\0") if name and (repo / name).is_file()]


def lines(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


def module_of(path: Path) -> str:
    """``link/files.py``: ``twophase.link.files``; a package is called by its folder."""
    parts = path.with_suffix("").parts
    return ".".join((NAMESPACE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """The modules of ours that a file imports, wherever the import stands; imports are absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules or node.module in modules:
                    yield inner if inner in modules else node.module


def imports(repo: Path, files: Sequence[Path]) -> Graph:
    """Which modules each module imports."""
    modules = {module_of(path): path for path in files}
    return {
        name: set(imported(ast.parse((repo / path).read_text(encoding="utf-8")), set(modules))) - {name}
        for name, path in modules.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """Sets of modules that import one another, directly or not: the strongly connected components."""
    reached = {name: _reach(graph, name) for name in graph}
    found = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }
    return sorted(sorted(circle) for circle in found)


def _reach(graph: Graph, start: str) -> set[str]:
    """What can be reached from a module in one step or more."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = graph[waiting.pop()] - reached
        reached |= fresh
        waiting += fresh
    return reached


def lonely(files: Sequence[Path], graph: Graph) -> list[Path]:
    """Files that exactly one other imports."""
    importers = {name: sum(name in others for others in graph.values()) for name in graph}
    return [path for path in files if importers[module_of(path)] == 1]


def example_lines(readme: str) -> int:
    """Lines of code in the README's first example that sends and receives; 0 if there is none."""
    for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL):
        if "Transmitter(" in block and "Receiver(" in block:
            rows = [row.strip() for row in block.splitlines()]
            return sum(bool(row) and not row.startswith("#") for row in rows)
    return 0


def seconds_of_help(repo: Path, python: str, entry: str, rounds: int) -> str:
    """Median wall and CPU time of ``--help`` of an entry point ``module:function``."""
    module, function = entry.split(":")
    call = f"import sys; sys.argv[0] = 'tp'; from {module} import {function}; sys.exit({function}())"
    walls, used = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), _cpu_of_children()
        subprocess.run([python, "-c", call, "--help"], cwd=repo, capture_output=True, check=True)
        walls.append(time.perf_counter() - start)
        used.append(_cpu_of_children() - before)
    return f"{statistics.median(walls):.2f} s, CPU {statistics.median(used):.2f} s"


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def house(repo: Path, python: str, rounds: int) -> None:
    """Print the table of a checkout."""
    files = [path for package in PACKAGES for path in tracked(repo, f"{package}/*.py")]
    counts = {path: lines(repo / path) for path in files}
    longest = max(files, key=counts.__getitem__)
    tests = [lines(repo / path) for path in tracked(repo, "tests/*.py")]
    graph = imports(repo, files)
    found, alone = circles(graph), lonely(files, graph)
    readme = repo / "README.md"
    text = readme.read_text(encoding="utf-8")
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    rows: list[tuple[str, object]] = [
        ("Python files in the four packages", len(files)),
        ("lines of Python in the four packages", f"{sum(counts.values()):,}"),
        ("longest file", f"{longest}, {counts[longest]} lines"),
        ("import circles", len(found)),
        ("files with exactly one importer", len(alone)),
        (
            f"files with exactly one importer and under {SMALL} lines",
            sum(counts[path] < SMALL for path in alone),
        ),
        ("lines of Python in tests, in how many files", f"{sum(tests):,} in {len(tests)}"),
        ("README", f"{lines(readme)} lines, {readme.stat().st_size:,} bytes"),
        ("longest line of the README", f"{max(map(len, text.splitlines()))} columns"),
        ("lines of the README's example that sends and receives", example_lines(text)),
    ]
    for name, entry in project["project"]["scripts"].items():
        taken = seconds_of_help(repo, python, entry, rounds)
        rows.append((f"`{name} --help`, median of {rounds}", taken))
    print("| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    for circle in found:
        print(f"\ncircle: {' <-> '.join(circle)}")


def sweep(ends: Sequence[tuple[str, str]], trials: int, rounds: int) -> None:
    """Print the shortest times of the same sweep in two checkouts, run in turn."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    walls: list[list[float]] = [[] for _ in ends]
    used: list[list[float]] = [[] for _ in ends]
    for _ in range(rounds):
        for number, (python, bundle) in enumerate(ends):
            with tempfile.TemporaryDirectory() as folder:
                words = ("--bundle", bundle, "--snr", "0:20", "--trials", str(trials), "--out", folder)
                call = [python, "-m", f"{NAMESPACE}.sim", *words]
                start, before = time.perf_counter(), _cpu_of_children()
                done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
                walls[number].append(time.perf_counter() - start)
                used[number].append(_cpu_of_children() - before)
                if done.returncode not in (0, 1):
                    raise SystemExit(done.stderr)
    print(f"| 21 points, {trials} trials, one thread, shortest of {rounds} | s | CPU, s | ratio of CPU |")
    print("|---|---|---|---|")
    for (python, _), wall, taken in zip(ends, map(min, walls), map(min, used), strict=True):
        print(f"| {python} | {wall:.1f} | {taken:.1f} | {taken / min(used[0]):.2f} |")


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--python", default=sys.executable, help="interpreter that sees that checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweep", nargs=4, metavar=("PYTHON", "BUNDLE", "PYTHON", "BUNDLE"))
    parser.add_argument("--trials", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 1 or options.trials < 1:
        parser.error("--rounds and --trials must be at least 1")
    if options.sweep:
        first, second = options.sweep[:2], options.sweep[2:]
        sweep([(first[0], first[1]), (second[0], second[1])], options.trials, options.rounds)
    else:
        house(options.repo, options.python, options.rounds)


if __name__ == "__main__":
    main()
