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
        "story_retrieval": "sparsestudy.tasks.story_retrieval:StoryRetrieval",
        "story_filtering": "sparsestudy.tasks.story_filtering:StoryFiltering",
        "story_multihop": "sparsestudy.tasks.story_multihop:StoryMultihop",
        "prose_qa": "sparsestudy.tasks.prose_qa:ProseQA",
        "squad": "sparsestudy.tasks.squad:Squad",
        "quality": "sparsestudy.tasks.quality:Quality",
        "toefl": "sparsestudy.tasks.toefl:Toefl",
    },
)
