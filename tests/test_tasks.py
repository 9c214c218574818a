"""Laws that hold for every task, and the golden strings of each scorer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tiny import write_model

from sparsestudy.errors import StudyError
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import Sample, encode, tokens_in

VARIANTS = {
    "needle": [
        {},
        {"needles": 4},
        {"needles": 4, "queries": 4, "value_length": 3},
        {"needles": 2, "queries": 2, "question": "both"},
        {"needles": 3, "question": "before", "value_length": 7},
        {"haystack": "needles", "needles": 2},
    ]
}
CASES = [TASKS[name](**fields) for name in TASKS for fields in VARIANTS.get(name, [{}])]
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


@pytest.fixture(scope="module", params=["plain", "chat"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    folder: Path = write_model(tmp_path_factory.mktemp("model"))
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.chat_template = CHAT if request.param == "chat" else None
    return loaded


def name_of(task: Task) -> str:
    return repr(task)


@pytest.mark.parametrize("length", [256, 300, 512, 1024])
@pytest.mark.parametrize("task", CASES, ids=name_of)
def test_prompts_fill_the_length_and_can_be_solved(
    tokenizer, task: Task, length: int, full_size: bool
) -> None:
    if task.question == "both" and length < 300:
        length = 300
    for index in range(170 if full_size else 3):
        sample = task.sample(tokenizer, length, index)
        assert 0.95 * length <= tokens_in(tokenizer, sample) <= length
        score = task.score(sample, task.solve(sample.prompt))
        assert (score.value, score.parsed) == (1.0, True)
        for start, stop in sample.evidence:
            assert any(value in sample.prompt[start:stop] for value in sample.answer)
            assert stop <= sample.context_end


@pytest.mark.parametrize("task", CASES, ids=name_of)
def test_samples_are_reproducible_and_apart(tokenizer, task: Task) -> None:
    def text(index: int, seed: int = 0, split: str = "eval", length: int = 320) -> str:
        return task.sample(tokenizer, length, index, seed, split).prompt  # type: ignore[arg-type]

    assert text(0) == text(0)
    others = [
        text(1),
        text(0, seed=1),
        text(0, split="calibration"),
        text(0, split="train"),
        text(0, length=400),
    ]
    assert len({text(0), *others}) == 6


@pytest.mark.parametrize("task", CASES, ids=name_of)
def test_token_places(tokenizer, task: Task) -> None:
    sample = task.sample(tokenizer, 400, 3)
    coded = encode(tokenizer, sample)
    assert len(coded.ids) == tokens_in(tokenizer, sample)
    for (start, stop), (a, b) in zip(coded.evidence, sample.evidence, strict=True):
        assert sample.prompt[a:b].strip() in tokenizer.decode(coded.ids[start:stop])
        assert stop <= coded.tail
    tail = tokenizer.decode(coded.ids[coded.tail :])
    assert tail.strip()
    assert tail.strip() in sample.prompt[sample.context_end - 1 :]


@pytest.mark.parametrize("task", CASES, ids=name_of)
def test_too_short_a_length_says_what_is_needed(tokenizer, task: Task) -> None:
    with pytest.raises(StudyError, match=r"needs at least \d+ tokens .* more than the length 20"):
        task.sample(tokenizer, 20, 0)


@pytest.mark.parametrize("task", CASES, ids=name_of)
def test_an_empty_reply_scores_nothing_and_is_not_parsed(tokenizer, task: Task) -> None:
    sample = task.sample(tokenizer, 320, 0)
    for reply in ("", " ", "I do not know."):
        score = task.score(sample, reply)
        assert (score.value, score.parsed) == (0.0, False)
    assert 0 <= sample.chance <= 1
    assert task.max_new_tokens > 0


def sample_with(*answer: str) -> Sample:
    """A sample of which only the answer matters."""
    return Sample("", False, 0, (), answer)


@pytest.mark.parametrize(
    ("reply", "value", "parsed"),
    [
        (" 4821.", 1, True),
        ("4821", 1, True),
        (" the number 4821, as the text says", 1, True),
        (" [4821]", 1, True),
        (" **4821**", 1, True),
        (" 4,821.", 1, True),
        (" 48", 0, True),
        (" 48211", 0, True),
        (" 1111. No, 4821.", 0, True),
        (" unknown", 0, False),
        ("", 0, False),
    ],
)
def test_needle_scores_one_value(reply: str, value: float, parsed: bool) -> None:
    score = TASKS["needle"]().score(sample_with("4821"), reply)
    assert (score.value, score.parsed) == (value, parsed)


@pytest.mark.parametrize(
    ("reply", "value", "parsed"),
    [
        (" 12, 34.", 1, True),
        (" 12. The access code of the red lamp is 34.", 1, True),
        ("1: 12\n2: 34", 1, True),
        (" 34, 12", 0, True),
        (" 12", 0.5, True),
        (" 12, 99", 0.5, True),
        ("[12] **34**", 1, True),
    ],
)
def test_needle_scores_several_values_in_order(reply: str, value: float, parsed: bool) -> None:
    task = TASKS["needle"](needles=2, queries=2, value_length=2)
    score = task.score(sample_with("12", "34"), reply)
    assert (score.value, score.parsed) == (value, parsed)


@pytest.mark.parametrize(
    ("reply", "done"),
    [("", False), (" 48", False), (" 4821", False), (" 4821.", True), (" 4821\n", True), ("x", False)],
)
def test_a_needle_reply_is_done_once_its_number_has_ended(reply: str, done: bool) -> None:
    assert TASKS["needle"]().done(reply) is done


@pytest.mark.parametrize(
    "fields", [{"queries": 2}, {"value_length": 0}, {"needles": 40, "value_length": 1}, {"question": "never"}]
)
def test_impossible_needle_parameters_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(StudyError):
        TASKS["needle"](**fields)


def test_facts_are_distinct() -> None:
    task = TASKS["needle"](value_length=3)
    rng = random.Random(0)
    keys, values = task._keys(rng), task._values(rng)
    assert len({next(keys) for _ in range(500)}) == 500
    assert len({next(values) for _ in range(500)}) == 500
