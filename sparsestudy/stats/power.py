"""What a number of samples can find and what it can exclude: planning numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sparsestudy.stats import tango
from sparsestudy.stats.base import CONFIDENCE, POWER, Array, quantile

_HALVINGS = 40


def minimum_detectable_difference(
    n: ArrayLike, flips: ArrayLike = 0.0, *, confidence: float = CONFIDENCE, power: float = POWER
) -> Array:
    """Smallest true loss that a paired test over ``n`` pairs finds with probability ``power``.

    Args:
        n: number of pairs.
        flips: share of pairs that differ in both directions equally, by noise alone.
        confidence: one minus the two-sided level of the test.
        power: the probability of finding the loss.

    A loss d over pairs of 0/1 scores has variance d + flips - d²; the smallest d for which
    d = z sqrt(variance / n) is the root returned. Graded scores vary less, so for them it is a bound.
    """
    z2 = (quantile(confidence) + quantile(2 * power - 1)) ** 2
    count, q = np.asarray(n, float), np.asarray(flips, float)
    root = z2 + np.sqrt(z2**2 + 4 * (count + z2) * z2 * q)
    return np.asarray(np.where(count > 0, np.minimum(root / (2 * (count + z2)), 1.0), np.nan))


def exclusion_power(
    n: ArrayLike, flips: ArrayLike, margin: ArrayLike, *, confidence: float = CONFIDENCE
) -> Array:
    """Probability that a setting which loses nothing is shown to lose less than ``margin``.

    Args:
        n: number of pairs.
        flips: share of pairs that differ, in both directions equally.
        margin: the loss to exclude, in 0..1.
        confidence: one minus the two-sided level, half of which the one-sided test has.

    Tango's statistic at the expected counts is its mean; gains minus losses vary with n times ``flips``.
    Without flips nothing varies, and the probability is 0 or 1.
    """
    from scipy.special import ndtr

    count, q, delta = np.broadcast_arrays(*(np.asarray(x, float) for x in (n, flips, margin)))
    mean = tango.score(count * q / 2, count * q / 2, count, -delta)
    size = np.sqrt(count) * delta
    spread = np.divide(np.sqrt(q) * mean, size, out=np.zeros_like(mean), where=size > 0)
    above = mean - quantile(confidence)
    never = np.where(above >= 0, np.inf, -np.inf)
    return np.asarray(ndtr(np.divide(above, spread, out=never, where=spread > 0)))


def excludable_margin(
    n: ArrayLike, flips: ArrayLike = 0.0, *, confidence: float = CONFIDENCE, power: float = POWER
) -> Array:
    """Smallest margin that a setting without any loss is shown to keep, with probability ``power``.

    Args:
        n: number of pairs; NaN is returned for 0.
        flips: as in `exclusion_power`.
        confidence: as in `exclusion_power`.
        power: the probability of excluding the margin.
    """
    count, q = np.broadcast_arrays(np.asarray(n, float), np.asarray(flips, float))
    low, high = np.zeros(count.shape), np.ones(count.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = exclusion_power(np.maximum(count, 1), q, middle, confidence=confidence) >= power
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(np.where(count > 0, high, np.nan))
