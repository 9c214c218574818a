"""How a mean grows with length: proportional to L to the beta, by a straight line in logarithms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sparsestudy.stats.base import CONFIDENCE, RESAMPLES, Array, Interval
from sparsestudy.stats.resampling import shares


def slopes(x: Array, means: Array) -> Array:
    """Least-squares slopes of log means (..., lengths) on log x (lengths,)."""
    centred = np.log(x) - np.log(x).mean()
    return np.asarray((np.log(means) * centred).sum(-1) / (centred**2).sum())


def growth(
    values: ArrayLike,
    lengths: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Exponents with percentile intervals; samples of each length are drawn on their own.

    Args:
        values: (..., lengths, samples), above 0; NaN where missing, which must be the same samples in all
            cells.
        lengths: (lengths,), above 0; those without samples are left out.
        confidence: level of the intervals.
        resamples: number of resamples.
        seed: of the resamples.

    The interval tells what other prompts would have given, not whether the growth follows a power. Its
    distance from the estimate is widened by sqrt(n / (n - 1)) for the fewest samples n of a length. NaN with
    fewer than two lengths; ``n`` is that fewest number.
    """
    data, x = np.asarray(values, float), np.asarray(lengths, float)
    known = np.isfinite(data).reshape(-1, *data.shape[-2:]).all(0)
    used = known.any(-1)
    shape = data.shape[:-2]
    n = int(known.sum(-1)[used].min()) if used.any() else 0
    if used.sum() < 2:
        nothing = np.full(shape, np.nan)
        return Interval(nothing, nothing, nothing, np.full(shape, n))
    means = np.stack([data[..., at, known[at]].mean(-1) for at in np.flatnonzero(used)], -1)
    drawn = [
        data[..., at, known[at]] @ shares(int(known[at].sum()), resamples, np.array([seed % 2**63, at]))
        for at in np.flatnonzero(used)
    ]
    estimate = slopes(x[used], means)
    again = slopes(x[used], np.stack(drawn, -1))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = estimate + (np.quantile(again, tails, axis=-1) - estimate) * np.sqrt(n / max(n - 1, 1))
    return Interval(estimate, low, high, np.full(shape, n))
