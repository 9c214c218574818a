"""Estimand of neighbouring models at equal cost: where does the smaller dense one win?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparsestudy import stats
from sparsestudy.claims.alike import Labels, alike
from sparsestudy.claims.evidence import Effect, Evidence, Outcome, smallest
from sparsestudy.claims.frontiers import by_length, effect_of, tokens
from sparsestudy.claims.specs import Claim
from sparsestudy.errors import StudyError

NO_POINT = "no equal-cost point"


class Place(NamedTuple):
    """Places of two models, of a method of the larger one, and of a length."""

    small: int
    large: int
    method: int
    length: int


def smaller_dense_wins(evidence: Evidence, claim: Claim) -> Outcome:
    """Larger sparse minus smaller dense at equal cost, where it is worst.

    Models are neighbours in dense cost. The upper limit holds for all pairs together (Bonferroni). Parts are
    the comparisons in which the smaller dense model is shown to win, and pairs without a point of equal cost.

    Raises:
        StudyError: no cost, no length with two dense models, or no pair with a point of equal cost.
    """
    found: dict[str, tuple[stats.Array, Labels]] = {}
    documents = evidence.documents
    without: dict[str, Effect] = {}
    lengths = by_length(evidence, claim)
    for name, place, weights in neighbours(evidence, claim, lengths):
        if weights is None:
            without[f"{name}: {NO_POINT}"] = Effect(np.nan, -np.inf, np.inf, 0)
            continue
        for task in lengths[place.length].tasks:
            there = read(evidence, weights, place, task)
            difference = there - evidence.dense[place.small, place.length, task]
            if np.isfinite(difference).any():
                own = None if documents is None else documents[place.length, [task]]
                found[f"{name}, {evidence.task(task)}"] = difference[None], own
    if not found:
        raise StudyError("No pair of neighbouring models has a point of equal cost.")
    level = 1 - (1 - stats.CONFIDENCE) / len(found)
    resamples = max(stats.RESAMPLES, int(20 / (1 - level)))
    parts = {}
    for names, values, own in alike(found):
        each = stats.pooled_at(values, (level,), clusters=own, seed=evidence.seed, resamples=resamples)[0]
        for row, name in enumerate(names):
            one = stats.Interval(each.estimate[row], each.low[row], each.high[row], each.n[row])
            parts[name] = effect_of(one, smallest(values[row]))
    parts = {name: parts[name] for name in found}
    worst = min(parts.values(), key=lambda part: part.high)
    shown = {name: part for name, part in parts.items() if part.high < 0}
    remark = f"The smaller dense model is shown to win in {len(shown)} of {len(parts)} comparisons."
    return Outcome(worst, {**shown, **without}, evidence.models(), remark)


def neighbours(
    evidence: Evidence, claim: Claim, lengths: Iterable[int]
) -> Iterator[tuple[str, Place, stats.Array | None]]:
    """Neighbouring models with each method of the larger, and the weights of its settings at equal cost.

    The dense larger model stands at the upper end of each method's settings.
    """
    cost = evidence.cost(claim.cells)
    base = evidence.dense_cost(cost)
    labels = evidence.data["model"].values
    for length in lengths:
        priced = [int(m) for m in np.flatnonzero(np.isfinite(base[:, length]))]
        for small, large in pairwise(sorted(priced, key=lambda m: float(base[m, length]))):
            for method in evidence.methods:
                ran = np.isfinite(evidence.scores[large, method, :, length]).any((-2, -1))
                if not ran.any():
                    continue
                prices = np.where(ran, cost[large, method, :, length], np.nan)
                prices = np.where(evidence.nominal == 0, base[large, length], prices)
                name = (
                    f"{evidence.setting(large, method)} against {labels[small]}, {tokens(evidence, length)}"
                )
                weights = stats.equal_cost_weights(prices, float(base[small, length]))
                yield name, Place(small, large, method, length), weights


def read(evidence: Evidence, weights: stats.Array, place: Place, task: int) -> stats.Array:
    """Scores of the prompts, straight between the settings of equal cost; dense attention at sparsity 0."""
    total = np.zeros(evidence.scores.shape[-1])
    for s in np.flatnonzero(weights):
        own = evidence.scores[place.large, place.method, s, place.length, task]
        total += weights[s] * (
            own if evidence.nominal[s] > 0 else evidence.dense[place.large, place.length, task]
        )
    return total
