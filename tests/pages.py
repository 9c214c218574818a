"""The sources of the pages, taken apart for tests."""

from __future__ import annotations

import re
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1] / "book"
PAGES = sorted(BOOK.glob("*.md"))
_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def code_cells(page: Path) -> list[str]:
    """The code of every cell of a page, in order; a page without cells is an error."""
    found = _CELL.findall(page.read_text(encoding="utf-8"))
    assert found, f"{page.name} has no cells"
    return found


def prose(text: str) -> str:
    """The text of a page that a reader takes for prose: no code, math, roles, targets or front matter."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^(```+|:::+)[^\n]*\n.*?^\1[ ]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]*\$", "", text)
    text = re.sub(r"\{[a-z:]+\}`[^`]*`", "", text)
    text = re.sub(r"`[^`]*`", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"<https?://[^>]*>", "", text)
