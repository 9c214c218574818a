"""Common words: find the words that occur most often in a long list."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import ClassVar, Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Draw, Measures, SyntheticTask
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.parsing import guessed_iou, listed, numbered
from sparsestudy.tasks.pools import spans_of
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts, Sample
from sparsestudy.tasks.sets import WordSetTask, leading_entries
from sparsestudy.tasks.vocabulary import vocabulary

INTRODUCTION = "Read the list of words. Remember which of them occur most often."
ENTRY = re.compile(r"^\d+\. ([a-z]+)$", re.MULTILINE)
# A line of small letters and spaces alone, of more words than a chat template puts into one; the template may
# close the message behind it.
LINE = re.compile(r"^[a-z]+(?: [a-z]+){3,}(?=$|<)", re.MULTILINE)
ASKED = re.compile(r"Which (\d+) words? occurs? most often")


@dataclass(frozen=True)
class CommonWords(WordSetTask, SyntheticTask):
    """A shuffled list in which a few words occur several times as often as all others.

    Args:
        common: words that occur more often, and are asked for.
        ratio: how many times as often they occur, at least 3.
        grows: what fills a longer list: more occurrences of the same words ("counts": the share of the
            common words stays, so that length does not change what must be told apart), or further rare
            words ("words": the counts stay and the share of the common words shrinks, as in the reference).
        rare: with ``grows="counts"`` how many other words there are.
        seldom: with ``grows="words"`` how often each other word occurs.
        numbers: whether each word stands in a line of its own with a number, else they follow each other.

    Score: intersection over union of the named and the common words.

    Source: RULER (arXiv 2404.06654) as in sparse-frontier (commit 31d86c1). The words are from SCOWL, see
    ``vocabulary.txt``.

    Deviations: the share of the common words does not depend on the length by default of the preset
    "direct"; the vocabulary is frozen with the package and has no word beside its inflections (the
    reference's has 140 pairs such as X and Xing); the question does not tell the counts; a list with commas
    counts (the reference needs numbered lines).
    """

    name: ClassVar[str] = "cwe"
    measures: ClassVar[Measures] = Measures("high", "low", "synthetic")

    common: int = by_preset(direct=3, paper=10)
    ratio: int = by_preset(direct=4, paper=10)
    grows: Literal["counts", "words"] = by_preset(direct="counts", paper="words")
    rare: int = by_preset(direct=12, paper=100)
    seldom: int = by_preset(direct=1, paper=3)
    numbers: bool = by_preset(direct=False, paper=True)

    def __post_init__(self) -> None:
        """Check that common words are more common, and that there are words enough."""
        super().__post_init__()
        if self.common < 1 or self.ratio < 3 or self.rare < 1 or self.seldom < 1:
            raise StudyError(
                f"cwe needs common, rare and seldom of at least 1 and a ratio of at least 3, not "
                f"common={self.common}, rare={self.rare}, seldom={self.seldom}, ratio={self.ratio}."
            )
        there = len(vocabulary(self.pool))
        if self.common + self.rare > there:
            raise StudyError(
                f"cwe needs {self.common + self.rare} words, and the pool '{self.pool}' has {there}."
            )

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return self.common == 1

    @property
    def answer_tokens(self) -> int:
        """A word of 8 letters with its separator, at least 2 letters a token."""
        return 6 * self.common + 8

    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """See :meth:`Task.compose`."""
        rng = draw.rng
        words = vocabulary(self.pool)
        chosen = rng.sample(words, self.common + self.rare)
        common, rare = chosen[: self.common], chosen[self.common :]
        order = rng.getrandbits(64)
        if self.grows == "counts":
            first = _round(common, self.ratio, rare)
            more = ([word] for word in cycle(first))
        else:
            first = [word for word in common for _ in range(self.ratio * self.seldom)]
            more = ([word] * self.seldom for word in _others(rng, words, set(common)))
        taken: list[list[str]] = []

        def pieces() -> Iterator[str]:
            for number, entries in enumerate(more):
                taken.append(entries)
                at = len(first) + number * len(entries) + 1
                yield self._joint.join(self._entry(at + i, word) for i, word in enumerate(entries))

        def make(texts: list[str], short: list[str]) -> Parts:
            entries = first + [word for piece in taken[: len(texts)] for word in piece]
            random.Random(order).shuffle(entries)
            return self._parts(entries, common)

        return frame.fill(make, pieces(), padding=(), joint=self._joint)

    @property
    def _joint(self) -> str:
        return "\n" if self.numbers else " "

    def _entry(self, number: int, word: str) -> str:
        return f"{number}. {word}" if self.numbers else word

    def _parts(self, entries: list[str], common: list[str]) -> Parts:
        """The list, its question and the places of the common words; guessing takes any that occur."""
        lines = [self._entry(number, word) for number, word in enumerate(entries, 1)]
        wanted = set(common)
        one = self.common == 1
        question = (
            f"Which {self.common} word{'' if one else 's'} occur{'s' if one else ''} most often in the list?"
        )
        if self.preset == "paper":
            form = (
                "Inside the answer tags write one numbered line for each word: the number, a full stop, and "
                "the word."
            )
        else:
            question, form = f"Question: {question}", "Answer with the words only."
        return Parts(
            introduction=INTRODUCTION,
            context=self._joint.join(lines),
            question=question,
            form=form,
            prefix=f"The most common word{' is' if one else 's are'}",
            evidence=spans_of(lines, [word in wanted for word in entries], self._joint),
            answer=tuple(common),
            chance=guessed_iou(self.common, len(set(entries))),
            blind=guessed_iou(self.common, len(vocabulary(self.pool))),
            joint=self._joint,
        )

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """Words of numbered lines, else of a list: the last of each part, since prose begins with others."""
        text = leading_entries(text) if self.preset == "direct" else text
        lines = numbered(text)
        if lines:
            parts = [re.findall(r"[a-z]+", line.lower())[:1] for line in lines.values()]
        else:
            parts = [re.findall(r"[a-z]+", part.lower())[-1:] for part in listed(text)]
        return tuple(dict.fromkeys(word for part in parts for word in part)) or None

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        asked = ASKED.search(prompt)
        if asked is None:
            raise StudyError("The prompt holds no question about common words.")
        lines = LINE.findall(prompt)
        words = ENTRY.findall(prompt) if self.numbers else max(lines, key=len).split()
        best = [word for word, _ in Counter(words).most_common(int(asked.group(1)))]
        if self.preset == "paper":
            return "\n".join(f"{i}. {word}" for i, word in enumerate(best, 1))
        return ", ".join(best)


def _round(common: list[str], ratio: int, rare: list[str]) -> list[str]:
    """Each common word `ratio` times and each rare one once, evenly spread: every beginning has their shares.

    A rare word is at most one ahead after any number of rounds, so that a ratio of 3 keeps them apart.
    """
    spread = [
        ((turn + (i + 0.5) / len(common)) / ratio, word)
        for i, word in enumerate(common)
        for turn in range(ratio)
    ]
    spread += [((i + 0.5) / len(rare), word) for i, word in enumerate(rare)]
    return [word for _, word in sorted(spread)]


def _others(rng: random.Random, words: tuple[str, ...], but: set[str]) -> Iterator[str]:
    """All other words in random order."""
    left = [word for word in words if word not in but]
    own = random.Random(rng.getrandbits(64))
    own.shuffle(left)
    yield from left
