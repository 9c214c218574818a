"""Questions about documents: those that rules make of the shipped novels, their scores, and their filling."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_level import word_level

from sparsestudy.tasks import TASKS, prose_forms
from sparsestudy.tasks.answers import letters, token_f1, words_of
from sparsestudy.tasks.base import Split
from sparsestudy.tasks.documents import JOINT, Pool
from sparsestudy.tasks.prompt import Sample, tokens_in


def splits() -> dict[Split, Pool]:
    return TASKS["prose_qa"]().library().splits  # type: ignore[attr-defined]


def test_passages_are_parts_of_the_books_and_of_one_split_alone() -> None:
    from sparsestudy.prose import BOOKS, paragraphs

    texts = {book.name: " ".join(paragraphs(book)) for book in BOOKS}
    names = [document.name for pool in splits().values() for document in pool.documents]
    assert len(names) == len(set(names)) == len(prose_forms.library())
    for passage in prose_forms.library():
        assert 60 <= len(passage.text.split()) <= 120
        assert " ".join(passage.text.split()) in texts[passage.name.split()[0]]
    for pool in splits().values():
        assert len(pool.asked) > 300
        assert set(pool.asked) <= set(pool.documents)


def test_a_question_tells_its_passage_from_all_others_and_not_its_answer() -> None:
    words = {passage.name: prose_forms.telling(passage.text) for passage in prose_forms.library()}
    asked = [(passage, one) for passage in prose_forms.library() for one in passage.asked]
    for passage, one in asked[::7]:
        assert passage.text.count(one.answer) >= 1
        assert not set(words_of(one.answer)) & set(words_of(one.text))
        clue = prose_forms.telling(one.text.partition(" is missing in ")[2] or one.text)
        most = max(len(clue & other) for name, other in words.items() if name != passage.name)
        # The words of the question's form may be found elsewhere.
        assert most <= len(clue & words[passage.name]) / 2 + 1
        assert len(clue & words[passage.name]) >= prose_forms.TELLING


def test_no_answer_is_a_good_guess(full_size: bool) -> None:
    number = 1000 if full_size else 100
    task = TASKS["prose_qa"](context="evidence")
    samples = [task.sample(word_level(), 320, index) for index in range(number)]
    assert max(Counter(sample.answer for sample in samples).values()) < 0.1 * number
    # Within the passages there are, each is asked about once before any comes again.
    assert max(Counter(sample.document for sample in samples).values()) == 1
    forms = Counter(sample.prompt.rpartition("Question: ")[2].split()[0] for sample in samples)
    assert {"Who", "Which"} <= set(forms) <= {"Who", "Whose", "Which"}


@settings(max_examples=40, deadline=None)
@given(length=st.integers(330, 3000), index=st.integers(0, 5000))
def test_whole_passages_fill_every_length(length: int, index: int) -> None:
    sample = TASKS["prose_qa"]().sample(word_level(), length, index)
    assert 0.95 * length <= tokens_in(word_level(), sample) <= length
    assert TASKS["prose_qa"]().score(sample, TASKS["prose_qa"]().solve(sample.prompt)).value == 1
    known = {document.text: document.name for document in splits()["eval"].documents}
    start = sample.prompt.index("\n\n") + 2
    texts = sample.prompt[start : sample.context_end].split(JOINT)
    cut = [text for text in texts if text not in known]
    assert len(cut) <= 1
    assert all(any(whole.startswith(text) for whole in known) for text in cut)
    ((begin, end),) = sample.evidence
    assert known[sample.prompt[begin:end]] == sample.document
    assert len(set(texts)) == len(texts)


def test_the_gold_passage_stands_anywhere() -> None:
    places = []
    for index in range(60):
        sample = TASKS["prose_qa"]().sample(word_level(), 2048, index)
        places.append(sample.evidence[0][0] / sample.context_end)
    assert min(places) < 0.15
    assert max(places) > 0.75
    assert all(b - a < 0.2 for a, b in pairwise(sorted(places)))


def test_every_answer_is_read_from_a_sentence_that_goes_on() -> None:
    task = TASKS["prose_qa"]()
    for passage in prose_forms.library():
        for one in passage.asked:
            sample = Sample("", False, 0, (), (one.answer,))
            for behind in (" and so on", "'s house", '."'):
                assert task.score(sample, f" {one.answer}{behind}").value == 1, (one.answer, behind)


@pytest.mark.slow
def test_long_prompts_have_passages_enough() -> None:
    task = TASKS["prose_qa"]()
    samples = [task.sample(word_level(), 16384, index) for index in range(100)]
    assert len({sample.document for sample in samples}) == 100
    assert all(task.score(sample, task.solve(sample.prompt)).value == 1 for sample in samples)


@pytest.mark.parametrize(
    ("found", "gold", "score"),
    [
        ("the cat", "a cat", 1),
        ("cat cat dog", "cat dog", 0.8),
        ("Cat, dog!", "cat dog", 1),
        ("and about or to", "or", 0.4),
        ("", "cat", 0),
        ("the", "an", 1),
        ("the", "cat", 0),
        ("U.S. Army", "us army", 1),
    ],
)
def test_f1_is_that_of_official_squad(found: str, gold: str, score: float) -> None:
    assert token_f1(found, gold) == pytest.approx(score)


@given(st.text("abc ,.", max_size=20), st.text("abc ,.", max_size=20))
def test_f1_is_symmetric_and_1_for_the_same_words_alone(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert (token_f1(one, other) == 1) == (sorted(words_of(one)) == sorted(words_of(other)))


OPTIONS = {"A": "A plan to leave", "B": "The answer is unknown", "C": "Bad weather", "D": "D. H. Lawrence"}


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("bad weather", ("C",)),
        ("C. Bad weather", ("C",)),
        ("a plan to leave.", ("A",)),
        ("A", ("A",)),
        ("A plan", None),
        ("a", ("A",)),
        ("E", None),
        ("the answer is unknown", ("B",)),
        ("I think it is C", ("C",)),
        ("It is A or C", None),
    ],
)
def test_letters_are_read_beside_the_words_of_options(reply: str, found: tuple[str, ...] | None) -> None:
    assert letters(reply, OPTIONS) == found
