"""Paired differences of the same samples: limits, p-values, and Holm's correction over many of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats import tango
from sparsestudy.stats.base import CONFIDENCE, Array, Difference, count_and_mean, spread
from sparsestudy.stats.intervals import bootstrap


def _paired_p(differences: Array, binary: NDArray[np.bool_]) -> Array:
    """Two-sided p of "no difference": exact McNemar for 0/1 scores, paired t for graded ones."""
    from scipy.stats import binom
    from scipy.stats import t as student

    gains, losses = (differences > 0).sum(-1), (differences < 0).sum(-1)
    exact = np.minimum(1.0, 2 * binom.cdf(np.minimum(gains, losses), gains + losses, 0.5))
    n, mean = count_and_mean(differences)
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
        binary: as in `mean_interval`; True gives Tango's paired interval, False a paired bootstrap.
        confidence: level of the interval.
        seed: of the resamples.

    Graded differences without any spread get Tango's limits too: among all pairs with the same total of
    gains and of losses those of 0/1 scores vary most.
    """
    difference = np.subtract(*np.broadcast_arrays(np.asarray(scores, float), np.asarray(reference, float)))
    n, estimate = count_and_mean(difference)
    is_binary = np.broadcast_to(np.asarray(binary, bool), n.shape)
    gains, losses = np.nansum(np.maximum(difference, 0), -1), np.nansum(np.maximum(-difference, 0), -1)
    low, high = tango.limits(gains, losses, n, confidence)
    graded = ~is_binary & (spread(difference) > 0)
    if graded.any():
        some_low, some_high = bootstrap(difference[graded], confidence, seed)
        low[graded], high[graded] = np.clip(some_low, -1, 1), np.clip(some_high, -1, 1)
    shares = ((difference > 0).sum(-1) / np.maximum(n, 1), (difference < 0).sum(-1) / np.maximum(n, 1))
    return Difference(estimate, low, high, n, _paired_p(difference, is_binary), *shares)


def holm(p: ArrayLike) -> Array:
    """Holm-adjusted p-values over all finite entries of an array; NaN stays NaN."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    finite = np.isfinite(values)
    if finite.any():
        adjusted[finite] = multipletests(values[finite], method="holm")[1]
    return adjusted
