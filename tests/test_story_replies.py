"""How replies to the story tasks are read, where the reference reads otherwise, and refused parameters."""

from __future__ import annotations

import re

import pytest
from word_level import word_level

from sparsestudy.errors import StudyError
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.story_filtering import StoryFiltering, chapter_numbers
from sparsestudy.tasks.story_multihop import ASKED, StoryMultihop


def gold(*answer: str) -> Sample:
    """A sample of which only the answer matters."""
    return Sample("", False, 0, (), answer)


def test_the_item_asked_about_is_no_answer() -> None:
    task = StoryMultihop()
    sample = task.sample(word_level(), 512, 0)
    target = ASKED.search(sample.prompt)[1]  # type: ignore[index]
    assert task.score(sample, f" {target}").parsed is False
    assert task.score(sample, f" {sample.answer[0]}, and then the {target}.").value == 1
    assert task.score(sample, f" {target} came after the {sample.answer[0]}.").value == 1


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("story_retrieval", {"queries": 0}),
        ("story_retrieval", {"chapter_words": 14}),
        ("story_filtering", {"chapters_in_question": 0}),
        ("story_filtering", {"chapter_words": 151}),
        ("story_multihop", {"purchase_share": 0.0}),
        ("story_multihop", {"purchase_share": 1.1}),
    ],
)
def test_impossible_parameters_are_refused(name: str, fields: dict[str, object]) -> None:
    field = next(iter(fields))
    with pytest.raises(StudyError, match=f"{name} needs .*{field.split('_')[0][:5]}"):
        TASKS[name](**fields)


def test_a_narrative_ends_with_its_names() -> None:
    with pytest.raises(StudyError, match="cannot fill"):
        StoryFiltering(chapter_words=15, pool="ladder").sample(word_level(), 65536, 0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3, 4 and 5", "3 4 5"),
        ("Chapter 3, 4, 5", "3 4 5"),
        ("3-5", "3 4 5"),
        ("chapters 3–5, 9", "3 4 5 9"),
        ("3 to chapter 5", "3 4 5"),
        ("10-12 and 3-4", "10 11 12 3 4"),
        ("There are 2 chapters: 4 and 9", "4 9"),
        ("1. Chapter 4\n2. Chapter 9", "4 9"),
        ("1. 4\n2. 9", "4 9"),
        ("1\n2\n4", "1 2 4"),
        ("- 4\n- 9", "4 9"),
        ("2020-12-01", "2020 12 1"),
        ("04, 4", "4"),
        ("none", ""),
    ],
)
def test_lists_of_chapters_are_read_as_what_they_mean(text: str, numbers: str) -> None:
    assert " ".join(chapter_numbers(text)) == numbers


def block(reply: str) -> str | None:
    """The first answer block, which the reference takes."""
    found = re.search(r"<answer>(.*?)</answer>", reply, re.IGNORECASE | re.DOTALL)
    return found[1] if found else None


def name(text: str) -> str:
    """A name as the reference compares it."""
    return re.sub(r"^(the|a|an) ", "", " ".join(text.lower().split()))


def their_lines(reply: str) -> dict[int, str]:
    """The reference's reading of Story Retrieval: numbered lines of the block, or of the whole reply."""
    lines = re.findall(r"^(\d+)[.:)] *(.+)$", (block(reply) or reply).strip(), re.MULTILINE)
    return {int(number): name(text) for number, text in lines}


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>\n1. Oslo\n2. the red copper lamp\n</answer>", 1.0, 1.0),
        ("<answer>\n1. Oslo.\n2. red copper lamp.\n</answer>", 0.0, 1.0),
        ("<answer>\n1 - Oslo\n2 - red copper lamp\n</answer>", 0.0, 1.0),
        ("<answer>\n**1.** Oslo\n2. **red copper lamp**\n</answer>", 0.0, 1.0),
        ("<answer>\n1. name\n</answer><answer>\n1. Oslo\n2. red copper lamp\n</answer>", 0.0, 1.0),
        ("1. Oslo\n2. red copper lamp", 1.0, 0.0),
    ],
)
def test_where_names_are_read_unlike_in_the_reference(reply: str, theirs: float, ours: float) -> None:
    answer = ("Oslo", "red copper lamp")
    found = their_lines(reply)
    assert sum(found.get(i) == value.lower() for i, value in enumerate(answer, 1)) / 2 == theirs
    assert TASKS["story_retrieval"](preset="paper", queries=2).score(gold(*answer), reply).value == ours


def their_chapters(reply: str) -> set[int] | None:
    """The reference's reading of Story Filtering; an empty reply is left out of the mean."""
    text = block(reply)
    if not reply:
        return None
    named = re.findall(r"chapter (\d+)", text or "", re.IGNORECASE)
    return {int(n) for n in named or re.sub(r"[^\d, ]", "", text or "").replace(",", " ").split()}


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>3, 4, 5</answer>", 1.0, 1.0),
        ("<answer>Chapter 3, 4, 5</answer>", 1 / 3, 1.0),
        ("<answer>3-5</answer>", 0.0, 1.0),
        ("<answer>3\n4\n5</answer>", 0.0, 1.0),
        ("<answer>numbers</answer> <answer>3, 4, 5</answer>", 0.0, 1.0),
        ("3, 4, 5", 0.0, 0.0),
        ("", None, 0.0),
    ],
)
def test_where_chapters_are_read_unlike_in_the_reference(
    reply: str, theirs: float | None, ours: float
) -> None:
    found, answer = their_chapters(reply), {3, 4, 5}
    assert theirs == (None if found is None else len(found & answer) / len(found | answer))
    assert TASKS["story_filtering"](preset="paper").score(gold("3", "4", "5"), reply).value == ours


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>The red copper lamp</answer>", 1.0, 1.0),
        ("<answer>red copper lamp.</answer>", 0.0, 1.0),
        ("<answer>It was the red copper lamp</answer>", 0.0, 1.0),
        ("<answer>name</answer><answer>red copper lamp</answer>", 0.0, 1.0),
        ("<explanation>It was the red copper lamp", None, 0.0),
        ("", None, 0.0),
    ],
)
def test_where_items_are_read_unlike_in_the_reference(reply: str, theirs: float | None, ours: float) -> None:
    text = block(reply)
    assert theirs == (None if text is None else float(name(text) == "red copper lamp"))
    assert StoryMultihop(preset="paper").score(gold("red copper lamp"), reply).value == ours
