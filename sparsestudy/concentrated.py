"""How many keys hold the attention of a query: counted on a dense pass, some queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsestudy.methods.base import Context, Method
from sparsestudy.methods.probabilities import probabilities, window

# Of the attention: single precision rounds the sum of a few thousand shares by less.
ROUNDING = 1e-6


def keys_for(weights: Tensor, masses: tuple[float, ...]) -> Tensor:
    """The smallest number of keys that together hold a share of each query's attention.

    Args:
        weights: attention ``(..., keys)``; every row sums to 1.
        masses: the shares.

    Returns:
        int64 ``(..., masses)``.
    """
    held = weights.sort(-1, descending=True).values.cumsum(-1, dtype=torch.float64)
    return torch.stack([(held < mass - ROUNDING).sum(-1) + 1 for mass in masses], -1)


def effective_keys(weights: Tensor) -> Tensor:
    """The exponential of the entropy: n for attention spread evenly over n keys.

    Args:
        weights: attention ``(..., keys)``; every row sums to 1.

    Returns:
        float64 ``(...)``.
    """
    entropy: Tensor = torch.special.entr(weights).sum(-1, dtype=torch.float64)
    return entropy.exp()


@dataclass(frozen=True)
class KeyCounter(Method):
    """Attends everything, and counts the keys that hold the attention of some queries of each layer.

    Args:
        masses: shares of the attention.
        queries: how many queries of the context to look at, evenly spaced up to its last.
        found: layer -> means over the queries of question and context, float64 ``(batch, regions, heads,
            masses + 1)``, the effective number last; NaN for a region without queries.
        counted: queries of each region, int ``(batch, regions)``, and the mean number of keys that they may
            attend, float64; the same in all layers.
    """

    name: ClassVar[str] = "key_counter"

    phase: Any = field(default="prefill", init=False)
    masses: tuple[float, ...]
    queries: int
    found: dict[int, Tensor] = field(default_factory=dict, compare=False)
    counted: dict[str, Tensor] = field(default_factory=dict, compare=False)

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> None:
        """Count; what is attended is everything."""
        assert context.question is not None, "the driver says where the question begins"
        parts = [self._mean(part, q) for part in self._regions(q, k, context, context.question)]
        means, queries, available = (torch.stack(values, 1) for values in zip(*parts, strict=True))
        self.found[context.layer] = means
        self.counted.update(queries=queries, available=available)

    def _regions(
        self, q: Tensor, k: Tensor, context: Context, question: Tensor
    ) -> list[Iterator[tuple[Tensor, Tensor]]]:
        """Attention of the queries of question and context, with their positions; negative for no query."""
        tail = int((context.lengths - question).max())
        turn = torch.arange(1, self.queries + 1, device=q.device)
        position = question[:, None] * turn // self.queries - 1
        index = position.clamp(min=0)[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])
        spaced = probabilities(q.gather(2, index), k, position, context.scaling)
        last = window(q, k, context.lengths, context.lengths, tail, context.scaling)
        asking = ((weights, at.masked_fill(at < question[:, None], -1)) for weights, at in last)
        return [asking, iter([(spaced, position)])]

    def _mean(self, parts: Iterator[tuple[Tensor, Tensor]], q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means over queries ``(batch, heads, masses + 1)``, number of queries and of keys ``(batch,)``."""
        batch, heads = q.shape[:2]
        total = torch.zeros(batch, heads, len(self.masses) + 1, dtype=torch.float64, device=q.device)
        queries = torch.zeros(batch, dtype=torch.int64, device=q.device)
        available = torch.zeros_like(queries)
        for weights, position in parts:
            real = position >= 0
            found = torch.cat([keys_for(weights, self.masses), effective_keys(weights)[..., None]], -1)
            total += (found * real[:, None, :, None]).sum(2)
            queries += real.sum(1)
            available += ((position + 1) * real).sum(1)
        return total / queries[:, None, None], queries, available / queries.double()
