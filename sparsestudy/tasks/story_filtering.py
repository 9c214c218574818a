"""Story filtering: in which chapters nothing is bought."""

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
from sparsestudy.tasks.parsing import guessed_iou, numbered
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts, Sample
from sparsestudy.tasks.sets import SetTask
from sparsestudy.tasks.story import StoryTask

# "There are 3 chapters" names no chapter.
COUNT = re.compile(r"\b\d+\s+chapters\b", re.IGNORECASE)
# "3-5" or "3 to Chapter 5", in one line: a hyphen before the number of the next line is a bullet.
RANGE = re.compile(
    r"(?<![\d-])(\d+)[ \t*]*(?:-|–|—|\bto\b|\bthrough\b)[ \t*]*(?:chapter[ \t]+)?(\d+)(?![\d-])",
    re.IGNORECASE,
)
# A wider range is taken for its two ends, so that no reply can ask for millions of numbers.
WIDEST = 10_000


@dataclass(frozen=True)
class StoryFiltering(SetTask, StoryTask):
    """The chapters of a narrative in which nothing is bought.

    Args:
        chapters_in_question: how many there are.
        state_count: whether the question says how many. If not, the reader must decide when to stop; the
            number is the same in every sample all the same.
        chapter_words: see :class:`StoryTask`.

    Something is bought in every other chapter. Chapters in which only something is sold are lures.

    Score: intersection over union of chapter numbers.

    Source: Story Filtering of sparse-frontier (commit 31d86c1; arXiv 2504.17768, section on tasks); sentences
    and names are our own.

    Deviations: no item is sold that was not bought before (the reference removes purchases and leaves later
    sales of the same items); a sentence of equally many words stands in the place of the purchase, where the
    reference leaves chapters without a purchase shorter; stating the number is a choice; a list after
    "Chapter", ranges as "3-5", "and", and numbered or bold lines are read as what they mean; an empty reply
    scores 0 (the reference leaves it out of the mean). The chance level is that of so many distinct chapters
    drawn at random, also where the number is not stated.
    """

    name: ClassVar[str] = "story_filtering"
    measures: ClassVar[Measures] = Measures("high", "low", "semi-synthetic")

    chapters_in_question: int = by_preset(direct=2, paper=3)
    state_count: bool = True

    def __post_init__(self) -> None:
        """Check the number of chapters."""
        super().__post_init__()
        if self.chapters_in_question < 1:
            raise StudyError(
                f"story_filtering needs chapters_in_question of at least 1, not {self.chapters_in_question}."
            )

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return False

    @property
    def answer_tokens(self) -> int:
        """A number of up to six digits, and what stands between two."""
        return 10 * self.chapters_in_question + 10

    @property
    def fewest(self) -> int:
        """One chapter with a purchase at least, so that there is something to filter."""
        return self.chapters_in_question + 1

    def buys(self, scenes: Sequence[Scene]) -> list[bool]:
        """See :meth:`StoryTask.buys`."""
        without = sorted(range(len(scenes)), key=lambda i: scenes[i].rank)[: self.chapters_in_question]
        return [i not in without for i in range(len(scenes))]

    def ask(self, scenes: Sequence[Scene], log: Sequence[Chapter], story: Story, luck: int) -> Parts:
        """See :meth:`StoryTask.ask`."""
        numbers = [chapter.number for chapter in log if chapter.bought is None]
        one = self.state_count and self.chapters_in_question == 1
        which = f"{self.chapters_in_question} chapters" if self.state_count else "chapters"
        form = "the numbers alone, with commas between them."
        if one:
            which, form = "chapter", "the number alone."
        return Parts(
            introduction=self.introduction,
            context=story.text,
            question=f"In which {which} did Rowan buy no item?",
            form=self.form(form),
            prefix=f"Rowan bought no item in {'chapter' if one else 'chapters'}",
            evidence=tuple(story.chapters[number] for number in numbers),
            answer=tuple(map(str, numbers)),
            chance=guessed_iou(self.chapters_in_question, len(log)),
            joint="\n\n",
        )

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The numbers of chapters in a reply; None if it has none."""
        if self.preset == "direct":
            text = text.split("\n")[0].split(".")[0]
        return chapter_numbers(text) or None

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        events = [event for event in understand(prompt) if event.chapter]
        bought = {event.chapter for event in events if event.kind == "purchase"}
        return ", ".join(str(n) for n in sorted({event.chapter for event in events} - bought))


def chapter_numbers(text: str) -> tuple[str, ...]:
    """The numbers that a reply lists, each once, in its order; ranges stand for all they hold."""
    lines = numbered(text)
    # Lines numbered from 1 number the list, if each has a number of its own.
    if len(lines) > 1 and list(lines) == [*range(1, len(lines) + 1)]:
        rest = list(lines.values())
        text = "\n".join(rest) if all(re.search(r"\d", line) for line in rest) else text
    text = RANGE.sub(_spelled, COUNT.sub(" ", text))
    return tuple(dict.fromkeys(str(int(number)) for number in re.findall(r"\d+", text)))


def _spelled(match: re.Match[str]) -> str:
    """A range as a list."""
    first, last = int(match[1]), int(match[2])
    if not first <= last <= first + WIDEST:
        return f"{first}, {last}"
    return ", ".join(map(str, range(first, last + 1)))
