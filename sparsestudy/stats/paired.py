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


def design_effect(differences: ArrayLike, clusters: ArrayLike) -> Array:
    """How many samples count as one because those of a cluster are alike, at least 1.

    The variance of the mean with heed of clusters over that without (Rao and Scott 1992, A simple method for
    the analysis of clustered binary data); the size of the clusters where nothing varies.

    Args:
        differences: (..., samples), NaN where not scored.
        clusters: broadcastable to the same, labels such as documents.
    """
    d = np.asarray(differences, float)
    labels = np.broadcast_to(np.asarray(clusters), d.shape).reshape(-1, d.shape[-1])
    found = np.ones(len(labels))
    for row, (values, names) in enumerate(zip(d.reshape(labels.shape), labels, strict=True)):
        known = np.isfinite(values)
        if not known.any():
            continue
        _, member = np.unique(names[known], return_inverse=True)
        rest = values[known] - values[known].mean()
        groups, n = int(member.max()) + 1, int(known.sum())
        alone = float(rest @ rest) * n / max(n - 1, 1)
        together = float((np.bincount(member, rest) ** 2).sum()) * groups / max(groups - 1, 1)
        found[row] = together / alone if alone > 0 else n / groups
    return np.maximum(found, 1).reshape(d.shape[:-1])


def paired_difference(
    scores: ArrayLike,
    reference: ArrayLike,
    binary: ArrayLike,
    *,
    effect: ArrayLike = 1.0,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Mean of ``scores - reference`` over the samples that both have, with limits and a p-value.

    Args:
        scores: (..., samples) in 0..1, NaN where not scored.
        reference: broadcastable to ``scores``; the same sample at the same place.
        binary: as in `mean_interval`; True gives Tango's paired interval, False a paired bootstrap.
        effect: `design_effect` of clusters, by which the limits are widened; the p-value takes no heed of it.
        confidence: level of the interval.
        seed: of the resamples.

    Graded differences without any spread get Tango's limits too: among all pairs with the same total of
    gains and of losses those of 0/1 scores vary most.
    """
    difference = np.subtract(*np.broadcast_arrays(np.asarray(scores, float), np.asarray(reference, float)))
    n, estimate = count_and_mean(difference)
    is_binary = np.broadcast_to(np.asarray(binary, bool), n.shape)
    gains, losses = np.nansum(np.maximum(difference, 0), -1), np.nansum(np.maximum(-difference, 0), -1)
    alike = np.broadcast_to(np.asarray(effect, float), n.shape)
    low, high = tango.limits(gains / alike, losses / alike, n / alike, confidence)
    graded = ~is_binary & (spread(difference) > 0)
    if graded.any():
        centre, wider = estimate[graded], np.sqrt(alike[graded])
        limits = [centre + (end - centre) * wider for end in bootstrap(difference[graded], confidence, seed)]
        low[graded], high[graded] = (np.clip(end, -1, 1) for end in limits)
    shares = ((difference > 0).sum(-1) / np.maximum(n, 1), (difference < 0).sum(-1) / np.maximum(n, 1))
    return Difference(estimate, low, high, n, _paired_p(difference, is_binary), *shares)


def holm(p: ArrayLike) -> Array:
    """Holm-adjusted p-values over all finite entries of an array; NaN stays NaN.

    As ``multipletests`` of statsmodels, which collects garbage at every call: 0.3 s with torch loaded.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(values.flat[finite])]
    steps = values.flat[order] * np.arange(len(order), 0, -1)
    adjusted.flat[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
