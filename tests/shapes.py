"""Random queries, keys and values of realistic shapes, and a context around them."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from sparsestudy.cache import PageBounds, updated_page_bounds
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Context, Measure, Method

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
    """A context of rows with these lengths; page bounds are made from `k`, the last token is generated."""
    moved = torch.tensor(offsets or [0] * len(lengths))

    def bounds(page_size: int) -> PageBounds:
        return updated_page_bounds(k, moved, page_size, None)

    real = torch.tensor(lengths)
    return Context(
        lengths=real,
        offsets=moved,
        scaling=scaling,
        layer=0,
        page_bounds=bounds,
        prefilled=(real - 1).clamp(min=1),
        question=(real - 8).clamp(min=0),
        salt=lambda: real.to(k.device),
    )


def choices(cls: type[Method], name: str) -> tuple[Any, ...]:
    """The values that a field offers; none where the class does not leave it open."""
    if name not in {field.name for field in dataclasses.fields(cls) if field.init}:
        return ()
    return tuple(value for value in get_args(get_type_hints(cls)[name]) if value != "auto")


def variants(*roles: str) -> list[Method]:
    """Every registered method in every phase and scope it offers, and every control beside every method.

    Args:
        roles: which roles; all without any.
    """
    selecting = [name for name in METHODS if METHODS[name].role == "method"]
    found: list[Method] = []
    for name in METHODS:
        cls = METHODS[name]
        if roles and cls.role not in roles:
            continue
        fields = {field.name for field in dataclasses.fields(cls)}
        if "like" in fields:
            found += [cls(like=other) for other in selecting]
            alone = {field.name: field.default for field in dataclasses.fields(cls)}["like"]
            if alone not in selecting:
                found += [cls(phase=phase) for phase in ("prefill", "decode")]
        else:
            scopes = choices(cls, "scope")
            found += [cls(scope=scope) for scope in scopes] or [cls()]
    return found


def variant_id(method: Method) -> str:
    """A readable name of a variant."""
    like = getattr(method, "like", "")
    return "-".join(filter(None, [method.name, like, method.phase, method.scope]))


def measure(tokens: int, seed: int = 0, scores: dict[Method, Any] | None = None, **sizes: int) -> Measure:
    """Attended density of a variant on a random input of so many tokens, heads averaged."""
    q, k, _ = tensors(tokens, seed=seed, **sizes)
    around = context([tokens], k)
    known = {} if scores is None else scores

    def density(method: Method) -> float:
        scorer = method.scorer
        if scorer not in known:
            known[scorer] = scorer.importance(q, k, around)
        return float(method.choose(known[scorer], around).density().mean())

    return density
