"""Needle retrieval: find the values of the keys that are asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Draw, Measures, SyntheticTask
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.parsing import matches, numbered
from sparsestudy.tasks.pools import POOLS, Pool, fillers, inserted, spans
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts, Sample

INTRODUCTION = (
    "Read the text. It mentions access codes. Remember them, because a question about them follows."
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
GROUPS, GROUP = 4, 8
CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+", re.IGNORECASE)
FACT = re.compile(r"The access code of (?:the )?([a-z]+ [a-z]+|[a-z0-9-]+) is ([a-z0-9-]+)\.")
ASKED = re.compile(r"What (?:is|are) the access codes? of ([^?]+)\?")
KEY = re.compile(r"the (\w+ \w+)")


@dataclass(frozen=True)
class Needle(SyntheticTask):
    """Values hidden in a long text under keys.

    Args:
        needles: facts in the text, at least `queries`; the others distract. With ``haystack="needles"``
            as many more as fit.
        queries: keys asked for.
        similar: for each key asked for, how many of the other needles have nearly the same key: one word, or
            one character of a code, differs.
        codes: keys and values are codes of four hyphenated groups of 8 characters; else keys are two words
            and values digits.
        value_length: digits of a value, 1 to 9.
        haystack: what fills the text: varied sentences ("sentences"), or further needles ("needles",
            RULER's hardest form).

    Score: mean over queries of exact match.

    Source: RULER (arXiv 2404.06654) as in sparse-frontier (commit 31d86c1); sentences and words are our own.

    Deviations: keys and values are distinct within a sample (RULER draws with replacement); with the preset
    "direct" keys are two words and values digits, so that copying is easy and a miss is a miss of retrieval;
    a reply needs no key beside each value, and values are read from its numbered lines, or in order whatever
    stands around them (the reference needs its line format, key and value, and takes a copy of the
    placeholder's brackets for a mistake); a number written with thousands separators counts when one key is
    asked for.
    """

    name: ClassVar[str] = "needle"
    measures: ClassVar[Measures] = Measures("low", "low", "synthetic")

    needles: int = by_preset(direct=1, paper=4)
    queries: int = by_preset(direct=1, paper=4)
    similar: int = 0
    codes: bool = by_preset(direct=False, paper=True)
    value_length: int = 4
    haystack: Literal["sentences", "needles"] = by_preset(direct="sentences", paper="needles")

    def __post_init__(self) -> None:
        """Check the parameters against each other."""
        super().__post_init__()
        if not 1 <= self.queries <= self.needles or self.similar < 0:
            raise StudyError(
                f"needle needs 1 <= queries <= needles and similar >= 0, not queries={self.queries}, "
                f"needles={self.needles}, similar={self.similar}."
            )
        if self.queries * (1 + self.similar) > self.needles:
            raise StudyError(
                f"needle needs room for {self.similar} similar keys beside each of {self.queries} queries: "
                f"at least {self.queries * (1 + self.similar)} needles, not {self.needles}."
            )
        if not 1 <= self.value_length <= 9 or self.needles > 5 * 10 ** (self.value_length - 1):
            raise StudyError(
                f"needle needs a value_length of 1 to 9 digits with room for {self.needles} distinct values, "
                f"not {self.value_length}."
            )

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return self.queries == 1

    @property
    def answer_tokens(self) -> int:
        """Each value after the first comes in a sentence with its key (20 tokens, or those of a code)."""
        value, key = (40, 40) if self.codes else (self.value_length, 10)
        return value + 6 + (self.queries - 1) * (value + key + 10)

    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """See :meth:`Task.compose`."""
        rng = draw.rng
        keys, values = self._keys(rng), self._values(rng)
        facts = [(key, next(values)) for key in islice(keys, self.needles)]
        asked = facts[: self.queries]
        places = [rng.random() for _ in facts]
        if self.haystack == "needles":
            pieces: Iterator[str] = (self._fact(*fact) for fact in zip(keys, values, strict=False))
        else:
            pieces = fillers(rng, POOLS[self.pool])

        def make(texts: list[str], short: list[str]) -> Parts:
            sentences = inserted([self._fact(*fact) for fact in facts], places, texts + short)
            others = len(texts) if self.haystack == "needles" else 0
            return self._parts(sentences, asked, self.needles + others)

        return frame.fill(make, pieces)

    def _parts(self, sentences: list[str], asked: list[tuple[str, str]], needles: int) -> Parts:
        """The text, its question and the places of the facts asked for; guessing copies some value.

        Without the text a guess is one of all numbers of so many digits; of all codes it misses.
        """
        names = [self._named(key) for key, _ in asked]
        single = len(asked) == 1
        listed = names[0] if single else f"{', '.join(names[:-1])} and {names[-1]}"
        question = f"What {'is' if single else 'are'} the access code{'' if single else 's'} of {listed}?"
        if self.preset == "paper":
            form = "Inside the answer tags write the access code alone."
            if not single:
                form = (
                    "Inside the answer tags write one numbered line for each access code, in the order of "
                    "the question: the number, a full stop, and the access code alone."
                )
        else:
            question = f"Question: {question}"
            alone = f"Answer with the {'access code' if self.codes else 'number'} only."
            form = alone if single else "Answer with one sentence each."
        return Parts(
            introduction=INTRODUCTION,
            context=" ".join(sentences),
            question=question,
            form=form,
            prefix=f"The access code of {names[0]} is",
            evidence=spans(sentences, [self._fact(*fact) for fact in asked]),
            answer=tuple(value for _, value in asked),
            chance=1 / needles,
            blind=0.0 if self.codes else 1 / (9 * 10 ** (self.value_length - 1)),
        )

    def _named(self, key: str) -> str:
        return key if self.codes else f"the {key}"

    def _fact(self, key: str, value: str) -> str:
        return f"The access code of {self._named(key)} is {value}."

    def _keys(self, rng: random.Random) -> Iterator[str]:
        """Distinct keys: those asked for, those similar to them, then others."""
        pool = POOLS[self.pool]
        seen: set[str] = set()
        first: list[str] = []
        most = 36 ** (GROUPS * GROUP) if self.codes else len(pool.adjectives) * len(pool.nouns)
        while len(seen) < most:
            turn = len(seen) - self.queries
            near = first[turn % self.queries] if 0 <= turn < self.queries * self.similar else None
            key = self._key(rng, pool, near)
            if key not in seen:
                seen.add(key)
                if len(first) < self.queries:
                    first.append(key)
                yield key

    def _key(self, rng: random.Random, pool: Pool, near: str | None) -> str:
        """A key, or one that differs from `near` in one place."""
        if self.codes:
            if near is None:
                return _code(rng)
            at = rng.choice([i for i, letter in enumerate(near) if letter != "-"])
            return near[:at] + rng.choice(LETTERS) + near[at + 1 :]
        pair = [rng.choice(pool.adjectives), rng.choice(pool.nouns)]
        if near is not None:
            kept = rng.randrange(2)
            pair[kept] = near.split()[kept]
        return " ".join(pair)

    def _values(self, rng: random.Random) -> Iterator[str]:
        """Distinct codes, or numbers of so many digits, the first not zero; at most half of all there are."""
        seen: set[str] = set()
        low, high = 10 ** (self.value_length - 1), 10**self.value_length
        while self.codes or 2 * len(seen) < high:
            value = _code(rng) if self.codes else str(rng.randrange(low, high))
            if value not in seen:
                seen.add(value)
                yield value

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """Values of numbered lines, else in order; see :meth:`Task.read`."""
        lines = numbered(text)
        if self.queries > 1 and set(lines) >= {1, *range(1, 2 + (self.preset == "direct"))}:
            found = [self._found(lines.get(i, ""))[-1:] for i in range(1, self.queries + 1)]
            values = [value[0] if value else "" for value in found]
            return tuple(values) if any(values) else None
        values = self._found(text)
        if self.codes and len(values) >= 2 * self.queries:
            # Each key stands before its value.
            values = values[1::2]
        return tuple(values[: self.queries]) or None

    def _found(self, text: str) -> list[str]:
        if self.codes:
            return [code.lower() for code in CODE.findall(text)]
        if self.queries == 1:
            return [number.replace(",", "") for number in re.findall(r"\d(?:[\d,]*\d)?", text)]
        return re.findall(r"\d+", text)

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """Mean of exact matches; a missing value counts as wrong."""
        return matches(found, gold)

    def answered(self, reply: str) -> bool:
        """An answer is complete when something stands after its last value."""
        ended = r"[a-z0-9-]{4,}(?=[^a-z0-9-])" if self.codes else r"\d+(?=[^\d,]|,\D)"
        return len(re.findall(ended, reply)) >= self.queries or super().answered(reply)

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        known = dict(FACT.findall(prompt))
        asked = ASKED.search(prompt)
        if asked is None:
            raise StudyError("The prompt holds no needle question.")
        values = [known[key] for key in (CODE if self.codes else KEY).findall(asked.group(1))]
        if self.preset == "paper" and len(values) > 1:
            return "\n".join(f"{i}. {value}" for i, value in enumerate(values, 1))
        return ", ".join(values)


def _code(rng: random.Random) -> str:
    """A code of four hyphenated groups of 8 characters."""
    letters = rng.choices(LETTERS, k=GROUPS * GROUP)
    return "-".join("".join(letters[i : i + GROUP]) for i in range(0, GROUPS * GROUP, GROUP))
