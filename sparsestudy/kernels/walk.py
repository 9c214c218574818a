"""The walk of a query tile through its keys: full tiles first, then what needs a mask.

A tensor-core kernel wants tiles of keys that need no mask, one after the other. This small kernel cuts the
ranges of a selection so, once for every tile of queries and on the device, so that nothing waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsestudy.selection import Selection

# Query tiles above which their order is worth a sort (some 30 us); fewer finish within a few waves.
SORTED_FROM = 8192
# Ranges that a program cuts at a time.
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Where each tile of queries goes.

    Args:
        runs: (first key, full tiles) of each run that needs no mask, int32 ``(batch, heads, query tiles,
            ranges + 1, 2)``, used ones first.
        rests: (first key, key after the last) of what remains of each range, same shape.
        counts: full tiles, rests, keys of the widest rest and columns, int32 ``(batch, heads, query tiles, 4)``.
        keys: keys in a full tile.
        parts: tiles in a query block.
    """

    runs: Tensor
    rests: Tensor
    counts: Tensor
    keys: int
    parts: int


@triton.jit
def _cut(
    p_starts, p_widths, p_columns, p_runs, p_rests, p_counts, by_start, by_width, by_column,
    tokens, ranges, columns, size, heads,
    ROWS: tl.constexpr, PARTS: tl.constexpr, KEYS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One query tile: see :class:`Walk`. Strides are those of (batch, heads, query blocks, slots)."""
    tile, row = tl.program_id(0), tl.program_id(1)
    batch, head, block = row // heads, row % heads, tile // PARTS
    first = block * size + tile % PARTS * ROWS
    last = tl.minimum(tl.minimum(first + ROWS, block * size + size), tokens)
    place = (row * tl.num_programs(0) + tile).to(tl.int64)
    p_starts += batch.to(tl.int64) * by_start[0] + head * by_start[1] + block.to(tl.int64) * by_start[2]
    p_widths += batch.to(tl.int64) * by_width[0] + head * by_width[1] + block.to(tl.int64) * by_width[2]
    p_runs += place * (ranges + 1) * 2
    p_rests += place * (ranges + 1) * 2
    full, runs, rests, widest = 0, 0, 0, 0
    for begin in range(0, ranges, CHUNK):
        # (CHUNK,)
        o_range = begin + tl.arange(0, CHUNK)
        m_range = o_range < ranges
        b_start = tl.load(p_starts + o_range * by_start[3], m_range, 0).to(tl.int32)
        b_width = tl.load(p_widths + o_range * by_width[3], m_range, 0).to(tl.int32)
        b_stop = tl.minimum(b_start + b_width, last)
        # Tiles whose last key is no later than the first query need no mask.
        b_tiles = tl.maximum(tl.minimum(b_stop, first + 1) - b_start, 0) // KEYS
        b_rest = b_start + b_tiles * KEYS
        m_run, m_rest = b_tiles > 0, b_rest < b_stop
        o_run = (runs + tl.cumsum(m_run.to(tl.int32)) - 1) * 2
        o_rest = (rests + tl.cumsum(m_rest.to(tl.int32)) - 1) * 2
        tl.store(p_runs + o_run, b_start, m_run)
        tl.store(p_runs + o_run + 1, b_tiles, m_run)
        tl.store(p_rests + o_rest, b_rest, m_rest)
        tl.store(p_rests + o_rest + 1, b_stop, m_rest)
        full += tl.sum(b_tiles)
        runs += tl.sum(m_run.to(tl.int32))
        rests += tl.sum(m_rest.to(tl.int32))
        widest = tl.maximum(widest, tl.max(tl.where(m_rest, b_stop - b_rest, 0)))
    single = 0
    for begin in range(0, columns, CHUNK):
        # (CHUNK,)
        o_slot = begin + tl.arange(0, CHUNK)
        p_slot = p_columns + batch.to(tl.int64) * by_column[0] + head * by_column[1] + o_slot * by_column[3]
        b_column = tl.load(p_slot + block.to(tl.int64) * by_column[2], o_slot < columns, -1)
        single = tl.maximum(single, tl.max(tl.where(b_column >= 0, o_slot + 1, 0)))
    tl.store(p_counts + place * 4, full)
    tl.store(p_counts + place * 4 + 1, rests)
    tl.store(p_counts + place * 4 + 2, widest)
    tl.store(p_counts + place * 4 + 3, single)


def walk(selection: Selection, tokens: int, rows: int, keys: int) -> Walk:
    """Cut a selection into tiles.

    Args:
        selection: attended keys, of queries that begin at token 0.
        tokens: number of queries and keys.
        rows: most queries in a tile.
        keys: keys in a full tile.
    """
    starts, widths, columns = selection.starts, selection.widths, selection.columns
    batch, heads, blocks, ranges = starts.shape
    parts = -(-selection.query_block // rows)
    shape = (batch, heads, blocks * parts)
    runs, rests = (
        torch.empty(*shape, ranges + 1, 2, dtype=torch.int32, device=starts.device) for _ in range(2)
    )
    counts = torch.empty(*shape, 4, dtype=torch.int32, device=starts.device)
    single: Any = starts if columns is None else columns
    _cut[(shape[2], batch * heads)](
        starts, widths, single, runs, rests, counts, starts.stride(), widths.stride(), single.stride(),
        tokens, ranges, 0 if columns is None else columns.shape[3], selection.query_block, heads,
        ROWS=rows, PARTS=parts, KEYS=keys, CHUNK=min(CHUNK, triton.next_power_of_2(ranges)), num_warps=1,
    )  # fmt: skip
    return Walk(runs=runs, rests=rests, counts=counts, keys=keys, parts=parts)


def order(steps: Walk, kv_heads: int) -> Tensor:
    """Query tiles, those of one KV head together (its keys stay in the cache) and the heaviest first.

    Returns:
        int64 ``(batch x heads x query tiles,)``: places in the flattened walk.
    """
    counts = steps.counts
    rows, heads = counts.shape[:2]
    work = counts[..., 0] * steps.keys + counts[..., 1] * counts[..., 2] + counts[..., 3]
    row = torch.arange(rows, device=counts.device)[:, None, None]
    group = torch.arange(heads, device=counts.device)[:, None] * min(kv_heads, heads) // heads
    return ((row * kv_heads + group) * (1 << 32) - work).flatten().argsort()
