"""The closed vocabulary of the ladder, and the rule by which a text falls into its tokens.

A token carries the space before it, so that joining tokens gives the text back. Words are tokens; a number
is cut into pairs of digits from its end (" 1" "23", " 48" "21"), a name in capitals into its letters. With
single digits a value has the same digit at two places more often than not, and looking up what followed a
digit finds both: this is why a first version of the ladder could not copy needles. In a value of two pairs
the second pair follows a token that the text rarely has elsewhere, and chapters below 100 are one token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from string import ascii_uppercase

from sparsestudy.tasks.narrative_words import ARRIVALS, MEETINGS, OFFERS, PURCHASES, SALES, WORDS
from sparsestudy.tasks.pools import POOLS
from sparsestudy.tasks.vocabulary import vocabulary
from sparsestudy.tasks.words import SHORT

POOL = "ladder"
PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, BOS, EOS, UNKNOWN)
LARGEST = 2048
# Understood alike by Python's re and the tokenizers library.
TOKEN = (
    r" ?[A-Z]?[a-z]+"  # a word
    r"| ?[A-Z]"  # a letter of a name
    r"| ?[0-9]{1,2}(?=(?:[0-9]{2})*(?![0-9]))"  # a pair of digits, counted from the end
    r"| ?=|\n|[^\sA-Za-z0-9]"  # signs
)
# A run of line breaks is one token, and what follows it begins as after a space.
BREAKS, BREAK = r"\n+", "\n "
# The fixed sentences of the tasks: introductions, questions and the beginnings of answers.
FRAMES = (
    "Read the text. It mentions access codes. Remember them, because a question about them follows.",
    "Question: What is the access code of the lamp? What are the access codes of the lamp, the lamp and the",
    "Answer with the number only. Answer with one sentence each. The access code of the lamp is",
    "Read the text. It sets variables to numbers, or to other variables, whose number they then hold.",
    "Variable A = 1. Which variables hold 1? Answer with their names. The variables that hold 1 are",
    "Read the list of words. Remember which of them occur most often. Answer with the words only.",
    "Which 1 word occurs most often in the list? Which 2 words occur most often in the list?",
    "The most common word is The most common words are",
    "The road is long. The hill is steep. The river is wide. On we walk. Then home we turn.",
    "Read the story of a journey. Chapter 1: Answers: Answer with the name alone. In chapter",
    "Answer with one numbered line for each question, in their order: the number, a full stop, and the name",
    "Which place did Rowan reach in chapter 1? Which person did Rowan meet? Which item did Rowan buy?",
    "In chapter 1 Rowan reached In chapter 1 Rowan met In chapter 1 Rowan bought the",
    "In which chapter did Rowan buy no item? In which chapters did Rowan buy no item? Answer with the number",
    "the numbers alone, with commas between them. Rowan bought no item in chapter chapters",
    "Which item did Rowan buy last before the lamp? Before the lamp Rowan last bought the",
)


def pieces(text: str) -> list[str]:
    """The tokens of a text, as text: what the tokenizer does, by Python alone."""
    return re.findall(TOKEN, re.sub(BREAKS, BREAK, f" {text}"))


@cache
def words() -> tuple[str, ...]:
    """All tokens in the order of their ids: special ones, signs, numbers, letters, words in their order."""
    digits = [str(i) for i in range(10)] + [f"{i:02}" for i in range(100)]
    fixed = [
        *digits,
        *(f" {digit}" for digit in digits),
        *ascii_uppercase,
        *(f" {c}" for c in ascii_uppercase),
    ]
    found = set(chain.from_iterable(map(pieces, _texts())))
    signs = sorted(token for token in found if not token.strip().isalnum())
    rest = sorted(found - {*fixed, *signs})
    return (*SPECIAL, *signs, *fixed, *rest)


def _texts() -> Iterator[str]:
    """Everything that the templates can put into a prompt, each word in each form it may have."""
    yield "\n"
    yield from FRAMES
    yield from vocabulary(POOL)
    pool, story = POOLS[POOL], WORDS[POOL]
    for phrases in (pool.adjectives, pool.nouns, pool.persons, pool.verbs, pool.settings, SHORT):
        yield from _either(phrases)
    yield "The lamp stood next to the lamp. At noon, the lamp was moved by a child."
    for phrases in (story.locations, story.characters, story.adjectives, story.materials, story.things):
        yield from phrases
    forms = (*ARRIVALS, *MEETINGS, *PURCHASES, *SALES, *OFFERS, *story.quiet, *story.talk)
    yield from (re.sub(r"\{\w+\}", "", form) for form in forms)
    yield from (*story.topics, *story.settings)


def _either(phrases: Iterable[str]) -> Iterator[str]:
    """A phrase as it is and as the beginning of a sentence."""
    for phrase in phrases:
        yield phrase
        yield phrase[0].upper() + phrase[1:]
