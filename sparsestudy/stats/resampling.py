"""Means over strata of samples, clustered by document: a bootstrap whose weights all cells share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats import tango
from sparsestudy.stats.base import CONFIDENCE, RESAMPLES, Array, Interval, count_and_mean


class Resampled(NamedTuple):
    """Intervals of every stratum, (..., strata), and of the mean over the strata, (...)."""

    each: Interval
    pooled: Interval


def shares(
    n: int, resamples: int, seed: int | NDArray[np.int64], clusters: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Shares of ``n`` samples in each resample of the bootstrap, (samples, resamples); columns add up to 1.

    Args:
        n: number of samples.
        resamples: number of resamples.
        seed: of the draws.
        clusters: a label for each sample; samples of one cluster are drawn together.
    """
    _, member = np.unique(np.arange(n) if clusters is None else np.asarray(clusters), return_inverse=True)
    groups = int(member.max()) + 1
    # Counting drawn labels gives the same distribution as a multinomial draw in a tenth of the time.
    drawn = np.random.default_rng(seed).integers(0, groups, (resamples, groups))
    places = (drawn + groups * np.arange(resamples)[:, None]).ravel()
    times = np.bincount(places, minlength=resamples * groups).reshape(resamples, groups)
    counts = times.T.astype(np.float32)[member]
    return np.asarray(counts / counts.sum(0))


def stratified(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Percentile intervals of means, and of the mean over strata of their means.

    Args:
        values: (..., strata, samples), such as paired differences with tasks for strata; NaN where missing.
        clusters: (strata, samples), labels of what is drawn together, such as documents.
        confidence: level of the intervals.
        resamples: number of resamples.
        seed: of the resamples; each stratum draws on its own.

    Every cell of a stratum has the same resamples, so differences of cells stay paired, and one matrix
    product in single precision serves them all. Limits are widened by sqrt(m / (m - 1)) for m clusters.
    A cell without any spread gets Tango's limits instead of an interval of width zero.
    """
    data = np.asarray(values, float)
    shape, (strata, samples) = data.shape[:-2], data.shape[-2:]
    flat = data.reshape(-1, strata, samples)
    pooled = np.zeros((len(flat), resamples), np.float32)
    limits = np.full((2, len(flat), strata), np.nan)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    n, mean = count_and_mean(flat)
    widening = np.ones(strata)
    for index in range(strata):
        labels = None if clusters is None else np.asarray(clusters)[index]
        drawn = shares(samples, resamples, np.array([seed % 2**63, index]), labels)
        means = _weighted(flat[:, index], drawn)
        m = samples if labels is None else len(np.unique(labels))
        widening[index] = np.sqrt(m / max(m - 1, 1))
        centre = mean[:, index]
        limits[:, :, index] = centre + (_quantiles(means, tails) - centre) * widening[index]
        pooled += means / strata
    centre = mean.mean(-1)
    total = centre + (_quantiles(pooled, tails) - centre) * widening.mean()
    gains, losses = np.nansum(np.maximum(flat, 0), -1), np.nansum(np.maximum(-flat, 0), -1)
    each = _floored(mean, limits, gains, losses, n, confidence)
    both = _floored(centre, total, gains.sum(-1), losses.sum(-1), n.sum(-1), confidence)
    return Resampled(_shaped(each, (*shape, strata)), _shaped(both, shape))


def _shaped(flat: Interval, shape: tuple[int, ...]) -> Interval:
    return Interval(
        flat.estimate.reshape(shape), flat.low.reshape(shape), flat.high.reshape(shape), flat.n.reshape(shape)
    )


def _weighted(values: Array, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resampled means of rows with missing values: (cells, samples) by (samples, resamples)."""
    known = np.isfinite(values)
    total: NDArray[np.float32] = np.where(known, values, 0).astype(np.float32) @ drawn
    if not known.all():
        weight = known.astype(np.float32) @ drawn
        total = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return total


def _quantiles(means: NDArray[np.float32], tails: list[float]) -> Array:
    """Two order statistics of every row, by partition: (2, rows)."""
    at = [round(tail * (means.shape[1] - 1)) for tail in tails]
    found: Array = np.partition(means, at, axis=1)[:, at].T.astype(float)
    return found


def _floored(
    mean: Array, limits: Array, gains: Array, losses: Array, n: NDArray[np.int64], confidence: float
) -> Interval:
    """The interval, with Tango's limits where no resample differs from another."""
    flat = limits[1] - limits[0] < 1e-6
    low, high = tango.limits(gains, losses, n, confidence)
    return Interval(mean, np.where(flat, low, limits[0]), np.where(flat, high, limits[1]), n)
