"""Story multi-hop: what was bought last before a given item."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Measures
from sparsestudy.tasks.journey import Scene
from sparsestudy.tasks.narrative import Chapter, Story
from sparsestudy.tasks.narrative_forms import understand
from sparsestudy.tasks.parsing import matches
from sparsestudy.tasks.prompt import Parts, Sample
from sparsestudy.tasks.story import StoryTask, first_sentence, known, longest, named

ASKED = re.compile(r"Which item did Rowan buy last before the (\w+ \w+ \w+)\?")

# Purchases at least, so that the answer is not the only other item.
PURCHASES = 3


@dataclass(frozen=True)
class StoryMultihop(StoryTask):
    """The item bought last before a given one.

    Args:
        purchase_share: share of the chapters in which something is bought, above 0 and at most 1. The number
            of chapters from one purchase to the next is geometric: always 1 for a share of 1, as in the
            reference, and 2.5 on average for 0.4.
        chapter_words: see :class:`StoryTask`.

    An item owned is sold in up to half of the chapters, and in three of four without a purchase an item is
    seen and not bought. Neither decides the answer, but they are lures: the item asked about may come again
    where it is sold, and the item named last before it is the answer in less than half of the samples.

    Score: exact match of the item's name; case and a leading article do not count.

    Source: Story Multi-hop of sparse-frontier (commit 31d86c1; arXiv 2504.17768, section on tasks); sentences
    and names are our own.

    Deviations: not every chapter has a purchase (in the reference every one has, so that two neighboring
    chapters hold question and answer); items are also seen and not bought; both purchases are recorded as
    evidence, the earlier one first; no two items share two of their three words, while the pool has enough;
    the answer is the first item of the reply other than the one asked about, whatever stands around it; a
    reply without one scores 0 (the reference leaves it out of the mean).
    """

    name: ClassVar[str] = "story_multihop"
    measures: ClassVar[Measures] = Measures("low", "high", "semi-synthetic")
    offers = 0.75

    purchase_share: float = 0.4

    def __post_init__(self) -> None:
        """Check the share."""
        super().__post_init__()
        if not 0 < self.purchase_share <= 1:
            raise StudyError(
                f"story_multihop needs a purchase_share above 0 and at most 1, not {self.purchase_share}."
            )

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return True

    @property
    def answer_tokens(self) -> int:
        """The name of an item, and a full stop."""
        return longest("item", self.pool) + 8

    @property
    def fewest(self) -> int:
        """As many as purchases."""
        return PURCHASES

    def buys(self, scenes: Sequence[Scene]) -> list[bool]:
        """See :meth:`StoryTask.buys`; the fewest purchases however small the share."""
        rank = sorted(scene.rank for scene in scenes)[PURCHASES - 1]
        return [scene.rank <= max(self.purchase_share, rank) for scene in scenes]

    def ask(self, scenes: Sequence[Scene], log: Sequence[Chapter], story: Story, luck: int) -> Parts:
        """See :meth:`StoryTask.ask`."""
        bought = [chapter for chapter in log if chapter.bought]
        # The product is exact in integers, and moves with the number of purchases as little as possible.
        place = 1 + (luck * (len(bought) - 1) >> 64)
        before, target = bought[place - 1 : place + 1]
        return Parts(
            introduction=self.introduction,
            context=story.text,
            question=f"Which item did Rowan buy last before the {target.bought}?",
            form=self.form("the name alone."),
            prefix=f"Before the {target.bought} Rowan last bought the",
            evidence=tuple(story.facts[chapter.number, "purchase"] for chapter in (before, target)),
            answer=(str(before.bought),),
            chance=1 / (len(bought) - 1),
            blind=1 / (known("item", self.pool) - 1),
        )

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The first item named other than the one asked about; None without one."""
        if self.preset == "direct":
            text = first_sentence(f"{text}\n") or ""
        asked = ASKED.findall(sample.prompt)
        return tuple(name for name in named(text, "item", self.pool) if name not in asked)[:1] or None

    def answered(self, reply: str) -> bool:
        """Whether a reply's first sentence is complete."""
        return first_sentence(reply) is not None

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """See :meth:`Task.grade`."""
        return matches(found, gold)

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        asked = ASKED.search(prompt)
        if asked is None:
            raise StudyError("The prompt holds no question of story_multihop.")
        bought = [event.value for event in understand(prompt) if event.kind == "purchase"]
        return bought[bought.index(asked[1]) - 1]
