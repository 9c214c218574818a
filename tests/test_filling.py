"""Prompts that are exactly full, what is cut from them, and where their tokens lie."""

from __future__ import annotations

import random
from itertools import pairwise, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_level import word_level

from sparsestudy.errors import StudyError
from sparsestudy.tasks.filling import Frame, _chosen, _Coins
from sparsestudy.tasks.pools import POOLS, fillers, inserted, spans
from sparsestudy.tasks.prompt import Parts, counted, joined, reduced, render
from sparsestudy.tasks.words import SHORT


def parts(texts: list[str], short: list[str]) -> Parts:
    return Parts(
        introduction="Read.",
        context=" ".join(["A fact.", *texts, *short]),
        question="What?",
        form="Answer.",
        prefix="It is",
        evidence=((0, 7),),
        answer=("fact",),
        chance=0.5,
    )


def frame(length: int) -> Frame:
    return Frame(word_level(), length, "direct", "after", "the example")


@given(st.integers(40, 900), st.integers(0, 10**6), st.sampled_from(sorted(POOLS)))
def test_sentences_fill_a_prompt_to_the_token(length: int, seed: int, pool: str) -> None:
    filled = frame(length).fill(parts, fillers(random.Random(seed), POOLS[pool]))
    assert frame(length).tokens(filled) == length


def test_short_sentences_make_every_number_from_three_on() -> None:
    coins = _Coins.of(list(SHORT), frame(99).sizes(SHORT))
    for number in range(3, 60):
        assert coins.reach(number) == number
        chosen = coins.change(number)
        assert sum(frame(99).sizes(chosen)) == number
        assert len(chosen) <= -(-number // 5) + 1, "no more sentences than needed"
    assert (coins.reach(2), coins.change(0)) == (0, [])
    assert _Coins.of([], []).reach(1000) == 0


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(0, 300), st.sets(st.integers(2, 9), max_size=3))
def test_what_is_chosen_fits_and_nothing_smaller_is_left_out(
    sizes: list[int], goal: int, coins: set[int]
) -> None:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    money = _Coins.of([str(c) for c in coins], sorted(coins))
    count, short, planned = _chosen(ends, _Coins({c: [str(c)] for c in coins}), goal)
    used = sum(sizes[:count]) + sum(map(int, short))
    assert used == planned <= goal
    if count < len(sizes) and not short:
        assert used + sizes[count] > goal or money.texts
    if len(sizes) > count + 1:
        assert sum(sizes[: count + 2]) > goal


def test_pieces_that_run_out_are_an_error_and_not_filled_up_with_short_sentences() -> None:
    with pytest.raises(StudyError, match=r"the example cannot fill 500 tokens; ask for a shorter length"):
        frame(500).fill(parts, ["One sentence of seven words stands here."] * 5)
    bare = frame(99).tokens(parts([], []))
    with pytest.raises(StudyError, match=f"needs at least {bare} tokens .* more than the length {bare - 1}"):
        frame(bare - 1).fill(parts, repeat("Never."))


def test_without_padding_the_last_piece_decides() -> None:
    filled = frame(200).fill(parts, repeat("Exactly five words again now."), padding=())
    assert 195 <= frame(200).tokens(filled) <= 200


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=30), st.integers(1, 12))
def test_the_nearest_spans_become_one(steps: list[tuple[int, int]], most: int) -> None:
    pieces, at = [], 0
    for gap, size in steps:
        pieces.append((at + gap, at + gap + size))
        at += gap + size
    found = joined(pieces, most)
    assert len(found) == min(len(pieces), most)
    inside = {i for a, b in found for i in range(a, b)}
    assert {i for a, b in pieces for i in range(a, b)} <= inside
    between = [b[0] - a[1] for a, b in pairwise(pieces)]
    bridged = sorted(between)[: max(len(pieces) - most, 0)]
    assert len(inside) == sum(size for _, size in steps) + sum(bridged)


@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 20))
def test_facts_are_inserted_at_their_places(places: list[float], number: int) -> None:
    facts, sentences = [f"Fact {i}." for i in range(len(places))], [f"Other {i}." for i in range(number)]
    merged = inserted(facts, places, sentences)
    assert [one for one in merged if one in sentences] == sentences
    for i, place in enumerate(places):
        before = [one for one in merged[: merged.index(facts[i])] if one in sentences]
        assert len(before) == round(place * number)
    text = " ".join(merged)
    assert sorted(text[a:b] for a, b in spans(merged, facts)) == sorted(facts)


@pytest.mark.parametrize("preset", ["direct", "paper"])
@pytest.mark.parametrize("position", ["before", "after", "both"])
def test_the_question_stands_where_it_should(preset: str, position: str) -> None:
    sample = render(word_level(), parts(["Filler."], []), preset, position)  # type: ignore[arg-type]
    before, after = sample.prompt[: sample.context_end], sample.prompt[sample.context_end :]
    assert before.endswith("A fact. Filler.")
    assert (before.count("What?"), after.count("What?")) == (position != "after", position != "before")
    assert sample.prompt.endswith("It is") == (preset == "direct")
    assert ("<answer>" in after) == (preset == "paper")
    alone = render(word_level(), reduced(parts([], []), "none"), preset, position)  # type: ignore[arg-type]
    assert alone.prompt.count("What?") == 1
    assert "Read." not in alone.prompt
    assert "fact" not in alone.prompt


def test_texts_are_counted_as_the_tokenizer_counts_them() -> None:
    texts = ["", "It rained.", "Variable ABC = 12345.", "a\n\nb"]
    assert counted(word_level(), texts) == [len(word_level()(text)["input_ids"]) for text in texts]
