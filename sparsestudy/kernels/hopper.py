"""Prefill on Hopper: one warp loads, two warpgroups compute, and products overlap with the softmax.

Triton leaves the schedule to its compiler; here it is written out in Gluon, Triton's lower level. After Shah
et al., FlashAttention-3 (arXiv 2407.08608), over the tiles of a selection instead of all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from sparsestudy.kernels import walk as walking
from sparsestudy.kernels.launch import launch
from sparsestudy.kernels.prefill import LOG2_E, rows_of
from sparsestudy.selection import Selection

# Queries in a tile: two warpgroups with the 64 rows of one tensor-core instruction each.
ROWS = 128


@dataclass(frozen=True, kw_only=True)
class Ring:
    """How the kernel is cut.

    Args:
        keys: keys in a tile.
        slots: tiles of keys, and of values, in flight.
        turns: whether the warpgroups begin their products by turns, so that one computes weights meanwhile.
    """

    keys: int
    slots: int
    turns: bool


PINNED = Ring(keys=128, slots=2, turns=False)

item = gluon.jit(walking.item.fn)


@gluon.jit
def _counts(p_walk, p_lengths, first, batch):
    """Full tiles and rests of a query tile, none after the row's length."""
    real = (first < gl.load(p_lengths + batch)).to(gl.int32)
    return gl.load(p_walk) * real, gl.load(p_walk + 1) * real


@gluon.jit
def _fetch(d_x, batch, head, key, s_x, b_x, step, SLOTS: gl.constexpr):
    """Copy one tile of keys or values into its slot of the ring, once that is free."""
    slot = step % SLOTS
    mbarrier.wait(b_x.index(SLOTS + slot), (step // SLOTS & 1) ^ 1)
    mbarrier.expect(b_x.index(slot), d_x.block_type.nbytes)
    tma.async_copy_global_to_shared(d_x, [batch, head, key, 0], b_x.index(slot), s_x.index(slot))


@gluon.jit
def _producer(d_q, d_k, d_v, s_q, s_k, s_v, b_q, b_k, b_v, p_walk, p_lengths, ranges, tiles, items,
              HEADS: gl.constexpr, KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr,
              CHOOSING_ROWS: gl.constexpr, KEYS: gl.constexpr, SLOTS: gl.constexpr):  # fmt: skip
    """Load the queries of each tile, then its keys and values in the order in which they are computed."""
    ROWS: gl.constexpr = d_q.block_type.shape[2]
    step, turn = 0, 0
    for index in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, kv_head, head, tile, row = item(index, tiles, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS)
        p_mine = p_walk + (row * tiles + tile).to(gl.int64) * (4 * (ranges + 2))
        full, rests = _counts(p_mine, p_lengths, tile * 2 * ROWS, batch)
        for half in gl.static_range(2):
            slot = turn % 2 * 2 + half
            mbarrier.wait(b_q.index(4 + slot), (turn // 2 & 1) ^ 1)
            mbarrier.expect(b_q.index(slot), d_q.block_type.nbytes)
            where = [batch, head, (tile * 2 + half) * ROWS, 0]
            tma.async_copy_global_to_shared(d_q, where, b_q.index(slot), s_q.index(slot))
        turn += 1
        p_rest = p_mine + 4 + 2 * (ranges + 1)
        for _ in range(rests):
            stop = gl.load(p_rest + 1)
            for key in range(gl.load(p_rest), stop, KEYS):
                _fetch(d_k, batch, kv_head, key, s_k, b_k, step, SLOTS)
                _fetch(d_v, batch, kv_head, key, s_v, b_v, step, SLOTS)
                step += 1
            p_rest += 2
        p_run = p_mine + 4
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
def _scores(s_q, s_k, b_k, b_turn, step, HALF: gl.constexpr, SLOTS: gl.constexpr, KEYS: gl.constexpr,
            TURNS: gl.constexpr, layout: gl.constexpr):  # fmt: skip
    """Begin the product of the queries with the next tile of keys, when it is this warpgroup's turn."""
    slot = step % SLOTS
    mbarrier.wait(b_k.index(slot), step // SLOTS & 1)
    if TURNS:
        mbarrier.wait(b_turn.index(HALF), (step & 1) ^ (HALF ^ 1))
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
def _step(s_q, s_k, s_v, b_k, b_v, b_turn, b_share, b_sum, b_top, b_mass, step, scale, o_row, key, stop,
          HALF: gl.constexpr, MASKED: gl.constexpr, SLOTS: gl.constexpr, KEYS: gl.constexpr,
          TURNS: gl.constexpr, score: gl.constexpr, operand: gl.constexpr):  # fmt: skip
    """Scores of this tile while the values of the last one are added; then this tile's weights."""
    b_score = _scores(s_q, s_k, b_k, b_turn, step, HALF, SLOTS, KEYS, TURNS, score)
    b_sum = _values(b_share, b_sum, s_v, b_v, step - 1, SLOTS)
    if TURNS:
        mbarrier.arrive(b_turn.index(1 - HALF), count=1)
    b_score = warpgroup_mma_wait(1, deps=(b_score,))
    mbarrier.arrive(b_k.index(SLOTS + step % SLOTS), count=1)
    if MASKED:
        b_score = _masked(b_score, o_row, key, stop, KEYS, score)
    b_next, b_top, b_mass, b_decay = _weigh(b_score, b_top, b_mass, scale)
    b_next = gl.convert_layout(b_next.to(s_v.dtype), operand)
    # A wait that is over at once is a wall for the assembler, which else computes the weights after the
    # product instead of beside it; that they stand among what is waited for holds back the compiler before.
    last = step - 1
    mbarrier.wait(b_v.index(last % SLOTS), last // SLOTS & 1)
    b_sum, b_next = warpgroup_mma_wait(0, deps=(b_sum, b_next))
    mbarrier.arrive(b_v.index(SLOTS + (step - 1) % SLOTS), count=1)
    b_sum = b_sum * gl.convert_layout(b_decay, gl.SliceLayout(1, b_sum.type.layout))[:, None]
    return b_next, b_sum, b_top, b_mass


@gluon.jit
def _consumer(d_out, s_q, s_k, s_v, b_q, b_k, b_v, b_turn, p_walk, p_lengths, scale, ranges, tiles,
              items, HALF: gl.constexpr, HEADS: gl.constexpr, KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr,
              CHOOSING_ROWS: gl.constexpr, KEYS: gl.constexpr, SLOTS: gl.constexpr,
              TURNS: gl.constexpr):  # fmt: skip
    """Half of the rows of each query tile."""
    ROWS: gl.constexpr = s_q.shape[3]
    D: gl.constexpr = s_q.shape[4]
    score: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    total: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    operand: gl.constexpr = gl.DotOperandLayout(0, total, 2)
    step, turn = 0, 0
    for index in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, _, head, tile, row = item(index, tiles, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS)
        p_mine = p_walk + (row * tiles + tile).to(gl.int64) * (4 * (ranges + 2))
        first = (tile * 2 + HALF) * ROWS
        full, rests = _counts(p_mine, p_lengths, tile * 2 * ROWS, batch)
        o_row = first + gl.arange(0, ROWS, gl.SliceLayout(1, score))
        b_sum = gl.zeros([ROWS, D], gl.float32, total)
        b_mass = gl.full([ROWS], 0, gl.float32, gl.SliceLayout(1, score))
        slot = turn % 2 * 2 + HALF
        s_mine = s_q.index(slot).reshape([ROWS, D])
        mbarrier.wait(b_q.index(slot), turn // 2 & 1)
        if full + rests > 0:
            p_rest = p_mine + 4 + 2 * (ranges + 1)
            # The first tile: a rest, or else a full one, of which the mask takes nothing.
            key = gl.where(rests > 0, gl.load(p_rest), gl.load(p_mine + 4))
            stop = gl.where(rests > 0, gl.load(p_rest + 1), key + KEYS)
            full -= gl.where(rests > 0, 0, 1)
            b_score = _scores(s_mine, s_k, b_k, b_turn, step, HALF, SLOTS, KEYS, TURNS, score)
            if TURNS:
                mbarrier.arrive(b_turn.index(1 - HALF), count=1)
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
                        s_mine, s_k, s_v, b_k, b_v, b_turn, b_share, b_sum, b_top, b_mass, step, scale, o_row,
                        begin, stop, HALF, True, SLOTS, KEYS, TURNS, score, operand,
                    )  # fmt: skip
                    step += 1
                p_rest += 2
                key, stop = gl.load(p_rest), gl.load(p_rest + 1)
            for _ in range(full):
                b_share, b_sum, b_top, b_mass = _step(
                    s_mine, s_k, s_v, b_k, b_v, b_turn, b_share, b_sum, b_top, b_mass, step, scale, o_row,
                    0, 0, HALF, False, SLOTS, KEYS, TURNS, score, operand,
                )  # fmt: skip
                step += 1
            b_sum = _values(b_share, b_sum, s_v, b_v, step - 1, SLOTS)
            b_sum = warpgroup_mma_wait(0, deps=(b_sum,))
            mbarrier.arrive(b_v.index(SLOTS + (step - 1) % SLOTS), count=1)
        b_mass = gl.convert_layout(gl.where(b_mass == 0, 1.0, b_mass), gl.SliceLayout(1, total))
        s_mine.store((b_sum / b_mass[:, None]).to(s_mine.dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(d_out, [batch, head, first, 0], s_q.index(slot))
        tma.store_wait(0)
        mbarrier.arrive(b_q.index(4 + slot), count=1)
        turn += 1


@gluon.jit(do_not_specialize=["ranges", "tiles", "items"])
def _attend(d_q, d_k, d_v, d_out, p_walk, p_lengths, scale, ranges, tiles, items,
            HEADS: gl.constexpr, KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr,
            KEYS: gl.constexpr, SLOTS: gl.constexpr, TURNS: gl.constexpr):  # fmt: skip
    """Query tiles ``program, program + programs ...`` of all of them."""
    # Two halves of the queries, twice: the next ones come while these are computed.
    s_q = gl.allocate_shared_memory(d_q.dtype, [4] + d_q.block_type.shape, d_q.layout)
    s_k = gl.allocate_shared_memory(d_k.dtype, [SLOTS] + d_k.block_type.shape, d_k.layout)
    s_v = gl.allocate_shared_memory(d_v.dtype, [SLOTS] + d_v.block_type.shape, d_v.layout)
    # Barriers: first those that say "loaded", then those that say "free", by both warpgroups.
    b_q = gl.allocate_shared_memory(gl.int64, [8, 1], mbarrier.MBarrierLayout())
    b_k = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    b_v = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    b_turn = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(b_turn.index(i), count=1)
    for i in gl.static_range(8):
        mbarrier.init(b_q.index(i), count=1)
    for i in gl.static_range(SLOTS):
        mbarrier.init(b_k.index(i), count=1)
        mbarrier.init(b_v.index(i), count=1)
        mbarrier.init(b_k.index(SLOTS + i), count=2)
        mbarrier.init(b_v.index(SLOTS + i), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_consumer, (d_out, s_q, s_k, s_v, b_q, b_k, b_v, b_turn, p_walk, p_lengths, scale, ranges, tiles,
                         items, 0, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS, KEYS, SLOTS, TURNS)),
            (_consumer, (d_out, s_q, s_k, s_v, b_q, b_k, b_v, b_turn, p_walk, p_lengths, scale, ranges, tiles,
                         items, 1, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS, KEYS, SLOTS, TURNS)),
            (_producer, (d_q, d_k, d_v, s_q, s_k, s_v, b_q, b_k, b_v, p_walk, p_lengths, ranges, tiles, items,
                         HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS, KEYS, SLOTS)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


def attend(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float, ring: Ring | None = None
) -> Tensor:
    """As :func:`sparsestudy.kernels.prefill.selected_attention`.

    The GPU is a Hopper, numbers have 2 bytes, the head width is at most 128, tensors are describable
    (:func:`sparsestudy.kernels.launch.describable`), query blocks are of a multiple of 128, and there are no
    columns. `ring` is the pinned one where it is None.
    """
    ring = ring or PINNED
    batch, heads, tokens, dim = q.shape
    steps = walking.walk(selection, tokens, ROWS, ring.keys)
    choosing_rows, choosers, tiles, width = steps.shape
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    items = batch * heads * tiles
    launch(
        _attend,
        min(items, _processors(q.device)),
        [
            _described(q, ROWS // 2), _described(k, ring.keys), _described(v, ring.keys),
            _described(out, ROWS // 2), steps, rows_of(selection.lengths, batch), scaling * LOG2_E,
            width // 4 - 2, tiles, items,
        ],
        {
            "HEADS": heads, "KV_HEADS": k.shape[1], "CHOOSERS": choosers, "CHOOSING_ROWS": choosing_rows,
            "KEYS": ring.keys, "SLOTS": ring.slots, "TURNS": ring.turns,
        },
        num_warps=4,
    )  # fmt: skip
    return out


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.cache
def _layout(numbers: torch.dtype, tokens: int, dim: int) -> Any:
    kind = gl.bfloat16 if numbers == torch.bfloat16 else gl.float16
    return gl.NVMMASharedLayout.get_default_for([1, 1, tokens, dim], kind)


def _described(x: Tensor, tokens: int) -> Any:
    """What the copy engine must know to move tiles of so many tokens of one head."""
    dim = max(triton.next_power_of_2(x.shape[3]), 64)
    layout = _layout(x.dtype, tokens, dim)
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, tokens, dim], layout)
