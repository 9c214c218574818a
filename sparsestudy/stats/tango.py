"""Differences of paired proportions: score test and score interval.

Source: T. Tango, Equivalence test and confidence interval for the difference in proportions for the
paired-sample design, Statistics in Medicine 17 (1998) 891-908.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sparsestudy.stats.base import CONFIDENCE, Array, quantile

# Halvings of an interval of length 2: the limits are then exact to 2e-15.
_HALVINGS = 50


def score(gains: ArrayLike, losses: ArrayLike, n: ArrayLike, difference: ArrayLike) -> Array:
    """Tango's statistic: how many standard errors the data lie above an assumed difference.

    Args:
        gains: pairs in which only the first is right; fractions are allowed.
        losses: pairs in which only the second is right.
        n: all pairs.
        difference: the assumed P(gain) - P(loss), in -1..1.

    Returns:
        Standard normal where the assumed difference is true; at 0 its square is McNemar's statistic. The
        share of losses under the assumption is the larger root of the likelihood equation, a quadratic.
    """
    b, c, count, d = np.broadcast_arrays(*(np.asarray(x, float) for x in (gains, losses, n, difference)))
    linear = (2 * count - b + c) * d - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * count * c * d * (1 - d), 0))
    share = np.divide(root - linear, 4 * count, out=np.zeros_like(root), where=count > 0)
    share = np.maximum(share, np.maximum(-d, 0))
    variance = count * (2 * share + d * (1 - d))
    above = b - c - count * d
    # Without variance the assumption is either what was seen or impossible.
    limit = np.where(above == 0, 0.0, np.copysign(np.inf, above))
    found: Array = np.divide(above, np.sqrt(np.maximum(variance, 0)), out=limit, where=variance > 1e-12)
    return found


def limits(
    gains: ArrayLike, losses: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Array, Array]:
    """The differences that the score test does not reject; NaN where ``n`` is 0.

    Args:
        gains: as in `score`.
        losses: as in `score`.
        n: as in `score`.
        confidence: level of the two-sided interval.
    """
    b, c, count = np.broadcast_arrays(*(np.asarray(x, float) for x in (gains, losses, n)))
    estimate = np.divide(b - c, count, out=np.full(b.shape, np.nan), where=count > 0)
    z, found = quantile(confidence), []
    for end in (-1.0, 1.0):
        # The statistic falls as the assumed difference grows, from +z at the lower limit to -z at the upper.
        outside, inside = np.full(b.shape, end), estimate.copy()
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            rejected = -end * score(b, c, count, middle) > z
            outside, inside = np.where(rejected, middle, outside), np.where(rejected, inside, middle)
        found.append(np.where(count > 0, outside, np.nan))
    return found[0], found[1]


def p_above(gains: ArrayLike, losses: ArrayLike, n: ArrayLike, difference: ArrayLike) -> Array:
    """One-sided p-value against "the difference is at most ``difference``"; NaN where ``n`` is 0."""
    from scipy.special import ndtr

    p = ndtr(-score(gains, losses, n, difference))
    return np.asarray(np.where(np.asarray(n) > 0, p, np.nan))
