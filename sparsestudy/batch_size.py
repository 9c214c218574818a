"""How many prompts make a batch: the one rule that every experiment counts by. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparsestudy.shards import Shard


def batch_size(shard: Shard) -> int:
    """Prompts of a full batch: as many as fit into the run's tokens a batch, at least one."""
    tokens: int = shard.run.batch_tokens
    return max(1, tokens // shard.length)
