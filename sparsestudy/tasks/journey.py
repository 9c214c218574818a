"""Drawing a journey: the chapters of a narrative before it is decided what happens in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sparsestudy.tasks.narrative_forms import Kind, choices, filler, offer_forms, shortest, words_in
from sparsestudy.tasks.narrative_words import WORDS, Words

# Words of the header "Chapter 12:".
HEADER = 2
# The planned words of a chapter lie within SPREAD of the size asked for. Of three in a row one is shorter by
# about STEP, one as long and one longer, so that how much room three chapters need hardly depends on chance.
SPREAD, STEP = 0.2, 0.14
# Share of the scenes with a sentence in which something may be sold.
SALES = 0.5
# Words of the sentences that fill a chapter.
FEWEST, MOST = 3, 11


@dataclass(frozen=True)
class Slot:
    """A sentence of a scene; and the equally long one, of another kind, when nothing is bought or sold."""

    kind: Kind
    text: str
    instead: str = ""
    other: Kind = "filler"


@dataclass(frozen=True)
class Scene:
    """A chapter as drawn, before it is decided what is bought and sold.

    Args:
        location: the place.
        character: the person.
        item: what a purchase here would be of, or an offer.
        slots: its sentences in order; that of a sale has a field for the item.
        sells: whether one of them is for a sale.
        offers: whether the item is seen if it is not bought.
        rank: uniform in 0..1; a task takes the chapters with the lowest ranks for what it needs.
        pick: uniform in 0..1; says which of the items owned is sold.
    """

    location: str
    character: str
    item: str
    slots: tuple[Slot, ...]
    sells: bool
    offers: bool
    rank: float
    pick: float


class Journey:
    """Scenes, drawn as far as they are asked for; the first ones do not depend on how many follow.

    No pair of a location and a character comes twice, and no item; while there are enough, no two items share
    two of their three words.

    Args:
        rng: decides everything; nothing else may draw from it before the last scene is asked for.
        size: words of a chapter, header included, on average.
        pool: a key of `WORDS`.
        offers: share of the chapters without a purchase in which an item is seen and not bought.
    """

    def __init__(self, rng: random.Random, size: int, pool: str, offers: float = 0.0) -> None:
        words = WORDS[pool]
        self._scenes: list[Scene] = []
        self._rest = _scenes(rng, size, pool, offers)
        self.most = len(words.locations) * len(words.characters)

    def first(self, count: int) -> list[Scene]:
        """The first scenes; fewer where the pool has no further pair of a location and a character."""
        while len(self._scenes) < min(count, self.most):
            self._scenes.append(next(self._rest))
        return self._scenes[:count]


def _scenes(rng: random.Random, size: int, pool: str, offered: float) -> Iterator[Scene]:
    words = WORDS[pool]
    places, people = words.locations, words.characters
    pairs = _shuffled(rng, len(places) * len(people))
    steps: list[float] = []
    for pair, item in zip(pairs, _items(rng, words), strict=False):
        location, character = places[pair // len(people)], people[pair % len(people)]
        steps = steps or rng.sample([-STEP, 0, STEP], 3)
        planned = round(size * (1 + steps.pop() + rng.uniform(STEP - SPREAD, SPREAD - STEP))) - HEADER
        sells = rng.random() < SALES
        slots = tuple(_slots(rng, planned, pool, location, character, item, sells))
        offers = rng.random() < offered
        if offers:
            slots = tuple(_offer(rng, slot, item) if slot.kind == "purchase" else slot for slot in slots)
        yield Scene(location, character, item, slots, sells, offers, rng.random(), rng.random())


def _items(rng: random.Random, words: Words) -> Iterator[str]:
    """All items in random order; no two share two of their three words, while there are enough."""
    adjectives, materials, things = (
        rng.sample(part, len(part)) for part in (words.adjectives, words.materials, words.things)
    )
    side = len(things)
    # A Latin square: two of its cells with one word in common have no other in common.
    for square in range(side):
        for cell in _shuffled(rng, side * side):
            i, j = divmod(cell, side)
            yield f"{adjectives[i]} {materials[j]} {things[(i + j + square) % side]}"


def _shuffled(rng: random.Random, count: int) -> Iterator[int]:
    """0..count - 1 in random order, at the cost of those taken."""
    moved: dict[int, int] = {}
    for last in range(count - 1, -1, -1):
        i = rng.randint(0, last)
        yield moved.get(i, i)
        moved[i] = moved.pop(last, last)


def _slots(
    rng: random.Random, words: int, pool: str, location: str, character: str, item: str, sells: bool
) -> Iterator[Slot]:
    """The sentences of a scene: the arrival before the other facts, filler anywhere."""
    kinds: list[Kind] = ["arrival", "meeting", "purchase"]
    if sells:
        kinds.append("sale")
    forms: dict[Kind, str] = {}
    for i, kind in enumerate(kinds):
        others = sum(shortest(later) for later in kinds[i + 1 :])
        forms[kind] = rng.choice(choices(kind, words - others))
        words -= words_in(forms[kind])
    rest = kinds[1:]
    rng.shuffle(rest)
    order: list[Kind | int] = ["arrival", *rest]
    for length in _split(rng, words):
        order.insert(rng.randint(0, len(order)), length)
    met, said = False, set[str]()
    for part in order:
        if part == "arrival":
            yield Slot("arrival", forms["arrival"].replace("{place}", location))
        elif part == "meeting":
            met = True
            yield Slot("meeting", forms["meeting"].replace("{person}", character))
        else:
            length = part if isinstance(part, int) else words_in(forms[part])
            # The item of a sale is not known yet, but this one has about as many characters.
            like = "" if isinstance(part, int) else forms[part].replace("{item}", item)
            other = filler(rng, length, pool, character if met else None, said, like)
            if isinstance(part, int):
                yield Slot("filler", other)
            else:
                yield Slot(part, like if part == "purchase" else forms[part], other)


def _offer(rng: random.Random, slot: Slot, item: str) -> Slot:
    """A purchase in whose place an offer may stand."""
    form = rng.choice(offer_forms(len(slot.text.split())))
    return replace(slot, instead=form.replace("{item}", item), other="offer")


def _split(rng: random.Random, words: int) -> list[int]:
    """Lengths of sentences with so many words together, or with at most two fewer."""
    lengths = []
    while words >= FEWEST:
        length = rng.randint(FEWEST, min(words, MOST))
        if 0 < words - length < FEWEST:
            length = words if words <= MOST else words - FEWEST
        lengths.append(length)
        words -= length
    return lengths
