"""The common part of the methods that keep key columns and diagonals by what the last queries attend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Method, Scores
from sparsestudy.methods.slashes import all_sums, window_sums
from sparsestudy.work import Heads, Work, window_scores

TILES = (16, 64, 128)


@dataclass(frozen=True)
class Slashes(Method):
    """Base of the methods that keep key columns and offsets, by the attention of the last queries.

    Args:
        window: last queries whose attention is summed.
        sinks: first columns, always kept.
        local: smallest offsets, always kept.
        tile: queries that choose together, and keys in a tile.
        aware: whether the window may contain the question.
        scope: "head" chooses per query head, "group" once for a KV group.
    """

    phase: Literal["prefill"] = field(default="prefill", init=False)

    window: int = field(default=64, kw_only=True)
    sinks: int = field(default=4, kw_only=True)
    local: int = field(default=16, kw_only=True)
    tile: int = field(default=64, kw_only=True)
    aware: bool = field(default=True, kw_only=True)
    scope: Literal["head", "group"] = field(default="head", kw_only=True)

    def __post_init__(self) -> None:
        """Check the constants."""
        if self.tile not in TILES:
            raise StudyError(f"{self.name} takes tile {', '.join(map(str, TILES))}, not {self.tile}.")
        if min(self.window, self.local) < 1 or self.sinks < 0:
            raise StudyError(
                f"{self.name} needs window and local of at least 1 and sinks of at least 0, not "
                f"window={self.window}, local={self.local}, sinks={self.sinks}."
            )

    @property
    def least(self) -> int:
        """The smallest budget of columns and of offsets alike that holds what is forced."""
        return max(self.sinks, self.local)

    @property
    def calibrated(self) -> bool:
        """See :attr:`Method.calibrated`: the density depends on how the slashes cluster."""
        return True

    @property
    def question_aware(self) -> bool:
        """See :attr:`Method.question_aware`."""
        return self.aware

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Attention of the window to each column and along each offset.

        Returns:
            Two of ``(batch, KV or query heads, tokens)``.

        Raises:
            StudyError: `aware` is off and the context does not say where the question begins.
        """
        sums = window_sums(q, k, context, self.observed_end(context), self.window)
        return self.scoped(sums, k.shape[1])

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """As :meth:`importance`, from all queries of the prompt."""
        return self.scoped(all_sums(q, k, context), k.shape[1])

    def scores_cost(self, heads: Heads, tokens: int) -> Work:
        """Work of the window's attention, summed over columns and over offsets."""
        return window_scores(heads, self.window, tokens, sums=2)

    def with_forced(self, scores: Scores, context: Context) -> tuple[Tensor, Tensor]:
        """Scores of columns and offsets with +inf for the forced ones and -inf past the end of the row."""
        columns, offsets = scores
        unit = torch.arange(columns.shape[-1], device=columns.device)
        past = unit >= context.lengths[:, None, None]
        columns = columns.masked_fill(unit < self.sinks, float("inf"))
        offsets = offsets.masked_fill(unit < self.local, float("inf"))
        return columns.masked_fill(past, float("-inf")), offsets.masked_fill(past, float("-inf"))
