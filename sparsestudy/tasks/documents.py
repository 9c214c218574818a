"""Documents that fill a prompt: whole ones, and the beginning of one more, in whole sentences."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

from sparsestudy.errors import StudyError
from sparsestudy.seeds import seed_of
from sparsestudy.tasks.base import Split
from sparsestudy.tasks.filling import FILL, TRIES, Frame
from sparsestudy.tasks.parsing import SENTENCE_END
from sparsestudy.tasks.prompt import Parts

# What stands between two documents; a document may hold blank lines of its own.
JOINT = "\n\n---\n\n"
# Documents whose beginnings may close the gap behind the last whole one.
CLOSERS = 12
# No token is longer on average in natural text; the beginnings tried are not longer than the gap.
MOST_CHARACTERS = 8
_WORD_END = re.compile(r"(?<=\w)(?=\s|$)")
# In ten: the splits of finite data.
_SHARES: tuple[tuple[int, Split], ...] = ((2, "train"), (4, "calibration"), (10, "eval"))


@dataclass(frozen=True)
class Question:
    """A question about a document.

    Args:
        text: as it is asked, choices included.
        answer: the gold values.
        chance: expected score of a guess, where the question alone decides it.
        kind: of the answer; a task may leave it empty.
        form: of the question, likewise; forms take turns.
        lead: beginning of the answer, put into the model's mouth with the preset "direct".
    """

    text: str
    answer: tuple[str, ...]
    chance: float = 0.0
    kind: str = ""
    form: str = ""
    lead: str = "Answer:"


@dataclass(frozen=True)
class Document:
    """A document and the questions about it.

    Args:
        name: that no other document has.
        text: without spaces around it.
        questions: none for one that can only distract.
        group: documents that belong together, such as those of one article, share a split; empty for one
            that stands alone.
    """

    name: str
    text: str
    questions: tuple[Question, ...] = ()
    group: str = ""

    @property
    def split(self) -> Split:
        """The split it belongs to, wherever and with whatever other documents it is read."""
        place = seed_of("split", self.group or self.name) % 10
        return next(split for below, split in _SHARES if place < below)


@dataclass(frozen=True)
class Pool:
    """The documents of one split.

    Args:
        documents: all of them.
        asked: those with questions.
    """

    documents: tuple[Document, ...]
    asked: tuple[Document, ...]

    @cached_property
    def longest(self) -> tuple[Document, Question]:
        """The longest document that is asked about, with its longest question."""
        document = max(self.asked, key=lambda one: len(one.text))
        return document, max(document.questions, key=lambda one: len(one.text))


class Library:
    """Documents in their splits.

    Args:
        documents: each once.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        found: dict[Split, list[Document]] = {split: [] for _, split in _SHARES}
        for document in documents:
            found[document.split].append(document)
        self.splits = {
            split: Pool(tuple(own), tuple(one for one in own if one.questions))
            for split, own in found.items()
        }


def fill(frame: Frame, make: Callable[[list[str]], Parts], bare: int, others: Iterator[str]) -> Parts:
    """The longest prompt that fits with documents as they come, and the beginning of one more.

    The beginning is cut behind a sentence, or behind a word where no sentence is short enough for 95 %.

    Args:
        frame: of the prompt.
        make: the parts with a list of other documents; longer for more.
        bare: tokens of the prompt without any.
        others: documents in the order in which they are taken.

    Raises:
        StudyError: the documents run out below 95 % of the length.
    """
    room = frame.length - bare
    texts, sizes = _taken(frame, others, room)
    # A slack of some tokens moves the edge by a document at most.
    first = max(bisect_right(list(accumulate(sizes)), room) - 1, 0)
    for end in (SENTENCE_END, _WORD_END):
        cuts = _beginnings(frame, texts[first : first + CLOSERS], room, end)
        best, most, slack = make([]), bare, 0
        for _ in range(TRIES):
            chosen, planned = _chosen(sizes, first, cuts, room - slack)
            parts = make([texts[i][:stop] for i, stop in chosen])
            total = frame.tokens(parts)
            if most < total <= frame.length:
                best, most = parts, total
            missed = total - bare - planned
            if total == frame.length or missed == slack:
                break
            slack = missed
        if most >= FILL * frame.length:
            return best
    raise StudyError(
        f"{frame.what} has too few documents to fill {frame.length} tokens; ask for a shorter length."
    )


def _taken(frame: Frame, others: Iterator[str], room: int) -> tuple[list[str], list[int]]:
    """Documents until the room is used up and some more, and the tokens that each adds."""
    texts: list[str] = []
    sizes: list[int] = []
    while sum(sizes) <= room:
        rest = (room - sum(sizes)) * len(sizes) // max(sum(sizes), 1)
        more = list(islice(others, max(4, rest + 2)))
        if not more:
            break
        texts += more
        sizes += frame.sizes(more, JOINT)
    more = list(islice(others, CLOSERS))
    return texts + more, sizes + frame.sizes(more, JOINT)


def _beginnings(
    frame: Frame, texts: list[str], room: int, end: re.Pattern[str]
) -> list[list[tuple[int, int]]]:
    """For each document ``(tokens, characters)`` of its beginnings up to an `end`, itself included."""
    stops = []
    for text in texts:
        limit = MOST_CHARACTERS * (room + 1)
        ends = [match.end() for match in end.finditer(text[:limit])]
        stops.append([*ends, len(text)] if ends[-1:] != [len(text)] and len(text) <= limit else ends)
    pieces = [
        [text[a:b].strip() for a, b in zip([0, *ends], ends, strict=False)]
        for text, ends in zip(texts, stops, strict=True)
    ]
    opening = iter(frame.sizes([one[0] for one in pieces if one], JOINT))
    later = iter(frame.sizes([piece for one in pieces for piece in one[1:]]))
    found = []
    for ends in stops:
        counts = [*islice(opening, bool(ends)), *islice(later, max(len(ends) - 1, 0))]
        found.append(list(zip(accumulate(counts), ends, strict=True)))
    return found


def _chosen(
    sizes: list[int], first: int, cuts: list[list[tuple[int, int]]], goal: int
) -> tuple[list[tuple[int, int | None]], int]:
    """Which documents, each up to which character, and their tokens.

    Args:
        sizes: tokens of each document.
        first: the document that `cuts` begins with.
        cuts: beginnings of that document and the next ones.
        goal: most tokens.
    """
    ends = [0, *accumulate(sizes)]
    whole = bisect_right(ends, goal) - 1 if goal >= 0 else 0
    chosen: list[tuple[int, int | None]] = [(i, None) for i in range(whole)]
    gap = goal - ends[whole]
    fitting = [
        (size, -i, stop)
        for i, one in enumerate(cuts, first)
        for size, stop in one
        if i >= whole and size <= gap
    ]
    if not fitting:
        return chosen, ends[whole]
    size, place, stop = max(fitting)
    return [*chosen, (-place, stop)], ends[whole] + size
