"""Closed forms between a budget per row and a density over the causal triangle."""

from __future__ import annotations

import math


def per_row_budget(sparsity: float, rows: int) -> int:
    """Units per row so that ``rows`` rows of a causal triangle have this sparsity.

    Row ``i`` has ``i + 1`` units and keeps at most ``k``, so ``k (k + 1) / 2 + (rows - k) k`` of
    ``rows (rows + 1) / 2`` are kept; solved for ``k`` and rounded.

    Args:
        sparsity: target share left out, 0 <= sparsity < 1.
        rows: number of rows (tokens, or blocks).
    """
    half = rows + 0.5
    return round(half - math.sqrt(max(half * half - (1 - sparsity) * rows * (rows + 1), 0.0)))


def reachable(budget: int, rows: int) -> float:
    """Density of a budget per row: the inverse of :func:`per_row_budget`."""
    k = min(budget, rows)
    return (k * (k + 1) / 2 + (rows - k) * k) / (rows * (rows + 1) / 2)
