"""Which words a synthetic task uses, and the filler sentences made of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sparsestudy.tasks.words import ADJECTIVES, NOUNS, PERSONS, SETTINGS, VERBS


@dataclass(frozen=True)
class Pool:
    """The words of filler sentences and of keys."""

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    persons: tuple[str, ...]
    verbs: tuple[str, ...]
    settings: tuple[str, ...]


POOLS = {
    "full": Pool(ADJECTIVES, NOUNS, PERSONS, VERBS, SETTINGS),
    # Enough pairs of adjective and noun for 32k tokens of needles.
    "ladder": Pool(ADJECTIVES[:64], NOUNS[:64], PERSONS[:12], VERBS[:16], SETTINGS[:12]),
}


def filler(rng: random.Random, pool: Pool) -> str:
    """One sentence that holds no fact a task asks for."""
    thing = f"the {rng.choice(pool.adjectives)} {rng.choice(pool.nouns)}"
    person, verb, setting = rng.choice(pool.persons), rng.choice(pool.verbs), rng.choice(pool.settings)
    form = rng.randrange(4)
    if form == 0:
        return f"{setting[0].upper()}{setting[1:]}, {person} {verb} {thing}."
    if form == 1:
        return f"{person[0].upper()}{person[1:]} {verb} {thing} {setting}."
    if form == 2:
        other = f"the {rng.choice(pool.adjectives)} {rng.choice(pool.nouns)}"
        return f"{thing[0].upper()}{thing[1:]} stood next to {other} {setting}."
    return f"{setting[0].upper()}{setting[1:]}, {thing} was {verb} by {person}."


def fillers(rng: random.Random, pool: Pool) -> Iterator[str]:
    """Filler sentences without end, from a state of their own: how many are taken changes nothing else."""
    own = random.Random(rng.getrandbits(64))
    while True:
        yield filler(own, pool)


def inserted(facts: list[str], places: list[float], sentences: list[str]) -> list[str]:
    """The sentences with each fact at its relative place in 0..1; at equal places facts keep their order."""
    order = sorted(range(len(facts)), key=lambda i: places[i])
    merged: list[str] = []
    at = 0
    for i in order:
        stop = round(places[i] * len(sentences))
        merged += [*sentences[at:stop], facts[i]]
        at = stop
    return merged + sentences[at:]


def spans(sentences: list[str], wanted: list[str], joint: str = " ") -> tuple[tuple[int, int], ...]:
    """Where some of the sentences lie in their joined text: ``(start, stop)`` in rising order."""
    asked = set(wanted)
    return spans_of(sentences, [sentence in asked for sentence in sentences], joint)


def spans_of(pieces: list[str], wanted: list[bool], joint: str) -> tuple[tuple[int, int], ...]:
    """Where the wanted pieces lie in their joined text: ``(start, stop)`` in rising order."""
    found, at = [], 0
    for piece, asked in zip(pieces, wanted, strict=True):
        if asked:
            found.append((at, at + len(piece)))
        at += len(piece) + len(joint)
    return tuple(found)
