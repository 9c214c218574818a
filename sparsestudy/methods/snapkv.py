"""SnapKV: after the prefill, keep the tokens that the end of the prompt looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Measure, Method, Scores
from sparsestudy.methods.probabilities import step, window
from sparsestudy.methods.top import keep_top
from sparsestudy.work import Heads, Work, gathered, smoothed, top_k, window_scores


@dataclass(frozen=True)
class SnapKV(Method):
    """Top tokens by the pooled attention of the last queries, one set for each KV head, kept for good.

    Idea: what the last queries of the prompt attend is what the answer will attend; everything else leaves
    the cache. Generated tokens always stay.

    Args:
        capacity: tokens of the prompt that each KV head keeps, forced ones included.
        window: last queries whose attention is summed.
        kernel: width of the average pooling along the tokens, odd.
        local: last tokens of the prompt that are always kept.
        sinks: first tokens that are always kept.
        pool_window: whether the columns of the window itself take part in the pooling.
        aware: whether the window may contain the question; without it the window ends where the question
            begins, which needs a driver that says where (`trace.question`).

    Source: SnapKV (arXiv 2404.14469) as in sparse-frontier (commit 31d86c1), which defaults to
    ``capacity=1024, window=256, kernel=21, local=128, sinks=4`` (the setting "paper").

    Deviations: scores are fp32 and equal scores go to the earlier token; window and capacity are clamped to
    the prompt, so a prompt within the capacity is kept whole (the original stops); the default constants are
    small enough to scale with the length. With ``window=64, kernel=5, local=64, sinks=0,
    pool_window=False`` it is the SnapKV of kvpress (commit 8bb29b9).
    """

    name: ClassVar[str] = "snapkv"
    PAPER: ClassVar[Mapping[str, Any]] = {"window": 256, "kernel": 21, "local": 128, "sinks": 4}
    BUDGET: ClassVar[tuple[str, ...]] = ("capacity",)
    phase: Literal["decode"] = field(default="decode", init=False)
    scope: Literal["group"] = field(default="group", init=False)

    capacity: int = 1024
    window: int = 64
    kernel: int = 7
    local: int = 16
    sinks: int = 4
    pool_window: bool = True
    aware: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check the constants."""
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise StudyError(f"{self.name} needs an odd kernel of at least 1, not {self.kernel}.")
        if min(self.window, self.local) < 1 or self.sinks < 0:
            raise StudyError(
                f"{self.name} needs window and local of at least 1 and sinks of at least 0, not "
                f"window={self.window}, local={self.local}, sinks={self.sinks}."
            )
        if self.capacity < self.forced:
            raise StudyError(
                f"{self.name} needs a capacity of at least its {self.forced} forced tokens, not "
                f"{self.capacity}."
            )

    @property
    def forced(self) -> int:
        """Tokens that every head keeps."""
        return self.sinks + self.local

    @property
    def evicts(self) -> bool:
        """See :attr:`Method.evicts`."""
        return True

    @property
    def observed(self) -> int:
        """See :attr:`Method.observed`."""
        return self.window

    @property
    def question_aware(self) -> bool:
        """See :attr:`Method.question_aware`."""
        return self.aware

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Attention of the window to each token, summed, averaged over the KV group and pooled.

        Returns:
            One tensor ``(batch, kv heads, tokens)``.
        """
        total = torch.zeros(*q.shape[:2], k.shape[2], device=q.device)
        for rows, _ in self._window(q, k, context):
            total += rows.sum(2)
        return (self._pooled(total.unflatten(1, (k.shape[1], -1)).mean(2), context),)

    def _window(self, q: Tensor, k: Tensor, context: Context) -> Any:
        end = self.observed_end(context)
        return window(q, k, context.lengths, end, self.window, context.scaling, last=True)

    def _pooled(self, scores: Tensor, context: Context) -> Tensor:
        """Zeros beyond either end count in the average, as in the original."""
        if not self.pool_window:
            token = torch.arange(scores.shape[-1], device=scores.device)
            first = (self.observed_end(context) - self.window).clamp(min=0)[:, None, None]
            # The divisor stays the whole kernel: the columns of the window count as zeros.
            scores = scores.masked_fill(token >= first, 0.0)
        return avg_pool1d(scores, self.kernel, stride=1, padding=self.kernel // 2)

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """The attention that a decode step pays to each token, summed over the KV group."""
        mass = step(q, k, context.offsets, context.lengths, context.scaling)
        return (mass.unflatten(1, (k.shape[1], -1)).sum(2),)

    def choose(self, scores: Scores, context: Context) -> Tensor:
        """The tokens that stay, bool ``(batch, kv heads, tokens)``."""
        return keep_top(self._with_forced(scores[0], context), self.capacity)

    def _with_forced(self, scores: Tensor, context: Context) -> Tensor:
        token = torch.arange(scores.shape[-1], device=scores.device)
        lengths = context.lengths[:, None, None]
        forced = (token < self.sinks) | (token >= lengths - self.local)
        return scores.masked_fill(forced, float("inf")).masked_fill(token >= lengths, float("-inf"))

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """Scores of the window, pooling, a top-k a KV head, and the move of what stays: see the base."""
        scores = window_scores(heads, self.window, tokens) + smoothed(heads.kv, tokens, self.kernel)
        kept = min(self.capacity, tokens)
        return scores + top_k(heads.kv, tokens, kept) + gathered(heads, kept)

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> SnapKV:
        """Closed form: see :meth:`Method.at_sparsity`. The density is that of the prompt's tokens."""
        if sparsity <= 0:
            return replace(self, capacity=max(2 * length, self.forced))
        # Less than a millionth of a token below a whole one is rounding, as in (1 - 0.9) * 1000.
        capacity = int((1 - sparsity) * length + 1e-6)
        if capacity < self.forced:
            lowest = min(1.0, self.forced / length)
            raise Unreachable(
                f"{self.name} cannot reach sparsity {sparsity:.3f} at {length} tokens: its {self.forced} "
                f"forced tokens already make density {lowest:.4f}.",
                lowest,
            )
        return replace(self, capacity=capacity)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.capacity >= length
