"""Fields whose default depends on the preset of a task."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def by_preset(*, direct: Any, paper: Any) -> Any:
    """A field with a default for each preset; it is filled in when the task is made."""
    return field(default=None, metadata={"direct": direct, "paper": paper})
