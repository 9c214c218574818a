"""Laws of the narratives: what happens is consistent, is told in full, and leaves no other trace."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsestudy.errors import StudyError
from sparsestudy.tasks.journey import SPREAD, Journey, Scene
from sparsestudy.tasks.narrative import Chapter, tell, write
from sparsestudy.tasks.narrative_forms import FORMS, Event, Kind, fillers, offer_forms, understand, words_in
from sparsestudy.tasks.narrative_words import WORDS

POOLS = sorted(WORDS)
seeds = st.integers(0, 2**32)
sizes = st.sampled_from([15, 20, 40, 150])
counts = st.integers(1, 60)
pools = st.sampled_from(POOLS)
shares = st.floats(0, 1)


def told(seed: int, count: int, size: int, pool: str, share: float, offers: float = 0.5) -> list[Chapter]:
    """A log in which so large a share of the chapters has a purchase, and of the others an offer."""
    scenes = Journey(random.Random(seed), size, pool, offers).first(count)
    return tell(scenes, [scene.rank < share for scene in scenes])


def events(chapter: Chapter) -> dict[Kind, str | None]:
    return {
        "arrival": chapter.location,
        "meeting": chapter.character,
        "purchase": chapter.bought,
        "sale": chapter.sold,
        "offer": chapter.offered,
    }


@given(seeds, counts, sizes, pools, shares)
@settings(max_examples=60, deadline=None)
def test_only_what_was_bought_before_is_sold_and_nothing_comes_twice(
    seed: int, count: int, size: int, pool: str, share: float
) -> None:
    owned: set[str] = set()
    pairs, bought = set(), set()
    for chapter in told(seed, count, size, pool, share):
        pairs.add((chapter.location, chapter.character))
        if chapter.sold:
            owned.remove(chapter.sold)
        if chapter.bought:
            assert chapter.bought not in bought
            bought.add(chapter.bought)
            owned.add(chapter.bought)
        if chapter.offered:
            assert not chapter.bought
            assert chapter.offered not in bought
            bought.add(chapter.offered)
    assert len(pairs) == count


@given(seeds, counts, sizes, pools, shares, st.lists(st.sampled_from(["Rain fell.", "Rowan rested."])))
@settings(max_examples=60, deadline=None)
def test_the_text_tells_the_log_and_the_spans_lie_where_they_say(
    seed: int, count: int, size: int, pool: str, share: float, padding: list[str]
) -> None:
    log = told(seed, count, size, pool, share)
    story = write(log, padding)
    expected = []
    for chapter in log:
        start, stop = story.chapters[chapter.number]
        whole = story.text[start:stop]
        assert whole.startswith(f"Chapter {chapter.number}: ")
        assert "\n" not in whole
        first, last = story.headers[chapter.number]
        assert story.text[first:last] == f"Chapter {chapter.number}:"
        for kind, _ in chapter.sentences:
            value = events(chapter).get(kind)
            if value is not None:
                expected.append(Event(chapter.number, kind, value))
                a, b = story.facts[chapter.number, kind]
                assert start < a < b <= stop
                assert understand(story.text[a:b]) == [Event(0, kind, value)]
    assert understand(story.text) == expected
    assert len(story.facts) == len(expected)
    assert story.text.count("Rain fell.") >= padding.count("Rain fell.")
    assert (
        understand(f"Read this.\n\n{story.text}\n\nWhich item did Rowan buy?\n\nRowan bought the") == expected
    )


@given(seeds, counts, sizes, pools, shares)
@settings(max_examples=60, deadline=None)
def test_sentences_are_plain_and_chapters_have_their_size(
    seed: int, count: int, size: int, pool: str, share: float
) -> None:
    for chapter in told(seed, count, size, pool, share):
        sentences = [sentence for _, sentence in chapter.sentences]
        assert all(re.fullmatch(r"[A-Z][A-Za-z]*( [A-Za-z]+)+\.", sentence) for sentence in sentences)
        words = 2 + sum(len(sentence.split()) for sentence in sentences)
        # The shortest chapter with a sale has 20 words; a rest of two words cannot be filled.
        assert (1 - SPREAD) * size - 3 <= words <= max((1 + SPREAD) * size + 1, 20)
        kinds = [kind for kind, _ in chapter.sentences if kind != "filler"]
        assert kinds[0] == "arrival"
        assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("size", [15, 20, 40, 150])
def test_chapters_have_their_size_on_average(size: int, pool: str) -> None:
    log = told(0, 500, size, pool, 0.5)
    words = np.mean([2 + sum(len(text.split()) for _, text in chapter.sentences) for chapter in log])
    # The standard error is half a percent of the size; at 15 words half of the chapters need 20 for a sale.
    assert 0.98 * size - 1 <= words <= max(1.02 * size + 1, 18)


@given(seeds, st.integers(1, 40), st.integers(0, 40), sizes, pools)
@settings(max_examples=30, deadline=None)
def test_the_first_scenes_do_not_depend_on_how_many_follow(
    seed: int, count: int, more: int, size: int, pool: str
) -> None:
    journey = Journey(random.Random(seed), size, pool)
    first = journey.first(count)
    assert journey.first(count + more)[:count] == first
    assert Journey(random.Random(seed), size, pool).first(count + more)[:count] == first


@given(seeds, sizes, pools)
@settings(max_examples=30, deadline=None)
def test_a_purchase_changes_neither_the_words_nor_the_sentences_of_its_chapter(
    seed: int, size: int, pool: str
) -> None:
    scenes = Journey(random.Random(seed), size, pool, 0.5).first(20)

    def lengths(scene: Scene, buy: bool) -> list[int]:
        return [len(text.split()) for _, text in tell([scene], [buy])[0].sentences]

    for scene in scenes:
        assert lengths(scene, True) == lengths(scene, False)
    silent, all_bought = (tell(scenes, [buy] * len(scenes)) for buy in (False, True))
    assert not any(chapter.bought or chapter.sold for chapter in silent)
    for one, other in zip(silent, all_bought, strict=True):
        assert [len(text.split()) for _, text in one.sentences] == [
            len(text.split()) for _, text in other.sentences
        ]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("size", [20, 150])
def test_what_stands_for_a_purchase_has_about_as_many_characters(size: int, pool: str) -> None:
    scenes = Journey(random.Random(4), size, pool).first(1000)
    slots = [slot for scene in scenes for slot in scene.slots if slot.kind == "purchase"]
    assert abs(np.mean([len(slot.text) - len(slot.instead) for slot in slots])) < 2


@pytest.mark.parametrize("pool", POOLS)
def test_no_two_items_share_two_words(pool: str) -> None:
    side = len(WORDS[pool].things)
    scenes = Journey(random.Random(3), 15, pool).first(side * side)
    assert len(scenes) == side * side
    pairs = Counter(
        pair for scene in scenes for pair in itertools.combinations(enumerate(scene.item.split()), 2)
    )
    assert set(pairs.values()) == {1}


def test_a_journey_ends_where_the_pool_has_no_further_pair() -> None:
    words = WORDS["ladder"]
    most = len(words.locations) * len(words.characters)
    scenes = Journey(random.Random(0), 15, "ladder").first(most + 100)
    assert len({(scene.location, scene.character) for scene in scenes}) == len(scenes) == most
    assert len({scene.item for scene in scenes}) == most


def distance(one: str, other: str) -> int:
    """Edits that turn one word into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (a != b)))
    return row[-1]


def test_no_two_names_are_alike() -> None:
    words = WORDS["full"]
    for names in (
        (*words.locations, *words.characters, "Rowan"),
        words.adjectives,
        words.materials,
        words.things,
    ):
        assert min(distance(a.lower(), b.lower()) for a, b in itertools.combinations(names, 2)) >= 3
    parts = words.adjectives + words.materials + words.things
    assert len(set(parts)) == len(parts)
    assert not [adjective for adjective in words.adjectives if adjective[0] in "aeiou"]
    assert len(words.adjectives) == len(words.materials) == len(words.things)


@pytest.mark.parametrize("pool", POOLS)
def test_every_form_is_understood_as_its_kind(pool: str) -> None:
    words = WORDS[pool]
    place, person = words.locations[0], words.characters[0]
    item = f"{words.adjectives[0]} {words.materials[0]} {words.things[0]}"
    values = dict.fromkeys(FORMS, item) | {"arrival": place, "meeting": person}
    for kind, forms in FORMS.items():
        for form in forms:
            sentence = form.replace("{place}", place).replace("{person}", person).replace("{item}", item)
            assert understand(sentence) == [Event(0, kind, values[kind])]
    for length in range(2, 12):
        for met in (False, True):
            sentences = [text for form in fillers(length, pool, met) for text in form]
            assert sentences
            assert understand(" ".join(sentences).replace("{person}", person)) == []
            assert met or not any("{" in sentence for sentence in sentences)


def test_a_text_that_is_no_narrative_is_refused() -> None:
    with pytest.raises(StudyError, match="two events of one kind"):
        understand("Chapter 1: Rowan reached Oslo. Rowan came to Quito.")


def test_the_place_of_a_fact_in_its_chapter_varies() -> None:
    for size, most in ((20, 0.6), (150, 0.3)):
        log = told(1, 1000, size, "full", 1.0)
        for kind in ("meeting", "purchase"):
            places = Counter([k for k, _ in chapter.sentences].index(kind) for chapter in log)
            assert max(places.values()) <= most * len(log), (size, kind, places)


def test_an_offer_can_stand_for_every_purchase_and_only_where_wanted() -> None:
    for words in map(words_in, FORMS["purchase"]):
        assert len(offer_forms(words)) >= 2
    assert not any(chapter.offered for chapter in told(0, 300, 20, "full", 0.5, offers=0.0))
    offered = [chapter.offered for chapter in told(0, 600, 20, "full", 0.0, offers=0.5)]
    assert 0.4 < sum(map(bool, offered)) / len(offered) < 0.6
