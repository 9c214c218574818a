"""What is taken off a reply, and what is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestudy.tasks.parsing import answer_block, bare, guessed_iou, iou, listed, matches, numbered, plain

VALUE = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda v: v not in ("and", "a", "an", "the"))


@pytest.mark.parametrize(
    ("reply", "block"),
    [
        ("<answer>x</answer>", "x"),
        ("<ANSWER>\nx\ny\n</Answer>", "\nx\ny\n"),
        ("<answer>first</answer> no: <answer>last</answer>", "last"),
        ("<answer>whole</answer> <answer>cut", "whole"),
        ("<answer> I repeat: <answer>inner</answer>", "inner"),
        ("<answer></answer>", ""),
        ("<answer>cut", None),
        ("no tags", None),
        ("", None),
    ],
)
def test_the_last_complete_block_counts(reply: str, block: str | None) -> None:
    assert answer_block(reply) == block


@given(
    VALUE, st.sampled_from(["{}", "[{}]", "**{}**", "'{}'.", " {}. ", "`{}`,", "<{}>", "**[{}]**.", "({});"])
)
def test_a_value_is_bare_whatever_stands_around_it(value: str, form: str) -> None:
    assert bare(form.format(value)) == value
    assert plain(form.format(f"The  {value.upper()}")) == value


@given(
    st.lists(VALUE, min_size=1, max_size=6), st.sampled_from([", ", ",", "\n", "; ", "\n• "]), st.booleans()
)
def test_lists_are_read_in_any_form(values: list[str], joint: str, ended: bool) -> None:
    assert listed(joint.join(values) + "." * ended) == values
    if len(values) > 1:
        assert listed(f"{', '.join(values[:-1])} and {values[-1]}") == values


@given(
    st.lists(VALUE, min_size=1, max_size=12),
    st.sampled_from(
        ["{}. {}", "{}) {}", "{}: {}", "{} - {}", "**{}.** {}", "({}) {}", "[{}]. {}", "  {}. {}"]
    ),
)
def test_numbered_lines_are_read_in_any_form(values: list[str], form: str) -> None:
    text = "\n".join(form.format(i, value) for i, value in enumerate(values, 1))
    found = numbered(f"As asked:\n{text}\nThat is all.")
    assert {i: bare(line) for i, line in found.items()} == dict(enumerate(values, 1))


def test_the_first_line_of_a_number_counts() -> None:
    assert numbered("1. a\n1. b\n12345. c\nx 2. d") == {1: "a"}


def test_scores_of_sets_and_lists() -> None:
    assert iou(["a", "b"], ["b", "c"]) == pytest.approx(1 / 3)
    assert (iou([], []), iou([], ["a"])) == (1.0, 0.0)
    assert matches(["a", "x"], ("a", "b", "c")) == pytest.approx(1 / 3)
    assert matches(["a", "b", "c"], ("a", "b")) == 1


@pytest.mark.parametrize(("wanted", "there"), [(1, 1), (1, 5), (3, 6), (5, 40), (10, 13)])
def test_guessing_is_what_draws_at_random_give(wanted: int, there: int) -> None:
    rng = random.Random(0)
    gold = set(range(wanted))
    drawn = [iou(rng.sample(range(there), wanted), gold) for _ in range(20000)]
    # Four standard errors of a score in 0..1.
    assert guessed_iou(wanted, there) == pytest.approx(sum(drawn) / len(drawn), abs=4 * 0.5 / 20000**0.5)
