"""FlexPrefill as the paper compares it: vertical-slash with a budget for each head, set by coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Measure, Scores
from sparsestudy.methods.bisection import calibrate
from sparsestudy.methods.slash_method import Slashes
from sparsestudy.methods.slashes import selected
from sparsestudy.methods.top import keep_top
from sparsestudy.selection import Selection
from sparsestudy.work import Heads, Work, top_k

# Steps of alpha in calibration.
STEPS = 1000
# Without `min_budget`, the floor is this part of the prompt: the original's 512 at 16k tokens.
PART = 32


@dataclass(frozen=True)
class FlexPrefill(Slashes):
    """As many columns and offsets as cover a share of the last queries' attention, but no fewer than a floor.

    Idea: heads differ in how concentrated they are, so a common coverage spends less on the sharp ones than a
    common budget does.

    Args:
        alpha: share of the window's attention that the columns must cover, and the offsets likewise, 0..1.
        min_budget: fewest columns and offsets of every head; 0 stands for a thirty-second of the prompt.
        window: last queries whose attention is summed.
        sinks: first columns, always kept.
        local: smallest offsets, always kept; offset 0 is the query's own key.
        tile: queries that share their keys, and keys in a tile, one of 16, 64, 128.
        aware: whether the window may contain the question; without it the window ends where the question
            begins, which needs a driver that says where (`trace.question`).
        scope: "head" chooses per query head as the original does, "group" once for a KV group (mean
            attention).

    Source: sparse-frontier (commit 31d86c1), `flexprefill` (after FlexPrefill, arXiv 2502.20766, without its
    query-aware branch: see `flexprefill_original`), which defaults to
    ``alpha=0.65, min_budget=512, window=512, local=64, sinks=4`` (the setting "paper"). Coverage is computed
    before anything is forced, so a heavy sink fills it with few columns.

    Calibration walks one path on which density rises: first the floor grows from the forced units to
    `min_budget` with ``alpha=0``, then alpha grows at that floor. With ``alpha=0`` every head keeps exactly
    the floor: that is `vertical_slash` under another name, and the stored hyperparameters show it.

    Deviations: those of `vertical_slash`; scores are divided by their own sum, not by the number of queries,
    and summed in fp64 against alpha; counts are clamped to the prompt (the original stops); the default floor
    scales with the length, because 512 columns and offsets alone are most of a short prompt.
    """

    name: ClassVar[str] = "flexprefill"
    PAPER: ClassVar[Mapping[str, Any]] = {"window": 512, "min_budget": 512, "local": 64, "sinks": 4}
    BUDGET: ClassVar[tuple[str, ...]] = ("alpha", "min_budget")

    alpha: float = 0.65
    min_budget: int = 0

    def __post_init__(self) -> None:
        """Check constants and budget."""
        super().__post_init__()
        if not 0 <= self.alpha <= 1 or self.min_budget < 0:
            raise StudyError(
                f"{self.name} needs alpha in 0..1 and min_budget of at least 0, not alpha={self.alpha}, "
                f"min_budget={self.min_budget}."
            )

    def choose(self, scores: Scores, context: Context) -> Selection:
        """See :meth:`Method.choose`."""
        columns, offsets = (self._budget(score, context) for score in scores)
        forced_columns, forced_offsets = self.with_forced(scores, context)
        return selected(
            keep_top(forced_columns, columns.clamp(min=self.sinks)),
            keep_top(forced_offsets, offsets.clamp(min=self.local)),
            self.tile,
            context.lengths,
        )

    def _budget(self, scores: Tensor, context: Context) -> Tensor:
        """Units of each head, int64 ``(batch, heads, 1)``."""
        lengths = context.lengths[:, None, None]
        floor = self.min_budget if self.min_budget else lengths // PART
        return cover(scores, self.alpha, lengths).clamp(min=floor)

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """The window's sums, and a full sort each of columns and offsets: see the base."""
        choosers = heads.query if self.scope == "head" else heads.kv
        return self.scores_cost(heads, tokens) + top_k(choosers, tokens, tokens) * 2

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> FlexPrefill:
        """Bisection along the path described above: see :meth:`Method.at_sparsity`."""
        if sparsity <= 0:
            return replace(self, min_budget=max(2 * length, self.least))
        floor = max(self.min_budget or length // PART, self.least)

        def variant(step: int) -> FlexPrefill:
            if step <= floor:
                return replace(self, alpha=0.0, min_budget=step)
            return replace(self, alpha=(step - floor) / STEPS, min_budget=floor)

        return calibrate(variant, range(self.least, floor + STEPS + 1), sparsity, length, measure)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.min_budget >= length


def cover(scores: Tensor, share: float, lengths: Tensor) -> Tensor:
    """How many of the best units it takes to cover more than a share of the total.

    Args:
        scores: not negative, ``(batch, heads, units)``.
        share: of each row's sum, 0..1.
        lengths: real units of each row, int ``(batch, 1, 1)``; the others count nothing.

    Returns:
        int64 ``(batch, heads, 1)``, at most the length; all of a row without any score.
    """
    past = torch.arange(scores.shape[-1], device=scores.device) >= lengths
    best = scores.masked_fill(past, 0.0).sort(dim=-1, descending=True).values.double()
    total = best.sum(-1, keepdim=True)
    within = best.cumsum(-1) <= share * total
    return (within.sum(-1, keepdim=True) + 1).minimum(lengths)
