"""The best earlier blocks of keys of each block of queries, by their means, on a GPU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsestudy.kernels.sizes import cdiv, power
from sparsestudy.kernels.top import top
from sparsestudy.selection import Selection

# Scores held at a time: 2^26 fp32 numbers are 268 MB.
SCORES = 1 << 26
# Blocks of queries and of keys in a tile of scores.
BLOCK = 64


@triton.jit(do_not_specialize=["blocks", "tokens"])
def _pool(
    p_x, p_lengths, p_out, s_x, blocks, tokens, group, dim,
    SIZE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Mean of one block of tokens, averaged over a group of heads."""
    block, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_t, o_d = block * SIZE + tl.arange(0, SIZE), tl.arange(0, BLOCK_D)
    length = tl.minimum(tl.load(p_lengths + row), tokens)
    m_x = (o_t < length)[:, None] & (o_d < dim)[None, :]
    b_sum = tl.zeros([BLOCK_D], tl.float32)
    for g in range(group):
        # (tokens, dim)
        o_x = row * s_x[0] + (head * group + g) * s_x[1] + o_t.to(tl.int64)[:, None] * s_x[2] + o_d[None, :]
        b_sum += tl.sum(tl.load(p_x + o_x, mask=m_x, other=0.0).to(tl.float32), 0)
    o_out = ((row * tl.num_programs(1) + head) * blocks + block) * dim + o_d
    tl.store(p_out + o_out, b_sum / (SIZE * group), mask=o_d < dim)


@triton.jit(do_not_specialize=["blocks", "start", "rows"])
def _score_blocks(
    p_q, p_k, p_scores, blocks, start, rows, share, dim, sinks, local,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Products of mean queries and mean keys; +inf for blocks always kept, -inf for later ones."""
    tile_n, tile_m, head = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_r = tile_m * BLOCK + tl.arange(0, BLOCK)
    o_m, o_n = start + o_r, tile_n * BLOCK + tl.arange(0, BLOCK)
    b_s = tl.zeros([BLOCK, BLOCK], tl.float32)
    if tile_n * BLOCK <= start + tile_m * BLOCK + BLOCK - 1:
        for d in range(0, dim, BLOCK_D):
            o_d = d + tl.arange(0, BLOCK_D)
            m_q = (o_m < blocks)[:, None] & (o_d < dim)[None, :]
            # (query blocks, dim) and (dim, key blocks)
            b_q = tl.load(p_q + (head * blocks + o_m[:, None]) * dim + o_d[None, :], mask=m_q, other=0.0)
            m_k = (o_d < dim)[:, None] & (o_n < blocks)[None, :]
            o_k = (head // share * blocks + o_n[None, :]) * dim + o_d[:, None]
            b_k = tl.load(p_k + o_k, mask=m_k, other=0.0)
            b_s = tl.dot(b_q, b_k, b_s, input_precision="tf32x3")
    back = o_m[:, None] - o_n[None, :]
    b_s = tl.where((o_n < sinks)[None, :] | (back < local), float("inf"), b_s)
    b_s = tl.where(back < 0, float("-inf"), b_s)
    m_s = (o_r < rows)[:, None] & (o_n < blocks)[None, :]
    tl.store(p_scores + (head * rows + o_r[:, None]) * blocks + o_n[None, :], b_s, mask=m_s)


def pooled(x: Tensor, lengths: Tensor, size: int, heads: int) -> Tensor:
    """Means over blocks of tokens; a partial last block divides by the whole size.

    Args:
        x: queries or keys ``(batch, heads, tokens, dim)``, token 0 of every row first.
        lengths: real tokens of each row, int ``(batch,)``.
        size: tokens per block, a power of two.
        heads: heads of the result, each the mean of a group.

    Returns:
        fp32 ``(batch, heads, blocks, dim)``.
    """
    batch, given, tokens, dim = x.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    blocks = cdiv(tokens, size)
    out = torch.empty(batch, heads, blocks, dim, dtype=torch.float32, device=x.device)
    _pool[(blocks, heads, batch)](
        x, lengths, out, x.stride()[:3], blocks, tokens, given // heads, dim,
        SIZE=size, BLOCK_D=power(dim), num_warps=4,
    )  # fmt: skip
    return out


def pooled_selection(
    q: Tensor,
    k: Tensor,
    lengths: Tensor,
    size: int,
    budget: int,
    choosers: int,
    sinks: int = 1,
    local: int = 2,
) -> Selection:
    """For each block of queries, the earlier blocks of keys with the best products of means.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, token 0 of every row first.
        k: keys ``(batch, kv heads, tokens, dim)``.
        lengths: real tokens of each row, int ``(batch,)``.
        size: tokens per block, a power of two.
        budget: blocks kept for each block of queries, those always kept included.
        choosers: the query heads, or the KV heads (scores averaged over a group).
        sinks: first blocks, always kept.
        local: last blocks up to the queries' own, always kept.

    Returns:
        The selection, ranges rising; equal scores go to the earlier block.
    """
    mean_q, mean_k = pooled(q, lengths, size, choosers), pooled(k, lengths, size, k.shape[1])
    batch, _, blocks, dim = mean_q.shape
    budget = min(budget, blocks)
    share = choosers // k.shape[1]
    step = min(blocks, max(1, SCORES // (batch * choosers * blocks)))
    best = torch.empty(batch, choosers, blocks, budget, dtype=torch.int32, device=q.device)
    for start in range(0, blocks, step):
        rows = min(step, blocks - start)
        scores = torch.empty(batch, choosers, rows, blocks, device=q.device)
        grid = (cdiv(blocks, BLOCK), cdiv(rows, BLOCK), batch * choosers)
        _score_blocks[grid](
            mean_q, mean_k, scores, blocks, start, rows, share, dim, sinks, local,
            BLOCK=BLOCK, BLOCK_D=32, num_warps=4,
        )  # fmt: skip
        best[:, :, start : start + rows] = top(scores, budget)
    return Selection(
        starts=best.clamp(min=0) * size,
        widths=(best >= 0).int() * size,
        query_block=size,
        first_query=torch.zeros_like(lengths),
        lengths=lengths,
    )
