"""Scores of a rung: exact match of generated answers, by the package's own prefill, decode and scorers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparsestudy.ladder.data import twin
from sparsestudy.ladder.mixture import MIXTURE, Variant
from sparsestudy.ladder.tokenizer import identity
from sparsestudy.ladder.vocabulary import EOS
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import encode

# Tokens of prompts that are run together; samples at each length.
TOGETHER = 131_072
SAMPLES = {512: 64, 1024: 64, 4096: 64, 16384: 24}


# The six tasks with their default fields, and two that show whether keys are told apart.
SCORED = tuple(v for v in MIXTURE if not v.fields or v.fields in ({"needles": 4}, {"hops": 1}))


def scores(
    model: Any, tokenizer: Any, samples: dict[int, int], chosen: Sequence[Variant] = SCORED
) -> list[dict[str, Any]]:
    """Evaluate on the split of the evaluations, which no training sample shares a seed with.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the ladder's.
        samples: for each length how many samples of each task.
        chosen: tasks.

    Returns:
        One entry for each task and length: label, length, samples, mean score, chance, share of replies that
        are right altogether, and share that could be parsed.
    """
    found = []
    for length, count in samples.items():
        for variant in chosen:
            task = variant.build()
            drawn = [task.sample(twin(), length, i) for i in range(count)]
            replies = _replies(model, tokenizer, task, drawn, max(1, TOGETHER // length))
            judged = [task.score(sample, text) for sample, text in zip(drawn, replies, strict=True)]
            values = [score.value for score in judged]
            found.append(
                {
                    "task": variant.label,
                    "length": length,
                    "samples": count,
                    "score": round(math.fsum(values) / count, 4),
                    "exact": round(sum(value == 1 for value in values) / count, 4),
                    "parsed": round(sum(score.parsed for score in judged) / count, 4),
                    "chance": round(math.fsum(sample.chance for sample in drawn) / count, 4),
                }
            )
    return found


def shown(found: Sequence[dict[str, Any]]) -> str:
    """The shares of replies that are right altogether, a line for each task and a column for each length."""
    lengths = list(dict.fromkeys(entry["length"] for entry in found))
    exact = {(entry["task"], entry["length"]): entry["exact"] for entry in found}
    lines = [f"{'exact match at':22}" + "".join(f"{length:>8}" for length in lengths)]
    for task in dict.fromkeys(entry["task"] for entry in found):
        lines.append(f"{task:22}" + "".join(f"{exact[task, length]:8.2f}" for length in lengths))
    return "\n".join(lines)


def _replies(model: Any, tokenizer: Any, task: Task, drawn: Sequence[Any], size: int) -> list[str]:
    """Greedy replies, dense attention, in batches."""
    from sparsestudy.generate import Prompt, decode, prefill
    from sparsestudy.methods import METHODS

    dense, texts = METHODS["dense"](), []
    coded = [encode(tokenizer, sample) for sample in drawn]
    for start in range(0, len(coded), size):
        prompts = [Prompt(one.ids, one.tail) for one in coded[start : start + size]]
        prefilled = prefill(model, prompts, dense, "dense")
        done = decode(
            model,
            prefilled,
            dense,
            task.max_new_tokens,
            frozenset({identity(EOS)}),
            lambda ids: task.done(tokenizer.decode(ids, skip_special_tokens=True)),
        )
        texts += [tokenizer.decode(ids, skip_special_tokens=True) for ids in done.ids]
    return texts
