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
from itertools import pairwise
from typing import Any

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
# Pairs of a list: at least, and at most as a share of its tokens.
FEWEST, MOST = 2, 6
PAIRS = "pairs"
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
        name: of a task in `ASKED`, or `PAIRS`.
        length: tokens.
        index: of the row.
        seed: of the training.

    Raises:
        StudyError: a text with its facts does not fit.
    """
    rng = random.Random(f"{seed} {name} {index}")
    if name == PAIRS:
        return _pairs(rng, length)
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
    task = TASKS[name](pool=POOL, **fields[name])
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


def _pairs(rng: random.Random, length: int) -> Drilled:
    """Pairs of a noun and a number, and then any of them again and again."""
    nouns, numbers = _keys()
    count = rng.randint(FEWEST, min(length // MOST, len(nouns)))
    pairs = list(zip(rng.sample(nouns, count), rng.sample(numbers, count), strict=True))
    ids = [identity(BOS), *(one for pair in pairs for one in pair)]
    replies = []
    while len(ids) + 2 <= length:
        ids += rng.choice(pairs)
        replies.append((len(ids) - 1, len(ids)))
    return Drilled(ids, tuple(replies), False)


@cache
def _keys() -> tuple[list[int], list[int]]:
    """Ids of the nouns and of the numbers of two digits."""
    nouns = [identity(f" {noun}") for noun in POOLS[POOL].nouns]
    return nouns, [identity(f" {number}") for number in range(10, 100)]


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
