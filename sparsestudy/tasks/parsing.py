"""Reading replies: what stands around an answer is taken off, the same way for every task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import comb

_BLOCK = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(r"^\W{0,4}(\d{1,4})\s*(?:\*\*|__|\])?\s*[.):\-–]+\s*(.*)$")
_AROUND = " \t\r\n*_`'\"“”‘’()[]{}<>"
_BEHIND = ".,;:!"
# The end of a sentence of natural text; titles and initials before names end none.
SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bEsq)(?<!\bSt)(?<!\b[A-Z])[.!?][\"')\]]*(?=\s|$)"
)
_BULLET = r"[ \t]*[-*•][ \t]+"
_WORD = re.compile(rf"(?:^{_BULLET})?[^\W_]", re.MULTILINE)
_ENTRY = re.compile(rf"{_BULLET}|\W{{0,4}}\d{{1,2}}(?:\*\*|__|\])?[.)]")
_ARTICLE = re.compile(r"^(?:the|an|a)\s+", re.IGNORECASE)


def answer_block(reply: str) -> str | None:
    """What the last complete answer block holds; None without one (a cut reply, or no tags)."""
    blocks = _BLOCK.findall(reply)
    return str(blocks[-1]) if blocks else None


def spoken(reply: str) -> str:
    """A reply from its first letter or digit on, a bullet before it included; empty while it holds none."""
    first = _WORD.search(reply)
    return reply[first.start() :] if first else ""


def bare(text: str) -> str:
    """A value without brackets, quotes, bold type, spaces and closing punctuation around it."""
    before = None
    while text != before:
        before = text
        text = text.strip(_AROUND).rstrip(_BEHIND)
    return text


def plain(text: str) -> str:
    """A bare value in lower case, single-spaced, without its article."""
    return _ARTICLE.sub("", " ".join(bare(text).lower().split()))


def numbered(text: str) -> dict[int, str]:
    """Numbered lines: number -> the rest of its line; the first line of a number counts.

    Accepted are ``1. x``, ``1) x``, ``1: x``, ``1 - x``, and bold or bracketed numbers.
    """
    found: dict[int, str] = {}
    for line in text.splitlines():
        match = _NUMBERED.match(line.strip())
        if match:
            found.setdefault(int(match[1]), match[2].strip())
    return found


def is_entry(line: str) -> bool:
    """Whether a line, or what there is of it, begins as those of a list do: a bullet, ``1.`` or ``1)``."""
    return _ENTRY.match(line) is not None


def listed(text: str) -> list[str]:
    """The values of a list, bare: separated by commas, semicolons, lines, bullets or "and"."""
    parts = re.split(r"[,;\n•]|\band\b|&", text)
    return [value for value in map(bare, parts) if value]


def matches(found: Iterable[str], gold: tuple[str, ...]) -> float:
    """Share of the gold values that stand in their place."""
    return sum(a == b for a, b in zip(found, gold, strict=False)) / len(gold)


def iou(found: Iterable[str], gold: Iterable[str]) -> float:
    """Values in both sets over values in either; 1 for two empty sets."""
    one, other = set(found), set(gold)
    return len(one & other) / len(one | other) if one | other else 1.0


def guessed_iou(wanted: int, there: int) -> float:
    """Mean intersection over union of as many values as wanted, drawn at random from all that are there."""
    ways = [comb(wanted, hits) * comb(there - wanted, wanted - hits) for hits in range(wanted + 1)]
    return sum(way * hits / (2 * wanted - hits) for hits, way in enumerate(ways)) / comb(there, wanted)
