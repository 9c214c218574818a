"""What the last queries attend, by key and by distance, on a GPU.

Nothing of the size queries x keys is stored: the window's attention is computed twice, once for the
normaliser of each row and once for the sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsestudy.kernels.device import processors
from sparsestudy.kernels.sizes import cdiv, power

if TYPE_CHECKING:
    from sparsestudy.methods.base import Context

# Keys in a tile of the window's attention; summing along diagonals takes registers of its own.
ROWS_N, SUMS_N = 128, 64


@triton.jit
def _window_tile(p_q, p_k, o_i, o_n, first, position, last, s_q, s_k, tokens, scale, dim,
                 EVEN: tl.constexpr, BLOCK_D: tl.constexpr):  # fmt: skip
    """Scores of some queries of the window with some keys, -inf where there is none, (queries, keys)."""
    o_d = tl.arange(0, BLOCK_D)
    m_i = (position >= 0) & (o_i >= 0) & (o_i < last)
    m_q = m_i[:, None] if EVEN else m_i[:, None] & (o_d < dim)[None, :]
    b_q = tl.load(p_q + o_i.to(tl.int64)[:, None] * s_q + o_d[None, :], mask=m_q, other=0.0)
    m_n = o_n < tokens
    m_k = m_n[None, :] if EVEN else (o_d < dim)[:, None] & m_n[None, :]
    b_k = tl.load(p_k + o_n.to(tl.int64)[None, :] * s_k + o_d[:, None], mask=m_k, other=0.0)
    b_s = tl.dot(b_q, b_k, input_precision="tf32x3") * scale
    m_s = m_i[:, None] & m_n[None, :] & (o_n[None, :] <= position[:, None])
    return tl.where(m_s, b_s, float("-inf"))


@triton.jit(do_not_specialize=["tokens", "size", "last"])
def _window_rows(
    p_q, p_k, p_end, p_first, p_stats, s_q, s_k, tokens, size, last, scale, group, dim,
    EVEN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Largest score and sum of powers of some queries over a part of the keys."""
    split, tile, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    splits = tl.num_programs(0)
    tiles = tl.cdiv(size, BLOCK_M)
    head = tile // tiles
    o_w = (tile % tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.load(p_first + row).to(tl.int32)
    position = tl.load(p_end + row).to(tl.int32) - size + o_w
    o_i = tl.where(o_w < size, position - first, -1)
    p_q += row * s_q[0] + head * s_q[1]
    p_k += row * s_k[0] + (head // group) * s_k[1]
    b_most = tl.full([BLOCK_M], -1e30, tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    part = tl.cdiv(tl.cdiv(tokens, splits), BLOCK_N) * BLOCK_N
    for n in range(split * part, tl.minimum(split * part + part, tokens), BLOCK_N):
        o_n = n + tl.arange(0, BLOCK_N)
        b_s = _window_tile(
            p_q, p_k, o_i, o_n, first, position, last, s_q[2], s_k[2], tokens, scale, dim, EVEN, BLOCK_D
        )
        b_new = tl.maximum(b_most, tl.max(b_s, 1))
        b_sum = b_sum * tl.exp2(b_most - b_new) + tl.sum(tl.exp2(b_s - b_new[:, None]), 1)
        b_most = b_new
    o_row = ((row * (tl.num_programs(1) // tiles) + head) * splits + split) * size + o_w
    # The logarithm of the sum; nearly -inf where no key counts.
    tl.store(p_stats + o_row, b_most + tl.log2(tl.where(b_sum > 0, b_sum, 1.0)), mask=o_w < size)


@triton.jit(do_not_specialize=["tokens", "size", "last"])
def _window_sums(
    p_q, p_k, p_end, p_first, p_rows, p_columns, p_offsets, s_q, s_k, tokens, size, last, scale, group, dim,
    MOST: tl.constexpr, OFFSETS: tl.constexpr, EVEN: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Attention of one head's window, summed over each key of a tile, and along its diagonals."""
    tile, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    o_m, o_c = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    o_n = tile * BLOCK_N + o_c
    first, end = tl.load(p_first + row).to(tl.int32), tl.load(p_end + row).to(tl.int32)
    p_q += row * s_q[0] + head * s_q[1]
    p_k += row * s_k[0] + (head // group) * s_k[1]
    tiles = tl.cdiv(size, BLOCK_M)
    b_columns = tl.zeros([BLOCK_N], tl.float32)
    for i in range(tiles):
        o_w = i * BLOCK_M + o_m
        position = end - size + o_w
        o_i = tl.where(o_w < size, position - first, -1)
        b_s = _window_tile(
            p_q, p_k, o_i, o_n, first, position, last, s_q[2], s_k[2], tokens, scale, dim, EVEN, BLOCK_D
        )
        b_row = tl.load(p_rows + (row * heads + head) * size + o_w, mask=o_w < size, other=0.0)
        # (queries, keys)
        b_p = tl.exp2(b_s - b_row[:, None])
        if MOST:
            b_columns = tl.maximum(b_columns, tl.max(b_p, 0))
        else:
            b_columns += tl.sum(b_p, 0)
        if OFFSETS:
            # Row m moves right by what the last row of the tile is later: a diagonal becomes a column, in two
            # halves. Each half of each tile has its own places: no two programs add to one number.
            latest = end - size + i * BLOCK_M + BLOCK_M - 1 - tile * BLOCK_N
            p_part = p_offsets + (((row * heads + head) * tiles + i) * 2).to(tl.int64) * tokens
            for half in tl.static_range(2):
                o_from = o_c[None, :] + half * BLOCK_N - (BLOCK_M - 1 - o_m)[:, None]
                m_from = (o_from >= 0) & (o_from < BLOCK_N)
                b_moved = tl.gather(b_p, tl.where(m_from, o_from, 0), 1)
                b_sum = tl.sum(tl.where(m_from, b_moved, 0.0), 0)
                o_o = latest - o_c - half * BLOCK_N
                tl.store(p_part + half * tokens + o_o, b_sum, mask=(o_o >= 0) & (o_o < tokens))
    tl.store(p_columns + (row * heads + head) * tokens + o_n, b_columns, mask=o_n < tokens)


def _window(
    q: Tensor, k: Tensor, end: Tensor, first: Tensor, size: int, scaling: float, most: bool, offsets: bool
) -> tuple[Tensor, Tensor]:
    """Column sums or maxima ``(batch, heads, tokens)``, and offset sums or nothing; see the launchers."""
    batch, heads, last, dim = q.shape
    tokens = k.shape[2]
    size = min(size, tokens)
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k))
    # At most SUMS_N, so that two halves of a tile hold all its diagonals.
    block_m = max(16, min(SUMS_N, power(size)))
    block_d = max(16, power(dim))
    tiles = cdiv(size, block_m)
    block_n = ROWS_N if block_d * q.element_size() <= 256 else ROWS_N // 2
    blocks = {"EVEN": block_d == dim, "BLOCK_M": block_m, "BLOCK_D": block_d}
    wanted = cdiv(4 * processors(q.device), batch * heads * tiles)
    splits = max(1, min(wanted, cdiv(tokens, block_n)))
    stats = torch.empty(batch, heads, splits, size, dtype=torch.float32, device=q.device)
    scale, group = scaling * 1.4426950408889634, heads // k.shape[1]
    common = (q.stride()[:3], k.stride()[:3], tokens, size, last, scale, group, dim)
    _window_rows[(splits, heads * tiles, batch)](
        q, k, end, first, stats, *common, BLOCK_N=block_n, **blocks, num_warps=4
    )
    rows = torch.logsumexp(stats * 0.6931471805599453, 2) * 1.4426950408889634
    columns = torch.empty(batch, heads, tokens, dtype=torch.float32, device=q.device)
    parts = torch.zeros(batch, heads, 2 * tiles, tokens if offsets else 0, device=q.device)
    _window_sums[(cdiv(tokens, SUMS_N), heads, batch)](
        q, k, end, first, rows, columns, parts, *common, MOST=most, OFFSETS=offsets,
        BLOCK_N=SUMS_N, **blocks, num_warps=8,
    )  # fmt: skip
    return columns, parts.sum(2)


def window_sums(q: Tensor, k: Tensor, context: Context, end: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Attention of the last `size` queries before `end`, summed over each column and along each offset.

    The twin of the function of this name beside the methods, whose arguments and result it shares.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, token 0 of every row first.
        k: keys ``(batch, kv heads, tokens, dim)``.
        context: lengths and scaling.
        end: position after the last query, int ``(batch,)``.
        size: how many queries.

    Returns:
        Column sums and offset sums, fp32 ``(batch, heads, tokens)`` each.
    """
    first = torch.zeros_like(context.lengths)
    return _window(q, k, end, first, size, context.scaling, most=False, offsets=True)


def window_columns(
    q: Tensor, k: Tensor, lengths: Tensor, end: Tensor, size: int, scaling: float, most: bool = False
) -> Tensor:
    """Attention of each row's last queries before `end` to each key, over the queries.

    Args:
        q: the last queries ``(batch, heads, queries, dim)``, each row's last query last.
        k: keys ``(batch, kv heads, tokens, dim)``, token 0 of every row first.
        lengths: real tokens of each row, int ``(batch,)``.
        end: position after the last query to look at, int ``(batch,)``.
        size: how many queries.
        scaling: factor of the scores.
        most: the maximum over the queries instead of the sum.

    Returns:
        fp32 ``(batch, heads, tokens)``.
    """
    return _window(q, k, end, lengths - q.shape[2], size, scaling, most, offsets=False)[0]
