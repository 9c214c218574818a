"""Choosing on one half of the samples and scoring on the other, with an interval for all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.errors import StudyError
from sparsestudy.stats.base import CONFIDENCE, Array, Interval, quantile

SPLITS = 50
"""Random halvings, each used both ways."""
RESAMPLES = 200
"""Resamples of the prompts, for the standard error."""
_FEWER = 10  # halvings in each resample
_NUMBERS = 2_000_000  # held at a time in the matrices of resamples

Weigh = Callable[[Array], Array]
Read = Callable[[Array, Array], Array]


def _members(clusters: ArrayLike | None, samples: tuple[int, int]) -> NDArray[np.int64]:
    """The cluster of each sample, (strata, samples), from 0 in every stratum."""
    if clusters is None:
        return np.broadcast_to(np.arange(samples[1]), samples)
    return np.stack([np.unique(row, return_inverse=True)[1] for row in np.asarray(clusters)])


def _halves(members: NDArray[np.int64], splits: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which samples choose, (2 splits, strata, samples): random halves of the clusters, then the others."""
    rows = []
    for row in members:
        groups = int(row.max()) + 1
        drawn = rng.random((splits, groups))
        # Those below the middle value are a random half; a partition is quicker than a sort.
        middle = np.partition(drawn, groups // 2, axis=-1)[:, [groups // 2]]
        rows.append((drawn < middle)[:, row])
    half = np.stack(rows, axis=1)
    return np.concatenate([half, ~half])


def _times(members: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Array:
    """How often each sample is in each resample of the clusters, (resamples, strata, samples)."""
    rows = []
    for row in members:
        groups = int(row.max()) + 1
        rows.append(rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)[:, row])
    return np.stack(rows, axis=1).astype(float)


def _means(flat: Array, choosing: NDArray[np.bool_], times: Array) -> tuple[Array, Array]:
    """Means (choices, configurations) on the half that chooses, and on the other.

    Args:
        flat: (configurations, strata samples).
        choosing: (choices, strata, samples).
        times: broadcastable to the same, how often each sample counts.
    """
    means = []
    for half in (choosing, ~choosing):
        counts = half * times
        counts /= np.maximum(counts.sum(-1, keepdims=True), 1) * choosing.shape[1]
        means.append(counts.reshape(len(choosing), -1) @ flat.T)
    return means[0], means[1]


def crossfit(
    scores: Array,
    weigh: Weigh,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[Interval, Array]:
    """Weighted sums of configurations' means: weights chosen on one half, means taken on the other.

    Args:
        scores: as in `crossread`.
        weigh: from means (choices, configurations) to weights of the same shape.
        clusters: as in `crossread`.
        seed: as in `crossread`.
        confidence: as in `crossread`.

    Returns:
        The interval, and the weights, (choices, configurations).
    """
    told: list[Array] = []

    def read(choosing: Array, other: Array) -> Array:
        weights = weigh(choosing)
        if not told:
            told.append(weights)
        return np.asarray((weights * other).sum(-1))

    interval = crossread(scores, read, clusters=clusters, seed=seed, confidence=confidence)
    return interval, told[0]


def crossread(
    scores: Array,
    read: Read,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """What one half of the samples says of choices that the other half made.

    Args:
        scores: (configurations, strata, samples), without gaps; the mean over strata is what counts.
        read: from means (choices, configurations) on the half that chooses, and on the other, to what is
            read there, (..., choices); first asked about the samples as they are.
        clusters: as in `stats.stratified`; no cluster is on both sides of a split.
        seed: of the halvings and the resamples.
        confidence: level of the interval.

    Which configurations are chosen varies with the prompts, so the interval resamples them and does all of it
    again; the halves are then halves of different prompts, as before.

    Raises:
        StudyError: a score is missing, or there are fewer than 4 samples.
    """
    configurations, strata, samples = scores.shape
    if samples < 4 or not np.isfinite(scores).all():
        raise StudyError(
            f"A frontier needs at least 4 samples, scored by every configuration; there are {samples} and "
            f"{int((~np.isfinite(scores)).sum())} scores are missing: leave such configurations out."
        )
    rng = np.random.default_rng(seed % 2**63)
    flat, members = scores.reshape(configurations, -1), _members(clusters, (strata, samples))
    found = read(*_means(flat, _halves(members, SPLITS, rng), np.ones(1)))
    drawn: list[Array] = []
    made = 0
    at_once = max(_NUMBERS // (2 * _FEWER * members.size), 1)
    while made < RESAMPLES:
        count = min(at_once, RESAMPLES - made)
        choosing = _halves(members, _FEWER * count, rng)
        times = np.tile(_times(members, count, rng), (2 * _FEWER, 1, 1))
        parts = read(*_means(flat, choosing, times))
        drawn.append(parts.reshape(*parts.shape[:-1], 2 * _FEWER, count).mean(-2))
        made += count
    centre = np.asarray(found.mean(-1))
    half = np.asarray(quantile(confidence) * np.concatenate(drawn, -1).std(-1))
    return Interval(centre, centre - half, centre + half, np.full(centre.shape, members.size))
