"""FlexPrefill as its authors published it: block columns and block diagonals, and a query-aware branch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Measure, Method, Scores
from sparsestudy.methods.bisection import calibrate
from sparsestudy.methods.flexprefill import STEPS, cover
from sparsestudy.methods.probabilities import block_mass
from sparsestudy.methods.slashes import all_sums, window_sums
from sparsestudy.methods.top import indices, keep_top
from sparsestudy.selection import Selection
from sparsestudy.work import Heads, Work, pooled_scores, top_k, window_scores

# Tokens that the original counts to a block when it turns coverage into blocks, whatever the block size.
COUNTED = 128


@dataclass(frozen=True)
class FlexPrefillOriginal(Method):
    """Key blocks and block diagonals that cover a share of attention; some heads choose over all block pairs.

    Idea: where the mean query predicts which key blocks the last queries attend, choose blocks for every
    query block by pooled scores (the query-aware branch); elsewhere rely on columns and diagonals.

    Args:
        gamma: share of attention that the columns must cover, the diagonals likewise, and in the query-aware
            branch the block pairs, 0..1.
        tau: a head is query-aware if the root of the Jensen-Shannon divergence between predicted and real
            block attention is below this; 0 turns the branch off.
        min_budget: fewest tokens in columns and in diagonals, rounded up to blocks.
        block_size: tokens per block, one of 16, 32, 64, 128, and last queries that are looked at.
        aware: whether these may contain the question; without it they end where the question begins, which
            needs a driver that says where (`trace.question`).

    Source: FlexPrefill (arXiv 2502.20766), repository at commit a24b27b, whose README sets
    ``gamma=0.9, tau=0.1, min_budget=512`` (the setting "paper"). The first key block and the diagonal are
    always kept, and a prompt of at most two blocks or `min_budget` is attended whole. Token counts become
    block counts by ``// 128 + 1`` at every block size, as there.

    Calibration moves gamma at the other settings. How often the query-aware branch fires is noted in the
    trace as `query_aware`.

    Deviations: scores are fp32 and equal scores go to the earlier unit; scores are divided by their own sum,
    not by the number of queries, and summed in fp64; a block without any attention adds nothing to the
    divergence (there it makes the head not query-aware); rows of a batch may differ in length; no upper
    budget.
    """

    name: ClassVar[str] = "flexprefill_original"
    PAPER: ClassVar[Mapping[str, Any]] = {"min_budget": 512}
    BUDGET: ClassVar[tuple[str, ...]] = ("gamma",)
    phase: Literal["prefill"] = field(default="prefill", init=False)
    scope: Literal["head"] = field(default="head", init=False)

    gamma: float = 0.9
    tau: float = 0.1
    min_budget: int = 1
    block_size: int = 128
    aware: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check the constants."""
        if self.block_size not in (16, 32, 64, 128):
            raise StudyError(f"{self.name} takes block_size 16, 32, 64 or 128, not {self.block_size}.")
        if not (0 <= self.gamma <= 1 and 0 <= self.tau <= 1 and self.min_budget >= 1):
            raise StudyError(
                f"{self.name} needs gamma and tau in 0..1 and min_budget of at least 1, not "
                f"gamma={self.gamma}, tau={self.tau}, min_budget={self.min_budget}."
            )

    @property
    def calibrated(self) -> bool:
        """See :attr:`Method.calibrated`."""
        return True

    @property
    def question_aware(self) -> bool:
        """See :attr:`Method.question_aware`."""
        return self.aware

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Attention of the last queries to columns and along offsets, pooled attention, and the divergence.

        Returns:
            Two of ``(batch, heads, tokens)``, one of ``(batch, heads, blocks, blocks)`` whose rows are query
            blocks and sum to 1, and one of ``(batch, heads)``.
        """
        columns, offsets = self._sums(q, k, context)
        mean_q, mean_k = (_block_means(x, context.lengths, self.block_size) for x in (q, k))
        pooled = _softmax(_grouped_product(mean_q, mean_k) * context.scaling, self._causal(context, mean_q))
        return columns, offsets, pooled, self._divergence(q, mean_k, columns, context)

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """As :meth:`importance`, from all queries; the divergence stays that of the last ones."""
        mass = block_mass(q, k, context.lengths, context.scaling, self.block_size)
        mean_k = _block_means(k, context.lengths, self.block_size)
        divergence = self._divergence(q, mean_k, self._sums(q, k, context)[0], context)
        return *all_sums(q, k, context), mass, divergence

    def query_aware(self, q: Tensor, k: Tensor, context: Context) -> Tensor:
        """Which heads choose over all block pairs, bool ``(batch, heads)``."""
        mean_k = _block_means(k, context.lengths, self.block_size)
        divergence: Tensor = self._divergence(q, mean_k, self._sums(q, k, context)[0], context)
        return divergence < self.tau

    def choose(self, scores: Scores, context: Context) -> Selection:
        """See :meth:`Method.choose`."""
        columns, offsets, pairs, divergence = scores
        aware = (divergence < self.tau)[..., None]
        context.notes["query_aware"] = aware[..., 0].float()
        causal = self._causal(context, pairs)
        kept = self._columns_and_diagonals(columns, offsets, aware, context)
        kept |= self._pairs(pairs.masked_fill(~causal, 0.0), context) & aware[..., None]
        whole = max(2 * self.block_size, self._floor() * self.block_size)
        kept |= (context.lengths <= whole)[:, None, None, None]
        blocks = indices(kept & causal)
        return Selection(
            starts=(blocks.clamp(min=0) * self.block_size).int(),
            widths=(blocks >= 0).int() * self.block_size,
            query_block=self.block_size,
            first_query=torch.zeros_like(context.lengths),
            lengths=context.lengths,
        )

    def _columns_and_diagonals(
        self, columns: Tensor, offsets: Tensor, aware: Tensor, context: Context
    ) -> Tensor:
        """The union of key-block columns and block diagonals, bool ``(batch, heads, blocks, blocks)``."""
        size, lengths = self.block_size, context.lengths[:, None, None]
        past = torch.arange(columns.shape[-1], device=columns.device) >= lengths
        kept = []
        for scores, short in ((columns, torch.zeros_like(lengths)), (offsets, -lengths % size)):
            tokens = cover(scores, self.gamma, lengths)
            budget = (tokens // COUNTED + 1).clamp(min=self._floor()).masked_fill(aware, self._floor())
            pooled = _pooled(scores.masked_fill(past, 0.0), short, size)
            block = torch.arange(pooled.shape[-1], device=pooled.device)
            pooled = pooled.masked_fill(block == 0, float("inf"))
            kept.append(keep_top(pooled.masked_fill(block * size >= lengths, float("-inf")), budget))
        back = (block[:, None] - block).clamp(min=0)
        return kept[0][:, :, None] | kept[1][..., back]

    def _pairs(self, pairs: Tensor, context: Context) -> Tensor:
        """The best block pairs within a share of each head's mass, every query block weighing the same."""
        rows = pairs.double()
        blocks = -(-context.lengths // self.block_size)[:, None, None]
        block = torch.arange(pairs.shape[-1], device=pairs.device)
        flat = (rows / rows.sum(-1, keepdim=True).clamp(min=1e-30)).float()
        flat = flat.masked_fill((block >= blocks)[..., None], 0.0).flatten(2)
        summed = flat.sort(dim=-1, descending=True).values.cumsum(-1, dtype=torch.float64)
        budget = (summed <= self.gamma * blocks).sum(-1, keepdim=True)
        return keep_top(flat, budget).view_as(pairs)

    def _sums(self, q: Tensor, k: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return window_sums(q, k, context, self.observed_end(context), self.block_size)

    def _divergence(self, q: Tensor, mean_k: Tensor, columns: Tensor, context: Context) -> Tensor:
        """Root of the Jensen-Shannon divergence, in nats, of predicted from real attention to key blocks."""
        end = self.observed_end(context)[:, None]
        token = torch.arange(q.shape[2], device=q.device)
        last = ((token < end) & (token >= end - self.block_size)).float()[:, None, :, None]
        mean = (q.float() * last).sum(2, keepdim=True) / last.sum(2, keepdim=True).clamp(min=1)
        real = (torch.arange(mean_k.shape[2], device=q.device) * self.block_size) < context.lengths[:, None]
        predicted = _softmax(_grouped_product(mean, mean_k) * context.scaling, real[:, None, None])[:, :, 0]
        mass = _pooled(columns, torch.zeros_like(end)[..., None], self.block_size)
        mass = mass / mass.sum(-1, keepdim=True).clamp(min=1e-30)
        middle = (predicted + mass) / 2
        # xlogy(p, p) - xlogy(p, m) is p log(p / m) with 0 log 0 = 0.
        terms = [torch.xlogy(p, p) - torch.xlogy(p, middle) for p in (predicted, mass)]
        return ((terms[0] + terms[1]).sum(-1) / 2).clamp(min=0).sqrt()

    def _floor(self) -> int:
        return math.ceil(self.min_budget / self.block_size)

    def _causal(self, context: Context, like: Tensor) -> Tensor:
        """Block pairs that are not in the future, bool ``(blocks, blocks)``."""
        block = torch.arange(like.shape[2], device=like.device)
        return block[:, None] >= block

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """The window's sums, two sorts, and the pooled block map with its sort: see the base.

        Every head is charged with both branches, as the code here computes both.
        """
        blocks = -(-tokens // self.block_size)
        sums = window_scores(heads, self.block_size, tokens, sums=2)
        sorts = top_k(heads.query, tokens, tokens) * 2 + top_k(heads.query, blocks * blocks, blocks * blocks)
        return sums + sorts + pooled_scores(heads, self.block_size, tokens)

    def at_sparsity(
        self, sparsity: float, length: int, measure: Measure | None = None
    ) -> FlexPrefillOriginal:
        """Bisection on gamma: see :meth:`Method.at_sparsity`."""
        if sparsity <= 0:
            return replace(self, min_budget=max(2 * length, self.min_budget))

        def variant(step: int) -> FlexPrefillOriginal:
            return replace(self, gamma=step / STEPS)

        return calibrate(variant, range(STEPS + 1), sparsity, length, measure)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return length <= max(2, self._floor()) * self.block_size


def _block_means(x: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Mean over the real tokens of each block, fp32 ``(batch, heads, blocks, dim)``."""
    token = torch.arange(x.shape[2], device=x.device)
    real = (token < lengths[:, None]).float()[:, None, :, None]
    blocks, counts = (
        pad(part, (0, 0, 0, -x.shape[2] % size)).unflatten(2, (-1, size)).sum(3)
        for part in (x.float() * real, real)
    )
    means: Tensor = blocks / counts.clamp(min=1)
    return means


def _grouped_product(q: Tensor, k: Tensor) -> Tensor:
    """``q @ k^T`` with the KV heads shared by their query heads, ``(batch, heads, q rows, k rows)``."""
    product: Tensor = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].transpose(-1, -2)
    return product.flatten(1, 2)


def _softmax(scores: Tensor, legal: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~legal, float("-inf")), dim=-1)


def _pooled(scores: Tensor, short: Tensor, size: int) -> Tensor:
    """Sums over blocks of which the first is `short` units short, ``(batch, heads, blocks)``.

    Args:
        scores: ``(batch, heads, units)``.
        short: int ``(batch, 1, 1)``.
        size: units per block.
    """
    blocks = -(-scores.shape[-1] // size)
    unit = torch.arange(blocks * size, device=scores.device) - short
    inside = (unit >= 0) & (unit < scores.shape[-1])
    moved = scores.gather(-1, unit.clamp(0, scores.shape[-1] - 1).expand(*scores.shape[:2], -1)) * inside
    pooled: Tensor = moved.unflatten(-1, (-1, size)).sum(-1)
    return pooled
