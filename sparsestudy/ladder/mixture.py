"""What the ladder is trained on: variants of the six tasks, and the replies it learns to give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sparsestudy.ladder.vocabulary import POOL
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import Sample

# Task -> (fields, weight). The first variant of a task has its defaults. The others keep a rung from learning
# that there is just one needle or always two hops, and their easier half (no hop, every chapter with a
# purchase) is a step towards the harder one.
MIXTURE: Mapping[str, tuple[tuple[dict[str, Any], int], ...]] = {
    "needle": (({}, 2), ({"needles": 2}, 1), ({"needles": 4}, 4), ({"needles": 8}, 2), ({"needles": 4, "queries": 4}, 1)),
    "vt": (({}, 4), ({"hops": 0}, 1), ({"hops": 1}, 2), ({"hops": 3}, 1), ({"hops": 4}, 1), ({"chains": 4}, 1)),
    "cwe": (({}, 6), ({"common": 1}, 1), ({"common": 2}, 1), ({"common": 5}, 1)),
    "story_retrieval": (({}, 8), ({"queries": 3}, 1)),
    "story_filtering": (({}, 4), ({"chapters_in_question": 1}, 2), ({"chapters_in_question": 3}, 1)),
    "story_multihop": (({}, 5), ({"purchase_share": 1.0}, 2), ({"purchase_share": 0.7}, 1)),
}  # fmt: skip


@cache
def variants(name: str) -> tuple[tuple[Task, ...], tuple[int, ...]]:
    """The variants of a task and their weights."""
    weights = tuple(weight for _, weight in MIXTURE[name])
    return tuple(TASKS[name](pool=POOL, **fields) for fields, _ in MIXTURE[name]), weights


@cache
def label(task: Task) -> str:
    """A variant's name: its task, and the fields that differ from their defaults."""
    return " ".join([task.name, *(f"{k}={v}" for k, v in task.given().items() if k != "pool")])


def reply(task: Task, sample: Sample) -> str:
    """The reply that a rung learns to give: the gold values in the form asked for, and a full stop."""
    queries = getattr(task, "queries", 1)
    if task.name == "story_retrieval" and queries > 1:
        lines = "\n".join(f"{i}. {value}." for i, value in enumerate(sample.answer, 1))
        return f"\n{lines}\n"
    if task.name == "needle" and queries > 1:
        return f" {'. Next is '.join(sample.answer)}."
    return f" {', '.join(sample.answer)}."


def room(task: Task) -> int:
    """Most tokens of a reply, the end token included."""
    queries: int = getattr(task, "queries", 1)
    if task.name == "needle":
        return 5 * queries + 1
    if task.name == "vt":
        return (getattr(task, "letters") + 1) * (getattr(task, "hops") + 1) + 1
    if task.name == "cwe":
        return 2 * getattr(task, "common") + 1
    if task.name == "story_filtering":
        return 3 * getattr(task, "chapters_in_question") + 1
    return 5 if queries == 1 else 7 * queries + 2
