"""The sentences of a narrative: chosen by their length, and understood again."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.narrative_words import ARRIVALS, MEETINGS, OFFERS, PURCHASES, SALES, WORDS

Kind = Literal["arrival", "meeting", "purchase", "sale", "offer", "filler"]
FORMS: dict[Kind, tuple[str, ...]] = {
    "arrival": ARRIVALS,
    "meeting": MEETINGS,
    "purchase": PURCHASES,
    "sale": SALES,
    "offer": OFFERS,
}
ITEM_WORDS = 3
# A sentence is drawn again so often: when its chapter has it already, or to find one of the right length.
TRIES = 6
_FIELDS = {"place": r"([A-Z]\w+)", "person": r"([A-Z]\w+)", "item": r"(\w+ \w+ \w+)"}


@dataclass(frozen=True)
class Event:
    """What a sentence tells: of which place, person or item, and in which chapter (0 before the first)."""

    chapter: int
    kind: Kind
    value: str


@cache
def words_in(form: str) -> int:
    """Words of a form with its fields filled in."""
    return len(form.split()) + (ITEM_WORDS - 1) * ("{item}" in form)


@cache
def shortest(kind: Kind) -> int:
    """Fewest words in which a fact of this kind can be told."""
    return min(map(words_in, FORMS[kind]))


@cache
def choices(kind: Kind, most: int) -> tuple[str, ...]:
    """The forms of a kind with at most so many words, or the shortest ones."""
    return tuple(form for form in FORMS[kind] if words_in(form) <= max(most, shortest(kind)))


@cache
def offer_forms(words: int) -> tuple[str, ...]:
    """The forms of an offer with so many words."""
    return tuple(form for form in OFFERS if words_in(form) == words)


@cache
def fillers(words: int, pool: str, met: bool) -> tuple[tuple[str, ...], ...]:
    """Sentences of so many words that tell nothing asked for, for each form that has some.

    Args:
        words: how many.
        pool: a key of `WORDS`.
        met: whether they may have a field for the person of the chapter.
    """
    found = []
    known = WORDS[pool]
    for form in known.quiet + known.talk if met else known.quiet:
        sentences = []
        for topic in known.topics if "{topic}" in form else ("",):
            for end in ("", *(f" {setting}" for setting in known.settings)):
                sentence = f"{form.replace('{topic}', topic)}{end}."
                if len(sentence.split()) == words:
                    sentences.append(sentence)
        if sentences:
            found.append(tuple(sentences))
    return tuple(found)


def filler(rng: random.Random, words: int, pool: str, person: str | None, said: set[str], like: str) -> str:
    """One of :func:`fillers`; another than those said, if one comes up.

    Args:
        rng: draws.
        words: see :func:`fillers`.
        pool: the same.
        person: whom the sentence may be about.
        said: what the chapter says already; the sentence is added.
        like: a sentence with about as many characters, or none.
    """
    forms = fillers(words, pool, person is not None)
    best, nearest = "", 0
    for _ in range(TRIES):
        sentence = rng.choice(rng.choice(forms)).replace("{person}", person or "")
        off = abs(len(sentence) - len(like)) if like else 0
        if not best or best in said or (sentence not in said and off < nearest):
            best, nearest = sentence, off
        if not nearest and best not in said:
            break
    said.add(best)
    return best


def understand(text: str) -> list[Event]:
    """The events that a text tells, in its order; sentences of no known form tell nothing.

    Raises:
        StudyError: two places, persons, purchases, sales or offers in one chapter.
    """
    events: list[Event] = []
    before, *chapters = re.split(r"\bChapter (\d+):", text)
    for number, body in zip(("0", *chapters[::2]), (before, *chapters[1::2]), strict=True):
        for sentence in re.findall(r"[^.?!:>\n]+\.", body):
            kind, value = _told(sentence.strip())
            if kind != "filler":
                events.append(Event(int(number), kind, value))
    told = [(event.chapter, event.kind) for event in events if event.chapter]
    if len(set(told)) < len(told):
        raise StudyError("A chapter tells of two events of one kind; this is not the text of a narrative.")
    return events


@cache
def _patterns() -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    found = []
    for kind, forms in FORMS.items():
        for form in forms:
            pattern = re.escape(form)
            for field, group in _FIELDS.items():
                pattern = pattern.replace(re.escape("{" + field + "}"), group)
            found.append((kind, re.compile(pattern)))
    return tuple(found)


def _told(sentence: str) -> tuple[Kind, str]:
    """What a sentence tells, and of what."""
    for kind, pattern in _patterns():
        match = pattern.fullmatch(sentence)
        if match:
            return kind, match[1]
    return "filler", ""
