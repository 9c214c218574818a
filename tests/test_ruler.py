"""What is special to needles, variables and common words, and how the reference would score them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_level import word_level

from sparsestudy.errors import StudyError
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.needle import CODE, FACT
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.vocabulary import vocabulary
from sparsestudy.tasks.vt import SET

IMPOSSIBLE = [
    ("needle", {"queries": 2}),
    ("needle", {"value_length": 0}),
    ("needle", {"needles": 40, "value_length": 1}),
    ("needle", {"needles": 5, "queries": 2, "similar": 2}),
    ("needle", {"similar": -1}),
    ("vt", {"chains": 0}),
    ("vt", {"hops": -1}),
    ("vt", {"letters": 1}),
    ("vt", {"letters": 2, "chains": 100, "hops": 9}),
    ("cwe", {"ratio": 2}),
    ("cwe", {"common": 0}),
    ("cwe", {"rare": 600, "pool": "ladder"}),
]


def gold(*answer: str) -> Sample:
    """A sample of which only the answer matters."""
    return Sample("", False, 0, (), answer)


@pytest.mark.parametrize(("name", "fields"), IMPOSSIBLE)
def test_impossible_parameters_are_refused(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(StudyError, match=f"{name} needs"):
        TASKS[name](**fields)


@pytest.mark.parametrize("codes", [True, False])
def test_needles_are_distinct_and_the_similar_ones_differ_in_one_place(codes: bool) -> None:
    task = TASKS["needle"](needles=8, queries=2, similar=3, codes=codes, haystack="needles")
    for index in range(20):
        sample = task.sample(word_level(), 1500, index)
        facts = FACT.findall(sample.prompt)
        keys, values = [key for key, _ in facts], [value for _, value in facts]
        assert len(set(keys)) == len(keys) > 8
        assert len(set(values)) == len(values)
        known = dict(zip(values, keys, strict=True))
        for value in sample.answer:
            key = known[value]
            parts = list if codes else str.split
            near = [
                other
                for other in keys
                if len(other) == len(key) or not codes
                if sum(a != b for a, b in zip(parts(key), parts(other), strict=True)) == 1
            ]
            assert len(near) >= 3


def test_the_papers_needles_have_its_form() -> None:
    sample = TASKS["needle"](preset="paper").sample(word_level(), 2048, 0)
    assert len(sample.answer) == 4
    for key, value in FACT.findall(sample.prompt):
        for code in (key, value):
            assert re.fullmatch(r"[a-z0-9]{8}(-[a-z0-9]{8}){3}", code)
    context = sample.prompt[: sample.context_end].partition("<context>\n")[2]
    assert len(FACT.sub("", context).split()) < 50, "nothing but needles, and less than one in short words"
    assert CODE.findall(sample.prompt.partition("</question>")[0]) != []


@pytest.mark.parametrize("ordered", [True, False])
def test_chains_stand_in_order_or_not(ordered: bool) -> None:
    task, in_order = TASKS["vt"](chains=3, hops=3, ordered=ordered), []
    for index in range(30):
        sample = task.sample(word_level(), 500, index)
        names = [name for name, _ in SET.findall(sample.prompt)]
        assert len(names) == len(set(names)) == 12
        in_order.append([name for name in names if name in sample.answer] == list(sample.answer))
    assert all(in_order) if ordered else sum(in_order) < 10


@given(
    st.integers(1, 6),
    st.integers(3, 12),
    st.integers(1, 30),
    st.sampled_from([650, 900, 1500]),
    st.booleans(),
)
def test_common_words_keep_their_share(
    common: int, ratio: int, rare: int, length: int, numbers: bool
) -> None:
    task = TASKS["cwe"](common=common, ratio=ratio, rare=rare, numbers=numbers)
    # The shortest list holds 6 x 12 + 30 words, of at most 6 tokens each.
    sample = task.sample(word_level(), length, 0)
    words = _entries(sample, numbers)
    counts = Counter(words)
    assert len(counts) == common + rare
    lowest = min(counts[word] for word in sample.answer)
    others = max(count for word, count in counts.items() if word not in sample.answer)
    assert lowest > others
    share = sum(counts[word] for word in sample.answer) / len(words)
    assert share == pytest.approx(common * ratio / (common * ratio + rare), abs=(common + 1) / len(words))


def test_the_papers_counts_are_fixed_and_further_words_fill_the_list() -> None:
    task = TASKS["cwe"](preset="paper")
    distinct = []
    for length in (2048, 4096):
        counts = Counter(_entries(task.sample(word_level(), length, 0), True))
        assert Counter(counts.values())[30] == 10
        assert set(counts.values()) == {30, 3}
        distinct.append(len(counts))
    assert distinct[1] > 1.5 * distinct[0]


def _entries(sample: Sample, numbers: bool) -> list[str]:
    text = sample.prompt[: sample.context_end].rpartition("\n\n")[2].rpartition("<context>\n")[2]
    return re.findall(r"[a-z]+", text) if numbers else text.split()


def test_the_vocabulary_is_frozen_and_the_small_pool_is_part_of_it() -> None:
    full, few = vocabulary("full"), vocabulary("ladder")
    assert (len(full), len(few)) == (8000, 600)
    assert len(set(full)) == 8000
    assert full[:600] == few
    assert all(re.fullmatch(r"[a-z]{3,8}", word) for word in full)


def their_variables(reply: str) -> set[str]:
    """The reference's reading of variables: first block or whole reply, upper case, split at spaces."""
    block = re.search(r"<answer>(.*?)</answer>", reply, re.IGNORECASE | re.DOTALL)
    text = (block[1] if block else reply).upper().replace("VAR ", "")
    return set(text.split())


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>ABCDE FGHIJ</answer>", 1.0, 1.0),
        ("<answer>ABCDE, FGHIJ</answer>", 1 / 3, 1.0),
        ("<answer>names</answer> <answer>ABCDE FGHIJ</answer>", 0.0, 1.0),
        ("I saw ABCDE and FGHIJ", 2 / 5, 0.0),
    ],
)
def test_where_variables_are_read_unlike_in_the_reference(reply: str, theirs: float, ours: float) -> None:
    found, answer = their_variables(reply), {"ABCDE", "FGHIJ"}
    assert len(found & answer) / len(found | answer) == pytest.approx(theirs)
    assert TASKS["vt"](preset="paper", hops=1).score(gold("ABCDE", "FGHIJ"), reply).value == ours


def their_words(reply: str) -> set[str]:
    """The reference's reading of common words: first block, lines with a number, the rest of the line."""
    block = re.search(r"<answer>(.*?)</answer>", reply, re.IGNORECASE | re.DOTALL)
    lines = (block[1] if block else "").splitlines()
    return {m[1].strip().lower() for line in lines if (m := re.match(r"\s*\d+[.)\-]?\s*(.+)$", line))}


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>\n1. apple\n2. River\n</answer>", 1.0, 1.0),
        ("<answer>apple, river</answer>", 0.0, 1.0),
        ("<answer>\n1. **apple**\n2. river.\n</answer>", 0.0, 1.0),
        ("<answer>\n1. word\n</answer><answer>\n1. apple\n2. river\n</answer>", 0.0, 1.0),
    ],
)
def test_where_words_are_read_unlike_in_the_reference(reply: str, theirs: float, ours: float) -> None:
    found, answer = their_words(reply), {"apple", "river"}
    assert (len(found & answer) / len(found | answer)) == pytest.approx(theirs)
    assert TASKS["cwe"](preset="paper", common=2).score(gold("apple", "river"), reply).value == ours


def their_needles(reply: str, keys: list[str]) -> list[str]:
    """The reference's reading of needles, in essence: numbered lines, with key and value in place."""
    block = re.search(r"<answer>(.*?)</answer>", reply, re.IGNORECASE | re.DOTALL)
    text = block[1] if block else reply
    lines = {int(n): (k, v) for n, k, v in re.findall(r"(\d+)\. The value for ([\w-]+) is ([^.\n]+)", text)}
    return [
        lines[i][1].strip().lower() if lines.get(i, ("",))[0] == key else "" for i, key in enumerate(keys, 1)
    ]


@pytest.mark.parametrize(
    ("reply", "theirs", "ours"),
    [
        ("<answer>\n1. The value for k-1 is a-1.\n2. The value for k-2 is b-2.\n</answer>", 1.0, 1.0),
        ("<answer>\n1. The value for <k-1> is <a-1>.\n2. The value for <k-2> is <b-2>.\n</answer>", 0.0, 1.0),
        ("<answer>\n1. a-1\n2. b-2\n</answer>", 0.0, 1.0),
        ("1. The value for k-1 is a-1.\n2. The value for k-2 is b-2.", 1.0, 0.0),
    ],
)
def test_where_needles_are_read_unlike_in_the_reference(reply: str, theirs: float, ours: float) -> None:
    found = their_needles(reply, ["k-1", "k-2"])
    assert sum(a == b for a, b in zip(found, ["a-1", "b-2"], strict=True)) / 2 == theirs
    assert TASKS["needle"](preset="paper", queries=2).score(gold("a-1", "b-2"), reply).value == ours


@pytest.mark.parametrize("mark", ["1. ", "1) ", "**1.** ", "- ", "* ", "• "])
@pytest.mark.parametrize(
    ("name", "words"), [("vt", ["ABC", "DEF", "GHI"]), ("cwe", ["pear", "stone", "river"])]
)
def test_a_list_in_lines_ends_with_the_first_line_that_is_no_entry(
    name: str, words: list[str], mark: str
) -> None:
    task = TASKS[name]()
    sample = Sample("", False, 0, (), tuple(words))
    lines = [f"{mark.replace('1', str(place))}{word}" for place, word in enumerate(words, 1)]
    for before in ("", ":\n", ":\n\n", " "):
        reply = before + "\n".join(lines)
        assert not any(task.done(reply[:stop]) for stop in range(len(reply) + 1))
        assert not task.done(f"{reply}\n")
        for after in ("\n\n", "\nThat is all.\n"):
            assert task.done(reply + after)
            assert task.score(sample, reply + after).value == 1
