"""The walk of a query tile through its keys: full tiles first, then what needs a mask.

A tensor-core kernel wants tiles of keys that need no mask, one after the other. This small kernel cuts the
ranges of a selection so, once for every tile of queries and on the device, so that nothing waits for it.

The walk of a tile is a row of ``4 * (ranges + 2)`` int32 numbers:

- full tiles, rests, keys of the widest rest, slots of columns up to the last used one;
- ``ranges + 1`` runs (first key, full tiles) that need no mask, the used ones first;
- ``ranges + 1`` rests (first key, key after the last): what remains of each range, the used ones first, and
  an empty one where there is neither run nor rest.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsestudy.kernels.launch import launch
from sparsestudy.kernels.sizes import power
from sparsestudy.selection import Selection

# Ranges or columns that a program reads at a time.
CHUNK = 256


@triton.jit
def item(index, tiles, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, CHOOSERS: tl.constexpr,
         CHOOSING_ROWS: tl.constexpr):  # fmt: skip
    """Which query tile is the index-th to compute, and which row of walks is its.

    All of one KV head come together, since its keys then stay in the cache, and late ones, which have more
    keys before them, come first.
    """
    GROUP: tl.constexpr = HEADS // KV_HEADS
    group, rest = index // (tiles * GROUP), index % (tiles * GROUP)
    batch, kv_head = group // KV_HEADS, group % KV_HEADS
    head = kv_head * GROUP + rest % GROUP
    row = batch % CHOOSING_ROWS * CHOOSERS + head // (HEADS // CHOOSERS)
    return batch, kv_head, head, tiles - 1 - rest // GROUP, row


@triton.jit(do_not_specialize=["tokens", "ranges", "columns", "size", "heads", "tiles"])
def _cut(
    p_starts, p_widths, p_columns, p_walk, by_start, by_width, by_column,
    tokens, ranges, columns, size, heads, tiles,
    ROWS: tl.constexpr, PARTS: tl.constexpr, KEYS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One query tile. Strides are those of (batch, heads, query blocks, slots)."""
    tile, row = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    batch, head, block = (row // heads).to(tl.int64), row % heads, (tile // PARTS).to(tl.int64)
    first = tile // PARTS * size + tile % PARTS * ROWS
    last = tl.minimum(tl.minimum(first + ROWS, (tile // PARTS + 1) * size), tokens)
    p_starts += batch * by_start[0] + head * by_start[1] + block * by_start[2]
    p_widths += batch * by_width[0] + head * by_width[1] + block * by_width[2]
    p_walk += tl.program_id(0).to(tl.int64) * (4 * (ranges + 2))
    p_runs, p_rests = p_walk + 4, p_walk + 4 + 2 * (ranges + 1)
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
        p_slot = p_columns + batch * by_column[0] + head * by_column[1] + block * by_column[2]
        b_column = tl.load(p_slot + o_slot * by_column[3], o_slot < columns, -1)
        single = tl.maximum(single, tl.max(tl.where(b_column >= 0, o_slot + 1, 0)))
    if (full == 0) & (rests == 0):
        # Columns alone: an empty rest, so that every walk begins with a range.
        tl.store(p_rests, 0)
        tl.store(p_rests + 1, 0)
        rests = 1
    tl.store(p_walk, full)
    tl.store(p_walk + 1, rests)
    tl.store(p_walk + 2, widest)
    tl.store(p_walk + 3, single)


def walk(selection: Selection, tokens: int, rows: int, keys: int) -> Tensor:
    """Cut a selection into tiles.

    Args:
        selection: attended keys, of queries that begin at token 0.
        tokens: number of queries and keys.
        rows: most queries in a tile; tiles do not cross query blocks.
        keys: keys in a full tile.

    Returns:
        int32 ``(batch, heads, query tiles, 4 * (ranges + 2))``; batch and heads as in the selection.
    """
    starts, widths, columns = selection.starts, selection.widths, selection.columns
    batch, heads, blocks, ranges = starts.shape
    parts = -(-selection.query_block // rows)
    steps = torch.empty(
        batch, heads, blocks * parts, 4 * (ranges + 2), dtype=torch.int32, device=starts.device
    )
    single: Any = starts if columns is None else columns
    launch(
        _cut,
        batch * heads * blocks * parts,
        starts.device,
        [
            starts, widths, single, steps, starts.stride(), widths.stride(), single.stride(),
            tokens, ranges, 0 if columns is None else columns.shape[3], selection.query_block, heads,
            blocks * parts,
        ],
        {"ROWS": rows, "PARTS": parts, "KEYS": keys, "CHUNK": min(CHUNK, power(ranges))},
        num_warps=1,
    )  # fmt: skip
    return steps
