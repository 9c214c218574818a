"""What the tasks share whose answer is a set of values, listed in any order."""

from __future__ import annotations

from dataclasses import dataclass

from sparsestudy.tasks.base import Task
from sparsestudy.tasks.parsing import iou


@dataclass(frozen=True)
class SetTask(Task):
    """Base class of such tasks; stands before other bases."""

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """Intersection over union."""
        return iou(found, gold)

    def answered(self, reply: str) -> bool:
        """A list ends with its line or with a full stop."""
        return "." in reply or super().answered(reply)
