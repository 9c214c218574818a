"""The best units of rows of scores, chosen on the device without a sort: a bisection for the least one."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsestudy.kernels.sizes import power

# Units that a program holds in registers, 32 a thread of 512; longer rows are read again in every pass.
HELD_UNITS = 1 << 14
# Units stored at a time: their running sums take twice the registers.
STORED = tl.constexpr(1 << 12)


@triton.jit
def keys(p_scores, o_u, units):
    """Some scores as integers in the order of floats; those that are -inf or past the end are the least.

    -0.0 counts as 0.0, so that they are equal as the floats are.
    """
    # Past the first cache, which may hold what other programs of the same kernel have overwritten.
    b_score = tl.load(p_scores + o_u, mask=o_u < units, other=float("-inf"), cache_modifier=".cg")
    b_bits = (b_score + 0.0).to(tl.int32, bitcast=True)
    b_key = tl.where(b_bits < 0, b_bits ^ 0x7FFFFFFF, b_bits)
    return tl.where(b_score > float("-inf"), b_key, -0x80000000)


@triton.jit
def _striped(start, BLOCK: tl.constexpr):
    """Places of a block's units where the order does not matter: 16 to a thread, (16, units / 16)."""
    o_row, o_column = tl.arange(0, 16), tl.arange(0, BLOCK // 16)
    return start + o_row[:, None] * (BLOCK // 16) + o_column[None, :]


@triton.jit
def _ordered(start, BLOCK: tl.constexpr):
    """Places in rows of 16, so that a running sum is one of 16 and one of the rows, (units / 16, 16)."""
    o_row, o_column = tl.arange(0, BLOCK // 16), tl.arange(0, 16)
    return start + o_row[:, None] * 16 + o_column[None, :]


@triton.jit
def _reaching(b_key, low, quarter):
    """How many keys reach each of the three quarters above `low`, 21 bits each."""
    # No key is as large as the largest number, so that it may stand for what exceeds it.
    first = tl.minimum(low + quarter, 0x7FFFFFFF).to(tl.int32)
    second = tl.minimum(low + 2 * quarter, 0x7FFFFFFF).to(tl.int32)
    third = tl.minimum(low + 3 * quarter, 0x7FFFFFFF).to(tl.int32)
    # The 16 of a thread are counted in 10 bits each.
    b_few = (b_key >= first).to(tl.int32) + tl.where(b_key >= second, 1 << 10, 0)
    b_few = tl.sum(b_few + tl.where(b_key >= third, 1 << 20, 0), 0)
    b_count = (b_few & 1023).to(tl.int64) + (((b_few >> 10) & 1023).to(tl.int64) << 21)
    return tl.sum(b_count + ((b_few >> 20).to(tl.int64) << 42), 0)


@triton.jit
def _least(p_scores, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """The least key among the best of a row, how many units with it are kept, and how many units in all.

    A search by quarters that ends as soon as exactly as many reach a quarter as are wanted: about 8 passes
    for 8192 different scores.
    """
    # At least `wanted` keys reach `low`; `above`, which are fewer, reach `high`.
    low, high = tl.full([], -0x7FFFFFFF, tl.int64), tl.full([], 0x7FFFFFFF, tl.int64)
    b_key = keys(p_scores, _striped(0, BLOCK), units)
    if HELD:
        found = tl.sum(tl.sum((b_key > -0x80000000).to(tl.int32), 0), 0)
        low = tl.min(tl.min(tl.where(b_key > -0x80000000, b_key, 0x7FFFFFFF), 0), 0).to(tl.int64)
        high = tl.max(tl.max(b_key, 0), 0).to(tl.int64) + 1
    else:
        found = tl.full([], 0, tl.int32)
        for u in range(0, units, BLOCK):
            b_key = keys(p_scores, _striped(u, BLOCK), units)
            found += tl.sum(tl.sum((b_key > -0x80000000).to(tl.int32), 0), 0)
    wanted = tl.minimum(found, budget)
    above = found * 0
    while (high - low > 1) & (found > wanted):
        quarter = (high - low + 3) // 4
        if HELD:
            counts = _reaching(b_key, low, quarter)
        else:
            counts = tl.full([], 0, tl.int64)
            for u in range(0, units, BLOCK):
                counts += _reaching(keys(p_scores, _striped(u, BLOCK), units), low, quarter)
        for i in tl.static_range(3):
            count = ((counts >> (21 * i)) & 0x1FFFFF).to(tl.int32)
            place = low + quarter
            # A quarter that enough reach is the new low; the first that is not, the new high.
            inside, enough = place < high, count >= wanted
            above = tl.where(inside & (count < wanted), count, above)
            high = tl.where(inside & (count < wanted), place, high)
            found = tl.where(inside & enough, count, found)
            low = tl.where(inside & enough, place, low)
    return low.to(tl.int32), tl.where(found > wanted, wanted - above, found), wanted


@triton.jit
def _put(b_key, o_u, least, room, placed, p_out):
    """Store the kept ones of some units; gives how many are stored by now, and the room that is left."""
    m_above, m_level = b_key > least, b_key == least
    # One running sum counts both: those level with the least one in the upper half of the number.
    b_one = m_above.to(tl.int32) + (m_level.to(tl.int32) << 16)
    b_row = tl.sum(b_one, 1)
    b_count = (tl.cumsum(b_row, 0) - b_row)[:, None] + tl.cumsum(b_one, 1)
    b_above, b_level = b_count & 0xFFFF, b_count >> 16
    m_kept = m_above | (m_level & (b_level <= room))
    tl.store(p_out + placed + b_above + tl.minimum(b_level, room) - 1, o_u, mask=m_kept)
    total = tl.sum(b_row, 0)
    level = tl.minimum(total >> 16, room)
    return placed + (total & 0xFFFF) + level, room - level


@triton.jit
def _put_best(p_scores, p_out, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """Store the places of the best units of a row, rising; gives how many there are."""
    least, room, wanted = _least(p_scores, units, budget, HELD, BLOCK)
    placed = wanted * 0
    CHUNK: tl.constexpr = min(BLOCK, STORED)
    for u in range(0, units, CHUNK):
        o_u = _ordered(u, CHUNK)
        b_key = keys(p_scores, o_u, units)
        placed, room = _put(b_key, o_u, least, room, placed, p_out)
    return wanted


@triton.jit
def _level_until(p_scores, units, least, place, BLOCK: tl.constexpr):
    """How many units up to a place are level with the least one; read again, few at a time, as few ask."""
    CHUNK: tl.constexpr = min(BLOCK, 1 << 11)
    count = tl.full([], 0, tl.int32)
    for u in range(0, units, CHUNK):
        o_u = _striped(u, CHUNK)
        b_level = (keys(p_scores, o_u, units) == least) & (o_u <= place)
        count += tl.sum(tl.sum(b_level.to(tl.int32), 0), 0)
    return count


@triton.jit
def put_limits(p_scores, p_out, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """Store the least key among the best of a row, and the last place where a unit with this key is kept."""
    least, room, wanted = _least(p_scores, units, budget, HELD, BLOCK)
    low, high = tl.full([], -1, tl.int32), tl.full([], 0x7FFFFFFF, tl.int32)
    if _level_until(p_scores, units, least, high, BLOCK) > room:
        # Fewer than `room` are level up to `low`, enough up to `high`.
        high = tl.full([], 0, tl.int32) + units - 1
        while high - low > 1:
            place = (low + high) // 2
            enough = _level_until(p_scores, units, least, place, BLOCK) >= room
            high = tl.where(enough, place, high)
            low = tl.where(enough, low, place)
    tl.store(p_out, tl.where(wanted > 0, least, 0x7FFFFFFF))
    tl.store(p_out + 1, high)


@triton.jit
def kept(b_key, o_u, p_limits):
    """Which units are among the best, by what :func:`put_limits` stored."""
    least, last = tl.load(p_limits), tl.load(p_limits + 1)
    return (b_key > least) | ((b_key == least) & (o_u <= last) & (b_key > -0x80000000))


@triton.jit(do_not_specialize=["units", "budget"])
def _top(p_scores, p_out, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """The places of the best units of one row, rising, -1 at the end."""
    row = tl.program_id(0).to(tl.int64)
    p_out += row * budget
    wanted = _put_best(p_scores + row * units, p_out, units, budget, HELD, BLOCK)
    for u in range(wanted, budget, BLOCK):
        o_u = u + tl.arange(0, BLOCK)
        tl.store(p_out + o_u, tl.full([BLOCK], -1, tl.int32), mask=o_u < budget)


def held(units: int, most: int) -> dict[str, int | bool]:
    """The block of units that a program looks at, at most `most`, and whether it holds a whole row."""
    block = min(max(32, power(units)), most)
    return {"BLOCK": block, "HELD": block >= units}


def top(scores: Tensor, budget: int) -> Tensor:
    """The best units of each row, in rising order; equal scores go to the earlier unit.

    The same as ``indices(keep_top(scores, budget), budget)`` of :mod:`sparsestudy.methods.top`.

    Args:
        scores: fp32 ``(..., units)``; +inf is always kept, -inf never.
        budget: units kept per row, at most all.

    Returns:
        int32 ``(..., budget)``; -1 fills rows that have fewer.
    """
    scores = scores.contiguous()
    units = scores.shape[-1]
    out = torch.empty(*scores.shape[:-1], budget, dtype=torch.int32, device=scores.device)
    rows = scores.numel() // max(units, 1)
    if rows and budget:
        block = held(units, HELD_UNITS)
        _top[(rows,)](scores, out, units, budget, **block, num_warps=min(max(block["BLOCK"] // 512, 1), 16))
    return out
