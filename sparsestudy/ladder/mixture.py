"""What the ladder is trained on: variants of the six tasks, and the replies it learns to give."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.ladder.vocabulary import POOL
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.needle import ASKED, KEY
from sparsestudy.tasks.prompt import Sample


@dataclass(frozen=True)
class Variant:
    """A task with some of its fields set.

    Args:
        name: of the task.
        weight: how often it is drawn among the variants of its task.
        room: most tokens of a reply, the end token included.
        fields: those that differ from the defaults of the preset "direct".
    """

    name: str
    weight: int
    room: int
    fields: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Task:
        """The task, with the ladder's words."""
        return TASKS[self.name](**{"pool": POOL, **self.fields})

    @property
    def label(self) -> str:
        """Its name in curves and cards."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.fields.items())])


# The first variant of a task has its defaults. The others keep a rung from learning that there is always one
# needle, two hops, or a question at the end; the easier ones (no hop, every chapter with a purchase) are a
# step to the harder.
MIXTURE = (
    Variant("needle", 2, 5),
    Variant("needle", 1, 5, {"needles": 2}),
    Variant("needle", 4, 5, {"needles": 4}),
    Variant("needle", 2, 5, {"needles": 8}),
    Variant("needle", 1, 40, {"needles": 4, "queries": 4}),
    Variant("needle", 1, 5, {"question": "before", "needles": 4}),
    Variant("needle", 1, 5, {"question": "both", "needles": 4}),
    Variant("vt", 4, 13),
    Variant("vt", 1, 5, {"hops": 0}),
    Variant("vt", 2, 9, {"hops": 1}),
    Variant("vt", 1, 17, {"hops": 3}),
    Variant("vt", 1, 21, {"hops": 4}),
    Variant("vt", 1, 13, {"chains": 4}),
    Variant("vt", 1, 13, {"question": "before"}),
    Variant("vt", 1, 13, {"question": "both"}),
    Variant("cwe", 6, 7),
    Variant("cwe", 1, 3, {"common": 1}),
    Variant("cwe", 1, 5, {"common": 2}),
    Variant("cwe", 1, 11, {"common": 5}),
    Variant("cwe", 1, 7, {"question": "before"}),
    Variant("cwe", 1, 7, {"question": "both"}),
    Variant("story_retrieval", 8, 5),
    Variant("story_retrieval", 1, 23, {"queries": 3}),
    Variant("story_retrieval", 1, 5, {"question": "before"}),
    Variant("story_retrieval", 1, 5, {"question": "both"}),
    Variant("story_filtering", 4, 7),
    Variant("story_filtering", 2, 4, {"chapters_in_question": 1}),
    Variant("story_filtering", 1, 10, {"chapters_in_question": 3}),
    Variant("story_filtering", 1, 7, {"question": "before"}),
    Variant("story_filtering", 1, 7, {"question": "both"}),
    Variant("story_multihop", 5, 5),
    Variant("story_multihop", 2, 5, {"purchase_share": 1.0}),
    Variant("story_multihop", 1, 5, {"purchase_share": 0.7}),
    Variant("story_multihop", 1, 5, {"question": "before"}),
    Variant("story_multihop", 1, 5, {"question": "both"}),
)
NAMES = tuple(dict.fromkeys(variant.name for variant in MIXTURE))


@cache
def variants(name: str) -> tuple[tuple[Variant, Task], ...]:
    """The variants of a task, with the tasks they make.

    Raises:
        StudyError: the ladder is not trained on this task.
    """
    found = tuple((variant, variant.build()) for variant in MIXTURE if variant.name == name)
    if not found:
        raise StudyError(f"The ladder is not trained on '{name}'; choose from {', '.join(NAMES)}.")
    return found


def reply(task: Task, sample: Sample) -> str:
    """The reply that a rung learns to give: the gold values in the form asked for, and a full stop."""
    if getattr(task, "queries", 1) == 1:
        return f" {', '.join(sample.answer)}."
    if task.name == "needle":
        # A sentence names its key, so that each value is a lookup like the first.
        keys = KEY.findall(ASKED.findall(sample.prompt)[-1])
        rest = zip(keys[1:], sample.answer[1:], strict=True)
        more = "".join(f" The access code of the {key} is {value}." for key, value in rest)
        return f" {sample.answer[0]}.{more}"
    lines = "\n".join(f"{i}. {value}." for i, value in enumerate(sample.answer, 1))
    return f"\n{lines}\n"
