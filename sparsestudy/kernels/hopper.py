"""Prefill on Hopper: one warp loads, two warpgroups compute, and products overlap with the softmax.

Triton leaves the schedule to its compiler; here it is written out in Gluon, Triton's lower level. After Shah
et al., FlashAttention-3 (arXiv 2407.08608), over the tiles of a selection instead of all. The names of
variables are explained in :mod:`sparsestudy.kernels.warpgroups`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy, fence_async_shared, mbarrier, tma
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from sparsestudy.kernels.launch import launch
from sparsestudy.kernels.prefill import LOG2_E, rows_of
from sparsestudy.kernels.sizes import power
from sparsestudy.kernels.walk import walk
from sparsestudy.kernels.warpgroups import consumer, counts, item, listed
from sparsestudy.selection import Selection

# Queries in a tile: two warpgroups with the 64 rows of one tensor-core instruction each.
ROWS = 128


@dataclass(frozen=True, kw_only=True)
class Ring:
    """How the kernel is cut.

    Args:
        keys: keys in a tile.
        slots: tiles of keys, and of values, in flight.
    """

    keys: int
    slots: int


PINNED = Ring(keys=128, slots=2)


@gluon.jit
def _fetch(d_x, batch, head, key, s_x, w_x, step, SLOTS: gl.constexpr):
    """Copy one tile of keys or values into its slot of the ring, once that is free."""
    slot = step % SLOTS
    mbarrier.wait(w_x.index(SLOTS + slot), (step // SLOTS & 1) ^ 1)
    mbarrier.expect(w_x.index(slot), d_x.block_type.nbytes)
    tma.async_copy_global_to_shared(d_x, [batch, head, key, 0], w_x.index(slot), s_x.index(slot))


@gluon.jit
def _gather(p_x, p_list, begin, columns, stride, s_x, w_x, step, SLOTS: gl.constexpr, KEYS: gl.constexpr,
            D: gl.constexpr):  # fmt: skip
    """Begin to copy single keys or values, row by row, into their slot of the ring, once that is free."""
    PART: gl.constexpr = KEYS // 4
    rows: gl.constexpr = gl.BlockedLayout([1, 8], [256 // D, D // 8], [gl.num_warps(), 1], [1, 0])
    slot = step % SLOTS
    mbarrier.wait(w_x.index(SLOTS + slot), (step // SLOTS & 1) ^ 1)
    s_tile = s_x.index(slot).reshape([KEYS, D])
    o_dim = gl.arange(0, D, gl.SliceLayout(0, rows))
    for part in gl.static_range(4):
        o_slot = begin + part * PART + gl.arange(0, PART, gl.SliceLayout(1, rows))
        o_key = gl.load(p_list + o_slot, o_slot < columns, -1)
        # (PART, D)
        p_tile = p_x + gl.maximum(o_key, 0).to(gl.int64)[:, None] * stride + o_dim[None, :]
        s_part = s_tile.slice(part * PART, PART, 0)
        async_copy.async_copy_global_to_shared(s_part, p_tile, (o_key >= 0)[:, None])
    async_copy.commit_group()


@gluon.jit
def _landed(w_x, step, under_way: gl.constexpr, SLOTS: gl.constexpr):
    """Say that a tile of single keys or values is there, once only so many later ones are under way."""
    async_copy.wait_group(under_way)
    # Every thread shows what it wrote to the tensor cores; the second wait then brings the threads together.
    fence_async_shared()
    async_copy.wait_group(under_way)
    mbarrier.arrive(w_x.index(step % SLOTS), count=1)


@gluon.jit
def _producer(d_q, d_k, d_v, p_k, p_v, s_q, s_k, s_v, w_q, w_k, w_v, p_walk, p_lengths, p_columns, by_k, by_v,
              by_column, ranges, columns, parts, tiles, items, HEADS: gl.constexpr, KV_HEADS: gl.constexpr,
              CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr, KEYS: gl.constexpr, SLOTS: gl.constexpr,
              SINGLE: gl.constexpr):  # fmt: skip
    """Load the queries of each tile, then its keys and values in the order in which they are computed."""
    ROWS: gl.constexpr = d_q.block_type.shape[2]
    D: gl.constexpr = d_q.block_type.shape[3]
    step, turn = 0, 0
    for index in range(gl.program_id(0), items, gl.num_programs(0)):
        batch, kv_head, head, tile, row = item(index, tiles, HEADS, KV_HEADS, CHOOSERS, CHOOSING_ROWS)
        p_mine = p_walk + (row * tiles + tile).to(gl.int64) * (4 * (ranges + 2))
        full, rests, single = counts(p_mine, p_lengths, tile * 2 * ROWS, batch)
        for half in gl.static_range(2):
            slot = turn % 2 * 2 + half
            mbarrier.wait(w_q.index(4 + slot), (turn // 2 & 1) ^ 1)
            mbarrier.expect(w_q.index(slot), d_q.block_type.nbytes)
            where = [batch, head, (tile * 2 + half) * ROWS, 0]
            tma.async_copy_global_to_shared(d_q, where, w_q.index(slot), s_q.index(slot))
        turn += 1
        p_rest = p_mine + 4 + 2 * (ranges + 1)
        for _ in range(rests):
            key = gl.load(p_rest)
            # The first may be empty, and is computed all the same.
            for begin in range(key, gl.maximum(gl.load(p_rest + 1), key + 1), KEYS):
                _fetch(d_k, batch, kv_head, begin, s_k, w_k, step, SLOTS)
                _fetch(d_v, batch, kv_head, begin, s_v, w_v, step, SLOTS)
                step += 1
            p_rest += 2
        p_run = p_mine + 4
        while full > 0:
            key = gl.load(p_run)
            run = gl.load(p_run + 1)
            for _ in range(run):
                _fetch(d_k, batch, kv_head, key, s_k, w_k, step, SLOTS)
                _fetch(d_v, batch, kv_head, key, s_v, w_v, step, SLOTS)
                step += 1
                key += KEYS
            full -= run
            p_run += 2
        if SINGLE:
            p_list = listed(p_columns, row, tile // parts, by_column, CHOOSERS)
            p_keys = p_k + batch.to(gl.int64) * by_k[0] + kv_head.to(gl.int64) * by_k[1]
            p_values = p_v + batch.to(gl.int64) * by_v[0] + kv_head.to(gl.int64) * by_v[1]
            for begin in range(0, single, KEYS):
                # The last values are announced after these keys are asked for, and these keys after these
                # values; were it later, the consumers would wait for what waits for them.
                _gather(p_keys, p_list, begin, columns, by_k[2], s_k, w_k, step, SLOTS, KEYS, D)
                if begin > 0:
                    _landed(w_v, step - 1, 1, SLOTS)
                _gather(p_values, p_list, begin, columns, by_v[2], s_v, w_v, step, SLOTS, KEYS, D)
                _landed(w_k, step, 1, SLOTS)
                step += 1
            if single > 0:
                _landed(w_v, step - 1, 0, SLOTS)


@gluon.jit(do_not_specialize=["ranges", "columns", "parts", "tiles", "items"])
def _attend(d_q, d_k, d_v, d_out, p_k, p_v, p_walk, p_lengths, p_columns, by_k, by_v, by_column, scale,
            ranges, columns, parts, tiles, items, HEADS: gl.constexpr, KV_HEADS: gl.constexpr,
            CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr, KEYS: gl.constexpr, SLOTS: gl.constexpr,
            SINGLE: gl.constexpr):  # fmt: skip
    """Query tiles ``program, program + programs ...`` of all of them."""
    # Two halves of the queries, twice: the next ones come while these are computed.
    s_q = gl.allocate_shared_memory(d_q.dtype, [4] + d_q.block_type.shape, d_q.layout)
    s_k = gl.allocate_shared_memory(d_k.dtype, [SLOTS] + d_k.block_type.shape, d_k.layout)
    s_v = gl.allocate_shared_memory(d_v.dtype, [SLOTS] + d_v.block_type.shape, d_v.layout)
    # Barriers: first those that say "loaded", then those that say "free", by both warpgroups.
    w_q = gl.allocate_shared_memory(gl.int64, [8, 1], mbarrier.MBarrierLayout())
    w_k = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    w_v = gl.allocate_shared_memory(gl.int64, [2 * SLOTS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(8):
        mbarrier.init(w_q.index(i), count=1)
    for i in gl.static_range(SLOTS):
        mbarrier.init(w_k.index(i), count=1)
        mbarrier.init(w_v.index(i), count=1)
        mbarrier.init(w_k.index(SLOTS + i), count=2)
        mbarrier.init(w_v.index(SLOTS + i), count=2)
    fence_async_shared()
    # Gathering takes four warps, which then hold more registers than one that only starts copies.
    gl.warp_specialize(
        [
            (consumer, (d_out, s_q, s_k, s_v, w_q, w_k, w_v, p_walk, p_lengths, p_columns, by_column,
                        scale, ranges, columns, parts, tiles, items, 0, HEADS, KV_HEADS, CHOOSERS,
                        CHOOSING_ROWS, KEYS, SLOTS, SINGLE)),
            (consumer, (d_out, s_q, s_k, s_v, w_q, w_k, w_v, p_walk, p_lengths, p_columns, by_column,
                        scale, ranges, columns, parts, tiles, items, 1, HEADS, KV_HEADS, CHOOSERS,
                        CHOOSING_ROWS, KEYS, SLOTS, SINGLE)),
            (_producer, (d_q, d_k, d_v, p_k, p_v, s_q, s_k, s_v, w_q, w_k, w_v, p_walk, p_lengths, p_columns,
                         by_k, by_v, by_column, ranges, columns, parts, tiles, items, HEADS, KV_HEADS,
                         CHOOSERS, CHOOSING_ROWS, KEYS, SLOTS, SINGLE)),
        ],
        [4, 4 if SINGLE else 1],
        [224 if SINGLE else 240, 56 if SINGLE else 24],
    )  # fmt: skip


def attend(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float, ring: Ring | None = None
) -> Tensor:
    """As :func:`sparsestudy.kernels.prefill.selected_attention`.

    The GPU is a Hopper, numbers have 2 bytes, the head width is at most 128, tensors are describable
    (:func:`sparsestudy.kernels.launch.describable`) and query blocks are of a multiple of 128. Columns, where
    there are any, lie without gaps, and the width is then 64 or 128. `ring` is the pinned one if None.
    """
    ring = ring or PINNED
    columns = selection.columns
    single: Any = selection.starts if columns is None else columns
    batch, heads, tokens, _ = q.shape
    steps = walk(selection, tokens, ROWS, ring.keys)
    choosing_rows, choosers, tiles, width = steps.shape
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    items = batch * heads * tiles
    launch(
        _attend,
        min(items, _processors(q.device)),
        q.device,
        [
            _described(q, ROWS // 2), _described(k, ring.keys), _described(v, ring.keys),
            _described(out, ROWS // 2), k, v, steps, rows_of(selection.lengths, batch), single, k.stride(),
            v.stride(), single.stride(), scaling * LOG2_E, width // 4 - 2,
            0 if columns is None else columns.shape[3], selection.query_block // ROWS, tiles, items,
        ],
        {
            "HEADS": heads, "KV_HEADS": k.shape[1], "CHOOSERS": choosers, "CHOOSING_ROWS": choosing_rows,
            "KEYS": ring.keys, "SLOTS": ring.slots, "SINGLE": columns is not None,
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


@functools.lru_cache(maxsize=1024)
def _parts(numbers: torch.dtype, shape: torch.Size, strides: tuple[int, ...], tokens: int) -> dict[str, Any]:
    """The fields of a description that tensors of one shape share."""
    dim = max(power(shape[3]), 64)
    tile = {"block_shape": [1, 1, tokens, dim], "layout": _layout(numbers, tokens, dim)}
    return {"shape": list(shape), "strides": list(strides), **tile}


def _described(x: Tensor, tokens: int) -> Any:
    """What the copy engine must know to move tiles of so many tokens of one head."""
    # Without its constructor, whose checks `describable` has made, and which takes 6 us for each tensor.
    made = TensorDescriptor.__new__(TensorDescriptor)
    made.__dict__.update(_parts(x.dtype, x.shape, x.stride(), tokens), base=x)
    return made
