"""Random queries, keys and values of realistic shapes, and a context around them."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsestudy.cache import PageBounds, updated_page_bounds
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Context, Method

# Lengths around every block, page and window edge there is.
EDGES = (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000)


def tensors(tokens: int, heads: int = 4, kv_heads: int = 2, dim: int = 16, batch: int = 1, seed: int = 0):
    """``q (batch, heads, tokens, dim)``, ``k`` and ``v (batch, kv heads, tokens, dim)``, standard normal."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, tokens, dim, generator=generator)
    k = torch.randn(batch, kv_heads, tokens, dim, generator=generator)
    v = torch.randn(batch, kv_heads, tokens, dim, generator=generator)
    return q, k, v


def context(
    lengths: list[int], k: Tensor, offsets: list[int] | None = None, scaling: float = 0.25
) -> Context:
    """A context of rows with these lengths; page bounds are made from `k`."""
    moved = torch.tensor(offsets or [0] * len(lengths))

    def bounds(page_size: int) -> PageBounds:
        return updated_page_bounds(k, moved, page_size, None)

    return Context(torch.tensor(lengths), moved, scaling, 0, bounds)


def variants() -> list[Method]:
    """Every registered method in every phase it offers."""
    found: list[Method] = []
    for name in METHODS:
        method = METHODS[name]()
        found.append(method)
        if name == "window":
            found.append(METHODS[name](phase="decode"))
        if name == "quest":
            found.append(METHODS[name](scope="head"))
    return found


def variant_id(method: Method) -> str:
    """A readable name of a variant."""
    return f"{method.name}-{method.phase}-{method.scope}"
