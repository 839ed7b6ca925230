"""What the tests of the JavaScript need: Node, its packages, Chromium, and a bundle with the page.

Where something is missing the tests are skipped, and the summary says what and why.  With
``TWOPHASE_REQUIRE_WEB`` set, as in CI, they fail instead.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.export.artefacts.web import WebRuntime, write_web
from twophase.link.manifest import load_manifest, write_manifest

EXAMPLE = Path(__file__).parents[2] / "export" / "web" / "node"
TESTS = Path(__file__).parent

RunNode = Callable[..., subprocess.CompletedProcess[str]]


def _missing(what: str) -> None:
    reason = f"left out: {what}; run tests/web/install.sh"
    if os.environ.get("TWOPHASE_REQUIRE_WEB"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node() -> RunNode:
    """Runs a script with Node; its output captured as text."""
    program = shutil.which("node")
    if program is None:
        _missing("JavaScript needs Node.js 20, and there is no 'node'")

    def run(
        script: Path, *arguments: object, stdin: str | None = None, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        words = [program, str(script), *map(str, arguments)]
        return subprocess.run(
            words, input=stdin, capture_output=True, text=True, check=False, timeout=timeout
        )

    return run


@pytest.fixture(scope="session")
def evaluate(node: RunNode) -> Callable[[dict[str, list[list[Any]]]], dict[str, list[dict[str, Any]]]]:
    """Calls functions of the JavaScript link; see evaluate.mjs."""

    def call(tasks: dict[str, list[list[Any]]]) -> dict[str, list[dict[str, Any]]]:
        done = node(TESTS / "evaluate.mjs", stdin=json.dumps(tasks))
        assert done.returncode == 0, done.stderr[-2000:]
        results: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
        return results

    return call


@pytest.fixture(scope="session")
def packages(node: RunNode) -> Path:
    """The example's npm packages: onnxruntime-node and onnxruntime-web."""
    folder = EXAMPLE / "node_modules"
    for package in ("onnxruntime-node", "onnxruntime-web"):
        if not (folder / package / "package.json").is_file():
            _missing(f"the npm package {package} is not in export/web/node")
    return folder


@pytest.fixture(scope="session")
def web_runtime(packages: Path) -> WebRuntime:
    """onnxruntime-web from there."""
    runtime = WebRuntime(packages / "onnxruntime-web" / "dist")
    assert runtime.problems() == []
    return runtime


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium that playwright-core drives."""
    if not (TESTS / "node_modules" / "playwright-core" / "package.json").is_file():
        _missing("the npm package playwright-core is not in tests/web")
    program = shutil.which("chromium")
    if program is None:
        _missing("the browser page needs Chromium, and there is no 'chromium'")
    return str(program)


@pytest.fixture
def visit(node: RunNode, chromium: str) -> Callable[[str, object, str], dict[str, Any]]:
    """What a script saw at an address with Chromium; ``TWOPHASE_SCREENSHOTS=folder`` keeps pictures of it."""

    def call(script: str, address: object, name: str) -> dict[str, Any]:
        words = [address, chromium]
        if os.environ.get("TWOPHASE_SCREENSHOTS"):
            words.append(Path(os.environ["TWOPHASE_SCREENSHOTS"]).resolve() / name)
            words[-1].mkdir(parents=True, exist_ok=True)
        done = node(TESTS / script, *words)
        assert done.returncode == 0, done.stderr[-3000:]
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return call


def _with_page(bundle: Path, runtime: WebRuntime) -> Path:
    """Add the page to a bundle."""
    manifest = load_manifest(bundle, "bundle")
    write_manifest(bundle, manifest, (*manifest.files, *write_web(bundle, runtime)))
    return bundle


@pytest.fixture(scope="session")
def web_bundle(
    tmp_path_factory: pytest.TempPathFactory, digits_bundle: Path, web_runtime: WebRuntime
) -> Path:
    """The short digits link with the page."""
    folder = tmp_path_factory.mktemp("web") / "bundle"
    shutil.copytree(digits_bundle, folder)
    return _with_page(folder, web_runtime)


@pytest.fixture(scope="session")
def content_web_bundle(tmp_path_factory: pytest.TempPathFactory, web_runtime: WebRuntime) -> Path:
    """A tiny link without a picture, whose mode is sent in a header, with the page."""
    folder = tmp_path_factory.mktemp("content-web") / "bundle"
    return _with_page(write_tiny_bundle(folder, router="content"), web_runtime)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder as ``python -m http.server`` does; gives its address."""
    with ExitStack() as running:

        def start(folder: Path) -> str:
            handler = functools.partial(_Quiet, directory=str(folder))
            server = running.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            running.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield start
