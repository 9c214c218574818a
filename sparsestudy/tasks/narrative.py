"""A narrative: what happens in its chapters (the event log), and its text.

In each chapter the traveler reaches a place and meets a person, may buy an item or only see it (an offer),
and may sell an item bought in an earlier chapter. Other sentences fill the chapter up to its size. Every
answer of the story tasks is computed from the log.

A chapter is drawn before it is decided whether something is bought or sold in it: each such sentence comes
with another of equally many words, and to within about one as many characters, that stands in its place. So
the length of a chapter says nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsestudy.tasks.journey import Scene, Slot
from sparsestudy.tasks.narrative_forms import Kind


@dataclass(frozen=True)
class Chapter:
    """A chapter of the event log, and its sentences in order."""

    number: int
    location: str
    character: str
    bought: str | None
    sold: str | None
    offered: str | None
    sentences: tuple[tuple[Kind, str], ...]


@dataclass(frozen=True)
class Story:
    """A text and where things stand in it, as character spans ``(start, stop)``.

    Args:
        text: the chapters, with blank lines between them.
        chapters: of each chapter, header included, by its number.
        headers: of each header.
        facts: of the sentence of a kind in a chapter.
    """

    text: str
    chapters: dict[int, tuple[int, int]]
    headers: dict[int, tuple[int, int]]
    facts: dict[tuple[int, Kind], tuple[int, int]]


def tell(scenes: Sequence[Scene], buys: Sequence[bool]) -> list[Chapter]:
    """The event log.

    Args:
        scenes: the chapters to be.
        buys: for each of them whether its item is bought. What is sold is one of the items owned.
    """
    owned: list[str] = []
    chapters = []
    for number, (scene, buy) in enumerate(zip(scenes, buys, strict=True), 1):
        sold = None
        if owned and scene.sells:
            sold = owned.pop(int(scene.pick * len(owned)))
        bought = scene.item if buy else None
        if bought:
            owned.append(bought)
        events: dict[Kind, str | None] = {"purchase": bought, "sale": sold}
        sentences = tuple(_said(slot, events) for slot in scene.slots)
        offered = scene.item if scene.offers and not buy else None
        chapters.append(Chapter(number, scene.location, scene.character, bought, sold, offered, sentences))
    return chapters


def write(chapters: Sequence[Chapter], padding: Sequence[str] = ()) -> Story:
    """The text of a log, with further sentences spread over the ends of its chapters."""
    further: dict[int, list[str]] = {}
    for i, sentence in enumerate(padding):
        # Steps of the golden ratio spread any number of sentences evenly.
        place = int((0.5 + i * 0.6180339887) % 1 * len(chapters))
        further.setdefault(chapters[place].number, []).append(sentence)
    texts: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    headers: dict[int, tuple[int, int]] = {}
    facts: dict[tuple[int, Kind], tuple[int, int]] = {}
    start = 0
    for chapter in chapters:
        parts = [f"Chapter {chapter.number}:"]
        at = start + len(parts[0])
        headers[chapter.number] = (start, at)
        for kind, sentence in chapter.sentences:
            if kind != "filler":
                facts[chapter.number, kind] = (at + 1, at + 1 + len(sentence))
            parts.append(sentence)
            at += 1 + len(sentence)
        texts.append(" ".join(parts + further.get(chapter.number, [])))
        spans[chapter.number] = (start, start + len(texts[-1]))
        start += len(texts[-1]) + 2
    return Story("\n\n".join(texts), spans, headers, facts)


def _said(slot: Slot, events: dict[Kind, str | None]) -> tuple[Kind, str]:
    """The sentence of a slot."""
    if slot.kind not in events:
        return slot.kind, slot.text
    item = events[slot.kind]
    return (slot.other, slot.instead) if item is None else (slot.kind, slot.text.replace("{item}", item))
