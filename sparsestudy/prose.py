"""Natural text that ships with the package: two public-domain novels, checked by sha256 when they are read.

Where they come from and why they may be passed on stands in ``texts/ORIGIN.md``. Imports no torch.
"""

from __future__ import annotations

import hashlib
import lzma
import random
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.seeds import seed_of

# A token has fewer characters than this on average: 4.4 with SmolLM2's vocabulary of 49k on these texts.
MOST_CHARACTERS = 6
# Titles, headings, editorial notes and rows of stars; everything else is the author's.
_ASIDE = re.compile(r"(?:chapter|volume) +[0-9ivxl]+\.?|finis|the end|\[.*\]|[* ]+", flags=re.IGNORECASE)
_FIRST = re.compile(r"^chapter +1$", flags=re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Book:
    """One text.

    Args:
        name: of its file.
        title: as readers know it.
        sha256: of the text before compression.
    """

    name: str
    title: str
    sha256: str


BOOKS = (
    Book("persuasion", "Persuasion", "8061549557aebd2fd6e353d18d9197cb707029112bd52d4d8b174583a925848a"),
    Book(
        "sense", "Sense and Sensibility", "105e1651fe93bed7130078578efd31e0c557d68667ba672ddc876f735b30fe09"
    ),
)


@dataclass(frozen=True)
class Passage:
    """A run of natural text in tokens.

    Args:
        ids: token ids, the tokenizer's own first token included where it sets one.
        book: title of the book.
        text: what was tokenized, a little longer than `ids`.
    """

    ids: list[int]
    book: str
    text: str


@cache
def paragraphs(book: Book) -> tuple[str, ...]:
    """The paragraphs of a book in order, each on one line.

    Raises:
        StudyError: the file is not the one whose sha256 is known.
    """
    packed = files("sparsestudy").joinpath("texts", f"{book.name}.txt.xz").read_bytes()
    try:
        raw = lzma.decompress(packed)
    except lzma.LZMAError:
        raw = b""
    if hashlib.sha256(raw).hexdigest() != book.sha256:
        raise StudyError(
            f"The text of {book.title} in sparsestudy/texts is damaged (its sha256 is another one); "
            "restore it from git or install the package again."
        )
    text = raw.decode("ascii")
    begin = _FIRST.search(text)
    assert begin is not None
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text[begin.end() :]))
    return tuple(part for part in parts if part and not _ASIDE.fullmatch(part))


def passages(tokenizer: Any, tokens: int, number: int, seed: int) -> list[Passage]:
    """Passages that do not overlap, each from the start of a paragraph on.

    Args:
        tokenizer: the model's.
        tokens: tokens of each.
        number: how many.
        seed: of the order in which places are taken; fewer passages are the first of more.

    Raises:
        StudyError: the texts are too short for so many, or the tokenizer needs more tokens than they have.
    """
    room = MOST_CHARACTERS * tokens
    places = [place for book in BOOKS for place in _places(book, room)]
    if number > len(places):
        raise StudyError(
            f"The texts hold {len(places)} passages of {tokens} tokens, not {number}; ask for fewer "
            "or shorter ones."
        )
    random.Random(seed_of("passages", seed, tokens)).shuffle(places)
    own = [i for i in tokenizer("")["input_ids"] if i == tokenizer.bos_token_id]
    found = []
    for book, text in places[:number]:
        ids = own + tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) < tokens:
            raise StudyError(
                f"{len(text)} characters of text are {len(ids)} tokens with this model's tokenizer, and "
                f"{tokens} are needed; ask for a shorter length."
            )
        found.append(Passage(ids[:tokens], book.title, text))
    return found


def _places(book: Book, room: int) -> list[tuple[Book, str]]:
    """Stretches of whole paragraphs with at least `room` characters each, one after another."""
    found, held, size = [], [], 0
    for part in paragraphs(book):
        held.append(part)
        size += len(part) + 2
        if size >= room:
            found.append((book, "\n\n".join(held)))
            held, size = [], 0
    return found
