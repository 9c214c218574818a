"""Attention of one query a row, its keys split over many programs: what all decode launchers share.

The keys of a row and KV head are split over many programs, each of which computes all query heads of the
KV group as one tile; a second kernel adds the parts. How many parts there are follows from the device and
from shapes, never from data, so nothing waits for the device and a CUDA graph can hold it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from sparsestudy.kernels.device import overlaps, processors
from sparsestudy.kernels.launch import on
from sparsestudy.kernels.sizes import cdiv, power

# Programs a multiprocessor: two hide each other's waiting; more only make more parts to add up.
WAVES = 2
# Keys a program gets at least: below, its part costs more to add than to compute.
LEAST = 64
# Bytes of keys in a tile: with three in flight, three programs fit into the shared memory of a Hopper
# multiprocessor.
KEY_BYTES = 1 << 14
# Parts added at a time: 64 x 128 fp32 numbers are 64 registers a thread.
PARTS = 64
WARPS, STAGES = 4, 3


@triton.jit
def add_tile(b_q, p_k, p_v, o_k, o_v, m_t, o_d, b_acc, b_most, b_sum, scale, dim, EVEN: tl.constexpr):
    """Add one tile of keys to the running softmax of a group's queries."""
    # (dim, keys) and (keys, dim); where the dim fills its tile the mask is that of the keys alone.
    m_k = m_t[None, :] if EVEN else (o_d < dim)[:, None] & m_t[None, :]
    b_k = tl.load(p_k + o_k[None, :] + o_d[:, None], mask=m_k, other=0.0)
    m_v = m_t[:, None] if EVEN else m_t[:, None] & (o_d < dim)[None, :]
    b_v = tl.load(p_v + o_v[:, None] + o_d[None, :], mask=m_v, other=0.0)
    # (queries, keys), in powers of two
    b_s = tl.dot(b_q, b_k, input_precision="tf32x3") * scale
    b_s = tl.where(m_t[None, :], b_s, float("-inf"))
    b_new = tl.maximum(b_most, tl.max(b_s, 1))
    b_p = tl.exp2(b_s - b_new[:, None])
    b_shrink = tl.exp2(b_most - b_new)
    b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_shrink[:, None], input_precision="tf32x3")
    return b_acc, b_new, b_sum


@triton.jit
def _keys(o_t, m_t, p_starts, p_ends, ranges, STEPS: tl.constexpr):
    """The token that stands at each place of a list of ranges."""
    # Binary search for how many ranges end at or before the place.
    place = o_t * 0
    for i in tl.static_range(STEPS):
        probe = place + (1 << (STEPS - 1 - i))
        end = tl.load(p_ends + probe - 1, mask=m_t & (probe <= ranges), other=2147483647)
        place = tl.where(end <= o_t, probe, place)
    before = tl.load(p_ends + place - 1, mask=m_t & (place > 0), other=0)
    return tl.load(p_starts + place, mask=m_t, other=0) + o_t - before


@triton.jit(do_not_specialize=["new", "ranges"])
def _attend(
    p_q, p_k, p_v, p_new_k, p_new_v, p_starts, p_ends, p_first, p_count, p_acc, p_most, p_sum,
    s_q, s_k, s_v, s_new_k, s_new_v, s_list, s_first, s_count, scale, new, ranges, group, share, dim,
    LISTED: tl.constexpr, STEPS: tl.constexpr, NEW: tl.constexpr, EVEN: tl.constexpr, SIGNAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One part of the keys of one row and KV head (or query head, where heads choose on their own)."""
    split, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    splits, heads = tl.num_programs(0), tl.num_programs(1)
    o_m, o_d, o_n = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    m_q = (o_m < group)[:, None] & (o_d < dim)[None, :]
    # (queries, dim)
    o_q = row * s_q[0] + (head * group + o_m)[:, None] * s_q[1] + o_d[None, :]
    b_q = tl.load(p_q + o_q, mask=m_q, other=0.0)
    if SIGNAL:
        gdc_launch_dependents()
    first = tl.load(p_first + row * s_first[0] + head * s_first[1]).to(tl.int64)
    count = tl.load(p_count + row * s_count[0] + head * s_count[1]).to(tl.int32)
    total = count + new
    part = tl.cdiv(tl.cdiv(total, splits), 16) * 16
    begin = split * part
    end = tl.minimum(begin + part, total)
    b_acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_most = tl.full([BLOCK_M], -1e30, tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    kv = (head // share).to(tl.int64)
    p_k += row * s_k[0] + kv * s_k[1]
    p_v += row * s_v[0] + kv * s_v[1]
    p_starts += row * s_list[0] + head * s_list[1]
    p_ends += row * s_list[0] + head * s_list[1]
    stop = tl.minimum(end, count)
    for t in range(begin, stop, BLOCK_N):
        o_t = t + o_n
        m_t = o_t < stop
        o_k = _keys(o_t, m_t, p_starts, p_ends, ranges, STEPS) if LISTED else o_t
        o_k = o_k + first
        b_acc, b_most, b_sum = add_tile(
            b_q, p_k, p_v, o_k * s_k[2], o_k * s_v[2], m_t, o_d, b_acc, b_most, b_sum, scale, dim, EVEN
        )
    if NEW:
        p_new_k += row * s_new_k[0] + kv * s_new_k[1]
        p_new_v += row * s_new_v[0] + kv * s_new_v[1]
        for t in range(tl.maximum(begin, count), end, BLOCK_N):
            o_t = t + o_n
            m_t = o_t < end
            o_k = (o_t - count).to(tl.int64)
            b_acc, b_most, b_sum = add_tile(
                b_q, p_new_k, p_new_v, o_k * s_new_k[2], o_k * s_new_v[2], m_t, o_d,
                b_acc, b_most, b_sum, scale, dim, EVEN,
            )  # fmt: skip
    o_part = ((row * heads + head) * splits + split) * group
    put_part(p_acc, p_most, p_sum, o_part, b_acc, b_most, b_sum, o_m, o_d, group, dim)


@triton.jit
def put_part(p_acc, p_most, p_sum, o_part, b_acc, b_most, b_sum, o_m, o_d, group, dim):
    """Store what one part of the keys adds to a group of queries."""
    o_row = o_part + o_m
    m_acc = (o_m < group)[:, None] & (o_d < dim)[None, :]
    tl.store(p_acc + o_row[:, None] * dim + o_d[None, :], b_acc, mask=m_acc)
    tl.store(p_most + o_row, b_most, mask=o_m < group)
    tl.store(p_sum + o_row, b_sum, mask=o_m < group)


@triton.jit(do_not_specialize=["splits"])
def _combine(
    p_acc, p_most, p_sum, p_out, splits, group, dim,
    WAIT: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Add the parts of one row and query head."""
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    heads = tl.num_programs(0)
    o_s, o_d = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    o_head = (row * (heads // group) + head // group) * splits * group + head % group
    if WAIT:
        gdc_wait()
    most = -1e30
    total = 0.0
    b_out = tl.zeros([BLOCK_D], tl.float32)
    for s in range(0, splits, BLOCK_S):
        m_s = s + o_s < splits
        o_part = o_head + (s + o_s) * group
        # (parts,) and (parts, dim)
        b_most = tl.load(p_most + o_part, mask=m_s, other=-1e30)
        b_sum = tl.load(p_sum + o_part, mask=m_s, other=0.0)
        b_acc = tl.load(
            p_acc + o_part[:, None] * dim + o_d[None, :], mask=m_s[:, None] & (o_d < dim)[None, :], other=0.0
        )
        new = tl.maximum(most, tl.max(b_most, 0))
        b_share = tl.exp2(b_most - new)
        shrink = tl.exp2(most - new)
        total = total * shrink + tl.sum(b_share * b_sum, 0)
        b_out = b_out * shrink + tl.sum(b_acc * b_share[:, None], 0)
        most = new
    o_out = (row * heads + head) * dim + o_d
    tl.store(p_out + o_out, (b_out / total).to(p_out.dtype.element_ty), mask=o_d < dim)


def split_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first: Tensor,
    count: Tensor,
    most: int,
    scaling: float,
    ranges: tuple[Tensor, Tensor] | None = None,
    new: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """One query a row over `count` keys of a cache, and over new ones: what the launchers below share.

    Args:
        q: queries ``(batch, heads, 1, dim)``.
        k: keys ``(batch, kv heads, slots, dim)``, the last axis contiguous.
        v: values, as `k`.
        first: slot of the key that counts as token 0, int ``(batch, choosers)``.
        count: keys of each row, int ``(batch, choosers)``, where the choosers are the KV or the query heads.
        most: no row has more, known without the device.
        scaling: factor of the scores.
        ranges: first token of each range, and how many tokens all ranges up to it hold, int32 ``(batch, 1 or
            choosers, ranges)``; None where the keys stand together.
        new: keys and values ``(batch, kv heads, new, dim)`` that follow.

    Returns:
        ``(batch, heads, 1, dim)`` in the dtype of `q`.
    """
    batch, heads, _, dim = q.shape
    choosers = count.shape[1]
    q, k, v, new_k, new_v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, *(new or (k, v))))
    starts, ends = ranges if ranges is not None else (count, count)
    wanted = WAVES * processors(q.device) // (batch * choosers)
    splits = max(1, min(wanted, cdiv(most, LEAST)))
    group, early = heads // choosers, overlaps(q.device)
    block_d = max(16, power(dim))
    parts, stats = room_for_parts(q, choosers, splits)
    with on(q.device):
        _attend[(splits, choosers, batch)](
            q, k, v, new_k, new_v, starts, ends, first, count, parts, stats[0], stats[1],
            q.stride()[:2], k.stride()[:3], v.stride()[:3], new_k.stride()[:3], new_v.stride()[:3],
            _spread(starts), first.stride(), count.stride(), scaling * 1.4426950408889634,
            0 if new is None else new_k.shape[2], starts.shape[-1], group, choosers // k.shape[1], dim,
            LISTED=ranges is not None, STEPS=starts.shape[-1].bit_length(), NEW=new is not None,
            EVEN=block_d == dim, SIGNAL=early,
            BLOCK_M=max(16, power(group)), BLOCK_D=block_d, **tile(q.element_size(), dim),
        )  # fmt: skip
    return added(q, parts, stats)


def tile(element_size: int, dim: int) -> dict[str, int]:
    """Keys in a tile, warps and stages of a program, by the bytes of a number and the head dimension."""
    keys = max(16, min(128, KEY_BYTES // power(dim * element_size)))
    return {"BLOCK_N": keys, "num_warps": 2 * WARPS if element_size > 2 else WARPS, "num_stages": STAGES}


def room_for_parts(q: Tensor, choosers: int, splits: int) -> tuple[Tensor, Tensor]:
    """Memory for what the parts of the keys give, and for the largest scores and sums of each."""
    batch, heads, _, dim = q.shape
    shape = (batch, choosers, splits, heads // choosers)
    return q.new_empty(*shape, dim, dtype=torch.float32), q.new_empty(2, *shape, dtype=torch.float32)


def added(q: Tensor, parts: Tensor, stats: Tensor) -> Tensor:
    """The parts added up, ``(batch, heads, 1, dim)`` in the dtype of `q`."""
    batch, heads, _, dim = q.shape
    splits, group, early = parts.shape[2], parts.shape[3], overlaps(q.device)
    out = q.new_empty(batch, heads, 1, dim)
    with on(q.device):
        _combine[(heads, batch)](
            parts, stats[0], stats[1], out, splits, group, dim, WAIT=early, BLOCK_D=max(16, power(dim)),
            BLOCK_S=min(PARTS, power(splits)), num_warps=4, launch_pdl=early,
        )  # fmt: skip
    return out


def _spread(ranges: Tensor) -> tuple[int, int]:
    """Strides of rows and choosers; one chooser stands for all."""
    return ranges.stride(0), ranges.stride(1) if ranges.shape[1] > 1 else 0
