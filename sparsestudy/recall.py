"""How much of the attention that a model really pays would each choice keep: measured on a dense pass.

Every method chooses on the queries and keys of the dense model, so that all are asked the same question and
none is judged by what its own earlier layers made of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.methods.base import Chosen, Context, Method
from sparsestudy.methods.probabilities import every_row, step
from sparsestudy.selection import Selection

# Queries weighed at a time; a multiple of every size of query blocks.
CHUNK = 128


@dataclass(frozen=True)
class Observer(Method):
    """Attends everything, and notes for some methods which share of each query's attention they would keep.

    Args:
        methods: what chooses; each in its own phase.
        bins: equal parts of the queries, or of the decode steps, over which shares are averaged.
        steps: decode steps that will be taken.
        kept: layer -> which tokens each evicting method leaves in the cache, by its place in `methods`.
        shares: (method's place, layer) -> sum of shares, float64 ``(batch, heads, bins)``.
    """

    name: ClassVar[str] = "observer"

    # The phase in which a session asks for a choice before and after the first token alike.
    phase: Any = field(default="prefill", init=False)
    methods: tuple[Method, ...]
    bins: int
    steps: int
    kept: dict[int, dict[int, Tensor]] = field(default_factory=dict, compare=False)
    shares: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False)

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> None:
        """Weigh the choices of methods that are sparse in prefill; remember those of evictions."""
        chosen: dict[int, Chosen] = {}
        for place, method in enumerate(self.methods):
            if method.evicts:
                kept = method.evict(q, k, context)
                if kept is not None:
                    self.kept.setdefault(context.layer, {})[place] = kept
            elif method.phase == "prefill":
                choice = method.prefill(q, k, context)
                if choice is not None:
                    chosen[place] = choice
        if not chosen:
            return
        bin_of = torch.arange(q.shape[2], device=q.device) * self.bins // q.shape[2]
        for weights, start in every_row(q, k, context.lengths, context.scaling, CHUNK):
            queries = slice(start, start + weights.shape[2])
            summed = pad(weights.double().cumsum(-1), (1, 0))
            for place, choice in chosen.items():
                self._add(place, context.layer, kept_share(choice, weights, summed, queries), bin_of[queries])

    def decode(self, q: Tensor, k: Tensor, context: Context) -> None:
        """Weigh the choices of methods that are sparse in decode, for one step."""
        weights = step(q, k, context.offsets, context.lengths, context.scaling)[:, :, None]
        number = int(context.lengths[0] - context.prefilled[0]) - 1
        bin_of = torch.tensor([number * self.bins // self.steps], device=q.device)
        for place, kept in self.kept.get(context.layer, {}).items():
            later = weights.shape[3] - kept.shape[2]
            mask = pad(kept, (0, later), value=True)[:, :, None]
            self._add(place, context.layer, _masked(mask, weights), bin_of)
        for place, method in enumerate(self.methods):
            if method.phase != "decode" or method.evicts:
                continue
            choice = method.decode(q, k, context)
            if choice is not None:
                mask = choice.mask(slice(0, 1), weights.shape[3])
                self._add(place, context.layer, _masked(mask, weights), bin_of)

    def _add(self, place: int, layer: int, shares: Tensor, bin_of: Tensor) -> None:
        """Add shares ``(batch, heads, queries)`` to the bins of their queries."""
        if (place, layer) not in self.shares:
            self.shares[place, layer] = shares.new_zeros(*shares.shape[:2], self.bins)
        self.shares[place, layer].index_add_(2, bin_of, shares)

    def recall(self, place: int, queries: int) -> dict[int, Tensor]:
        """Mean share of a method by layer, float64 ``(batch, heads, bins)``.

        Args:
            place: the method's, in :attr:`methods`.
            queries: how many were weighed: the tokens of the prompt, or the steps.

        Layers in which it never chose are absent.
        """
        edges = torch.tensor(bin_edges(queries, self.bins))
        return {
            layer: total / edges.diff().to(total.device)
            for (other, layer), total in sorted(self.shares.items())
            if other == place
        }


def kept_share(chosen: Chosen, weights: Tensor, summed: Tensor, queries: slice) -> Tensor:
    """The share of each query's attention that a selection keeps.

    Args:
        chosen: the selection of a prompt.
        weights: attention of some queries, fp32 ``(batch, heads, queries, tokens)``, 0 after each query.
        summed: its running sums along the tokens, float64 ``(batch, heads, queries, tokens + 1)``.
        queries: which queries; begins at a multiple of the selection's query block.

    Returns:
        float64 ``(batch, heads, queries)``.
    """
    if not isinstance(chosen, Selection):
        return _masked(chosen.mask(queries, weights.shape[3]), weights)
    # A range's mass is a difference of two running sums: 10 times faster than a mask at 1k tokens.
    block = slice(queries.start // chosen.query_block, -(-queries.stop // chosen.query_block))

    def spread(x: Tensor) -> Tensor:
        rows = x[:, :, block].long().repeat_interleave(chosen.query_block, dim=2)
        return _to_heads(rows[:, :, : weights.shape[2]], weights).expand(weights.shape[0], -1, -1, -1)

    tokens = weights.shape[3]
    starts = spread(chosen.starts).clamp(0, tokens)
    stops = spread(chosen.starts + chosen.widths).clamp(0, tokens)
    total = (summed.gather(-1, stops) - summed.gather(-1, starts)).sum(-1)
    if chosen.columns is not None:
        columns = spread(chosen.columns)
        single = weights.gather(-1, columns.clamp(min=0)).double()
        total = total + single.masked_fill(columns < 0, 0.0).sum(-1)
    return total


def _masked(mask: Tensor, weights: Tensor) -> Tensor:
    return (weights * _to_heads(mask, weights)).sum(-1, dtype=torch.float64)


def _to_heads(x: Tensor, weights: Tensor) -> Tensor:
    """Spread what has 1, KV or query heads on its axis 1 over the query heads of the weights."""
    heads = weights.shape[1]
    if x.shape[1] == 1:
        return x.expand(-1, heads, -1, -1)
    return x.repeat_interleave(heads // x.shape[1], dim=1)


def bin_edges(count: int, bins: int) -> Sequence[int]:
    """The first query of each bin and the end of the last, as `Observer` fills them."""
    return [-(-count * number // bins) for number in range(bins + 1)]
