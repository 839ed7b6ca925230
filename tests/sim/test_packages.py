"""PyPI's unrelated ``commpy`` in place of scikit-commpy: noticed before it does harm, in one clear line."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from twophase.link.errors import PackageError
from twophase.sim import packages
from twophase.sim.cli import main
from twophase.sim.packages import code_sha256, require_scikit_commpy, usable_kernel, versions


def test_versions_name_what_is_missing(monkeypatch) -> None:
    assert versions()["scikit-commpy"] == "0.8.0"
    assert {"python", "numpy", "onnxruntime", "numba", "llvmlite"} <= versions().keys()
    monkeypatch.setattr(sys, "path", [])
    assert versions()["llvmlite"] == "missing"


def test_the_code_is_known_by_every_file_of_it(tmp_path, monkeypatch) -> None:
    def digest() -> str:
        return code_sha256.__wrapped__()

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
    assert len(found | {digest()}) == 6
    # What Python and editors leave is no code.
    before = digest()
    (tmp_path / "sim" / "__pycache__").mkdir()
    (tmp_path / "sim" / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / "link" / ".a.py.swp").write_text("x")
    assert digest() == before


def test_a_foreign_package_in_front_is_refused_in_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "commpy").mkdir()
    (tmp_path / "commpy" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--snr", "5"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"must be the one of scikit-commpy, not '{tmp_path / 'commpy'}" in printed.err
    assert "pip uninstall -y commpy scikit-commpy" in printed.err


@pytest.mark.parametrize(
    ("record", "file", "rule"),
    [
        (b"as it was installed", b"as it was installed", None),
        (
            b"as it was installed",
            b"another project's",
            r"must be the one of scikit-commpy, not '.*__init__\.py'",
        ),
        (b"as it was installed", None, "'scikit-commpy' must be installed"),
        (None, b"another project's", "must be the one of scikit-commpy"),
    ],
)
def test_commpy_must_be_as_scikit_commpy_installed_it(record, file, rule, tmp_path, monkeypatch) -> None:
    if record is not None:
        digest = base64.urlsafe_b64encode(hashlib.sha256(record).digest()).rstrip(b"=").decode()
        information = tmp_path / "scikit_commpy-0.8.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Name: scikit-commpy\nVersion: 0.8.0\n")
        (information / "RECORD").write_text(f"commpy/__init__.py,sha256={digest},{len(record)}\n")
    if file is not None:
        (tmp_path / "commpy").mkdir()
        (tmp_path / "commpy" / "__init__.py").write_bytes(file)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    if rule is None:
        require_scikit_commpy()
    else:
        with pytest.raises(PackageError, match=rule):
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
