"""Prefill on Hopper: one warp loads, two warpgroups compute, and products overlap with the softmax.

Triton leaves the schedule to its compiler; here it is written out in Gluon, Triton's lower level. After Shah
et al., FlashAttention-3 (arXiv 2407.08608), over the tiles of a selection instead of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from sparsestudy.kernels.walk import SORTED_FROM, order, walk
from sparsestudy.selection import Selection

# Queries in a tile: two warpgroups with the 64 rows of one tensor-core instruction each.
ROWS = 128
LOG2_E = 1.4426950408889634


@dataclass(frozen=True, kw_only=True)
class Ring:
    """How the kernel is cut: `keys` in a tile, `slots` of keys and values in flight."""

    keys: int
    slots: int


@gluon.jit
def _item(index, p_order, tiles, HEADS: gl.constexpr, CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr,
          BATCH: gl.constexpr, SORTED: gl.constexpr):  # fmt: skip
    """The query tile that is the index-th to do: its row of the walk, tile, head and batch row."""
    SHARING: gl.constexpr = (HEADS // CHOOSERS) * (BATCH // CHOOSING_ROWS)
    chooser, sharer = index // SHARING, index % SHARING
    if SORTED:
        chooser = gl.load(p_order + chooser).to(gl.int32)
        tile, row = chooser % tiles, chooser // tiles
    else:
        tile = tiles - 1 - chooser // (CHOOSERS * CHOOSING_ROWS)
        row = chooser % (CHOOSERS * CHOOSING_ROWS)
    head = row % CHOOSERS * (HEADS // CHOOSERS) + sharer % (HEADS // CHOOSERS)
    return row, tile, head, row // CHOOSERS + sharer // (HEADS // CHOOSERS)


@gluon.jit
def _counts(p_counts, p_lengths, place, first, batch):
    """Full tiles and rests of a query tile, none after the row's length."""
    real = (first < gl.load(p_lengths + batch)).to(gl.int32)
    return gl.load(p_counts + place * 4) * real, gl.load(p_counts + place * 4 + 1) * real


@gluon.jit
def _fetch(d_x, batch, head, key, s_x, b_x, step, SLOTS: gl.constexpr):
    """Copy one tile of keys or values into its slot of the ring, once that is free."""
    slot = step % SLOTS
    mbarrier.wait(b_x.index(SLOTS + slot), (step // SLOTS & 1) ^ 1)
    mbarrier.expect(b_x.index(slot), d_x.block_type.nbytes)
    tma.async_copy_global_to_shared(d_x, [batch, head, key, 0], b_x.index(slot), s_x.index(slot))


@gluon.jit
def _producer(d_q, d_k, d_v, s_q, s_k, s_v, b_q, b_k, b_v, p_runs, p_rests, p_counts, p_order, p_lengths,
              ranges, tiles, items, HEADS: gl.constexpr, KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr,
              CHOOSING_ROWS: gl.constexpr, BATCH: gl.constexpr, SORTED: gl.constexpr, KEYS: gl.constexpr,
              SLOTS: gl.constexpr):  # fmt: skip
    """Load the queries of each tile, then its keys and values in the order in which they are computed."""
    ROWS: gl.constexpr = d_q.block_type.shape[2]
    step, turn = 0, 0
    for index in range(gl.program_id(0), items, gl.num_programs(0)):
        row, tile, head, batch = _item(index, p_order, tiles, HEADS, CHOOSERS, CHOOSING_ROWS, BATCH, SORTED)
        place = (row * tiles + tile).to(gl.int64)
        kv_head = head // (HEADS // KV_HEADS)
        full, rests = _counts(p_counts, p_lengths, place, tile * 2 * ROWS, batch)
        for half in gl.static_range(2):
            mbarrier.wait(b_q.index(2 + half), (turn & 1) ^ 1)
            mbarrier.expect(b_q.index(half), d_q.block_type.nbytes)
            where = [batch, head, (tile * 2 + half) * ROWS, 0]
            tma.async_copy_global_to_shared(d_q, where, b_q.index(half), s_q.index(half))
        turn += 1
        p_rest = p_rests + place * (ranges + 1) * 2
        for _ in range(rests):
            stop = gl.load(p_rest + 1)
            for key in range(gl.load(p_rest), stop, KEYS):
                _fetch(d_k, batch, kv_head, key, s_k, b_k, step, SLOTS)
                _fetch(d_v, batch, kv_head, key, s_v, b_v, step, SLOTS)
                step += 1
            p_rest += 2
        p_run = p_runs + place * (ranges + 1) * 2
        while full > 0:
            key = gl.load(p_run)
            run = gl.load(p_run + 1)
            for _ in range(run):
                _fetch(d_k, batch, kv_head, key, s_k, b_k, step, SLOTS)
                _fetch(d_v, batch, kv_head, key, s_v, b_v, step, SLOTS)
                step += 1
                key += KEYS
            full -= run
            p_run += 2


@gluon.jit
def _weigh(b_score, b_top, b_mass, scale):
    """The running softmax in base 2: weights, and what it does to what was before."""
    b_new = gl.maximum(b_top, gl.max(b_score, 1) * scale)
    b_share = gl.exp2(b_score * scale - b_new[:, None])
    b_decay = gl.exp2(b_top - b_new)
    return b_share, b_new, b_mass * b_decay + gl.sum(b_share, 1), b_decay


@gluon.jit
def _scores(s_q, s_k, b_k, step, SLOTS: gl.constexpr, KEYS: gl.constexpr, layout: gl.constexpr):
    """Begin the product of the queries with the next tile of keys."""
    slot = step % SLOTS
    mbarrier.wait(b_k.index(slot), step // SLOTS & 1)
    ROWS: gl.constexpr = s_q.shape[0]
    zero = gl.zeros([ROWS, KEYS], gl.float32, layout)
    keys = s_k.index(slot).reshape([KEYS, s_q.shape[1]]).permute((1, 0))
    return warpgroup_mma(s_q, keys, zero, use_acc=False, is_async=True)


@gluon.jit
def _values(b_share, b_sum, s_v, b_v, step, SLOTS: gl.constexpr):
    """Begin the product of the weights with their tile of values."""
    slot = step % SLOTS
    mbarrier.wait(b_v.index(slot), step // SLOTS & 1)
    values = s_v.index(slot).reshape([b_share.shape[1], b_sum.shape[1]])
    return warpgroup_mma(b_share, values, b_sum, is_async=True)


@gluon.jit
def _masked(b_score, o_row, key, stop, KEYS: gl.constexpr, layout: gl.constexpr):
    o_key = key + gl.arange(0, KEYS, gl.SliceLayout(0, layout))[None, :]
    return gl.where((o_key < stop) & (o_key <= o_row[:, None]), b_score, float("-inf"))


@gluon.jit
def _step(s_q, s_k, s_v, b_k, b_v, b_share, b_sum, b_top, b_mass, step, scale, o_row, key, stop,
          MASKED: gl.constexpr, SLOTS: gl.constexpr, KEYS: gl.constexpr, score: gl.constexpr,
          operand: gl.constexpr):  # fmt: skip
    """Scores of this tile while the values of the last one are added; then this tile's weights."""
    b_score = _scores(s_q, s_k, b_k, step, SLOTS, KEYS, score)
    b_sum = _values(b_share, b_sum, s_v, b_v, step - 1, SLOTS)
    b_score = warpgroup_mma_wait(1, deps=(b_score,))
    mbarrier.arrive(b_k.index(SLOTS + step % SLOTS), count=1)
    if MASKED:
        b_score = _masked(b_score, o_row, key, stop, KEYS, score)
    b_next, b_top, b_mass, b_decay = _weigh(b_score, b_top, b_mass, scale)
    b_sum = warpgroup_mma_wait(0, deps=(b_sum,))
    mbarrier.arrive(b_v.index(SLOTS + (step - 1) % SLOTS), count=1)
    b_sum = b_sum * gl.convert_layout(b_decay, gl.SliceLayout(1, b_sum.type.layout))[:, None]
    b_share = gl.convert_layout(b_next.to(s_v.dtype), operand)
    return b_share, b_sum, b_top, b_mass


@gluon.jit
def _consumer(d_out, s_q, s_k, s_v, b_q, b_k, b_v, p_runs, p_rests, p_counts, p_order, p_lengths, scale,
              ranges, tiles, items, HALF: gl.constexpr, HEADS: gl.constexpr, CHOOSERS: gl.constexpr,
              CHOOSING_ROWS: gl.constexpr, BATCH: gl.constexpr, SORTED: gl.constexpr, KEYS: gl.constexpr,
              SLOTS: gl.constexpr):  # fmt: skip
    """Half of the rows of each query tile."""
    ROWS: gl.constexpr = s_q.shape[3]
    D: gl.constexpr = s_q.shape[4]
    score: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    total: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    operand: gl.constexpr = gl.DotOperandLayout(0, total, 2)
    s_mine = s_q.index(HALF).reshape([ROWS, D])
    step, turn = 0, 0
    for index in range(gl.program_id(0), items, gl.num_programs(0)):
        row, tile, head, batch = _item(index, p_order, tiles, HEADS, CHOOSERS, CHOOSING_ROWS, BATCH, SORTED)
        place = (row * tiles + tile).to(gl.int64)
        first = (tile * 2 + HALF) * ROWS
        full, rests = _counts(p_counts, p_lengths, place, tile * 2 * ROWS, batch)
        o_row = first + gl.arange(0, ROWS, gl.SliceLayout(1, score))
        b_sum = gl.zeros([ROWS, D], gl.float32, total)
        b_mass = gl.full([ROWS], 0, gl.float32, gl.SliceLayout(1, score))
        mbarrier.wait(b_q.index(HALF), turn & 1)
        if full + rests > 0:
            p_rest = p_rests + place * (ranges + 1) * 2
            # The first tile: a rest, or else a full one, of which the mask takes nothing.
            key = gl.where(rests > 0, gl.load(p_rest), gl.load(p_runs + place * (ranges + 1) * 2))
            stop = gl.where(rests > 0, gl.load(p_rest + 1), key + KEYS)
            full -= gl.where(rests > 0, 0, 1)
            b_score = _scores(s_mine, s_k, b_k, step, SLOTS, KEYS, score)
            b_score = warpgroup_mma_wait(0, deps=(b_score,))
            mbarrier.arrive(b_k.index(SLOTS + step % SLOTS), count=1)
            b_score = _masked(b_score, o_row, key, stop, KEYS, score)
            b_top = gl.full([ROWS], -1e30, gl.float32, gl.SliceLayout(1, score))
            b_next, b_top, b_mass, b_decay = _weigh(b_score, b_top, b_mass, scale)
            b_share = gl.convert_layout(b_next.to(s_v.dtype), operand)
            step += 1
            key += KEYS
            for _ in range(rests):
                for begin in range(key, stop, KEYS):
                    b_share, b_sum, b_top, b_mass = _step(
                        s_mine, s_k, s_v, b_k, b_v, b_share, b_sum, b_top, b_mass, step, scale, o_row, begin,
                        stop, True, SLOTS, KEYS, score, operand,
                    )  # fmt: skip
                    step += 1
                p_rest += 2
                key, stop = gl.load(p_rest), gl.load(p_rest + 1)
            for _ in range(full):
                b_share, b_sum, b_top, b_mass = _step(
                    s_mine, s_k, s_v, b_k, b_v, b_share, b_sum, b_top, b_mass, step, scale, o_row, 0, 0,
                    False, SLOTS, KEYS, score, operand,
                )  # fmt: skip
                step += 1
            b_sum = _values(b_share, b_sum, s_v, b_v, step - 1, SLOTS)
            b_sum = warpgroup_mma_wait(0, deps=(b_sum,))
            mbarrier.arrive(b_v.index(SLOTS + (step - 1) % SLOTS), count=1)
        b_mass = gl.convert_layout(gl.where(b_mass == 0, 1.0, b_mass), gl.SliceLayout(1, total))
        s_mine.store((b_sum / b_mass[:, None]).to(s_mine.dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(d_out, [batch, head, first, 0], s_q.index(HALF))
        tma.store_wait(0)
        mbarrier.arrive(b_q.index(2 + HALF), count=1)
        turn += 1


@gluon.jit(do_not_specialize=["ranges", "tiles", "items"])
def _attend(d_q, d_k, d_v, d_out, p_runs, p_rests, p_counts, p_order, p_lengths, scale, ranges, tiles, items,
            HEADS: gl.constexpr, KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr,
            BATCH: gl.constexpr, SORTED: gl.constexpr, KEYS: gl.constexpr, SLOTS: gl.constexpr):  # fmt: skip
    """Query tiles ``program, program + programs ...`` of all of them."""
    s_q = gl.allocate_shared_memory(d_q.dtype, [2] + d_q.block_type.shape, d_q.layout)
    s_k = gl.allocate_shared_memory(d_k.dtype, [SLOTS] + d_k.block_type.shape, d_k.layout)
    s_v = gl.allocate_shared_memory(d_v.dtype, [SLOTS] + d_v.block_type.shape, d_v.layout)
    # Barriers: first those that say "loaded", then those that say "free", by both warpgroups.
    b_q = gl.allocate_shared_memory(gl.int64, [4, 1], mbarrier.MBarrierLayout())
    b_k = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    b_v = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(4):
        mbarrier.init(b_q.index(i), count=1)
    for i in gl.static_range(SLOTS):
        mbarrier.init(b_k.index(i), count=1)
        mbarrier.init(b_v.index(i), count=1)
        mbarrier.init(b_k.index(SLOTS + i), count=2)
        mbarrier.init(b_v.index(SLOTS + i), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_consumer, (d_out, s_q, s_k, s_v, b_q, b_k, b_v, p_runs, p_rests, p_counts, p_order, p_lengths,
                         scale, ranges, tiles, items, 0, HEADS, CHOOSERS, CHOOSING_ROWS, BATCH, SORTED, KEYS,
                         SLOTS)),
            (_consumer, (d_out, s_q, s_k, s_v, b_q, b_k, b_v, p_runs, p_rests, p_counts, p_order, p_lengths,
                         scale, ranges, tiles, items, 1, HEADS, CHOOSERS, CHOOSING_ROWS, BATCH, SORTED, KEYS,
                         SLOTS)),
            (_producer, (d_q, d_k, d_v, s_q, s_k, s_v, b_q, b_k, b_v, p_runs, p_rests, p_counts, p_order,
                         p_lengths, ranges, tiles, items, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS, BATCH,
                         SORTED, KEYS, SLOTS)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


def attend(q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float, ring: Ring) -> Tensor:
    """As :func:`sparsestudy.kernels.prefill.selected_attention`; query blocks are of 128, and no columns."""
    batch, heads, tokens, dim = q.shape
    steps = walk(selection, tokens, ROWS, ring.keys)
    choosing_rows, choosers, tiles, ranges = steps.runs.shape[:4]
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    ordered = tiles * heads * batch >= SORTED_FROM
    items = tiles * heads * batch
    programs = min(items, torch.cuda.get_device_properties(q.device).multi_processor_count)
    _attend[(programs,)](
        _described(q, ROWS // 2), _described(k, ring.keys), _described(v, ring.keys), _described(out, ROWS // 2),
        steps.runs, steps.rests, steps.counts, order(steps, k.shape[1]) if ordered else steps.counts,
        selection.lengths.expand(batch).contiguous(), scaling * LOG2_E, ranges - 1, tiles, items,
        HEADS=heads, KV_HEADS=k.shape[1], CHOOSERS=choosers, CHOOSING_ROWS=choosing_rows, BATCH=batch,
        SORTED=ordered, KEYS=ring.keys, SLOTS=ring.slots, num_warps=4,
    )  # fmt: skip
    return out


def _described(x: Tensor, tokens: int) -> Any:
    """What the copy engine must know to move tiles of so many tokens of one head."""
    numbers = gl.bfloat16 if x.dtype == torch.bfloat16 else gl.float16
    block = [1, 1, tokens, x.shape[3]]
    layout = gl.NVMMASharedLayout.get_default_for(block, numbers)
    return TensorDescriptor(x, list(x.shape), list(x.stride()), block, layout)


CANDIDATES = {
    "k128 s2": Ring(keys=128, slots=2),
    "k64 s4": Ring(keys=64, slots=4),
}
