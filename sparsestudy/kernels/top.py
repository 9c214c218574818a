"""The best units of rows of scores, chosen on the device without a sort: a bisection for the least one."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Units of a row that one program holds in registers: 64 a thread of 1024.
MOST_UNITS = 1 << 16


@triton.jit
def ordered(b_score):
    """Integers in the order of floats; -0.0 counts as 0.0, and -inf is the least."""
    bits = (b_score + 0.0).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def best(b_score, budget, WIDE: tl.constexpr):
    """Which scores are among the best, the earlier one where they are equal, and their ranks by place.

    Returns:
        Whether each is kept, how many kept ones stand before it or at it, and how many are kept.
    """
    b_key = ordered(b_score)
    m_real = b_score > float("-inf")
    wanted = tl.minimum(tl.sum(m_real.to(tl.int32), 0), budget)
    # At least `wanted` keys reach `low`, fewer reach `high`; done when exactly `wanted` do.
    low = tl.min(tl.where(m_real, b_key, 0x7FFFFFFF), 0).to(tl.int64)
    high = tl.max(b_key, 0).to(tl.int64) + 1
    found = tl.sum(m_real.to(tl.int32), 0)
    while (high - low > 1) & (found > wanted):
        middle = low + (high - low) // 2
        count = tl.sum((m_real & (b_key >= middle.to(tl.int32))).to(tl.int32), 0)
        enough = count >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        found = tl.where(enough, count, found)
    least = low.to(tl.int32)
    m_above = m_real & (b_key > least)
    m_level = m_real & (b_key == least)
    # One scan for both counts: those of the level in the upper half of the number.
    if WIDE:
        b_both = tl.cumsum(m_above.to(tl.int64) + (m_level.to(tl.int64) << 32), 0)
        b_above, b_level = (b_both & 0xFFFFFFFF).to(tl.int32), (b_both >> 32).to(tl.int32)
    else:
        b_both = tl.cumsum(m_above.to(tl.int32) + (m_level.to(tl.int32) << 16), 0)
        b_above, b_level = b_both & 0xFFFF, b_both >> 16
    room = wanted - tl.sum(m_above.to(tl.int32), 0)
    kept = m_above | (m_level & (b_level <= room))
    return kept, b_above + tl.minimum(b_level, room), wanted


@triton.jit(do_not_specialize=["units", "budget"])
def _top(p_scores, p_out, units, budget, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The places of the best units of one row, rising, -1 at the end."""
    row = tl.program_id(0).to(tl.int64)
    o_u = tl.arange(0, BLOCK)
    # (units,)
    b_score = tl.load(p_scores + row * units + o_u, mask=o_u < units, other=float("-inf"))
    kept, rank, wanted = best(b_score, budget, WIDE)
    p_out += row * budget
    tl.store(p_out + rank - 1, o_u, mask=kept)
    tl.store(p_out + o_u, tl.full([BLOCK], -1, tl.int32), mask=(o_u >= wanted) & (o_u < budget))


def program(units: int) -> dict[str, int | bool]:
    """Block, number format and warps of a program that holds a row of units: at most 16 units a thread."""
    block = max(32, triton.next_power_of_2(units))
    return {"BLOCK": block, "WIDE": block >= 1 << 15, "num_warps": min(max(block // 512, 1), 32)}


def top(scores: Tensor, budget: int) -> Tensor:
    """The best units of each row, in rising order; equal scores go to the earlier unit.

    The same as ``indices(keep_top(scores, budget), budget)`` of :mod:`sparsestudy.methods.top`.

    Args:
        scores: fp32 ``(..., units)``, at most :data:`MOST_UNITS` units; -inf is never kept.
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
