"""Pages of the site that are kept elsewhere: README, EXPERIMENTS and CHANGELOG of the top level, notebooks.

Their links, written for a reader of the repository, are turned into links of the site.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "EXPERIMENTS.md": "experiments/index.md", "CHANGELOG.md": "changelog.md"}
NOTEBOOKS = Path("examples/notebooks")
LINK = re.compile(r"(\]\()([^)#:]+)([#)])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    top = Path(config.config_file_path).parent
    pages = PAGES | {
        f"{NOTEBOOKS}/{path.name}": f"notebooks/{path.stem}.md" for path in (top / NOTEBOOKS).glob("*.ipynb")
    }
    for source, target in pages.items():
        text = (top / source).read_text(encoding="utf-8")
        if source.endswith(".ipynb"):
            text = markdown_of(text, source)
        files.append(File.generated(config, target, content=relinked(text, source, target, pages)))
    return files


def markdown_of(notebook: str, source: str) -> str:
    """Text and code of a notebook; its outputs are not kept."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            magic, _, commands = text.partition("\n")
            text = f"```bash\n{commands}\n```" if magic.startswith("%%bash") else f"```python\n{text}\n```"
        parts.append(text)
    title, *rest = parts
    return "\n\n".join([title, f"*The notebook is `{source}` in the repository.*", *rest])


def relinked(text: str, source: str, target: str, pages: dict[str, str]) -> str:
    """The same text with links from ``target`` in the site in the place of those from ``source``."""

    def link(match: re.Match[str]) -> str:
        file = os.path.normpath(Path(source).parent / match[2])
        page = pages.get(file, os.path.relpath(file, "docs"))
        return match[1] + os.path.relpath(page, Path(target).parent) + match[3]

    return LINK.sub(link, text)
