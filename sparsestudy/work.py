"""Amounts of work, and what the selections of methods are made of: per layer and per sample.

The operations are those of each step of the methods' sources; a comparison counts as one, and 1 multiply-add
as 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """An amount of work.

    Args:
        flops: floating-point operations; a comparison counts as one.
        bytes: bytes read and written.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times)


@dataclass(frozen=True)
class Heads:
    """What the cost of a selection in one layer depends on.

    Args:
        query: query heads.
        kv: KV heads.
        dim: numbers per head.
        element_bytes: bytes per number.
    """

    query: int
    kv: int
    dim: int
    element_bytes: float = 2


def window_scores(heads: Heads, window: int, tokens: int, sums: int = 1) -> Work:
    """Attention of the last `window` queries over all keys, and `sums` running sums or maxima over it.

    ``query window tokens (2 dim + 5 + sums)``: the product, the softmax (maximum, difference, exponential,
    sum, quotient), then 1 sum over columns (SnapKV) or 2 over columns and offsets (vertical-slash). Keys and
    the window's queries are read once. Cells whose key is later than the query count.
    """
    window = min(window, tokens)
    read = (heads.kv * tokens + heads.query * window) * heads.dim * heads.element_bytes
    return Work(heads.query * window * tokens * (2 * heads.dim + 5 + sums), read)


def pooled_scores(heads: Heads, block: int, tokens: int) -> Work:
    """Mean query times mean key of each causal pair of blocks (block-sparse).

    ``(query + kv) tokens dim + query n (n + 1) dim``, n = ceil(tokens / block); queries and keys are read.
    """
    blocks = -(-tokens // block)
    pool = (heads.query + heads.kv) * tokens * heads.dim
    return Work(pool + heads.query * blocks * (blocks + 1) * heads.dim, pool * heads.element_bytes)


def page_bounds(heads: Heads, page: int, tokens: int) -> Work:
    """Elementwise minimum and maximum of the keys of each page, built once (Quest).

    ``2 kv tokens dim`` comparisons of keys at hand; two numbers a page, KV head and dimension are written.
    """
    pages = -(-tokens // page)
    return Work(2 * heads.kv * tokens * heads.dim, 2 * heads.kv * pages * heads.dim * heads.element_bytes)


def page_scores(heads: Heads, page: int, tokens: int) -> Work:
    """Upper bounds of one query on the complete pages before the current one (Quest's step).

    ``4 query dim ((tokens - 1) // page)``: a product with the minima and one with the maxima. No bytes: the
    bounds are metadata, which the byte density of :func:`decode` holds.
    """
    return Work(4 * heads.query * heads.dim * ((tokens - 1) // page))


def smoothed(rows: int, tokens: int, kernel: int) -> Work:
    """A moving average over `kernel` tokens in each of `rows` rows: ``rows tokens kernel`` (SnapKV)."""
    return Work(rows * tokens * kernel)


def top_k(rows: int, units: int, kept: int) -> Work:
    """The best `kept` of `units` in each row: ``rows units log2(kept)`` comparisons, one a unit at least.

    ``kept = units`` is a full sort.
    """
    return Work(rows * units * max(1.0, math.log2(max(1, min(kept, units)))))


def gathered(heads: Heads, kept: int) -> Work:
    """Moving `kept` keys and values of each KV head together: ``4 dim kv kept`` numbers read or written."""
    return Work(bytes=4 * heads.dim * heads.kv * kept * heads.element_bytes)
