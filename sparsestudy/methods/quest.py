"""Quest: at each decode step, read the pages whose keys could score highest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Method
from sparsestudy.selection import Selection


@dataclass(frozen=True)
class Quest(Method):
    """Top pages by an upper bound on their scores, chosen anew at each step and layer.

    Idea: a page's elementwise minimum and maximum bound any key in it, so
    ``sum_d max(q_d min_d, q_d max_d)`` bounds any ``q . k`` of the page; the best complete pages and the
    current one are read, nothing is evicted.

    Args:
        page_size: tokens per page.
        token_budget: tokens in the chosen complete pages, a multiple of the page size; the current page
            (1 to ``page_size`` tokens) comes on top.
        scope: "group" shares the choice over a KV group (scores summed), "head" chooses per query head.

    Source: Quest (arXiv 2406.10774) as in sparse-frontier (commit 31d86c1), which defaults to pages of 16,
    1024 tokens, shared.

    Deviations: scores are fp32 and equal scores go to the earlier page; a context within the budget is read
    whole (the original stops); `at_sparsity` counts the current page as well (the original's nominal
    sparsity leaves it out), so that the target is the attended density; every layer is sparse (Quest's
    release keeps the first two dense).
    """

    name: ClassVar[str] = "quest"
    phase: Literal["decode"] = field(default="decode", init=False)

    page_size: int = 16
    token_budget: int = 1024
    scope: Literal["group", "head"] = field(default="group", kw_only=True)

    def __post_init__(self) -> None:
        """Check that the budget is whole pages."""
        if self.page_size < 1 or self.token_budget < self.page_size or self.token_budget % self.page_size:
            raise StudyError(
                f"quest needs a token_budget that is a positive multiple of page_size, not "
                f"{self.token_budget} with pages of {self.page_size}."
            )

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Selection:
        """See :meth:`Method.decode`."""
        current = (context.lengths - 1) // self.page_size
        scores = self.page_scores(q, k.shape[1], context)
        page = torch.arange(scores.shape[-1], device=q.device)
        complete = (page < current[:, None])[:, None]
        scores = scores.masked_fill(~complete, float("-inf"))
        # A stable sort, not topk: equal scores must go to the same page on every device.
        best = scores.argsort(dim=-1, descending=True, stable=True)[
            ..., : self.token_budget // self.page_size
        ]
        chosen = (best < current[:, None, None]).int() * self.page_size
        start = (current * self.page_size)[:, None, None].expand(-1, best.shape[1], 1)
        rest = context.lengths[:, None, None] - start
        return Selection(
            torch.cat([best * self.page_size, start], -1)[:, :, None].int(),
            torch.cat([chosen, rest.int()], -1)[:, :, None],
            1,
            context.lengths - 1,
            context.lengths,
        )

    def page_scores(self, q: Tensor, kv_heads: int, context: Context) -> Tensor:
        """Upper bounds on the scores, fp32 ``(batch, KV or query heads, pages)``.

        Written as two products: ``sum max(q min, q max) = relu(q) . max - relu(-q) . min``. Pages that a row
        does not have hold infinities, and so NaN here; the caller masks them.
        """
        bounds = context.page_bounds(self.page_size)
        low, high = bounds.minimum.float(), bounds.maximum.float()
        grouped = q.float().unflatten(1, (kv_heads, -1)).squeeze(3)
        up, down = grouped.clamp(min=0), grouped.clamp(max=0)
        scores: Tensor = up @ high.transpose(-1, -2) + down @ low.transpose(-1, -2)
        return scores.sum(2) if self.scope == "group" else scores.flatten(1, 2)

    def metadata_read(self, lengths: Tensor) -> Tensor:
        """One minimum and one maximum a page cost as much as one key and one value."""
        return (lengths - 1) // self.page_size

    def at_sparsity(self, sparsity: float, length: int) -> Quest:
        """Closed form: see :meth:`Method.at_sparsity`. The current page counts with its mean size."""
        if sparsity <= 0:
            return replace(self, token_budget=(2 * length // self.page_size + 1) * self.page_size)
        current = (self.page_size + 1) / 2
        pages = round(((1 - sparsity) * length - current) / self.page_size)
        if pages < 1:
            lowest = min(1.0, (self.page_size + current) / length)
            raise Unreachable(
                f"quest with {self.page_size}-token pages cannot reach sparsity {sparsity:.3f} at {length} "
                f"tokens: one page and the current one already make density {lowest:.4f}.",
                lowest,
            )
        return replace(self, token_budget=pages * self.page_size)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.token_budget >= length
