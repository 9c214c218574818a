"""Passages of the shipped novels, and questions that rules make of them.

A question is kept only if its answer stands exactly once in its passage and shares no word with the
question, and if no other passage of either novel holds more than half of the question's telling words: a
distractor then cannot answer it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

from sparsestudy.prose import BOOKS, Book, paragraphs
from sparsestudy.tasks.answers import words_of
from sparsestudy.tasks.parsing import SENTENCE_END
from sparsestudy.tasks.prose_words import ASKS, CLAUSES, COMMON, LETTERS, PATTERNS, SAID, SAYS, Form, Kind

# Words of a passage, and where one ends if a paragraph does not end it earlier.
LEAST, FULL, MOST = 60, 80, 120
# Words of a clue, and telling ones among them.
CLUE, TELLING = 16, 4
# Words before a gap at least.
LEADING = 3
# A word asked for occurs in so many passages at most, so that the sentence alone does not give it away.
RARE = 2

_WORD = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Asked:
    """A question that a rule made of a passage.

    Args:
        text: the question.
        answer: a span of the passage.
        kind: what the answer is.
        form: of the question: who says, who, whose, or what is missing in a sentence.
        lead: a beginning of the answer; where something is missing, the sentence up to there.
    """

    text: str
    answer: str
    kind: Kind
    form: Form
    lead: str


@dataclass(frozen=True)
class Passage:
    """A short stretch of a novel, in whole sentences.

    Args:
        name: of the book, and the passage's number in it.
        text: its sentences; paragraphs are parted by line breaks.
        asked: the questions.
    """

    name: str
    text: str
    asked: tuple[Asked, ...] = field(default=(), compare=False)


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; titles before names end none."""
    ends = [found.end() for found in SENTENCE_END.finditer(paragraph)]
    return [part for a, b in pairwise([0, *ends, len(paragraph)]) if (part := paragraph[a:b].strip())]


def passages(book: Book) -> Iterator[Passage]:
    """The passages of a book in order; a sentence that is too long for one is left out with its passage."""
    number = 0
    lines: list[list[str]] = []
    size = 0

    def close() -> Passage | None:
        nonlocal number, lines, size
        text, words = "\n".join(" ".join(line) for line in lines), size
        lines, size = [], 0
        if not LEAST <= words <= MOST:
            return None
        number += 1
        return Passage(f"{book.name} {number}", text)

    for paragraph in paragraphs(book):
        fresh = True
        for sentence in sentences(paragraph):
            length = len(sentence.split())
            if size >= FULL or (size and size + length > MOST):
                if made := close():
                    yield made
                fresh = True
            if fresh:
                lines.append([])
                fresh = False
            lines[-1].append(sentence)
            size += length
        if size >= LEAST and (made := close()):
            yield made
    if made := close():
        yield made


def telling(text: str) -> frozenset[str]:
    """The words of a text that say something: three letters or more, and not the commonest."""
    return frozenset(w for w in LETTERS.findall(text.lower()) if len(w) > 2 and w not in COMMON)


def candidates(text: str, rare: frozenset[str]) -> Iterator[tuple[Asked, str]]:
    """Questions about a passage, each with the part of it that it quotes; some will fail the tests.

    Args:
        text: of the passage.
        rare: words that may be asked for.
    """
    for line in text.split("\n"):
        for found in SAID.finditer(line):
            clue = " ".join(found["quote"].split()[-CLUE:])
            yield _said(clue, found["name"]), clue
        for found in SAYS.finditer(line):
            clue = " ".join(found["quote"].split()[:CLUE]).rstrip(",.;:!?-")
            yield _said(clue, found["name"] or found["before"]), clue
        for sentence in sentences(line):
            for form, pattern in CLAUSES.items():
                for found in pattern.finditer(sentence):
                    if clue := _clause(found[2]):
                        asks = f"{form.capitalize()} {clue}?"
                        yield Asked(asks, found[1], "person", form, "Answer: It is"), clue
            for kind, spans in PATTERNS.items():
                for one in spans.finditer(sentence):
                    if kind == "word" and one[0] not in rare:
                        continue
                    before, after = _around(sentence, one.start(), one.end())
                    # A name at the beginning is asked for with "who", or not at all.
                    if len(before.split()) >= LEADING and after:
                        asks = f'{ASKS[kind]} is missing in "{before}___{after}"?'
                        yield (
                            Asked(asks, one[0], kind, "missing", f'The text says: "{before}'.rstrip()),
                            f"{before} {after}",
                        )


def _said(clue: str, name: str) -> Asked:
    return Asked(f'Who says "{clue}"?', name, "person", "says", "These are the words of")


def _clause(text: str) -> str:
    """The beginning of a sentence's rest in whole clauses, six words at least; empty where there is none."""
    words = text.rstrip(".!?\"' ").split()
    short = " ".join(words[:CLUE])
    if len(words) > CLUE:
        short = short[: max(short.rfind(mark) for mark in ",;:") + 1]
    short = re.split(r"[;:]|--", short)[0].rstrip(" ,")
    return short if len(short.split()) >= 6 else ""


def _around(sentence: str, start: int, stop: int) -> tuple[str, str]:
    """Up to half a clue of words on either side of a span, none beyond a quotation mark."""
    before = sentence[:start].rpartition('"')[2]
    after = sentence[stop:].partition('"')[0]
    lead, rest = before.split(" "), after.split(" ")
    # The word that touches the span stands on the inner edge, with none of it where a space parts them.
    return " ".join(lead[-CLUE // 2 - 1 :]).lstrip(), " ".join(rest[: CLUE // 2 + 1]).rstrip()


@cache
def library() -> tuple[Passage, ...]:
    """Every passage of both books with the questions that stand all tests."""
    plain = [passage for book in BOOKS for passage in passages(book)]
    places: defaultdict[str, set[int]] = defaultdict(set)
    for i, passage in enumerate(plain):
        for word in telling(passage.text):
            places[word].add(i)
    rare = frozenset(word for word, found in places.items() if len(found) <= RARE)
    return tuple(
        Passage(
            passage.name,
            passage.text,
            tuple(
                asked
                for asked, clue in candidates(passage.text, rare)
                if fair(asked, passage.text) and _apart(telling(clue), i, places)
            ),
        )
        for i, passage in enumerate(plain)
    )


def fair(asked: Asked, text: str) -> bool:
    """Whether an answer stands exactly once in its passage, and shares no word with its question."""
    shared = set(words_of(asked.answer)) & set(words_of(asked.text))
    return not shared and _bounded(text).count(_bounded(asked.answer)) == 1


@lru_cache(maxsize=4096)
def _bounded(text: str) -> str:
    """The words of a text with exactly one space on both sides of each."""
    return f" {'  '.join(_WORD.findall(text))} "


def _apart(clue: frozenset[str], own: int, places: dict[str, set[int]]) -> bool:
    """Whether a clue has telling words enough, and no other passage has more than half of them."""
    if len(clue) < TELLING:
        return False
    found = sorted((places.get(word, set()) for word in clue), key=len)
    # A passage with more than half of the words has one of the rarer half.
    near = set().union(*found[: (len(found) + 1) // 2]) - {own}
    return all(2 * sum(i in one for one in found) <= len(clue) for i in near)


@cache
def mentions(text: str) -> dict[str, Counter[str]]:
    """What a text holds of each kind, and how often; a guess may name any of it."""
    return {kind: Counter(pattern.findall(text)) for kind, pattern in PATTERNS.items()}
