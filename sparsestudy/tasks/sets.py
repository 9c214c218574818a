"""What the tasks share whose answer is a set of values, listed in any order."""

from __future__ import annotations

from dataclasses import dataclass

from sparsestudy.tasks.base import Task
from sparsestudy.tasks.parsing import iou, is_entry


@dataclass(frozen=True)
class SetTask(Task):
    """Base class of such tasks; stands before other bases."""

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """Intersection over union."""
        return iou(found, gold)

    def answered(self, reply: str) -> bool:
        """A list ends with its line or with a full stop."""
        return "." in reply or super().answered(reply)


@dataclass(frozen=True)
class WordSetTask(SetTask):
    """Base class of those whose values are words, which may stand in lines with bullets or numbers."""

    def answered(self, reply: str) -> bool:
        """A list in lines ends with the first line that is no entry; another as any set does."""
        if not is_entry(reply):
            return super().answered(reply)
        return not all(map(is_entry, reply.split("\n")[:-1]))


def leading_entries(text: str) -> str:
    """The lines of a list that an answer begins with; the whole text where it begins with none."""
    lines = text.split("\n")
    end = next((place for place, line in enumerate(lines) if not is_entry(line)), len(lines))
    return "\n".join(lines[:end]) or text
