"""Drills: rows in which many questions about one text are answered, each a lookup by a key.

A task asks once a text, and a model that copies any of the values is right now and then: it stays there for
hundreds of millions of tokens. A drill asks about every fact of a text, so that a row holds several times as
many lookups; lists of pairs, of a key and the value behind it, hold ten times as many.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from string import ascii_uppercase
from typing import Any, NamedTuple

from sparsestudy.errors import StudyError
from sparsestudy.ladder.tokenizer import Twin, identity
from sparsestudy.ladder.vocabulary import BOS, POOL
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.narrative_forms import understand
from sparsestudy.tasks.needle import FACT
from sparsestudy.tasks.pools import POOLS
from sparsestudy.tasks.story_retrieval import PREFIXES, TOLD
from sparsestudy.tasks.vt import SET

# Shares of a row that the text may have; the answers fill the rest. A longer one if the facts do not fit.
SHARES = (0.5, 0.65, 0.8)
# Tokens of a question, which a drill leaves out.
QUESTION = 22
# Pairs of a list at least, and tokens of a row for each of them at least.
FEWEST, APART = 2, 9
PAIRS, VARIABLES = "pairs", "variables"
# Up to this length of a row there are lists of pairs; a rung that has seen so long ones knows them.
LISTED = 128
Asked = tuple[str, str]


@dataclass(frozen=True)
class Drilled:
    """A row.

    Args:
        ids: its tokens.
        replies: where its answers stand, as ``(start, stop)``.
        plain: whether the rest is text that can be learned.
    """

    ids: list[int]
    replies: tuple[tuple[int, int], ...]
    plain: bool


def drilled(twin: Twin, name: str, length: int, index: int, seed: int) -> Drilled:
    """A row of a drill of at most so many tokens.

    Args:
        twin: turns text into ids.
        name: of a task in `ASKED`, or `PAIRS` or `VARIABLES`.
        length: tokens.
        index: of the row.
        seed: of the training.

    Raises:
        StudyError: a text with its facts does not fit.
    """
    rng = random.Random(f"{seed} {name} {index}")
    if name in (PAIRS, VARIABLES):
        return _pairs(twin, rng, length, name == VARIABLES)
    text = _text(twin, name, length, index, seed)
    ids, replies = twin.ids(text, begin=True), []
    between = "\n\n"
    for question, value in _shuffled(rng, ASKED[name](text)):
        asked, told = twin.ids(f"{between}{question}"), twin.ids(f" {value}.")
        if len(ids) + len(asked) + len(told) > length:
            break
        ids += asked
        replies.append((len(ids), len(ids) + len(told)))
        ids += told
        between = " "
    if not replies:
        raise StudyError(f"A drill of {name} does not fit {length} tokens.")
    return Drilled(ids, tuple(replies), True)


def _text(twin: Twin, name: str, length: int, index: int, seed: int) -> str:
    """The text of a task's prompt, without its question."""
    fields: dict[str, dict[str, Any]] = {
        "needle": {"needles": max(3, length // 32)},
        "vt": {"chains": max(2, length // 64), "hops": index % 3},
        "story_retrieval": {"chapter_words": 15 + index % 6},
        "story_multihop": {"chapter_words": 15 + index % 6, "purchase_share": 0.7},
    }
    task = TASKS[name](**{"pool": POOL, **fields[name]})
    for share in SHARES:
        try:
            sample = task.sample(twin, round(share * length) + QUESTION, index, seed, "train")
        except StudyError:
            continue
        return sample.prompt[: sample.context_end]
    raise StudyError(f"The facts of a drill of {name} do not fit {length} tokens.")


def _shuffled(rng: random.Random, asked: list[Asked]) -> Iterator[Asked]:
    """All of them in random order, again and again."""
    while asked:
        yield from rng.sample(asked, len(asked))


def _pairs(twin: Twin, rng: random.Random, length: int, named: bool) -> Drilled:
    """Pairs of a key and a number, and then any of them again and again.

    A row has one form of pairs. The key is a noun, with an adjective or without, or the name of a variable;
    the number stands next to it or behind "is" or "=". A name is also asked for by its number.
    """
    words = _words()
    count = rng.randint(FEWEST, max(FEWEST, min(length // APART, len(words.nouns))))
    between = rng.randrange(2) * [identity(" =" if named else " is")]
    backward, phrase = named and rng.random() < 0.5, rng.randrange(2)
    if named:
        keys = [[rng.choice(words.first), *rng.choices(words.letters, k=2)] for _ in range(count)]
        numbers = [twin.ids(f" {number}") for number in rng.sample(range(10_000, 100_000), count)]
    else:
        nouns = rng.sample(words.nouns, count)
        keys = [[*rng.sample(words.adjectives, phrase), noun] for noun in nouns]
        numbers = [twin.ids(f" {number}") for number in rng.sample(range(10, 100), count)]
    pairs = list(zip(keys, numbers, strict=True))
    ids = [identity(BOS), *chain.from_iterable([*key, *between, *number] for key, number in pairs)]
    replies = []
    while True:
        key, number = rng.choice(pairs)
        asked, told = (number, key) if backward else (key, number)
        if len(ids) + len(asked) + len(between) + len(told) > length:
            break
        ids += [*asked, *between]
        replies.append((len(ids), len(ids) + len(told)))
        ids += told
    return Drilled(ids, tuple(replies), False)


class _Words(NamedTuple):
    """Ids."""

    adjectives: list[int]
    nouns: list[int]
    first: list[int]
    letters: list[int]


@cache
def _words() -> _Words:
    """Words of keys, and letters at the beginning of a name and behind it."""
    pool = POOLS[POOL]
    return _Words(
        adjectives=[identity(f" {word}") for word in pool.adjectives],
        nouns=[identity(f" {word}") for word in pool.nouns],
        first=[identity(f" {letter}") for letter in ascii_uppercase],
        letters=[identity(letter) for letter in ascii_uppercase],
    )


def _needle(text: str) -> list[Asked]:
    return [(f"The access code of the {key} is", value) for key, value in FACT.findall(text)]


def _vt(text: str) -> list[Asked]:
    """Every number with its variables."""
    source = dict(SET.findall(text))
    found = []
    for number in (value for value in source.values() if value.isdigit()):
        held = [number]
        for holder in held:
            held += [name for name, value in source.items() if value == holder]
        found.append((f"The variables that hold {number} are", ", ".join(held[1:])))
    return found


def _retrieval(text: str) -> list[Asked]:
    """Every place, person and purchase of every chapter."""
    prefixes = {told: PREFIXES[asked] for asked, told in TOLD.items()}
    events = [event for event in understand(text) if event.kind in prefixes]
    return [(prefixes[event.kind].format(event.chapter), event.value) for event in events]


def _multihop(text: str) -> list[Asked]:
    """Every purchase but the first with the one before it."""
    bought = [event.value for event in understand(text) if event.kind == "purchase"]
    return [(f"Before the {item} Rowan last bought the", before) for before, item in pairwise(bought)]


ASKED: dict[str, Callable[[str], list[Asked]]] = {
    "needle": _needle,
    "vt": _vt,
    "story_retrieval": _retrieval,
    "story_multihop": _multihop,
}
