"""PyPI's unrelated ``commpy`` in place of scikit-commpy: noticed before it does harm, in one clear line."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twophase.link.errors import PackageError
from twophase.sim import packages
from twophase.sim.packages import code_sha256, require_scikit_commpy, usable_kernel, versions


def test_the_right_package_passes() -> None:
    require_scikit_commpy()
    assert versions()["scikit-commpy"] == "0.8.0"


def test_versions_name_what_is_missing(monkeypatch) -> None:
    assert {"python", "numpy", "onnxruntime", "numba", "llvmlite"} <= versions().keys()
    monkeypatch.setattr(sys, "path", [])
    assert versions()["llvmlite"] == "missing"


def test_the_code_is_known_by_every_file_of_it(tmp_path, monkeypatch) -> None:
    def digest() -> str:
        return code_sha256.__wrapped__()

    assert code_sha256() == digest()
    assert len(code_sha256()) == 64
    for name in ("link", "sim"):
        (tmp_path / name / "inner").mkdir(parents=True)
    monkeypatch.setattr(packages.twophase.link, "__file__", str(tmp_path / "link" / "__init__.py"))
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "sim" / "packages.py"))
    found = {digest()}
    for name, content in (
        ("link/a.py", "1"),
        ("link/a.py", "2"),
        ("sim/inner/a.py", "2"),
        ("sim/inner/b.csv", ""),
    ):
        (tmp_path / name).write_text(content)
        found.add(digest())
    (tmp_path / "sim" / "inner" / "b.csv").rename(tmp_path / "sim" / "inner" / "c.csv")
    found.add(digest())
    assert len(found) == 6
    # What Python and editors leave is no code.
    (tmp_path / "sim" / "__pycache__").mkdir()
    (tmp_path / "sim" / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / "link" / ".a.py.swp").write_text("x")
    assert digest() in found


def test_a_foreign_package_in_front_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "path" / "commpy"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign package was imported')\n")
    script = "import sys; from twophase.sim.cli import main; sys.exit(main(['--snr', '5']))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert str(foreign) in result.stderr
    assert "pip uninstall -y commpy scikit-commpy" in result.stderr


@pytest.mark.parametrize("overwritten", [False, True])
def test_an_overwritten_file_is_noticed(overwritten, tmp_path, monkeypatch) -> None:
    installed = b"the file as it was installed\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(installed).digest()).rstrip(b"=").decode()
    information = tmp_path / "scikit_commpy-0.8.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: scikit-commpy\nVersion: 0.8.0\n")
    (information / "RECORD").write_text(f"commpy/__init__.py,sha256={digest},{len(installed)}\n")
    (tmp_path / "commpy").mkdir()
    (tmp_path / "commpy" / "__init__.py").write_bytes(b"another project's\n" if overwritten else installed)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    if overwritten:
        with pytest.raises(PackageError, match=r"must be the one of scikit-commpy, not '.*__init__\.py'"):
            require_scikit_commpy()
    else:
        require_scikit_commpy()


def test_a_missing_package_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(PackageError, match="'scikit-commpy' must be installed"):
        require_scikit_commpy()


def test_a_foreign_package_alone_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "commpy").mkdir()
    (tmp_path / "commpy" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(PackageError, match="must be the one of scikit-commpy"):
        require_scikit_commpy()


def test_numba_that_is_broken_is_said_and_done_without_unless_it_was_asked_for(monkeypatch, caplog) -> None:
    def broken(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.2 or less\nand more lines")

    monkeypatch.setattr(packages, "available_kernels", lambda: ("numpy", "numba"))
    monkeypatch.setattr(packages, "import_module", broken)
    assert usable_kernel("numpy") == "numpy"
    assert caplog.text == ""
    assert usable_kernel("auto") == "numpy"
    reason = "ImportError: Numba needs NumPy 2.2 or less"
    assert f"its import fails ({reason}): NumPy computes instead" in caplog.text
    with pytest.raises(PackageError, match=f"'numba' must work for the kernel numba.*{reason}$"):
        usable_kernel("numba")
    monkeypatch.setattr(packages, "available_kernels", lambda: ("numpy",))
    assert usable_kernel("auto") == "numpy"
    with pytest.raises(PackageError, match="'numba' must be installed"):
        usable_kernel("numba")
