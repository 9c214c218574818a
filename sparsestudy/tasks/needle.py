"""Needle retrieval: find the values of the keys that are asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Sample, Score, Task
from sparsestudy.tasks.prompt import Parts, build, fill
from sparsestudy.tasks.words import ADJECTIVES, NOUNS, SHORT, filler

INTRODUCTION = (
    "Read the text. It mentions access codes. Remember them, because a question about them follows."
)
FACT = re.compile(r"The access code of the (\w+ \w+) is (\d+)\.")
ASKED = re.compile(r"Question: What (?:is|are) the access codes? of ([^?]+)\?")
KEY = re.compile(r"the (\w+ \w+)")


@dataclass(frozen=True)
class Needle(Task):
    """Values hidden in a long text under two-word keys.

    Args:
        needles: facts in the text, at least `queries`; the others distract. With ``haystack="needles"``
            as many as fit.
        queries: keys asked for.
        value_length: digits of a value, 1 to 9.
        haystack: what fills the text: varied sentences ("sentences"), or further needles ("needles",
            RULER's hardest form).
        question: before, after, or on both sides of the text.

    Scope low, dispersion low, synthetic. Score: mean over queries of exact match.

    Source: RULER (arXiv 2404.06654) as in sparse-frontier (commit 31d86c1); sentences and words are our own.

    Deviations: keys and values are distinct within a sample (RULER draws with replacement); keys are two
    words and values digits, so that copying is easy and a miss is a miss of retrieval; numbers are read from
    the reply in order, whatever stands around them (the reference needs its line format); a number written
    with thousands separators counts when one key is asked for.
    """

    name: ClassVar[str] = "needle"

    needles: int = 1
    queries: int = 1
    value_length: int = 4
    haystack: Literal["sentences", "needles"] = "sentences"

    def __post_init__(self) -> None:
        """Check the parameters against each other."""
        if not 1 <= self.queries <= self.needles:
            raise StudyError(
                f"needle needs 1 <= queries <= needles, not queries={self.queries}, needles={self.needles}."
            )
        if not 1 <= self.value_length <= 9 or self.needles > 5 * 10 ** (self.value_length - 1):
            raise StudyError(
                f"needle needs a value_length of 1 to 9 digits with room for {self.needles} distinct values, "
                f"not {self.value_length}."
            )
        if self.question not in ("before", "after", "both"):
            raise StudyError(f"question is 'before', 'after' or 'both', not '{self.question}'.")

    @property
    def chance(self) -> float:
        """Score of copying one of the text's values at random (an upper bound when needles fill the text)."""
        return 1 / self.needles

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return self.queries == 1

    @property
    def max_new_tokens(self) -> int:
        """A digit may be a token; with several queries each further value comes in a sentence (20 tokens)."""
        return self.value_length + 6 + (self.queries - 1) * (self.value_length + 20)

    def generate(self, tokenizer: Any, length: int, rng: random.Random) -> Sample:
        """See :meth:`Task.generate`."""
        keys, values = _keys(rng), _values(rng, self.value_length)
        facts = [(next(keys), next(values)) for _ in range(self.needles)]
        asked = rng.sample(range(self.needles), self.queries)
        places = [rng.random() for _ in facts]
        # A sentence has at least 4 tokens with any tokenizer.
        most = length // 4
        if self.haystack == "needles":
            most = min(most, len(ADJECTIVES) * len(NOUNS) - self.needles, 5 * 10 ** (self.value_length - 1))
            pieces = [_fact(next(keys), next(values)) for _ in range(most)]
        else:
            pieces = [filler(rng) for _ in range(most)]

        def make(count: int, extra: int) -> Sample:
            short = [SHORT[i % len(SHORT)] for i in range(extra)]
            sentences = _insert([_fact(*fact) for fact in facts], places, pieces[:count] + short)
            return build(tokenizer, self._parts(sentences, facts, asked), self.question)

        what = f"needle with {self.needles} needles and {self.queries} queries"
        return fill(tokenizer, length, make, pieces, what)

    def _parts(self, sentences: list[str], facts: list[tuple[str, str]], asked: list[int]) -> Parts:
        """The text, its question and the places of the facts asked for."""
        context = " ".join(sentences)
        wanted = [facts[i] for i in asked]
        starts = [context.index(_fact(*fact)) for fact in wanted]
        names = _listed([f"the {key}" for key, _ in wanted])
        form = "Answer with the number only." if len(wanted) == 1 else "Answer with one sentence each."
        if len(wanted) == 1:
            question, prefix = (
                f"Question: What is the access code of {names}?",
                f"The access code of {names} is",
            )
        else:
            question = f"Question: What are the access codes of {names}?"
            prefix = f"The access code of the {wanted[0][0]} is"
        return Parts(
            introduction=INTRODUCTION,
            context=context,
            question=f"{question} {form}",
            prefix=prefix,
            evidence=tuple((a, a + len(_fact(*fact))) for a, fact in zip(starts, wanted, strict=True)),
            answer=tuple(value for _, value in wanted),
        )

    def score(self, sample: Sample, reply: str) -> Score:
        """Numbers of the reply, in order, against the gold values; a missing one counts as wrong."""
        if self.queries == 1:
            found = [n.replace(",", "") for n in re.findall(r"\d(?:[\d,]*\d)?", reply)][:1]
        else:
            found = re.findall(r"\d+", reply)[: self.queries]
        right = sum(a == b for a, b in zip(found, sample.answer, strict=False))
        return Score(right / self.queries, len(found) == self.queries)

    def done(self, reply: str) -> bool:
        """A reply is complete when something stands after its last number."""
        numbers = list(re.finditer(r"\d+(?=[^\d,]|,\D)", reply))
        return len(numbers) >= self.queries or super().done(reply)

    def solve(self, prompt: str) -> str:
        """See :meth:`Task.solve`."""
        known = dict(FACT.findall(prompt))
        asked = ASKED.search(prompt)
        if asked is None:
            raise StudyError("The prompt holds no needle question.")
        return " " + ", ".join(known[key] for key in KEY.findall(asked.group(1)))


def _fact(key: str, value: str) -> str:
    return f"The access code of the {key} is {value}."


def _keys(rng: random.Random) -> Iterator[str]:
    """Distinct two-word keys in random order."""
    pairs = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    rng.shuffle(pairs)
    yield from pairs


def _values(rng: random.Random, digits: int) -> Iterator[str]:
    """Distinct values of so many digits, the first not zero."""
    seen = set()
    while True:
        value = str(rng.randrange(10 ** (digits - 1), 10**digits))
        if value not in seen:
            seen.add(value)
            yield value


def _insert(facts: list[str], places: list[float], sentences: list[str]) -> list[str]:
    """The sentences with each fact at its relative place in 0..1."""
    spots = sorted(range(len(facts)), key=lambda i: places[i])
    merged, at = [], 0
    for i in spots:
        stop = round(places[i] * len(sentences))
        merged += [*sentences[at:stop], facts[i]]
        at = stop
    return merged + sentences[at:]


def _listed(names: list[str]) -> str:
    """A, B and C."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
