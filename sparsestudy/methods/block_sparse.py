"""Block-sparse prefill: each query block attends the key blocks whose mean key it likes best."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Method
from sparsestudy.methods.budget import per_row_budget, reachable
from sparsestudy.selection import Selection

# The first key block, the diagonal one and the one before it are always kept.
FORCED = 3


@dataclass(frozen=True)
class BlockSparse(Method):
    """Top key blocks by mean-pooled score, for each query block and head.

    Idea: pool queries and keys over blocks, score block against block, keep the best of each row.

    Args:
        block_size: tokens per block, one of 16, 32, 64, 128.
        top_blocks: key blocks kept per query block, forced ones included, at least 3.

    Source: sparse-frontier (commit 31d86c1), `block_sparse` (after MInference, arXiv 2407.02490), which
    defaults to ``block_size=16``, ``top_blocks=64``.

    Deviations: scores are fp32 and equal scores go to the earlier block; the budget is clamped to the
    blocks there are (the original records wrong sparsities above). The density counts tokens, the
    original's recorded sparsity counts whole diagonal blocks.
    """

    name: ClassVar[str] = "block_sparse"
    phase: Literal["prefill"] = field(default="prefill", init=False)
    scope: Literal["head"] = field(default="head", init=False)

    block_size: int = 16
    top_blocks: int = 64

    def __post_init__(self) -> None:
        """Check block size and budget."""
        if self.block_size not in (16, 32, 64, 128):
            raise StudyError(f"block_sparse takes block_size 16, 32, 64 or 128, not {self.block_size}.")
        if self.top_blocks < FORCED:
            raise StudyError(f"block_sparse needs top_blocks >= {FORCED}, not {self.top_blocks}.")

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Selection:
        """See :meth:`Method.prefill`."""
        scores = self.block_scores(q, k, context.lengths)
        blocks = scores.shape[-1]
        row = torch.arange(blocks, device=q.device)
        back = row[:, None] - row
        scores = scores.masked_fill(back < 0, float("-inf"))
        scores = scores.masked_fill((back == 0) | (back == 1) | ((row == 0) & (back >= 0)), float("inf"))
        budget = min(self.top_blocks, blocks)
        # A stable sort, not topk: equal scores must go to the same block on every device.
        best = scores.argsort(dim=-1, descending=True, stable=True)[..., :budget]
        legal = best <= row[:, None]
        starts = (best * self.block_size).int()
        first = torch.zeros_like(context.lengths)
        return Selection(starts, legal.int() * self.block_size, self.block_size, first, context.lengths)

    def block_scores(self, q: Tensor, k: Tensor, lengths: Tensor) -> Tensor:
        """Mean query times mean key of each pair of blocks, fp32 ``(batch, heads, blocks, blocks)``.

        The mean of a partial last block divides by the whole block size, as the original does; that block
        is its only reader and is forced there.
        """
        pooled_q, pooled_k = (self._pool(x, lengths) for x in (q, k))
        groups = q.shape[1] // k.shape[1]
        grouped: Tensor = pooled_q.unflatten(1, (k.shape[1], groups))
        return (grouped @ pooled_k[:, :, None].transpose(-1, -2)).flatten(1, 2)

    def _pool(self, x: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
        x = x.float() * real[:, None, :, None]
        x = pad(x, (0, 0, 0, -x.shape[2] % self.block_size))
        blocks: Tensor = x.unflatten(2, (-1, self.block_size))
        return blocks.mean(3)

    def at_sparsity(self, sparsity: float, length: int) -> BlockSparse:
        """Closed form over blocks: see :meth:`Method.at_sparsity`."""
        blocks = -(-length // self.block_size)
        if sparsity <= 0:
            return replace(self, top_blocks=max(2 * blocks, FORCED))
        budget = per_row_budget(sparsity, blocks)
        if budget < FORCED:
            lowest = reachable(FORCED, blocks)
            raise Unreachable(
                f"block_sparse with {self.block_size}-token blocks cannot reach sparsity {sparsity:.3f} at "
                f"{length} tokens: its {FORCED} forced blocks already make density {lowest:.4f}.",
                lowest,
            )
        return replace(self, top_blocks=budget)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.top_blocks * self.block_size >= length
