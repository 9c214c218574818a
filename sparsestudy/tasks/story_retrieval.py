"""Story retrieval: which place, person or item a chapter tells of."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Measures
from sparsestudy.tasks.journey import Scene
from sparsestudy.tasks.narrative import Chapter, Story
from sparsestudy.tasks.narrative_forms import Kind, understand
from sparsestudy.tasks.parsing import listed, matches, numbered
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts, Sample
from sparsestudy.tasks.story import Asked, StoryTask, first_sentence, kind_of, known, longest, named

KINDS: tuple[Asked, ...] = ("location", "character", "item")
TOLD: dict[Asked, Kind] = {"location": "arrival", "character": "meeting", "item": "purchase"}
QUESTIONS: dict[Asked, str] = {
    "location": "Which place did Rowan reach in chapter {}?",
    "character": "Which person did Rowan meet in chapter {}?",
    "item": "Which item did Rowan buy in chapter {}?",
}
PREFIXES: dict[Asked, str] = {
    "location": "In chapter {} Rowan reached",
    "character": "In chapter {} Rowan met",
    "item": "In chapter {} Rowan bought the",
}
ASKED = re.compile(r"Which (place|person|item) did Rowan \w+ in chapter (\d+)\?")
WORD: dict[str, Kind] = {"place": "arrival", "person": "meeting", "item": "purchase"}

ALONE = "the name alone."
LINES = "one numbered line for each question, in their order: the number, a full stop, and the name alone."


@dataclass(frozen=True)
class StoryRetrieval(StoryTask):
    """The place reached, the person met or the item bought in given chapters of a narrative.

    Args:
        queries: questions, each about a chapter of its own, in random order.
        chapter_words: see :class:`StoryTask`.

    Something is bought in every chapter. In about half of them an item bought earlier is sold: a lure for
    questions about items.

    Score: mean over queries of exact match; case and a leading article do not count.

    Source: Story Retrieval of sparse-frontier (commit 31d86c1; arXiv 2504.17768, section on tasks); sentences
    and names are our own.

    Deviations: places, persons and items are asked for equally often (to within one), where the reference
    draws the kind of each question; the order of facts within a chapter varies, and no two names are alike;
    the value of a line is the first name of the asked kind in it, so that a closing full stop, bold type,
    brackets, "1 - x" or a sentence around the name do no harm (the reference needs the bare name), and lines
    without numbers count in their order if there are as many as questions.
    """

    name: ClassVar[str] = "story_retrieval"
    measures: ClassVar[Measures] = Measures("low", "low", "semi-synthetic")

    queries: int = by_preset(direct=1, paper=16)

    def __post_init__(self) -> None:
        """Check the number of queries."""
        super().__post_init__()
        if self.queries < 1:
            raise StudyError(f"story_retrieval needs queries of at least 1, not {self.queries}.")

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return self.queries == 1

    @property
    def answer_tokens(self) -> int:
        """A line holds a number and a name, or the name alone."""
        return self.queries * (longest("item", self.pool) + 8)

    @property
    def fewest(self) -> int:
        """Three, so that there is something to choose from."""
        return max(self.queries, 3)

    def buys(self, scenes: Sequence[Scene]) -> list[bool]:
        """See :meth:`StoryTask.buys`."""
        return [True] * len(scenes)

    def ask(self, scenes: Sequence[Scene], log: Sequence[Chapter], story: Story, luck: int) -> Parts:
        """See :meth:`StoryTask.ask`."""
        asked = sorted(range(len(scenes)), key=lambda i: scenes[i].rank)[: self.queries]
        pairs = [(log[i], kind) for i, kind in zip(asked, _kinds(self.queries, luck), strict=True)]
        questions = [QUESTIONS[kind].format(chapter.number) for chapter, kind in pairs]
        spans = [(story.headers[c.number], story.facts[c.number, TOLD[kind]]) for c, kind in pairs]
        single = self.queries == 1
        return Parts(
            introduction=self.introduction,
            context=story.text,
            question=questions[0] if single else "\n".join(f"{i}. {q}" for i, q in enumerate(questions, 1)),
            form=self.form(ALONE if single else LINES),
            prefix=PREFIXES[pairs[0][1]].format(pairs[0][0].number) if single else "Answers:",
            evidence=tuple(span for both in sorted(spans) for span in both),
            answer=tuple(_value(chapter, kind) for chapter, kind in pairs),
            chance=sum(1 / _distinct(log, kind) for _, kind in pairs) / self.queries,
            blind=sum(1 / known(kind, self.pool) for _, kind in pairs) / self.queries,
        )

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """One value a question, empty where its line names none; None if no line does."""
        kinds = [kind_of(value, self.pool) for value in sample.answer]
        if self.queries == 1:
            if self.preset == "direct":
                text = first_sentence(f"{text}\n") or ""
            lines = {1: text}
        else:
            lines = numbered(text) or self._in_order(text)
        names = [named(lines.get(i, ""), kind, self.pool)[:1] for i, kind in enumerate(kinds, 1)]
        return tuple(name[0] if name else "" for name in names) if any(names) else None

    def _in_order(self, text: str) -> dict[int, str]:
        """Lines, or the values of a list in one line, if there is one for each question."""
        lines = [line for line in text.splitlines() if line.strip()]
        values = listed(text) if len(lines) == 1 else lines
        return dict(enumerate(values, 1)) if len(values) == self.queries else {}

    def answered(self, reply: str) -> bool:
        """Whether a reply has all its lines; with one question, whether its first sentence is complete."""
        if self.queries == 1:
            return first_sentence(reply) is not None
        return sum(bool(line.strip()) for line in reply.split("\n")[:-1]) >= self.queries

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """See :meth:`Task.grade`."""
        return matches(found, gold)

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        told = {(event.chapter, event.kind): event.value for event in understand(prompt)}
        asked = list(dict.fromkeys(ASKED.findall(prompt)))
        values = [told[int(number), WORD[word]] for word, number in asked]
        return values[0] if self.queries == 1 else "\n".join(f"{i}. {v}" for i, v in enumerate(values, 1))


def _kinds(queries: int, luck: int) -> list[Asked]:
    """What each question asks for; the kinds differ in number by one at most."""
    rng = random.Random(luck)
    order = rng.sample(KINDS, len(KINDS))
    kinds = [order[i % len(order)] for i in range(queries)]
    rng.shuffle(kinds)
    return kinds


def _value(chapter: Chapter, kind: Asked) -> str:
    return {"location": chapter.location, "character": chapter.character, "item": chapter.bought or ""}[kind]


def _distinct(log: Sequence[Chapter], kind: Asked) -> int:
    """How many names of this kind the narrative has; guessing takes one of them."""
    return len({_value(chapter, kind) for chapter in log})
