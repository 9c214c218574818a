"""Ada-SnapKV: SnapKV whose KV heads share one budget a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Scores
from sparsestudy.methods.snapkv import SnapKV
from sparsestudy.methods.top import keep_top


@dataclass(frozen=True)
class AdaSnapKV(SnapKV):
    """As SnapKV, but a head that looks at many tokens may keep more than one that looks at few.

    Idea: a layer's heads compete for one pool of ``capacity`` times heads, above a floor for each.

    Args:
        capacity: tokens that a KV head keeps on average.
        window: last queries whose attention is reduced.
        kernel: width of the average pooling along the tokens, odd.
        local: last tokens of the prompt that are always kept.
        sinks: first tokens that are always kept.
        pool_window: whether the columns of the window itself take part in the pooling.
        aware: whether the window may contain the question (see SnapKV).
        floor: share of the capacity that every head keeps, 0 to 1; never less than the forced tokens.
        reduce: over the window's rows and the group's heads: "max", or "mean".

    Source: Ada-KV (arXiv 2407.11550) as in sparse-frontier (commit 31d86c1): ``floor=0.2``, maxima, one pool
    a layer.

    Deviations: those of SnapKV; the pool is the whole layer's (the original's shrinks to one GPU's heads
    under tensor parallelism). With ``reduce="mean"`` and the fields named at SnapKV it is kvpress's AdaKV.
    """

    name: ClassVar[str] = "ada_snapkv"

    floor: float = 0.2
    reduce: Literal["max", "mean"] = "max"

    def __post_init__(self) -> None:
        """Check the constants."""
        super().__post_init__()
        if not 0 <= self.floor <= 1:
            raise StudyError(f"ada_snapkv needs a floor from 0 to 1, not {self.floor}.")

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Attention of the window to each token, reduced and pooled, ``(batch, kv heads, tokens)``."""
        if self.reduce == "mean":
            return super().importance(q, k, context)
        most = torch.zeros(*q.shape[:2], k.shape[2], device=q.device)
        for rows, _ in self._window(q, k, context):
            most = torch.maximum(most, rows.amax(2))
        return (self._pooled(most.unflatten(1, (k.shape[1], -1)).amax(2), context),)

    def choose(self, scores: Scores, context: Context) -> Tensor:
        """The tokens that stay, bool ``(batch, kv heads, tokens)``; heads differ in their number."""
        score = self._with_forced(scores[0], context)
        heads = score.shape[1]
        capacity = context.lengths.clamp(max=self.capacity)[:, None, None]
        floor = capacity.clamp(max=max(int(self.floor * self.capacity), self.forced))
        own = keep_top(score, floor)
        rest = score.masked_fill(own, float("-inf")).flatten(1)
        shared = keep_top(rest, ((capacity - floor) * heads).flatten(1))
        return own | shared.view_as(own)
