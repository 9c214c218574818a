"""The frozen words of lists; where they come from and their licence stand in ``vocabulary.txt``."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from sparsestudy.errors import StudyError

# Part of the code, so that other words make what was computed with these stale.
SHA256 = "5f0481b593df3748fa28da6c0278dbfba3fc6e8c706c4b00857ddbf8faa58838"


@cache
def vocabulary(pool: str) -> tuple[str, ...]:
    """600 words for the pool "ladder", 8,000 for "full", in a fixed order.

    Raises:
        StudyError: the file is not the one that belongs to this version.
    """
    file = Path(__file__).with_name("vocabulary.txt")
    text = file.read_bytes()
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise StudyError(
            f"{file.name} has changed, and with it every list of words; restore it from git, or put its "
            "sha256 into vocabulary.py if the change is meant."
        )
    _, few, more = text.decode().split("\n\n")
    return tuple((few if pool == "ladder" else few + "\n" + more).split())
