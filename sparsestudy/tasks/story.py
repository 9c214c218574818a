"""What the story tasks share: a narrative that fills the prompt, and the reading of its names in replies."""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Draw, SyntheticTask
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.journey import Journey, Scene
from sparsestudy.tasks.narrative import Chapter, Story, tell, write
from sparsestudy.tasks.narrative_forms import fillers
from sparsestudy.tasks.narrative_words import WORDS
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts

INTRODUCTION = "Read the story of a journey."
# The short form leaves a prompt of 128 tokens room for three chapters.
MORE = " In each chapter Rowan reaches a place and meets a person. Rowan may also buy or sell an item there."
Asked = Literal["location", "character", "item"]
SMALLEST, LARGEST = 15, 150
# Sentences of each number of words that may close the gap behind the last chapter.
CLOSING = 10
# Tokens of a word, its share of marks included, with the tokenizers of hub models.
WORD_TOKENS = 1.4
_FIRST = re.compile(r"(?:\W*\d+[.):]+)?[^.\n]*[^\s.][^.\n]*[.\n]")


@dataclass(frozen=True)
class StoryTask(SyntheticTask):
    """Base class of the story tasks.

    Args:
        chapter_words: words of a chapter, on average: 15 to 150. One of the paper's has about 150. With fewer
            than 25, chapters tell little but their facts.
    """

    # Share of the chapters without a purchase in which an item is seen and not bought.
    offers: ClassVar[float] = 0.0

    chapter_words: int = by_preset(direct=20, paper=150)

    def __post_init__(self) -> None:
        """Check the size of a chapter."""
        super().__post_init__()
        if not SMALLEST <= self.chapter_words <= LARGEST:
            raise StudyError(
                f"{self.name} needs chapter_words from {SMALLEST} to {LARGEST}, not {self.chapter_words}."
            )

    @property
    @abstractmethod
    def fewest(self) -> int:
        """Chapters that the question needs at least."""

    @property
    def introduction(self) -> str:
        """What the text is."""
        return INTRODUCTION if self.preset == "direct" else INTRODUCTION + MORE

    def form(self, what: str) -> str:
        """What the answer must look like."""
        return f"{'Answer with' if self.preset == 'direct' else 'Inside the answer tags write'} {what}"

    @abstractmethod
    def buys(self, scenes: Sequence[Scene]) -> list[bool]:
        """In which scenes something is bought."""

    @abstractmethod
    def ask(self, scenes: Sequence[Scene], log: Sequence[Chapter], story: Story, luck: int) -> Parts:
        """The question about a narrative.

        Args:
            scenes: the narrative as drawn.
            log: what happens in it.
            story: its text.
            luck: a seed for what is left to chance; the same for any number of chapters.
        """

    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """See :meth:`Task.compose`."""
        luck = draw.rng.getrandbits(64)
        journey = Journey(draw.rng, self.chapter_words, self.pool, self.offers)

        def make(texts: list[str], short: list[str]) -> Parts:
            scenes = journey.first(self.fewest + len(texts))
            log = tell(scenes, self.buys(scenes))
            return self.ask(scenes, log, write(log, [text.strip() for text in short]), luck)

        # A chapter stands in a paragraph of its own, a sentence that closes the gap does not.
        padding = [f" {text}" for text in self._closing(luck)]
        return frame.fill(make, self._pieces(journey, frame.length), padding, joint="")

    def _pieces(self, journey: Journey, length: int) -> Iterator[str]:
        """Chapters after the fewest, each with the blank line before it; those that follow change little."""
        done = self.fewest
        # What is drawn and not used costs time: begin with what surely fits (a word has 1.2 to 1.4 tokens).
        goal = int(length / (WORD_TOKENS * self.chapter_words))
        while done < journey.most:
            scenes = journey.first(max(done + done // 8 + 4, goal))
            log = tell(scenes, self.buys(scenes))[done:]
            done = len(scenes)
            story = write(log)
            yield from (f"\n\n{story.text[start:stop]}" for start, stop in story.chapters.values())

    def _closing(self, luck: int) -> list[str]:
        """Short sentences that tell nothing asked for."""
        rng = random.Random(luck)
        sizes = [
            [text for form in fillers(words, self.pool, False) for text in form] for words in range(2, 6)
        ]
        return [text for texts in sizes for text in rng.sample(texts, min(CLOSING, len(texts)))]


@cache
def _names(kind: Asked, pool: str) -> dict[str, str]:
    """Place or person in lower case -> as written."""
    words = WORDS[pool]
    return {name.lower(): name for name in (words.locations if kind == "location" else words.characters)}


@cache
def _pattern(kind: Asked, pool: str) -> re.Pattern[str]:
    """What a name of this kind looks like."""
    words = WORDS[pool]
    if kind == "item":
        parts = [f"(?:{'|'.join(part)})" for part in (words.adjectives, words.materials, words.things)]
        return re.compile(rf"\b{'[ -]+'.join(parts)}\b", re.IGNORECASE)
    return re.compile(rf"\b(?:{'|'.join(_names(kind, pool))})\b", re.IGNORECASE)


def named(text: str, kind: Asked, pool: str) -> list[str]:
    """The places, persons or items that a reply names, in its order, as the narrative writes them."""
    found = [" ".join(name.lower().replace("-", " ").split()) for name in _pattern(kind, pool).findall(text)]
    return found if kind == "item" else [_names(kind, pool)[name] for name in found]


def kind_of(value: str, pool: str) -> Asked:
    """Whether a gold value is a place, a person or an item."""
    words = WORDS[pool]
    return "location" if value in words.locations else "character" if value in words.characters else "item"


def known(kind: Asked, pool: str) -> int:
    """How many names of this kind there are."""
    words = WORDS[pool]
    if kind == "item":
        return len(words.adjectives) * len(words.materials) * len(words.things)
    return len(_names(kind, pool))


def longest(kind: Asked, pool: str) -> int:
    """Most characters of a name of this kind."""
    words = WORDS[pool]
    if kind == "item":
        return sum(max(map(len, part)) for part in (words.adjectives, words.materials, words.things)) + 2
    return max(map(len, _names(kind, pool)))


def first_sentence(text: str) -> str | None:
    """The first sentence or line of a reply, a number before it included; None while it has no end."""
    match = _FIRST.match(text)
    return match[0] if match else None
