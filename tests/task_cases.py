"""What the laws of the tasks run over: every registered task, its presets, and its file in ``golden/``.

The file holds ``variants`` (fields), ``replies`` (fields, gold answer, and by kind what a reply scores; null
for one that cannot be parsed) and ``prompts`` (fields, length and hash of a prompt).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import SyntheticTask, Task

GOLDEN = Path(__file__).parent / "golden"
KINDS = {"bare", "prose", "brackets", "commas", "bold", "order", "echo", "cut", "empty"}


@cache
def golden(name: str) -> dict[str, Any]:
    """The file of a task; each task has one."""
    return yaml.safe_load((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8"))


# Tasks whose text is in the package; the others need data that a user fetches, and are tested on files of
# their official form in test_qa_data.py.
SHIPPED = [name for name in TASKS if TASKS[name].shipped]


def cases() -> list[Task]:
    """Each task with the defaults of both presets and of the small pool, and its variants."""
    found = []
    for name in SHIPPED:
        fields = [{}, {"preset": "paper"}, *golden(name)["variants"]]
        if issubclass(TASKS[name], SyntheticTask):
            fields.append({"pool": "ladder"})
        found += [TASKS[name](**given) for given in fields]
    return found


CASES = cases()
LADDER = [TASKS[name](pool="ladder") for name in TASKS if issubclass(TASKS[name], SyntheticTask)]


def called(task: Task) -> str:
    """A short name of a case."""
    given = {"preset": task.preset} | task.given()
    return "-".join([task.name, *(f"{field}={value}" for field, value in given.items())])
