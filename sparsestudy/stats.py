"""Intervals and paired comparisons for scores in 0..1, vectorised over cells.

Every function takes arrays whose last axis is the samples of a cell, with NaN for a sample that was
not scored, and returns arrays without that axis. Nothing here knows what a method or a task is.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Level of every interval in the report."""
POWER = 0.8
"""Probability with which a minimum detectable difference would be found."""
RESAMPLES = 2000

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate per cell with its limits and the number of samples behind it."""

    estimate: Array
    low: Array
    high: Array
    n: NDArray[np.int64]


class Difference(NamedTuple):
    """A paired difference per cell: limits, number of pairs, p-value and shares of gains and losses."""

    estimate: Array
    low: Array
    high: Array
    n: NDArray[np.int64]
    p: Array
    gains: Array
    losses: Array


def seed_of(*parts: object) -> int:
    """A 64-bit seed from what is resampled, so that a page never changes without its data."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def wilson(successes: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Wilson score limits of a proportion; NaN where ``n`` is 0.

    ``successes`` may be fractional: among all scores in 0..1 with a given mean the 0/1 ones vary
    most, so the limits are then too wide rather than too narrow.
    """
    from statsmodels.stats.proportion import proportion_confint

    count, total = np.broadcast_arrays(np.asarray(successes, float), np.asarray(n, float))
    some = total > 0
    low, high = proportion_confint(
        np.where(some, count, 0.0), np.where(some, total, 1.0), alpha=1 - confidence, method="wilson"
    )
    # a mean of exactly 0 or 1 leaves rounding dust such as 0.9999999999999998
    low = np.clip(np.where(count <= 0, 0.0, low), 0, 1)
    high = np.clip(np.where(count >= total, 1.0, high), 0, 1)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def _count_and_mean(scores: Array) -> tuple[NDArray[np.int64], Array]:
    n = np.isfinite(scores).sum(-1)
    total = np.nansum(scores, -1)
    return n, np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)


def _bootstrap(scores: Array, confidence: float, seed: int) -> tuple[Array, Array]:
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
    n, mean = _count_and_mean(values)
    low, high = wilson(np.nan_to_num(mean) * n, n, confidence)
    graded = ~np.broadcast_to(np.asarray(binary, bool), n.shape) & (_spread(values) > 0)
    if graded.any():
        some_low, some_high = _bootstrap(values[graded], confidence, seed)
        low[graded], high[graded] = np.clip(some_low, 0, 1), np.clip(some_high, 0, 1)
    return Interval(mean, low, high, n)


def _spread(values: Array) -> Array:
    filled_low = np.where(np.isfinite(values), values, np.inf)
    filled_high = np.where(np.isfinite(values), values, -np.inf)
    with np.errstate(invalid="ignore"):
        return np.asarray(filled_high.max(-1, initial=-np.inf) - filled_low.min(-1, initial=np.inf))


def combine(first: Interval, second: Interval, correlation: ArrayLike = 0.0) -> tuple[Array, Array]:
    """Limits of ``first - second`` from the limits of both (Newcombe's square-and-add rule).

    With correlation 0 this is Newcombe's interval for two independent proportions; with the
    correlation of the pairs it is his interval for paired ones (Newcombe 1998, method 10).
    """
    d = first.estimate - second.estimate
    r = np.asarray(correlation, float)
    down, up = first.estimate - first.low, first.high - first.estimate
    down2, up2 = second.estimate - second.low, second.high - second.estimate
    low = d - np.sqrt(np.maximum(down**2 - 2 * r * down * up2 + up2**2, 0))
    high = d + np.sqrt(np.maximum(up**2 - 2 * r * up * down2 + down2**2, 0))
    return np.clip(low, -1, 1), np.clip(high, -1, 1)


def _paired_correlation(a: Array, b: Array, n: Array) -> Array:
    """Newcombe's corrected phi of two 0/1 arrays (..., samples); 0 where a margin is empty."""
    both, neither = np.nansum(a * b, -1), np.nansum((1 - a) * (1 - b), -1)
    only_a, only_b = np.nansum(a * (1 - b), -1), np.nansum((1 - a) * b, -1)
    product = both * neither - only_a * only_b
    product = np.where(product > 0, np.maximum(product - n / 2, 0), product)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi: Array = np.divide(product, np.sqrt(margins), out=np.zeros_like(product), where=margins > 0)
    return phi


def _paired_p(differences: Array, binary: NDArray[np.bool_]) -> Array:
    """Two-sided p of "no difference": exact McNemar for 0/1 scores, paired t for graded ones."""
    from scipy.stats import binom
    from scipy.stats import t as student

    gains, losses = (differences > 0).sum(-1), (differences < 0).sum(-1)
    exact = np.minimum(1.0, 2 * binom.cdf(np.minimum(gains, losses), gains + losses, 0.5))
    n, mean = _count_and_mean(differences)
    squares = np.nansum((differences - mean[..., None]) ** 2, -1)
    error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    # no spread: either nothing differs, or every pair differs alike and the sign test decides
    usable = (error > 0) & (n > 1)
    t = np.divide(np.abs(mean), error, out=np.zeros_like(error), where=usable)
    graded = np.where(usable, 2 * student.sf(t, np.maximum(n - 1, 1)), exact)
    return np.asarray(np.where(n > 0, np.where(binary, exact, graded), np.nan))


def paired_difference(
    scores: ArrayLike,
    reference: ArrayLike,
    binary: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Mean of ``scores - reference`` over the samples that both have, with limits and a p-value.

    Args:
        scores: (..., samples) in 0..1, NaN where not scored.
        reference: broadcastable to ``scores``; the same sample at the same place.
        binary: as in `mean_interval`; True gives Newcombe's paired interval, False a paired bootstrap.
        confidence: level of the interval.
        seed: of the resamples.
    """
    a, b = (x.copy() for x in np.broadcast_arrays(np.asarray(scores, float), np.asarray(reference, float)))
    missing = ~(np.isfinite(a) & np.isfinite(b))
    a[missing] = b[missing] = np.nan
    first, second = (mean_interval(x, True, confidence=confidence) for x in (a, b))
    is_binary = np.broadcast_to(np.asarray(binary, bool), first.n.shape)
    correlation = np.where(is_binary, _paired_correlation(a, b, first.n.astype(float)), 0.0)
    low, high = combine(first, second, correlation)
    graded = ~is_binary & (_spread(a - b) > 0)
    if graded.any():
        some_low, some_high = _bootstrap((a - b)[graded], confidence, seed)
        low[graded], high[graded] = np.clip(some_low, -1, 1), np.clip(some_high, -1, 1)
    n = np.maximum(first.n, 1)
    gains, losses = ((a > b).sum(-1) / n, (a < b).sum(-1) / n)
    estimate = first.estimate - second.estimate
    return Difference(estimate, low, high, first.n, _paired_p(a - b, is_binary), gains, losses)


def holm(p: ArrayLike) -> Array:
    """Holm-adjusted p-values over all finite entries of an array; NaN stays NaN."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    finite = np.isfinite(values)
    if finite.any():
        adjusted[finite] = multipletests(values[finite], method="holm")[1]
    return adjusted


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
    z2 = (_quantile(confidence) + _quantile(2 * power - 1)) ** 2
    count, q = np.asarray(n, float), np.asarray(flips, float)
    root = z2 + np.sqrt(z2**2 + 4 * (count + z2) * z2 * q)
    return np.asarray(np.where(count > 0, np.minimum(root / (2 * (count + z2)), 1.0), np.nan))
