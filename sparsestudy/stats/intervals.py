"""Intervals of means and of differences of independent means, for scores in 0..1, vectorised over cells.

Every function takes arrays whose last axis is the samples of a cell, with NaN for a sample that was
not scored, and returns arrays without that axis. Nothing here knows what a method or a task is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sparsestudy.stats.base import CONFIDENCE, RESAMPLES, Array, Interval, count_and_mean, quantile, spread


def wilson(successes: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Wilson score limits of a proportion; NaN where ``n`` is 0.

    ``successes`` may be fractional: among all scores in 0..1 with a given mean the 0/1 ones vary
    most, so the limits are then too wide rather than too narrow.
    """
    count, total = np.broadcast_arrays(np.asarray(successes, float), np.asarray(n, float))
    some = total > 0
    # As `proportion_confint` of statsmodels, whose import takes seconds of every page.
    trials, square = np.where(some, total, 1.0), quantile(confidence) ** 2
    share = np.where(some, count, 0.0) / trials
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    spread_out = share * (1 - share) / trials + square / (4 * trials**2)
    half = np.sqrt(square * spread_out) / (1 + square / trials)
    low, high = centre - half, centre + half
    # a mean of exactly 0 or 1 leaves rounding dust such as 0.9999999999999998
    low = np.clip(np.where(count <= 0, 0.0, low), 0, 1)
    high = np.clip(np.where(count >= total, 1.0, high), 0, 1)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def bootstrap(scores: Array, confidence: float, seed: int) -> tuple[Array, Array]:
    """Percentile limits of the mean, widened by sqrt(n / (n - 1)) for small n.

    Cells that miss the same samples share their resamples, so one matrix product serves them all.
    """
    flat = scores.reshape(-1, scores.shape[-1])
    limits = np.full((2, flat.shape[0]), np.nan)
    masks, group = np.unique(np.isfinite(flat), axis=0, return_inverse=True)
    for index, mask in enumerate(masks):
        n = int(mask.sum())
        if n < 2:
            continue
        rows = np.flatnonzero(group.ravel() == index)
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
        values = flat[np.ix_(rows, np.flatnonzero(mask))]
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        quantiles = np.quantile(values @ weights.T, tails, axis=1)
        centre = values.mean(1)
        limits[:, rows] = centre + (quantiles - centre) * np.sqrt(n / (n - 1))
    low, high = limits.reshape(2, *scores.shape[:-1])
    return low, high


def mean_interval(
    scores: ArrayLike, binary: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Mean score of each cell: Wilson limits for 0/1 scores, a seeded bootstrap for graded ones.

    Args:
        scores: (..., samples) in 0..1, NaN where not scored.
        binary: broadcastable to ``scores`` without its last axis; True where scores are 0 or 1.
        confidence: level of the interval.
        seed: of the resamples.

    A graded cell whose scores are all equal has no spread to resample; it gets the Wilson limits,
    which are wider than any graded score needs, instead of an interval of width zero.
    """
    values = np.asarray(scores, float)
    n, mean = count_and_mean(values)
    low, high = wilson(np.nan_to_num(mean) * n, n, confidence)
    graded = ~np.broadcast_to(np.asarray(binary, bool), n.shape) & (spread(values) > 0)
    if graded.any():
        some_low, some_high = bootstrap(values[graded], confidence, seed)
        low[graded], high[graded] = np.clip(some_low, 0, 1), np.clip(some_high, 0, 1)
    return Interval(mean, low, high, n)


def combine(first: Interval, second: Interval) -> tuple[Array, Array]:
    """Limits of ``first - second``, which are independent, from the limits of both.

    Newcombe's square-and-add rule (Newcombe 1998, Interval estimation for the difference between
    independent proportions, method 10).
    """
    d = first.estimate - second.estimate
    low = d - np.hypot(first.estimate - first.low, second.high - second.estimate)
    high = d + np.hypot(first.high - first.estimate, second.estimate - second.low)
    return np.clip(low, -1, 1), np.clip(high, -1, 1)
