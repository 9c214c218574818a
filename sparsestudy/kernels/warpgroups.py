"""The warpgroups of the Hopper kernel that compute: products overlap with the softmax.

Names are those of all kernels, and besides ``d_`` descriptors of tensors, ``s_`` tiles in shared memory and
``w_`` what is waited for: first the barriers that say that a tile is there, then those that say it is free.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from sparsestudy.kernels import walk

item = gluon.jit(walk.item.fn)


@gluon.jit
def counts(p_walk, p_lengths, first, batch):
    """Full tiles, rests and columns of a query tile, none after the row's length."""
    real = (first < gl.load(p_lengths + batch)).to(gl.int32)
    return gl.load(p_walk) * real, gl.load(p_walk + 1) * real, gl.load(p_walk + 3) * real


@gluon.jit
def listed(p_columns, row, block, by_column, CHOOSERS: gl.constexpr):
    """The columns of a query block."""
    o_row = (row // CHOOSERS).to(gl.int64) * by_column[0] + row % CHOOSERS * by_column[1]
    return p_columns + o_row + block.to(gl.int64) * by_column[2]


@gluon.jit
def _weigh(b_score, b_top, b_mass, scale):
    """The running softmax in base 2: weights, and what it does to what was before."""
    b_new = gl.maximum(b_top, gl.max(b_score, 1) * scale)
    b_share = gl.exp2(b_score * scale - b_new[:, None])
    b_decay = gl.exp2(b_top - b_new)
    return b_share, b_new, b_mass * b_decay + gl.sum(b_share, 1), b_decay


@gluon.jit
def _scores(s_q, s_k, w_k, step, SLOTS: gl.constexpr, KEYS: gl.constexpr, layout: gl.constexpr):
    """Begin the product of the queries with the next tile of keys."""
    slot = step % SLOTS
    mbarrier.wait(w_k.index(slot), step // SLOTS & 1)
    ROWS: gl.constexpr = s_q.shape[0]
    zero = gl.zeros([ROWS, KEYS], gl.float32, layout)
    keys = s_k.index(slot).reshape([KEYS, s_q.shape[1]]).permute((1, 0))
    return warpgroup_mma(s_q, keys, zero, use_acc=False, is_async=True)


@gluon.jit
def _values(b_share, b_sum, s_v, w_v, step, SLOTS: gl.constexpr):
    """Begin the product of the weights with their tile of values."""
    slot = step % SLOTS
    mbarrier.wait(w_v.index(slot), step // SLOTS & 1)
    values = s_v.index(slot).reshape([b_share.shape[1], b_sum.shape[1]])
    return warpgroup_mma(b_share, values, b_sum, is_async=True)


@gluon.jit
def _masked(b_score, o_row, key, stop, KEYS: gl.constexpr, layout: gl.constexpr):
    """Scores of a range that ends somewhere, or at the diagonal."""
    o_key = key + gl.arange(0, KEYS, gl.SliceLayout(0, layout))[None, :]
    return gl.where((o_key < stop) & (o_key <= o_row[:, None]), b_score, float("-inf"))


@gluon.jit
def _used(b_score, p_list, slot, slots, KEYS: gl.constexpr, layout: gl.constexpr):
    """Scores of single columns, all earlier than every query, where there is one."""
    o_slot = slot + gl.arange(0, KEYS, gl.SliceLayout(0, layout))
    o_key = gl.load(p_list + o_slot, o_slot < slots, -1)
    return gl.where((o_key >= 0)[None, :], b_score, float("-inf"))


@gluon.jit
def _step(s_q, s_k, s_v, w_k, w_v, b_share, b_sum, b_top, b_mass, step, scale, o_row, p_list, key,
          stop, MASK: gl.constexpr, SLOTS: gl.constexpr, KEYS: gl.constexpr, score: gl.constexpr,
          operand: gl.constexpr):  # fmt: skip
    """Scores of this tile while the values of the last one are added; then this tile's weights."""
    b_score = _scores(s_q, s_k, w_k, step, SLOTS, KEYS, score)
    b_sum = _values(b_share, b_sum, s_v, w_v, step - 1, SLOTS)
    b_score = warpgroup_mma_wait(1, deps=(b_score,))
    mbarrier.arrive(w_k.index(SLOTS + step % SLOTS), count=1)
    if MASK == "range":
        b_score = _masked(b_score, o_row, key, stop, KEYS, score)
    if MASK == "columns":
        b_score = _used(b_score, p_list, key, stop, KEYS, score)
    b_next, b_top, b_mass, b_decay = _weigh(b_score, b_top, b_mass, scale)
    b_next = gl.convert_layout(b_next.to(s_v.dtype), operand)
    # A wait that is over at once is a wall for the assembler, which else computes the weights after the
    # product instead of beside it; that they stand among what is waited for holds back the compiler before.
    last = step - 1
    mbarrier.wait(w_v.index(last % SLOTS), last // SLOTS & 1)
    b_sum, b_next = warpgroup_mma_wait(0, deps=(b_sum, b_next))
    mbarrier.arrive(w_v.index(SLOTS + (step - 1) % SLOTS), count=1)
    b_sum = b_sum * gl.convert_layout(b_decay, gl.SliceLayout(1, b_sum.type.layout))[:, None]
    return b_next, b_sum, b_top, b_mass


@gluon.jit
def consumer(d_out, s_q, s_k, s_v, w_q, w_k, w_v, p_walk, p_lengths, p_columns, by_column, scale,
             ranges, columns, parts, tiles, items, HALF: gl.constexpr, HEADS: gl.constexpr,
             KV_HEADS: gl.constexpr, CHOOSERS: gl.constexpr, CHOOSING_ROWS: gl.constexpr, KEYS: gl.constexpr,
             SLOTS: gl.constexpr, SINGLE: gl.constexpr):  # fmt: skip
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
        full, rests, single = counts(p_mine, p_lengths, tile * 2 * ROWS, batch)
        o_row = first + gl.arange(0, ROWS, gl.SliceLayout(1, score))
        b_sum = gl.zeros([ROWS, D], gl.float32, total)
        b_mass = gl.full([ROWS], 0, gl.float32, gl.SliceLayout(1, score))
        p_list = listed(p_columns, row, tile // parts, by_column, CHOOSERS)
        slot = turn % 2 * 2 + HALF
        s_mine = s_q.index(slot).reshape([ROWS, D])
        mbarrier.wait(w_q.index(slot), turn // 2 & 1)
        if full + rests > 0:
            p_rest = p_mine + 4 + 2 * (ranges + 1)
            # The first tile: a rest, or else a full one, of which the mask takes nothing.
            key = gl.where(rests > 0, gl.load(p_rest), gl.load(p_mine + 4))
            stop = gl.where(rests > 0, gl.load(p_rest + 1), key + KEYS)
            full -= gl.where(rests > 0, 0, 1)
            b_score = _scores(s_mine, s_k, w_k, step, SLOTS, KEYS, score)
            b_score = warpgroup_mma_wait(0, deps=(b_score,))
            mbarrier.arrive(w_k.index(SLOTS + step % SLOTS), count=1)
            b_score = _masked(b_score, o_row, key, stop, KEYS, score)
            b_top = gl.full([ROWS], -1e30, gl.float32, gl.SliceLayout(1, score))
            b_next, b_top, b_mass, _ = _weigh(b_score, b_top, b_mass, scale)
            b_share = gl.convert_layout(b_next.to(s_v.dtype), operand)
            step += 1
            key += KEYS
            for _ in range(rests):
                for begin in range(key, stop, KEYS):
                    b_share, b_sum, b_top, b_mass = _step(
                        s_mine, s_k, s_v, w_k, w_v, b_share, b_sum, b_top, b_mass, step, scale, o_row,
                        p_list, begin, stop, "range", SLOTS, KEYS, score, operand,
                    )  # fmt: skip
                    step += 1
                p_rest += 2
                key, stop = gl.load(p_rest), gl.load(p_rest + 1)
            for _ in range(full):
                b_share, b_sum, b_top, b_mass = _step(
                    s_mine, s_k, s_v, w_k, w_v, b_share, b_sum, b_top, b_mass, step, scale, o_row,
                    p_list, 0, 0, "none", SLOTS, KEYS, score, operand,
                )  # fmt: skip
                step += 1
            if SINGLE:
                for begin in range(0, single, KEYS):
                    b_share, b_sum, b_top, b_mass = _step(
                        s_mine, s_k, s_v, w_k, w_v, b_share, b_sum, b_top, b_mass, step, scale, o_row,
                        p_list, begin, columns, "columns", SLOTS, KEYS, score, operand,
                    )  # fmt: skip
                    step += 1
            b_sum = _values(b_share, b_sum, s_v, w_v, step - 1, SLOTS)
            b_sum = warpgroup_mma_wait(0, deps=(b_sum,))
            mbarrier.arrive(w_v.index(SLOTS + (step - 1) % SLOTS), count=1)
        b_mass = gl.convert_layout(gl.where(b_mass == 0, 1.0, b_mass), gl.SliceLayout(1, total))
        s_mine.store((b_sum / b_mass[:, None]).to(s_mine.dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(d_out, [batch, head, first, 0], s_q.index(slot))
        tma.store_wait(0)
        mbarrier.arrive(w_q.index(4 + slot), count=1)
        turn += 1
