"""Prefill: exact softmax attention over selected keys, as one Triton kernel."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from sparsestudy.kernels.configs import Config, choose
from sparsestudy.kernels.launch import describable, launch
from sparsestudy.kernels.sizes import power
from sparsestudy.kernels.walk import item, walk
from sparsestudy.selection import Selection

LOG2_E = 1.4426950408889634


@triton.jit
def _whole(x, o_batch, o_head, key, tokens, stride, TMA: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr,
           DIM: tl.constexpr):  # fmt: skip
    """Keys from `key` on of one head; 0 after the last token. `x` is a descriptor or a pointer."""
    if TMA:
        b_x = x.load([o_batch, o_head, key, 0]).reshape(KEYS, D)
    else:
        o_key = key + tl.arange(0, KEYS)
        b_x = _gathered(x, o_batch, o_head, o_key, o_key < tokens, stride, D, DIM)
    return b_x


@triton.jit
def _gathered(p_x, o_batch, o_head, o_key, m_key, stride, D: tl.constexpr, DIM: tl.constexpr):
    """Any keys of one head, ``(keys, D)``; 0 where the mask is false and after the true width."""
    o_dim = tl.arange(0, D)
    p_x += o_batch.to(tl.int64) * stride[0] + o_head.to(tl.int64) * stride[1]
    p_x = p_x + o_key.to(tl.int64)[:, None] * stride[2] + o_dim * stride[3]
    return tl.load(p_x, m_key[:, None] & (o_dim < DIM), 0.0)


@triton.jit
def _fold(b_q, b_k, b_v, m_seen, b_sum, b_top, b_mass, scale, MASKED: tl.constexpr):
    """One step of the running softmax, in base 2.

    ``b_sum (rows, D)`` holds the weighted values so far, ``b_top (rows,)`` the greatest scaled score and
    ``b_mass (rows,)`` the sum of weights.
    """
    # (rows, keys)
    b_score = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
    if MASKED:
        b_score = tl.where(m_seen, b_score, float("-inf"))
    b_new = tl.maximum(b_top, tl.max(b_score, 1) * scale)
    b_share = tl.exp2(b_score * scale - b_new[:, None])
    b_decay = tl.exp2(b_top - b_new)
    b_mass = b_mass * b_decay + tl.sum(b_share, 1)
    b_sum = tl.dot(b_share.to(b_v.dtype), b_v, b_sum * b_decay[:, None], input_precision="ieee")
    return b_sum, b_new, b_mass


@triton.jit(do_not_specialize=["tokens", "ranges", "columns", "size", "tiles"])
def _attend(
    p_q, p_k, p_v, d_k, d_v, p_out, p_walk, p_columns, p_lengths,
    by_q, by_k, by_v, by_out, by_column, scale, tokens, ranges, columns, size, tiles,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, CHOOSERS: tl.constexpr, CHOOSING_ROWS: tl.constexpr,
    DIM: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, PARTS: tl.constexpr, KEYS: tl.constexpr,
    PIECE: tl.constexpr, SINGLE: tl.constexpr, TMA: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head. Strides are those of (batch, heads, tokens, dim)."""
    batch, kv_head, head, tile, row = item(tl.program_id(0), tiles, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS)
    block = tile // PARTS
    first = block * size + tile % PARTS * ROWS
    last = tl.minimum(tl.minimum(first + ROWS, block * size + size), tokens)
    o_row, o_dim = first + tl.arange(0, ROWS), tl.arange(0, D)
    p_walk += (row * tiles + tile).to(tl.int64) * (4 * (ranges + 2))
    p_runs, p_rests = p_walk + 4, p_walk + 4 + 2 * (ranges + 1)
    real = first < tl.load(p_lengths + batch)
    full, rests = tl.load(p_walk) * real, tl.load(p_walk + 1) * real
    widest, single = tl.load(p_walk + 2) * real, tl.load(p_walk + 3) * real
    # (ROWS, D)
    b_q = _gathered(p_q, batch, head, o_row, o_row < last, by_q, D, DIM)
    b_sum = tl.zeros([ROWS, D], tl.float32)
    b_top = tl.full([ROWS], -1e30, tl.float32)  # finite, so that a row whose keys are all masked adds nothing
    b_mass = tl.zeros([ROWS], tl.float32)
    key, left = tl.load(p_runs), tl.load(p_runs + 1)
    for _ in tl.range(0, full, num_stages=STAGES):
        # (KEYS, D)
        b_k = _whole(d_k, batch, kv_head, key, tokens, by_k, TMA, KEYS, D, DIM)
        b_v = _whole(d_v, batch, kv_head, key, tokens, by_v, TMA, KEYS, D, DIM)
        b_sum, b_top, b_mass = _fold(b_q, b_k, b_v, None, b_sum, b_top, b_mass, scale, False)
        left -= 1
        p_runs += tl.where(left == 0, 2, 0)
        key = tl.where(left == 0, tl.load(p_runs), key + KEYS)
        left = tl.where(left == 0, tl.load(p_runs + 1), left)
    o_slot = tl.arange(0, KEYS)
    if PIECE == KEYS:
        for rest in range(rests):
            stop = tl.load(p_rests + rest * 2 + 1)
            for key in tl.range(tl.load(p_rests + rest * 2), stop, KEYS, num_stages=STAGES):
                # (KEYS, D)
                b_k = _whole(d_k, batch, kv_head, key, tokens, by_k, TMA, KEYS, D, DIM)
                b_v = _whole(d_v, batch, kv_head, key, tokens, by_v, TMA, KEYS, D, DIM)
                o_key = key + o_slot[None, :]
                m_seen = (o_key < stop) & (o_key <= o_row[:, None])
                b_sum, b_top, b_mass = _fold(b_q, b_k, b_v, m_seen, b_sum, b_top, b_mass, scale, True)
    else:
        # Many short rests give a piece each.
        for piece in range(0, widest, PIECE):
            for rest in tl.range(0, rests, KEYS // PIECE, num_stages=STAGES):
                o_rest = rest + o_slot // PIECE
                # (KEYS,)
                o_key = tl.load(p_rests + o_rest * 2, o_rest < rests, 0) + piece + o_slot % PIECE
                m_key = o_key < tl.load(p_rests + o_rest * 2 + 1, o_rest < rests, 0)
                b_k = _gathered(p_k, batch, kv_head, o_key, m_key, by_k, D, DIM)
                b_v = _gathered(p_v, batch, kv_head, o_key, m_key, by_v, D, DIM)
                m_seen = m_key[None, :] & (o_key[None, :] <= o_row[:, None])
                b_sum, b_top, b_mass = _fold(b_q, b_k, b_v, m_seen, b_sum, b_top, b_mass, scale, True)
    if SINGLE:
        p_columns += (row // CHOOSERS).to(tl.int64) * by_column[0] + row % CHOOSERS * by_column[1]
        p_columns += block.to(tl.int64) * by_column[2]
        for slot in tl.range(0, single, KEYS, num_stages=STAGES):
            o_key = tl.load(p_columns + (slot + o_slot) * by_column[3], slot + o_slot < columns, -1)
            m_key = o_key >= 0
            b_k = _gathered(p_k, batch, kv_head, o_key, m_key, by_k, D, DIM)
            b_v = _gathered(p_v, batch, kv_head, o_key, m_key, by_v, D, DIM)
            b_sum, b_top, b_mass = _fold(b_q, b_k, b_v, m_key[None, :], b_sum, b_top, b_mass, scale, True)
    # Rows after the length have no weights, and become 0.
    b_sum = b_sum / tl.where(b_mass == 0, 1, b_mass)[:, None]
    p_out += batch.to(tl.int64) * by_out[0] + head.to(tl.int64) * by_out[1]
    p_out = p_out + o_row.to(tl.int64)[:, None] * by_out[2] + o_dim * by_out[3]
    m_out = (o_row < last)[:, None] & (o_dim < DIM)
    tl.store(p_out, b_sum.to(p_out.dtype.element_ty), m_out)


def selected_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float) -> Tensor:
    """Prefill: exact softmax attention over the selected keys.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, rows in real coordinates (token 0 first, padding last).
        k: keys ``(batch, kv heads, tokens, dim)``.
        v: values, as `k`.
        selection: which keys each query attends; its queries begin at token 0.
        scaling: factor of the scores, > 0.

    Returns:
        ``(batch, heads, tokens, dim)`` in the dtype of `q`; rows after a row's length are unspecified.
    """
    config = choose(q.device, q.dtype, q.shape[3], selection.query_block)
    gathered = selection.columns is None or (q.shape[3] in (64, 128) and selection.columns.stride(3) == 1)
    if config.warpgroups and gathered and all(describable(x) for x in (q, k, v)):
        from sparsestudy.kernels import hopper

        return hopper.attend(q, k, v, selection, scaling)
    return attend(q, k, v, selection, scaling, config)


def attend(q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float, config: Config) -> Tensor:
    """As :func:`selected_attention`, by the portable kernel, cut as the caller says."""
    batch, heads, tokens, dim = q.shape
    size, columns = selection.query_block, selection.columns
    steps = walk(selection, tokens, config.rows, config.keys)
    choosing_rows, choosers, tiles, width = steps.shape
    padded = max(power(dim), 16)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    by_tma = config.tma and describable(k) and describable(v)
    tile = [1, 1, config.keys, padded]
    d_k, d_v = (TensorDescriptor(x, list(x.shape), list(x.stride()), tile) if by_tma else x for x in (k, v))
    single: Any = selection.starts if columns is None else columns
    launch(
        _attend,
        batch * heads * tiles,
        q.device,
        [
            q, k, v, d_k, d_v, out, steps, single, rows_of(selection.lengths, batch),
            q.stride(), k.stride(), v.stride(), out.stride(), single.stride(), scaling * LOG2_E,
            tokens, width // 4 - 2, 0 if columns is None else columns.shape[3], size, tiles,
        ],
        {
            "HEADS": heads, "KV_HEADS": k.shape[1], "CHOOSERS": choosers, "CHOOSING_ROWS": choosing_rows,
            "DIM": dim, "D": padded, "ROWS": config.rows, "PARTS": -(-size // config.rows),
            "KEYS": config.keys, "PIECE": min(config.keys, max(power(size), 16)),
            "SINGLE": columns is not None, "TMA": by_tma, "STAGES": config.stages,
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )  # fmt: skip
    return out


def rows_of(lengths: Tensor, batch: int) -> Tensor:
    """One length for each row of the batch; a selection may hold one for all."""
    return lengths if lengths.shape[0] == batch else lengths.expand(batch).contiguous()
