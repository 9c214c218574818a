"""The best units of rows of scores, chosen on the device without a sort: a bisection for the least one."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Units that a program holds in registers, 16 a thread of 512; longer rows are read again in every pass.
HELD_UNITS = 1 << 13


@triton.jit
def _keys(p_scores, o_u, units):
    """Some scores as integers in the order of floats, and which may be kept: not -inf and not past the end.

    -0.0 counts as 0.0, so that they are equal as the floats are.
    """
    b_score = tl.load(p_scores + o_u, mask=o_u < units, other=float("-inf"))
    b_bits = (b_score + 0.0).to(tl.int32, bitcast=True)
    return tl.where(b_bits < 0, b_bits ^ 0x7FFFFFFF, b_bits), b_score > float("-inf")


@triton.jit
def _reaching(p_scores, units, value, BLOCK: tl.constexpr):
    """How many units of a row have at least this key."""
    count = 0
    for u in range(0, units, BLOCK):
        b_key, m_real = _keys(p_scores, u + tl.arange(0, BLOCK), units)
        count += tl.sum((m_real & (b_key >= value)).to(tl.int32), 0)
    return count


@triton.jit
def _least(p_scores, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """The least key among the best of a row, how many units with it are kept, and how many units in all.

    Bisection that ends as soon as exactly as many reach the middle as are wanted: 13 to 20 passes for 8192
    different scores that are held.
    """
    b_key, m_real = _keys(p_scores, tl.arange(0, BLOCK), units)
    # At least `wanted` keys reach `low`; `above`, which are fewer, reach `high`.
    low, high = tl.full([], -0x80000000, tl.int64), tl.full([], 0x7FFFFFFF, tl.int64)
    if HELD:
        found = tl.sum(m_real.to(tl.int32), 0)
        low = tl.min(tl.where(m_real, b_key, 0x7FFFFFFF), 0).to(tl.int64)
        high = tl.max(b_key, 0).to(tl.int64) + 1
    else:
        found = _reaching(p_scores, units, -0x80000000, BLOCK)
    wanted = tl.minimum(found, budget)
    above = found * 0
    while (high - low > 1) & (found > wanted):
        middle = low + (high - low) // 2
        if HELD:
            count = tl.sum((m_real & (b_key >= middle.to(tl.int32))).to(tl.int32), 0)
        else:
            count = _reaching(p_scores, units, middle.to(tl.int32), BLOCK)
        enough = count >= wanted
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle)
        found, above = tl.where(enough, count, found), tl.where(enough, above, count)
    return low.to(tl.int32), tl.where(found > wanted, wanted - above, found), wanted


@triton.jit
def put_best(p_scores, p_out, units, budget, step, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """Store the places of the best units of a row, rising, each times `step`; gives how many there are."""
    least, room, wanted = _least(p_scores, units, budget, HELD, BLOCK)
    placed = wanted * 0
    for u in range(0, units, BLOCK):
        o_u = u + tl.arange(0, BLOCK)
        b_key, m_real = _keys(p_scores, o_u, units)
        # One scan counts both: those level with the least one in the upper half of the number.
        m_above, m_level = m_real & (b_key > least), m_real & (b_key == least)
        b_count = tl.cumsum(m_above.to(tl.int32) + (m_level.to(tl.int32) << 16), 0)
        b_above, b_level = b_count & 0xFFFF, b_count >> 16
        m_kept = m_above | (m_level & (b_level <= room))
        b_place = placed + b_above + tl.minimum(b_level, room)
        tl.store(p_out + b_place - 1, o_u * step, mask=m_kept)
        placed += tl.sum(m_kept.to(tl.int32), 0)
        room -= tl.minimum(tl.sum(m_level.to(tl.int32), 0), room)
    return wanted


@triton.jit(do_not_specialize=["units", "budget"])
def _top(p_scores, p_out, units, budget, HELD: tl.constexpr, BLOCK: tl.constexpr):
    """The places of the best units of one row, rising, -1 at the end."""
    row = tl.program_id(0).to(tl.int64)
    p_out += row * budget
    wanted = put_best(p_scores + row * units, p_out, units, budget, 1, HELD, BLOCK)
    for u in range(wanted, budget, BLOCK):
        o_u = u + tl.arange(0, BLOCK)
        tl.store(p_out + o_u, tl.full([BLOCK], -1, tl.int32), mask=o_u < budget)


def program(units: int) -> dict[str, int | bool]:
    """Block and warps of a program for rows of so many units, and whether one block holds a row."""
    block = min(max(32, triton.next_power_of_2(units)), HELD_UNITS)
    return {"BLOCK": block, "HELD": block >= units, "num_warps": max(block // 512, 1)}


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
        _top[(rows,)](scores, out, units, budget, **program(units))
    return out
