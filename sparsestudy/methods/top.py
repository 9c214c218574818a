"""The best units of a row of scores, with one rule for equal ones: the earlier unit wins."""

from __future__ import annotations

import torch
from torch import Tensor


def keep_top(scores: Tensor, budget: int | Tensor) -> Tensor:
    """Which units are among the best of their row.

    Ties go to the earlier unit, so that the choice is the same on every device (`topk` promises no order).

    Args:
        scores: ``(..., units)``; +inf is always kept, -inf never.
        budget: units kept per row, one number or int ``(..., 1)``.

    Returns:
        bool ``(..., units)``; fewer than `budget` are true where a row has fewer that may be kept.
    """
    units = scores.shape[-1]
    if isinstance(budget, int):
        budget = min(budget, units)
        if budget == 0:
            return torch.zeros_like(scores, dtype=torch.bool)
        least = scores.topk(budget, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        wanted: int | Tensor = budget
    else:
        wanted = budget.clamp(0, units)
        ranked = scores.sort(dim=-1, descending=True).values
        least = ranked.gather(-1, (wanted - 1).clamp(min=0).expand(*scores.shape[:-1], 1))
        least = least.masked_fill(wanted == 0, float("inf"))
    above = scores > least
    level = scores == least
    room = wanted - above.sum(-1, keepdim=True)
    return (above | (level & (level.cumsum(-1) <= room))) & (scores > float("-inf"))


def indices(kept: Tensor, slots: int | None = None) -> Tensor:
    """The places that are true, in rising order; -1 fills rows that have fewer than the longest.

    Args:
        kept: bool ``(..., units)``.
        slots: how many places to give; the most of any row where it is None, which waits for the device.

    Returns:
        int64 ``(..., slots)``.
    """
    most = int(kept.sum(-1).max()) if slots is None else slots
    unit = torch.arange(kept.shape[-1], device=kept.device)
    # A stable order of the units: kept ones by place, the others behind them.
    order = torch.where(kept, unit, kept.shape[-1]).sort(dim=-1).values[..., :most]
    return order.masked_fill(order == kept.shape[-1], -1)
