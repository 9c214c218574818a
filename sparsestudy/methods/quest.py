"""Quest: at each decode step, read the pages whose keys could score highest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Measure, Method, Scores
from sparsestudy.methods.probabilities import step
from sparsestudy.methods.top import indices, keep_top
from sparsestudy.selection import Selection
from sparsestudy.work import Heads, Work, page_bounds, page_scores, top_k


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
    BUDGET: ClassVar[tuple[str, ...]] = ("token_budget",)
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

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Upper bounds on the scores of each page, ``(batch, KV or query heads, pages)``.

        Written as two products: ``sum max(q min, q max) = relu(q) . max - relu(-q) . min``. Pages that a row
        does not have hold infinities, and so NaN here; :meth:`choose` masks them.
        """
        bounds = context.page_bounds(self.page_size)
        low, high = bounds.minimum.float(), bounds.maximum.float()
        grouped = q.float().unflatten(1, (k.shape[1], -1)).squeeze(3)
        up, down = grouped.clamp(min=0), grouped.clamp(max=0)
        scores: Tensor = up @ high.transpose(-1, -2) + down @ low.transpose(-1, -2)
        return (scores.sum(2) if self.scope == "group" else scores.flatten(1, 2),)

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """The attention that this step pays to each page, ``(batch, KV or query heads, pages)``."""
        mass = step(q, k, context.offsets, context.lengths, context.scaling)
        pages = pad(mass, (0, -mass.shape[-1] % self.page_size)).unflatten(-1, (-1, self.page_size)).sum(-1)
        return (pages.unflatten(1, (k.shape[1], -1)).sum(2) if self.scope == "group" else pages,)

    def choose(self, scores: Scores, context: Context) -> Selection:
        """See :meth:`Method.choose`."""
        (score,) = scores
        current = (context.lengths - 1) // self.page_size
        page = torch.arange(score.shape[-1], device=score.device)
        complete = (page < current[:, None])[:, None]
        budget = min(self.token_budget // self.page_size, score.shape[-1])
        best = indices(keep_top(score.masked_fill(~complete, float("-inf")), budget), budget)
        start = (current * self.page_size)[:, None, None].expand(-1, best.shape[1], 1)
        rest = context.lengths[:, None, None] - start
        return Selection(
            starts=torch.cat([best.clamp(min=0) * self.page_size, start], -1)[:, :, None].int(),
            widths=torch.cat([(best >= 0).int() * self.page_size, rest.int()], -1)[:, :, None],
            query_block=1,
            first_query=context.lengths - 1,
            lengths=context.lengths,
        )

    def metadata_read(self, lengths: Tensor) -> Tensor:
        """One minimum and one maximum a page cost as much as one key and one value."""
        return (lengths - 1) // self.page_size

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """The pages' bounds: see :meth:`Method.selection_cost`."""
        return page_bounds(heads, self.page_size, tokens)

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        """Scores of the pages and a top-k over them: see :meth:`Method.step_cost`."""
        pages = (tokens - 1) // self.page_size
        choosers = heads.query if self.scope == "head" else heads.kv
        scores = page_scores(heads, self.page_size, tokens)
        return scores + top_k(choosers, pages, self.token_budget // self.page_size)

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Quest:
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
