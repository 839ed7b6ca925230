"""Fetching ONNX Runtime for the page, and writing the page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twophase.export.artefacts import web
from twophase.export.artefacts.web import MAX_SAMPLES, fetch_runtime, write_web
from twophase.link.errors import ArtifactError, PackageError

CONTENT = {"ort.wasm.bundle.min.mjs": b"loader", "ort-wasm-simd-threaded.wasm": b"\0asm"}


def _archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that brings a small package, which is the one expected; gives the archive that it brings."""
    archive = tmp_path / "package.tgz"
    archive.write_bytes(_archive(CONTENT))
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(web, "_INTEGRITY", f"sha512-{digest}")
    files = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
    monkeypatch.setattr(web, "_FILES", files)
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'cp "{archive}" "$last/onnxruntime-web.tgz"\necho "$@" > "{tmp_path}/words"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return archive


def test_what_npm_brings_is_kept_in_the_users_cache(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runtime = fetch_runtime()
    assert runtime.folder == tmp_path / "cache" / "twophase-link" / f"onnxruntime-web-{web.RUNTIME_VERSION}"
    assert {path.name: path.read_bytes() for path in runtime.folder.iterdir()} == CONTENT
    words = (tmp_path / "words").read_text().split()
    assert words[:2] == ["pack", f"onnxruntime-web@{web.RUNTIME_VERSION}"]
    assert "--ignore-scripts" in words
    npm.unlink()
    assert fetch_runtime() == runtime  # npm is not asked again


def test_a_damaged_cache_is_fetched_again(
    npm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    fetch_runtime(cache)
    (cache / "ort-wasm-simd-threaded.wasm").write_bytes(b"other")
    with caplog.at_level(logging.WARNING):
        assert fetch_runtime(cache).problems() == []
    assert "ort-wasm-simd-threaded.wasm' is not the file of onnxruntime-web@" in caplog.text


def test_another_package_is_refused(npm: Path, tmp_path: Path) -> None:
    npm.write_bytes(_archive({**CONTENT, "ort.wasm.bundle.min.mjs": b"something else"}))
    with pytest.raises(ArtifactError, match="is not the one expected: its SHA-512 is"):
        fetch_runtime(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_without_npm_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="--web needs npm to fetch onnxruntime-web") as caught:
        fetch_runtime(tmp_path / "cache")
    assert "\n" not in str(caught.value)


Written = Callable[[int], tuple[list[str], dict[str, Any]]]


@pytest.fixture
def written(npm: Path, tmp_path: Path) -> Written:
    """Writes the page into ``bundle``, which has a test split alone; files, and what is in samples.json."""

    def write(samples: int) -> tuple[list[str], dict[str, Any]]:
        rng = np.random.default_rng(0)
        features = rng.standard_normal((samples, 2, 3)).astype(np.float32)
        bundle = tmp_path / "bundle"
        bundle.mkdir(exist_ok=True)
        np.savez(bundle / "eval.npz", input=features, label=rng.integers(0, 4, samples))
        files = list(write_web(bundle, fetch_runtime(tmp_path / "runtime")))
        return files, json.loads((bundle / "web/samples.json").read_text())

    return write


def test_the_page_is_written_whole(written: Written, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    files, samples = written(5)
    assert files == sorted(
        path.relative_to(bundle).as_posix() for path in (bundle / "web").rglob("*") if path.is_file()
    )
    assert not any(name.startswith("web/node/") for name in files)
    assert {"web/index.html", "web/style.css", "web/link/index.js", "web/samples.json"} < set(files)
    assert (bundle / "web/ort/ort.wasm.bundle.min.js").read_bytes() == b"loader"
    assert (bundle / "web/ort/ort-wasm-simd-threaded.wasm").read_bytes() == b"\0asm"
    assert "Microsoft" in (bundle / "web/ort/LICENSE").read_text()
    with np.load(bundle / "eval.npz") as split:
        assert np.array_equal(np.array(samples["input"], dtype=np.float32), split["input"].reshape(5, 6))
        assert samples["label"] == split["label"].tolist()
    first = {name: (bundle / name).read_bytes() for name in files}
    assert {name: (bundle / name).read_bytes() for name in written(5)[0]} == first


def test_all_that_the_page_asks_for_is_there_and_nothing_from_another_host(
    written: Written, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    files = {bundle / name for name in written(5)[0]}
    own = [path for path in files if path.parent.name != "ort"]
    imported = 0
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"https?:|//[a-z]+\.", text), path
        for target in re.findall(r"""(?:from|import) ["'](\.[^"']+)["']""", text):
            assert (path.parent / target).resolve() in files, f"{path.name}: {target}"
            imported += 1
    assert imported > 20
    for target in re.findall(r'(?:href|src)="([^"]+)"', (bundle / "web/index.html").read_text()):
        assert bundle / "web" / target in files


def test_a_large_test_split_is_cut(written: Written) -> None:
    _, samples = written(MAX_SAMPLES + 7)
    assert len(samples["input"]) == len(samples["label"]) == MAX_SAMPLES
    assert samples["of"] == MAX_SAMPLES + 7
