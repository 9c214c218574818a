"""Laws that hold for every task; a registered one is covered without a change here (see task_cases.py)."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_cases import CASES, KINDS, LADDER, SHIPPED, called, golden
from tiny import write_model
from word_level import WORD, word_level

from sparsestudy.errors import StudyError
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.seeds import short_hash
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import PAPER_TOKENS, Task
from sparsestudy.tasks.prompt import PIECES, Sample, encode, tokens_in

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
PRESETS = ({}, {"preset": "paper"})
every_task = pytest.mark.parametrize("task", CASES, ids=called)


@pytest.fixture(scope="module", params=["plain", "chat", "words"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    if request.param == "words":
        return word_level()
    folder: Path = write_model(tmp_path_factory.mktemp("model"))
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.chat_template = CHAT if request.param == "chat" else None
    return loaded


def least(tokenizer: Any, task: Task) -> int:
    """The tokens that a task says it needs at least, and a fifth more for other samples."""
    with pytest.raises(StudyError, match=r"needs at least \d+ tokens .* more than the length 20") as refused:
        task.sample(tokenizer, 20, 0)
    return int(1.2 * int(re.search(r"at least (\d+)", str(refused.value))[1])) + 12


def check(tokenizer: Any, task: Task, sample: Sample, length: int) -> None:
    """A sample is full, and its solver finds the gold answer in its prompt."""
    assert 0.95 * length <= tokens_in(tokenizer, sample) <= length
    score = task.score(sample, task.solve(sample.prompt))
    assert (score.value, score.parsed) == (1.0, True)
    assert 0 <= sample.chance <= 1


@cache
def drawn(task: Task) -> Sample:
    """One sample of a task, made with the fast tokenizer."""
    return task.sample(word_level(), least(word_level(), task) + 100, 1)


@every_task
def test_prompts_fill_the_length_and_can_be_solved(tokenizer, task: Task) -> None:
    shortest = least(tokenizer, task)
    for number, length in enumerate((shortest, 2 * shortest, 2 * shortest + 501)):
        check(tokenizer, task, task.sample(tokenizer, length, number), length)


@every_task
def test_the_solver_finds_every_answer(task: Task, full_size: bool) -> None:
    """With the fast tokenizer; over the variants of a task these are above 1,000 samples at full size."""
    length = max(256, least(word_level(), task))
    for index in range(200 if full_size else 10):
        check(word_level(), task, task.sample(word_level(), length, index, seed=5), length)


@pytest.mark.parametrize("task", LADDER, ids=called)
@settings(max_examples=25, deadline=None)
@given(length=st.integers(128, 1100), index=st.integers(0, 10**6))
def test_the_small_pool_fills_every_length_from_128(task: Task, length: int, index: int) -> None:
    check(word_level(), task, task.sample(word_level(), length, index), length)


def test_the_small_pool_has_a_small_vocabulary(full_size: bool) -> None:
    words: set[str] = set()
    for task in LADDER:
        for index in range(150 if full_size else 30):
            sample = task.sample(word_level(), 2048, index)
            words |= set(re.findall(WORD, sample.prompt + " " + " ".join(sample.answer)))
    assert len(words) <= 2048


@every_task
def test_without_context_guessing_is_worth_what_the_answer_of_another_prompt_scores(task: Task) -> None:
    """Such an answer has the right form and knows nothing of this context; there is nothing to copy."""
    length = max(256, least(word_level(), task))
    whole = [task.sample(word_level(), length, index) for index in range(20)]
    alone = [replace(task, context="none").sample(word_level(), length, index) for index in range(20)]
    assert all(less.chance <= full.chance for less, full in zip(alone, whole, strict=True))
    replies = [task.solve(sample.prompt) for sample in whole]
    gained = [
        task.score(sample, reply).value
        for i, sample in enumerate(whole)
        for j, reply in enumerate(replies)
        if i != j
    ]
    assert abs(sum(gained) / len(gained) - sum(sample.chance for sample in alone) / len(alone)) < 0.15


@every_task
def test_samples_are_reproducible_and_apart(task: Task, full_size: bool) -> None:
    length = max(256, least(word_level(), task))

    def prompts(seed: int = 0, split: str = "eval", longer: int = 0) -> list[str]:
        made = (
            task.sample(word_level(), length + longer, i, seed, split)  # type: ignore[arg-type]
            for i in range(40 if full_size else 4)
        )
        return [sample.prompt for sample in made]

    assert prompts() == prompts()
    others = [
        *prompts(seed=1),
        *prompts(split="calibration"),
        *prompts(split="train"),
        *prompts(longer=40),
    ]
    together = prompts() + others
    assert len(set(together)) == len(together)


@every_task
def test_defaults_that_are_written_out_change_no_prompt(task: Task) -> None:
    length = max(256, least(word_level(), task))
    written = type(task)(**asdict(task))
    assert task.given() == written.given()
    assert task.sample(word_level(), length, 0) == written.sample(word_level(), length, 0)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_new_field_changes_no_prompt_while_it_has_its_default(name: str) -> None:
    @dataclass(frozen=True)
    class Longer(TASKS[name]):
        option: int = 3

    length = least(word_level(), TASKS[name]()) + 200
    plain = TASKS[name]().sample(word_level(), length, 0)
    assert Longer().sample(word_level(), length, 0) == plain
    assert Longer(option=4).sample(word_level(), length, 0) != plain


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["direct", "paper"])
@pytest.mark.parametrize("name", SHIPPED)
def test_prompts_fill_the_length_with_the_tokenizer_of_the_published_study(name: str, preset: str) -> None:
    from sparsestudy import models

    tokenizer, task = models.tokenizer(AccuracyParameters().models[0]), TASKS[name](preset=preset)
    for length in (4096, 8192):
        for index in range(5):
            check(tokenizer, task, task.sample(tokenizer, length, index), length)


@pytest.mark.parametrize("name", SHIPPED)
def test_prompts_are_the_same_on_every_machine(name: str) -> None:
    known = golden(name)["prompts"]
    found = [
        entry
        | {"hash": short_hash(TASKS[name](**entry["fields"]).sample(word_level(), entry["length"], 7).prompt)}
        for entry in known
    ]
    assert found == known
    assert {TASKS[name](**entry["fields"]).preset for entry in known} == {"direct", "paper"}


@every_task
def test_less_context_is_cut_from_the_same_sample(tokenizer, task: Task) -> None:
    length = least(tokenizer, task) + 100
    whole = task.sample(tokenizer, length, 3)
    alone = replace(task, context="none").sample(tokenizer, length, 3)
    evidence = replace(task, context="evidence").sample(tokenizer, length, 3)
    assert whole.answer == alone.answer == evidence.answer
    assert not alone.evidence
    assert tokens_in(tokenizer, alone) < tokens_in(tokenizer, evidence) <= tokens_in(tokenizer, whole)
    texts = [[sample.prompt[a:b] for a, b in sample.evidence] for sample in (whole, evidence)]
    assert texts[0] == texts[1] != []
    assert task.score(evidence, task.solve(evidence.prompt)).value == 1
    pieces = len(encode(tokenizer, evidence).evidence)
    assert pieces == len(encode(tokenizer, whole).evidence) == min(len(texts[0]), PIECES)
    assert encode(tokenizer, alone).evidence == ()


@every_task
def test_token_places(tokenizer, task: Task) -> None:
    sample = task.sample(tokenizer, least(tokenizer, task) + 100, 3)
    coded = encode(tokenizer, sample)
    assert len(coded.ids) == tokens_in(tokenizer, sample)
    assert 0 < coded.tail < len(coded.ids)
    offsets = tokenizer(sample.prompt, add_special_tokens=sample.special_tokens, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    covered = {i for start, stop in coded.evidence for i in range(start, stop)}
    rising = [place for span in coded.evidence for place in span]
    assert rising == sorted(rising)
    assert rising[-1] <= coded.tail
    assert coded.tail == sum(a < sample.context_end for a, b in offsets if b > a) + sum(
        b == a for a, b in offsets[: coded.tail]
    )
    for start, stop in sample.evidence:
        inside = {i for i, (a, b) in enumerate(offsets) if a < stop and b > start}
        assert inside
        assert inside <= covered
    if len(sample.evidence) <= PIECES:
        outside = covered - {
            i for a, b in sample.evidence for i, (x, y) in enumerate(offsets) if x < b and y > a
        }
        assert not outside


@pytest.mark.parametrize("name", TASKS)
def test_golden_replies(name: str) -> None:
    kinds = set()
    for table in golden(name)["replies"]:
        task = TASKS[name](**table["fields"])
        sample = Sample("", False, 0, (), tuple(table["answer"]))
        for kind, replies in table["cases"].items():
            kinds.add(kind)
            for reply, value in replies:
                score = task.score(sample, reply)
                assert score.parsed == (value is not None), (kind, reply, score)
                assert score.value == pytest.approx(value or 0.0, abs=1e-6), (kind, reply)
    assert kinds == KINDS


@every_task
def test_an_empty_reply_scores_nothing_and_is_not_parsed(task: Task) -> None:
    sample = task.sample(word_level(), least(word_level(), task) + 100, 0)
    for reply in ("", " ", "\n", "<answer>", "<answer></answer>"):
        score = task.score(sample, reply)
        assert (score.value, score.parsed) == (0.0, False) or (task.preset == "direct" and "<" in reply)
    if task.preset == "paper":
        answer = task.solve(sample.prompt).replace("</answer>", "")
        assert not task.score(sample, answer).parsed, "a reply that was cut in its answer is not parsed"


@every_task
def test_replies_end_when_they_are_complete_and_not_before(tokenizer, task: Task) -> None:
    sample = task.sample(tokenizer, least(tokenizer, task) + 100, 1)
    reply = task.solve(sample.prompt)
    assert len(tokenizer(reply)["input_ids"]) <= task.max_new_tokens
    assert not any(task.done(reply[:stop]) for stop in range(len(reply)))
    assert task.done(f"{reply}\nMore") == (task.preset == "direct")
    assert task.preset == "direct" or task.max_new_tokens == PAPER_TOKENS


def said(task: Task, sample: Sample, reply: str) -> tuple[bool, float, bool]:
    """Whether a reply is done, and what it scores."""
    score = task.score(sample, reply)
    return task.done(reply), score.value, score.parsed


@pytest.mark.parametrize("task", [TASKS[name](**more) for name in TASKS for more in PRESETS], ids=called)
@given(text=st.text() | st.text(alphabet=" \n\t:.,;!?-–*_#`\"'“”()[]<>"), cut=st.integers(0, 20))
def test_no_reply_ends_before_it_has_said_a_word(task: Task, text: str, cut: int) -> None:
    unsaid = "".join(character for character in text if not character.isalnum())
    for reply in (unsaid, unsaid[:cut], f"{unsaid}\n", f"{unsaid}\n\n. "):
        assert not task.done(reply)


@every_task
@settings(max_examples=20, deadline=None)
@given(before=st.text(alphabet=" \n\t:.,;!?–_#`\"'“”()[]<>") | st.just(":\n"))
def test_marks_before_the_first_word_change_nothing(task: Task, before: str) -> None:
    sample = drawn(task)
    reply = task.solve(sample.prompt)
    if task.preset == "paper":
        assert said(task, sample, before + reply) == said(task, sample, reply) == (False, 1.0, True)
        return
    for answer in (reply, f"{reply}\nMore", f"{reply}. And more\n"):
        assert said(task, sample, before + answer) == said(task, sample, answer)
    assert said(task, sample, f"{before}{reply}\n") == (True, 1.0, True)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is(name: str) -> None:
    cls = TASKS[name]
    assert cls.name == name
    assert {cls.measures.scope, cls.measures.dispersion} <= {"low", "high"}
    text = inspect.cleandoc(cls.__doc__ or "")
    assert all(f"\n{section}:" in text for section in ("Score", "Source", "Deviations"))
    own = set(inspect.get_annotations(cls)) - {"name", "measures"}
    assert not [field for field in own if f"\n    {field}:" not in text]


def test_no_task_imports_torch() -> None:
    folder = Path(inspect.getfile(Task)).parent
    for file in folder.glob("*.py"):
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in getattr(node, "names", [])
        }
        assert not names & {"torch", "transformers"}, file


@pytest.mark.parametrize("name", TASKS)
def test_what_the_user_gives_comes_before_the_preset(name: str) -> None:
    decided = {field.name: field.metadata for field in fields(TASKS[name]) if field.metadata}
    assert "question" in decided
    for preset, other in (("direct", "paper"), ("paper", "direct")):
        task = TASKS[name](preset=preset)
        assert {field: getattr(task, field) for field in decided} == {
            f: m[preset] for f, m in decided.items()
        }
        values = {field: getattr(task, field) for field in decided}
        mixed = TASKS[name](preset=other, **values)
        assert {field: getattr(mixed, field) for field in decided} == values
        assert set(mixed.given()) == {f for f, m in decided.items() if m["direct"] != m["paper"]}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("fields", [{"question": "never"}, {"preset": "hard"}, {"context": "some"}])
def test_choices_are_checked(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"is one of '.*', not '(never|hard|some)'"):
        TASKS[name](**fields)
