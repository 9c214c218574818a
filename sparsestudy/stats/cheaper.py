"""How little the accuracy of the best dense model costs: tests from its own cost down."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats.base import CONFIDENCE, MARGIN, Array, Interval
from sparsestudy.stats.crossfit import crossread

STEP = 2**0.5
"""Each budget over the next."""


class Cheaper(NamedTuple):
    """What smaller and smaller budgets lose of the accuracy of the best dense model.

    Args:
        budget: (budgets,), from the cost of the dense model that is best on all samples down.
        change: the best configuration within each less the best dense model of any cost, (budgets,).
        kept: how many budgets, from the first, are shown to lose less than the margin.
        chosen: (budgets, configurations), share of the splits that chose each configuration.
        best: place of that dense model.
    """

    budget: Array
    change: Interval
    kept: int
    chosen: Array
    best: int


def cheaper(
    cost: ArrayLike,
    dense: ArrayLike,
    scores: ArrayLike,
    *,
    allowed: ArrayLike | None = None,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Cheaper:
    """Test budgets one after the other, each a step below the one before, until one may lose the margin.

    No correction is needed, because each test is only made where all before it passed. The best dense model
    and the best configuration within a budget are chosen on one half of the samples and compared on the
    other, so that luck with the samples saves nothing.

    Args:
        cost: (configurations,), above 0.
        dense: (configurations,), True for a dense model, of which there is one at least.
        scores: (configurations, strata, samples).
        allowed: (configurations,), which may be chosen within a budget; all of them unless given.
        margin: the loss to exclude.
        confidence: of the two-sided interval; a test has half the rest.
        clusters: as in `stats.stratified`.
        seed: of the halvings.

    Raises:
        StudyError: as `crossfit`.
    """
    price, is_dense = np.asarray(cost, float), np.asarray(dense, bool)
    may = np.ones(len(price), bool) if allowed is None else np.asarray(allowed, bool)
    data = np.asarray(scores, float)
    # Of equals the first is taken: dense before sparse, cheap before dear.
    order = np.lexsort((price, ~is_dense))
    price, is_dense, may, data = price[order], is_dense[order], may[order], data[order]
    best = int(np.where(is_dense, data.mean((1, 2)), -np.inf).argmax())
    steps = int(np.floor(np.log(price[best] / price[may].min()) / np.log(STEP) + 1e-9)) + 1
    budgets = price[best] * STEP ** -np.arange(max(steps, 1), dtype=float)
    told: list[NDArray[np.int64]] = []

    def read(choosing: Array, other: Array) -> Array:
        picks = [_best(choosing, may & (price <= budget * (1 + 1e-9))) for budget in budgets]
        if not told:
            told.extend(picks)
        reference = np.take_along_axis(other, _best(choosing, is_dense)[:, None], 1)[:, 0]
        return np.stack([np.take_along_axis(other, pick[:, None], 1)[:, 0] - reference for pick in picks])

    change = crossread(data, read, clusters=clusters, seed=seed, confidence=confidence)
    chosen = np.zeros((len(budgets), len(price)))
    for row, pick in enumerate(told):
        chosen[row, order] = np.bincount(pick, minlength=len(price)) / len(pick)
    kept = int(np.logical_and.accumulate(change.low > -margin).sum())
    return Cheaper(budgets, change, kept, chosen, int(order[best]))


def _best(means: Array, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(np.where(allowed, means, -np.inf).argmax(1))
