"""Accuracy against cost: what sparse attention adds, never chosen and scored on the same samples.

A configuration is a model with a method at a sparsity. On one half of the samples the best configurations are
chosen, on the other half they are scored; then the halves change places, over many splits (`crossfit`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.errors import StudyError
from sparsestudy.stats.base import Array, Interval
from sparsestudy.stats.crossfit import crossfit, crossread

_GRID, _POINTS = 64, 9


class Winner(NamedTuple):
    """Whom one half of the samples chose for a budget, and what the other half said of it.

    Args:
        budget: cost that was not to be exceeded.
        gain: score of the chosen configuration less that of the dense model chosen for the same budget.
        chosen: share of the splits that chose each configuration over the dense one; the rest chose that.
    """

    budget: float
    gain: Interval
    chosen: Array


class Frontiers(NamedTuple):
    """The dense-only and the full frontier over cost, chosen on one half of the samples, scored on the other.

    Args:
        cost: (points,), from that of the cheapest dense model to that of the dearest.
        dense: height of the dense-only frontier, (points,).
        full: height of the frontier of all configurations, (points,).
        gain: as `frontier_gain`.
    """

    cost: Array
    dense: Interval
    full: Interval
    gain: Interval


class _Ends(NamedTuple):
    """Between which configurations a frontier runs at each cost, and how far it has come, (choices, grid)."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    share: Array


def _ends(x: Array, grid: Array, means: Array, allowed: NDArray[np.bool_]) -> _Ends:
    """The frontier that each choice of means (choices, configurations) sets.

    A configuration is on the frontier where no cheaper one, nor one of equal cost before it, is as good;
    between its points the frontier is straight in log cost, and level after the last. ``x`` ascends.
    """
    choices, n = means.shape
    seen = np.where(allowed, means, -np.inf)
    before = np.maximum.accumulate(np.column_stack([np.full(choices, -np.inf), seen]), axis=1)[:, :-1]
    on = seen > before
    index = np.arange(n)
    left = np.maximum.accumulate(np.where(on, index, -1), axis=1)
    right = np.minimum.accumulate(np.where(on, index, n)[:, ::-1], axis=1)[:, ::-1]
    right = np.column_stack([right, np.full(choices, n)])
    at = np.searchsorted(x, grid, side="right") - 1
    low, high = left[:, at], right[:, at + 1]
    last = high == n
    high = np.where(last, low, high)
    step = x[high] - x[low]
    return _Ends(low, high, np.divide(grid - x[low], step, out=np.zeros_like(step), where=step > 0))


def _heights(ends: _Ends, means: Array) -> Array:
    """How high means (choices, configurations) are along the frontiers, (choices, grid)."""
    low, high = (np.take_along_axis(means, place, 1) for place in (ends.low, ends.high))
    return np.asarray(low + ends.share * (high - low))


def _ordered(
    cost: ArrayLike, dense: ArrayLike, scores: ArrayLike
) -> tuple[Array, NDArray[np.bool_], Array, Array]:
    """Log costs in ascending order with what belongs to them, and the log costs of the dense models.

    Raises:
        StudyError: fewer than two dense costs.
    """
    x, is_dense = np.log(np.asarray(cost, float)), np.asarray(dense, bool)
    # Of equal costs the dense one comes first, so that a tie is not counted as a gain.
    order = np.lexsort((~is_dense, x))
    x, is_dense, data = x[order], is_dense[order], np.asarray(scores, float)[order]
    ends = x[is_dense]
    if len(ends) < 2 or ends[0] == ends[-1]:
        raise StudyError("A frontier needs dense models of at least two costs; add a model to the run.")
    return x, is_dense, data, ends


def frontier_gain(
    cost: ArrayLike,
    dense: ArrayLike,
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Mean height of the full frontier above the dense-only one, from the cheapest to the dearest dense.

    Args:
        cost: (configurations,), above 0.
        dense: (configurations,), True for a dense model; at least two, of different cost.
        scores: (configurations, strata, samples).
        clusters: as in `stats.stratified`.
        seed: of the halvings.

    Both frontiers are straight in log cost between their points, so that a sparse configuration earns nothing
    by merely lying between two dense models.

    Raises:
        StudyError: fewer than two dense costs, or as `crossfit`.
    """
    x, is_dense, data, ends = _ordered(cost, dense, scores)
    grid = np.linspace(ends[0], ends[-1], _GRID)

    def read(choosing: Array, other: Array) -> Array:
        full, own = (_ends(x, grid, choosing, allowed) for allowed in (np.ones(len(x), bool), is_dense))
        return np.asarray(_heights(full, other).mean(1) - _heights(own, other).mean(1))

    return crossread(data, read, clusters=clusters, seed=seed)


def frontiers(
    cost: ArrayLike,
    dense: ArrayLike,
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Frontiers:
    """Both frontiers as curves, with the gain between them.

    Arguments, what is raised and what a frontier is: as `frontier_gain`, whose halves these are too.
    """
    x, is_dense, data, ends = _ordered(cost, dense, scores)
    grid, points = (np.linspace(ends[0], ends[-1], count) for count in (_GRID, _POINTS))

    def read(choosing: Array, other: Array) -> Array:
        heights, mean = [], []
        for allowed in (is_dense, np.ones(len(x), bool)):
            heights += list(_heights(_ends(x, points, choosing, allowed), other).T)
            mean.append(_heights(_ends(x, grid, choosing, allowed), other).mean(1))
        return np.stack([*heights, mean[1] - mean[0]])

    found = crossread(data, read, clusters=clusters, seed=seed)

    def part(place: slice | int) -> Interval:
        low, high = (np.asarray(values[place]) for values in (found.low, found.high))
        return Interval(np.asarray(found.estimate[place]), low, high, np.asarray(found.n[place]))

    return Frontiers(np.exp(points), part(slice(_POINTS)), part(slice(_POINTS, 2 * _POINTS)), part(-1))


def winner(
    cost: ArrayLike,
    dense: ArrayLike,
    scores: ArrayLike,
    budget: float,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Winner:
    """The best configuration for a budget against the best dense model for it.

    Args:
        cost: (configurations,).
        dense: (configurations,), True for a dense model, of which one at least is within the budget.
        scores: (configurations, strata, samples).
        budget: cost that is not to be exceeded.
        clusters: as in `stats.stratified`.
        seed: of the halvings.

    Raises:
        StudyError: no dense model is within the budget, or as `crossfit`.
    """
    affordable, is_dense = np.asarray(cost, float) <= budget * (1 + 1e-9), np.asarray(dense, bool)
    if not (affordable & is_dense).any():
        raise StudyError(f"No dense model costs at most {budget:g}; raise the budget.")

    def best(means: Array, allowed: NDArray[np.bool_]) -> Array:
        return np.asarray(np.eye(means.shape[1])[np.where(allowed, means, -np.inf).argmax(1)])

    def weigh(means: Array) -> Array:
        return best(means, affordable) - best(means, affordable & is_dense)

    data = np.asarray(scores, float)
    # The dense first: argmax takes the first of equals, so that a tie is no gain.
    order = np.argsort(~is_dense, kind="stable")
    affordable, is_dense = affordable[order], is_dense[order]
    gain, weights = crossfit(data[order], weigh, clusters=clusters, seed=seed)
    chosen = np.zeros(len(order))
    chosen[order] = np.maximum(weights, 0).mean(0)
    return Winner(budget, gain, chosen)


def equal_cost_weights(cost: ArrayLike, target: float) -> Array | None:
    """Weights of the two settings whose costs enclose ``target``, straight in log cost; None where none do.

    Args:
        cost: (settings,) of one method on one model; NaN for settings that did not run.
        target: the cost of the smaller dense model.
    """
    x = np.log(np.asarray(cost, float))
    at = np.log(target)
    below, above = np.where(x <= at, x, -np.inf), np.where(x >= at, x, np.inf)
    if not (np.isfinite(below).any() and np.isfinite(above).any()):
        return None
    low, high = int(below.argmax()), int(above.argmin())
    weights = np.zeros(len(x))
    share = 0.0 if x[high] == x[low] else (at - x[low]) / (x[high] - x[low])
    weights[low] += 1 - share
    weights[high] += share
    return weights
