"""The tasks: one file a family, one line here each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsestudy.registry import Registry

if TYPE_CHECKING:
    from sparsestudy.tasks.base import Task

TASKS: Registry[Task] = Registry(
    "task",
    {
        "needle": "sparsestudy.tasks.needle:Needle",
        "vt": "sparsestudy.tasks.vt:VariableTracking",
        "cwe": "sparsestudy.tasks.cwe:CommonWords",
    },
)
