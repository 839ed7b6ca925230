"""Tiny bundles of every kind, made once; a test that alters one works on a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tools.tiny_bundle import LINK, write_tiny_bundle
from twophase.link.modes import LinkConfig


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """That of a router, of features or text, with four modes or others; 24 samples."""

    @cache
    def bundle(router: str = "content", text: bool = False, link: LinkConfig = LINK) -> Path:
        folder = tmp_path_factory.mktemp(router) / "bundle"
        return write_tiny_bundle(folder, router=router, text=text, link=link, samples=24)

    return bundle
