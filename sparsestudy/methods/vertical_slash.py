"""Vertical-slash prefill: each head keeps the key columns and the diagonals that the last queries attend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Measure, Scores
from sparsestudy.methods.bisection import calibrate
from sparsestudy.methods.slash_method import Slashes
from sparsestudy.methods.slashes import selected
from sparsestudy.methods.top import keep_top
from sparsestudy.selection import Selection
from sparsestudy.work import Heads, Work, top_k


@dataclass(frozen=True)
class VerticalSlash(Slashes):
    """Top columns and top offsets by the attention of the last queries, the same for all queries of a head.

    Idea: what a head attends lies in key columns that all queries read ("verticals") and on diagonals at a
    fixed distance from the query ("slashes"); the last queries of the prompt show which.

    Args:
        vertical_size: columns kept, forced ones included.
        slash_size: offsets kept, forced ones included.
        window: last queries whose attention is summed.
        sinks: first columns, always kept.
        local: smallest offsets, always kept; offset 0 is the query's own key.
        tile: queries that share their keys, and keys in a tile, one of 16, 64, 128.
        aware: whether the window may contain the question; without it the window ends where the question
            begins, which needs a driver that says where (`trace.question`).
        scope: "head" chooses per query head as the original does, "group" once for a KV group (mean
            attention).

    Source: sparse-frontier (commit 31d86c1), `vertical_slash` (after MInference, arXiv 2407.02490, with its
    index kernel), which defaults to ``vertical_size=512, slash_size=512, window=256, local=64, sinks=4`` (the
    setting "paper"). A slash brings whole tiles of keys, so more is attended than columns and offsets alone,
    and the density depends on how the slashes cluster; it is calibrated, with both budgets equal.

    Deviations: scores are fp32 and equal scores go to the earlier column or the smaller offset; budgets and
    window are clamped to the prompt; `tile` is 64 in the original, and the default window and forced units
    are small enough to scale with the length. The density counts tokens, the original's recorded sparsity
    counts whole tiles.
    """

    name: ClassVar[str] = "vertical_slash"
    PAPER: ClassVar[Mapping[str, Any]] = {"window": 256, "local": 64, "sinks": 4}
    BUDGET: ClassVar[tuple[str, ...]] = ("vertical_size", "slash_size")

    vertical_size: int = 512
    slash_size: int = 512

    def __post_init__(self) -> None:
        """Check constants and budgets."""
        super().__post_init__()
        if self.vertical_size < self.sinks or self.slash_size < self.local:
            raise StudyError(
                f"{self.name} needs vertical_size >= sinks ({self.sinks}) and slash_size >= local "
                f"({self.local}), not vertical_size={self.vertical_size}, slash_size={self.slash_size}."
            )

    def choose(self, scores: Scores, context: Context) -> Selection:
        """See :meth:`Method.choose`."""
        columns, offsets = self.with_forced(scores, context)
        kept = keep_top(columns, self.vertical_size), keep_top(offsets, self.slash_size)
        return selected(*kept, self.tile, context.lengths)

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """The window's sums, and a top-k each of columns and offsets: see :meth:`Method.selection_cost`."""
        choosers = heads.query if self.scope == "head" else heads.kv
        best = top_k(choosers, tokens, self.vertical_size) + top_k(choosers, tokens, self.slash_size)
        return self.scores_cost(heads, tokens) + best

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> VerticalSlash:
        """Bisection on the number of columns and offsets, both the same: see :meth:`Method.at_sparsity`."""

        def variant(size: int) -> VerticalSlash:
            return replace(self, vertical_size=size, slash_size=size)

        if sparsity <= 0:
            return variant(max(2 * length, self.least))
        sizes = range(self.least, max(length, self.least) + 1)
        return calibrate(variant, sizes, sparsity, length, measure)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.slash_size >= length
