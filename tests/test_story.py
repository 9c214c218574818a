"""Laws of the story tasks: what is asked, where the answer stands, and that nothing else gives it away."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from scipy import stats
from word_level import WORD, word_level

from sparsestudy.tasks import TASKS
from sparsestudy.tasks.narrative_forms import Event, understand
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.story_filtering import StoryFiltering
from sparsestudy.tasks.story_multihop import ASKED, StoryMultihop
from sparsestudy.tasks.story_retrieval import StoryRetrieval

# Samples of short and of long prompts: enough for the margins below, few enough for seconds.
SHORT, LONG = 250, 100


@dataclass(frozen=True)
class Told:
    """What a prompt tells: its chapters, each with its words, and its events."""

    sample: Sample
    chapters: list[str]
    events: list[Event]


@cache
def told(task: StoryRetrieval | StoryFiltering | StoryMultihop, length: int) -> list[Told]:
    found = []
    for index in range(SHORT if length < 1000 else LONG):
        sample = task.sample(word_level(), length, index, split="train")
        chapters = re.findall(r"^Chapter \d+: .*$", sample.prompt, re.MULTILINE)
        found.append(Told(sample, chapters, understand(sample.prompt)))
    return found


def features(story: Told) -> tuple[np.ndarray, np.ndarray]:
    """Of each chapter what a reader sees who does not read for purchases; and whether it is asked for."""
    sold = {event.chapter for event in story.events if event.kind == "sale"}
    count = len(story.chapters)
    rows = [
        [
            len(text.split()),
            text.count("."),
            number / count,
            number == count,
            number in sold,
            len(text.split(".")[-2].split()),
            len(text),
        ]
        for number, text in enumerate(story.chapters, 1)
    ]
    asked = [str(number) in story.sample.answer for number in range(1, count + 1)]
    return np.array(rows, float), np.array(asked)


def separation(scores: np.ndarray, asked: np.ndarray) -> float:
    """Probability that a chapter asked for has a higher score than another (the area under the curve)."""
    return float(stats.mannwhitneyu(scores[asked], scores[~asked]).statistic / asked.sum() / (~asked).sum())


@pytest.mark.parametrize(
    ("fields", "length"), [({}, 512), ({"chapter_words": 40}, 900), ({"preset": "paper"}, 2500)]
)
def test_neither_length_nor_place_shows_where_nothing_is_bought(
    fields: dict[str, object], length: int
) -> None:
    pairs = [features(story) for story in told(StoryFiltering(**fields), length)]  # type: ignore[arg-type]
    half = len(pairs) // 2
    learn, test = pairs[:half], pairs[half:]
    rows = [np.concatenate([row for row, _ in part]) for part in (learn, test)]
    asked = [np.concatenate([one for _, one in part]) for part in (learn, test)]
    # Four standard errors of the area with some hundreds of chapters asked for.
    margin = 4 / np.sqrt(12 * asked[1].sum())
    for column in range(rows[1].shape[1]):
        assert separation(rows[1][:, column], asked[1]) == pytest.approx(0.5, abs=margin), column
    # All but the characters: beside the words they tell a little, one character for a purchase.
    learnt, seen = (np.c_[np.ones(len(part)), part[:, :-1]] for part in rows)
    fitted = seen @ np.linalg.lstsq(learnt, asked[0].astype(float), rcond=None)[0]
    assert separation(fitted, asked[1]) == pytest.approx(0.5, abs=margin)
    assert stats.ks_2samp(rows[1][asked[1], 0], rows[1][~asked[1], 0]).pvalue > 0.001


def test_exactly_the_chapters_asked_for_have_no_purchase_and_what_is_sold_was_bought() -> None:
    for task, length in ((StoryFiltering(), 512), (StoryFiltering(preset="paper"), 2500)):
        for story in told(task, length):
            bought: set[str] = set()
            with_purchase = set()
            for event in sorted(story.events, key=lambda e: (e.chapter, e.kind == "purchase")):
                if event.kind == "purchase":
                    bought.add(event.value)
                    with_purchase.add(event.chapter)
                elif event.kind == "sale":
                    assert event.value in bought
            without = set(range(1, len(story.chapters) + 1)) - with_purchase
            assert story.sample.answer == tuple(map(str, sorted(without)))
            assert len(without) == task.chapters_in_question


def test_the_number_of_chapters_is_told_only_if_wanted() -> None:
    for count in (1, 2, 3):
        stated, silent = (
            StoryFiltering(chapters_in_question=count, state_count=state).sample(word_level(), 400, 0)
            for state in (True, False)
        )
        number = "" if count == 1 else f" {count}"
        noun = "chapter" if count == 1 else "chapters"
        assert f"In which{number} {noun} did" in stated.prompt
        assert "In which chapters did" in silent.prompt


def hops(story: Told) -> tuple[int, list[Event], Event]:
    """Chapters between the two purchases, the events before the second, and the second."""
    target = ASKED.search(story.sample.prompt)[1]  # type: ignore[index]
    at = next(i for i, e in enumerate(story.events) if (e.kind, e.value) == ("purchase", target))
    before = story.events[:at]
    answer = next(e for e in before if (e.kind, e.value) == ("purchase", story.sample.answer[0]))
    return story.events[at].chapter - answer.chapter, before, story.events[at]


@pytest.mark.parametrize("share", [0.25, 0.4, 1.0])
def test_the_distance_between_the_two_purchases_is_geometric(share: float) -> None:
    distances = np.array([hops(story)[0] for story in told(StoryMultihop(purchase_share=share), 2048)])
    # At 2,048 tokens there are some 75 chapters, so that hardly a distance is cut short.
    error = np.sqrt((1 - share) / len(distances))
    assert (distances == 1).mean() == pytest.approx(share, abs=4 * error * np.sqrt(share) + 0.02)
    assert distances.mean() == pytest.approx(1 / share, rel=4 * error + 0.05)
    assert share == 1 or distances.max() >= 3 / share


def test_neither_the_chapter_before_nor_the_item_named_last_answers_the_question() -> None:
    stories = told(StoryMultihop(), 2048)
    named_last, chapter_before, first_purchase, last_purchase = 0, 0, 0, 0
    for story in stories:
        distance, before, target = hops(story)
        items = [e.value for e in before if e.kind in ("purchase", "sale", "offer")]
        bought = [e.value for e in story.events if e.kind == "purchase"]
        chapter_before += distance == 1
        named_last += items[-1] == story.sample.answer[0]
        first_purchase += bought[0] == story.sample.answer[0]
        last_purchase += bought[-1] == target.value
        sold = [e for e in story.events if e.kind == "sale" and e.chapter == target.chapter]
        assert all(e.value != target.value for e in sold)
    assert max(named_last, chapter_before) < 0.55 * len(stories)
    # About 30 purchases, each as likely.
    assert max(first_purchase, last_purchase) < 0.1 * len(stories)


def test_both_purchases_are_the_evidence() -> None:
    for story in told(StoryMultihop(), 512):
        first, second = (story.sample.prompt[a:b] for a, b in story.sample.evidence)
        assert [e.value for e in understand(first)] == [story.sample.answer[0]]
        assert [e.value for e in understand(second)] == [ASKED.search(story.sample.prompt)[1]]  # type: ignore[index]


def test_every_kind_and_every_place_is_asked_for_equally_often() -> None:
    kinds = Counter(
        story.sample.prompt.split("Which ")[1].split()[0] for story in told(StoryRetrieval(), 512)
    )
    assert set(kinds) == {"place", "person", "item"}
    assert stats.chisquare(list(kinds.values())).pvalue > 0.001
    places = []
    for story in told(StoryRetrieval(), 512):
        asked = int(re.search(r"in chapter (\d+)\?", story.sample.prompt)[1])  # type: ignore[index]
        places.append((asked - 0.5) / len(story.chapters))
    assert stats.kstest(places, "uniform").pvalue > 0.001


@pytest.mark.parametrize("queries", [3, 16])
def test_queries_are_about_different_chapters_in_random_order(queries: int) -> None:
    orders = []
    for index in range(20):
        sample = StoryRetrieval(queries=queries).sample(word_level(), 2048, index)
        asked = re.findall(r"(\d+)\. Which (\w+) did Rowan \w+ in chapter (\d+)\?", sample.prompt)
        assert [int(number) for number, _, _ in asked] == list(range(1, queries + 1))
        kinds = Counter(kind for _, kind, _ in asked)
        assert max(kinds.values()) - min(kinds.values()) <= 1
        chapters = [int(chapter) for _, _, chapter in asked]
        assert len(set(chapters)) == queries
        orders.append(chapters == sorted(chapters))
        headers = [sample.prompt[a:b] for a, b in sample.evidence[::2]]
        assert headers == [f"Chapter {chapter}:" for chapter in sorted(chapters)]
    assert sum(orders) <= 10


@pytest.mark.parametrize("task", [StoryRetrieval(), StoryMultihop(), StoryFiltering()], ids=lambda t: t.name)
def test_guessing_in_the_right_form_reaches_the_chance_level(
    task: StoryRetrieval | StoryFiltering | StoryMultihop,
) -> None:
    rng = np.random.default_rng(0)
    gained, expected = [], []
    for story in told(task, 512):
        sample = story.sample
        if isinstance(task, StoryFiltering):
            drawn = rng.choice(len(story.chapters), task.chapters_in_question, replace=False) + 1
            reply = ", ".join(map(str, drawn))
        else:
            kind = next(e.kind for e in story.events if e.value == sample.answer[0] and e.kind != "sale")
            asked = ASKED.findall(sample.prompt)
            values = sorted({e.value for e in story.events if e.kind == kind and e.value not in asked})
            reply = str(rng.choice(values))
        gained.append(task.score(sample, f" {reply}").value)
        expected.append(sample.chance)
    error = np.std(gained) / np.sqrt(len(gained))
    assert np.mean(gained) == pytest.approx(np.mean(expected), abs=4 * error)


@pytest.mark.parametrize("name", ["story_retrieval", "story_filtering", "story_multihop"])
def test_the_small_pool_needs_few_words(name: str) -> None:
    words: set[str] = set()
    for chapter_words in (15, 40):
        for index in range(4):
            sample = TASKS[name](pool="ladder", chapter_words=chapter_words).sample(
                word_level(), 16384, index
            )
            words |= set(re.findall(WORD, sample.prompt + " ".join(sample.answer)))
    assert len(words) <= 350
