"""Base of the tasks that ask about one of many documents."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import ClassVar

from sparsestudy.errors import StudyError
from sparsestudy.seeds import seed_of
from sparsestudy.tasks.base import Draw, Task
from sparsestudy.tasks.documents import JOINT, Document, Library, Pool, Question, fill
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.prompt import Parts

INTRODUCTION = "Read the documents."
# What the introduction says of the question, by its place.
ANSWERS = {
    "after": "One of them answers a question, which follows.",
    "before": "One of them answers the question.",
    "both": "One of them answers the question.",
}


@dataclass(frozen=True)
class DocumentTask(Task):
    """One question about one document, which stands among others that fill the length.

    The documents of a split are asked about in a random order of its own for every seed and length, so that
    no document comes twice before each has come once. Which other documents stand around it, and where it
    stands among them, is drawn for each sample.
    """

    introduction: ClassVar[str] = INTRODUCTION

    @abstractmethod
    def library(self) -> Library:
        """The documents of all splits; the same object whenever nothing has changed.

        Raises:
            StudyError: the data are not here.
        """

    @abstractmethod
    def ask(self, question: Question) -> tuple[str, str]:
        """The question as it is put, and what its answer must look like."""

    def admits(self, other: Document, gold: Document, question: Question) -> bool:
        """Whether another document may stand beside the gold one without answering its question."""
        return other is not gold

    def guessed(self, question: Question, texts: Sequence[str]) -> float:
        """Expected score of a reply that guesses in the right form, with these documents before it."""
        return question.chance

    def blind(self, question: Question, pool: Pool) -> float | None:
        """The same with no document before it; None where the question alone decides it."""
        return None

    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """See :meth:`Task.compose`; at a length too short for the longest document none is asked about."""
        pool = self.library().splits[draw.split]
        if not pool.asked:
            raise StudyError(f"{frame.what} has no question in the split '{draw.split}'; add documents.")
        frame.needed(self._parts(*pool.longest, [], 0), "document", "shorter documents")
        gold, question = self._gold(pool.asked, frame.length, draw)
        place = draw.rng.random()
        order = draw.rng.sample(range(len(pool.documents)), len(pool.documents))
        others = (pool.documents[i] for i in order)

        def make(texts: list[str]) -> Parts:
            return self._parts(gold, question, texts, place)

        bare = frame.needed(make([]), "document", "shorter documents")
        parts = fill(frame, make, bare, (one.text for one in others if self.admits(one, gold, question)))
        chance, blind = self.guessed(question, parts.context.split(JOINT)), self.blind(question, pool)
        # Nobody guesses better for knowing less.
        return replace(parts, chance=chance, blind=None if blind is None else min(blind, chance))

    def _gold(self, asked: Sequence[Document], length: int, draw: Draw) -> tuple[Document, Question]:
        """The document and the question of a sample: all documents in turn, then their next questions."""
        key = seed_of("order", self.name, draw.split, draw.seed, length)
        gold = asked[_order(key, len(asked))[draw.index % len(asked)]]
        turn = _turns(gold, seed_of(key, gold.name))
        return gold, turn[draw.index // len(asked) % len(turn)]

    def _parts(self, gold: Document, question: Question, others: list[str], place: float) -> Parts:
        """The prompt's parts with the gold document at a relative place among the others."""
        at = round(place * len(others))
        texts = [*others[:at], gold.text, *others[at:]]
        text, form = self.ask(question)
        start = sum(len(text) + len(JOINT) for text in texts[:at])
        return Parts(
            introduction=f"{self.introduction} {ANSWERS[self.question]}",
            context=JOINT.join(texts),
            question=text,
            form=form,
            prefix=question.lead,
            evidence=((start, start + len(gold.text)),),
            answer=question.answer,
            chance=0.0,
            joint=JOINT,
            document=gold.name,
        )


@lru_cache(maxsize=64)
def _order(key: int, number: int) -> list[int]:
    return random.Random(key).sample(range(number), number)


def _turns(document: Document, key: int) -> list[Question]:
    """The questions about a document in random order, their forms in turn."""
    rng = random.Random(key)
    forms = sorted({question.form for question in document.questions})
    rng.shuffle(forms)
    by_form = [[one for one in document.questions if one.form == form] for form in forms]
    rounds = zip_longest(*(rng.sample(own, len(own)) for own in by_form))
    return [question for one in rounds for question in one if question is not None]
