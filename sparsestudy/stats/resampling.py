"""Means over strata of samples, clustered by document: a bootstrap whose weights all cells share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats import tango
from sparsestudy.stats.base import CONFIDENCE, RESAMPLES, Array, Interval, count_and_mean

_NUMBERS = 500_000
"""Draws that are made at a time."""
_HELD = 20_000_000
"""Resampled means that are held at a time."""


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
    return np.concatenate(list(_drawn(n, resamples, seed, clusters)), axis=1)


def _drawn(
    n: int, resamples: int, seed: int | NDArray[np.int64], clusters: ArrayLike | None
) -> Iterator[NDArray[np.float32]]:
    """The columns of `shares`, some at a time: limits of many comparisons ask for many resamples."""
    _, member = np.unique(np.arange(n) if clusters is None else np.asarray(clusters), return_inverse=True)
    groups = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(_NUMBERS // groups, 1)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        # Counting drawn labels gives the same distribution as a multinomial draw in a tenth of the time.
        drawn = rng.integers(0, groups, (count, groups))
        places = (drawn + groups * np.arange(count)[:, None]).ravel()
        times = np.bincount(places, minlength=count * groups).reshape(count, groups)
        counts = times.T.astype(np.float32)[member]
        yield counts / counts.sum(0)


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
    shape, flat = data.shape[:-2], data.reshape(-1, *data.shape[-2:])
    limits = np.full((2, *flat.shape[:2]), np.nan)
    mean = count_and_mean(flat)[1]
    pooled, strata = np.zeros((len(flat), resamples), np.float32), _strata(flat, clusters)
    widening = np.array([_widening(one) for one in strata])
    for index, means in enumerate(_resampled(flat, strata, resamples, seed)):
        limits[..., index] = _limits(means, mean[:, index], confidence, widening[index])
        pooled += means / flat.shape[1]
    total = _limits(pooled, mean.mean(-1), confidence, float(widening.mean()))
    both = _floored(flat, total, confidence)
    each = _floored(flat[:, :, None], limits, confidence)
    return Resampled(_shaped([each], data.shape[:-1]), _shaped([both], shape))


def pooled_at(
    values: ArrayLike,
    levels: Sequence[float],
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """``pooled`` of `stratified` at each of several levels, for many cells and from one set of resamples."""
    data = np.asarray(values, float)
    flat = data.reshape(-1, *data.shape[-2:])
    strata = _strata(flat, clusters)
    widening = float(np.mean([_widening(one) for one in strata]))
    # Cells have no part in the draws, so that some at a time are the same as all together.
    at_once = max(_HELD // resamples, 1)
    found: list[list[Interval]] = [[] for _ in levels]
    for start in range(0, len(flat), at_once):
        some = flat[start : start + at_once]
        centre = count_and_mean(some)[1].mean(-1)
        pooled = np.zeros((len(some), resamples), np.float32)
        for means in _resampled(some, strata, resamples, seed):
            pooled += means / flat.shape[1]
        for parts, level in zip(found, levels, strict=True):
            parts.append(_floored(some, _limits(pooled, centre, level, widening), level))
    return [_shaped(parts, data.shape[:-2]) for parts in found]


class _Stratum(NamedTuple):
    """The number of samples up to the last that any cell has, and what of them is drawn together."""

    samples: int
    labels: NDArray[np.str_] | None


def _strata(flat: Array, clusters: ArrayLike | None) -> list[_Stratum]:
    """The strata of (cells, strata, samples), which may have fewer samples than there is room for."""
    found = []
    for index, known in enumerate(np.asarray(np.isfinite(flat).any(0))):
        n = int(np.flatnonzero(known)[-1]) + 1 if known.any() else len(known)
        found.append(_Stratum(n, None if clusters is None else np.asarray(clusters)[index][:n]))
    return found


def _resampled(
    flat: Array, strata: list[_Stratum], resamples: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Resampled means (cells, resamples) of each stratum of (cells, strata, samples)."""
    for index, (n, labels) in enumerate(strata):
        drawn = _drawn(n, resamples, np.array([seed % 2**63, index]), labels)
        yield _weighted(flat[:, index, :n], drawn)


def _widening(stratum: _Stratum) -> float:
    m = stratum.samples if stratum.labels is None else len(np.unique(stratum.labels))
    return float(np.sqrt(m / max(m - 1, 1)))


def _shaped(parts: list[Interval], shape: tuple[int, ...]) -> Interval:
    """Intervals of some cells each as one of all."""
    estimate, low, high, n = (np.concatenate(values).reshape(shape) for values in zip(*parts, strict=True))
    return Interval(estimate, low, high, n)


def _weighted(values: Array, drawn: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Resampled means of rows with missing values: (cells, samples) by (samples, resamples)."""
    known = np.isfinite(values)
    filled, weights = np.where(known, values, 0).astype(np.float32), known.astype(np.float32)
    complete = bool(known.all())
    return np.concatenate([_means(filled, None if complete else weights, some) for some in drawn], axis=1)


def _means(
    filled: NDArray[np.float32], known: NDArray[np.float32] | None, drawn: NDArray[np.float32]
) -> NDArray[np.float32]:
    total: NDArray[np.float32] = filled @ drawn
    if known is None:
        return total
    weight = known @ drawn
    return np.asarray(np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0))


def _limits(means: NDArray[np.float32], centre: Array, confidence: float, widening: float) -> Array:
    """Limits of every row, (2, rows), from two order statistics by partition."""
    at = [round(tail * (means.shape[1] - 1)) for tail in ((1 - confidence) / 2, (1 + confidence) / 2)]
    ends: Array = np.partition(means, at, axis=1)[:, at].T.astype(float)
    return centre + (ends - centre) * widening


def _floored(values: Array, limits: Array, confidence: float) -> Interval:
    """The interval of the means of (..., strata, samples), with Tango's limits where no resample differs."""
    n, mean = count_and_mean(values)
    gains, losses = (np.nansum(np.maximum(side, 0), (-2, -1)) for side in (values, -values))
    low, high = tango.limits(gains, losses, n.sum(-1), confidence)
    flat = limits[1] - limits[0] < 1e-6
    return Interval(mean.mean(-1), np.where(flat, low, limits[0]), np.where(flat, high, limits[1]), n.sum(-1))
