"""Estimands of accuracy against cost over models of several sizes: the frontier and the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsestudy import stats
from sparsestudy.claims.evidence import Effect, Evidence, Outcome, independent_mean
from sparsestudy.claims.specs import Claim
from sparsestudy.errors import StudyError


@dataclass(frozen=True)
class Configurations:
    """All configurations at one length, dense models first, then each sparse setting.

    Args:
        names: in words.
        cost: (configurations,).
        dense: (configurations,), True for dense models.
        scores: (configurations, tasks, samples that the length has), complete.
        tasks: places of the tasks.
        places: (model, method, sparsity) of each, as places in the data.
    """

    names: list[str]
    cost: stats.Array
    dense: NDArray[np.bool_]
    scores: stats.Array
    tasks: list[int]
    places: list[tuple[int, int, int]]


def configurations(evidence: Evidence, claim: Claim, length: int, sizes: int = 2) -> Configurations | None:
    """What was scored on the same tasks by dense models of as many costs at one length; None without.

    Raises:
        StudyError: the dataset holds no cost.
    """
    cost = evidence.cost(claim.cells)
    base = evidence.dense_cost(cost)[:, length]
    asked = evidence.asked[length]
    dense = evidence.dense[:, length][..., asked]
    known = np.isfinite(dense).all(-1) & np.isfinite(base)[:, None] & asked.any()  # (model, task)
    models = np.flatnonzero(known.any(1))
    tasks = [int(t) for t in np.flatnonzero(known[models].all(0))] if len(models) else []
    if not tasks or len(set(base[models])) < sizes:
        return None
    labels = evidence.data["model"].values
    names, costs = [f"{labels[m]}, dense" for m in models], [float(base[m]) for m in models]
    scores = [dense[m, tasks] for m in models]
    places = [(int(m), *evidence.dense_place) for m in models]
    for model, method, s in np.argwhere(np.isfinite(evidence.scores[:, :, :, length]).any((-2, -1))):
        own = evidence.scores[model, method, s, length, tasks][:, asked]
        price = cost[model, method, s, length]
        if np.isfinite(own).all() and np.isfinite(price):
            names.append(f"{evidence.setting(int(model), int(method))}, sparsity {evidence.nominal[s]:g}")
            costs.append(float(price))
            scores.append(own)
            places.append((int(model), int(method), int(s)))
    is_dense = np.arange(len(names)) < len(models)
    return Configurations(names, np.array(costs), is_dense, np.stack(scores), tasks, places)


def by_length(evidence: Evidence, claim: Claim) -> dict[int, Configurations]:
    """The configurations of every length that has them, on the tasks that tell the sizes apart.

    Raises:
        StudyError: no length has any, or no task tells the sizes apart.
    """
    lengths = range(evidence.scores.shape[3])
    found = {length: configurations(evidence, claim, length) for length in lengths}
    kept = {length: some for length, some in found.items() if some is not None}
    if not kept:
        count = len(evidence.models())
        raise StudyError(
            "The claim compares dense models of two costs on the same task, and of those the run has "
            f"{min(count, 1)}."
        )
    told = {length: contrasted(evidence, some, length) for length, some in kept.items()}
    telling = {length: some for length, some in told.items() if some.tasks}
    if not telling:
        raise StudyError(
            "No larger dense model is shown to score higher than the smallest one on any task, so its cost "
            "buys nothing that sparsity could make cheaper."
        )
    return telling


def contrasted(evidence: Evidence, some: Configurations, length: int) -> Configurations:
    """The same on the tasks on which a larger dense model is shown to score higher than the smallest.

    Elsewhere, as where all sizes know every answer, no model could be better than the smallest dense one, and
    the comparison would say nothing about sparse attention. With dense models of one cost no task is left.
    """
    dense, base = some.scores[some.dense], some.cost[some.dense]
    if (base == base.min()).all():
        return replace(some, scores=some.scores[:, :0], tasks=[])
    more = dense[base > base.min()] - dense[base == base.min()][0]
    labels = evidence.texts(length, some.tasks)
    shown = stats.stratified(more, clusters=labels, seed=evidence.seed).each.low > 0
    kept = np.flatnonzero(shown.any(0))
    return replace(some, scores=some.scores[:, kept], tasks=[some.tasks[i] for i in kept])


def tokens(evidence: Evidence, length: int) -> str:
    """A length in words."""
    return f"{int(evidence.label('length', length)):,} tokens"


def effect_of(interval: stats.Interval, n: int) -> Effect:
    """An interval of one number as an effect."""
    return Effect(float(interval.estimate), float(interval.low), float(interval.high), n)


def frontier(evidence: Evidence, claim: Claim) -> Outcome:
    """Mean height of the full frontier above the dense-only one over the lengths; parts also by task.

    Raises:
        StudyError: no cost, or no length with two dense models.
    """
    parts, whole = {}, []
    for length, some in by_length(evidence, claim).items():
        n = some.scores.shape[2]
        chosen = evidence.texts(length, some.tasks)
        gain = stats.frontier_gain(some.cost, some.dense, some.scores, clusters=chosen, seed=evidence.seed)
        whole.append(effect_of(gain, n))
        parts[tokens(evidence, length)] = whole[-1]
        for place, task in enumerate(some.tasks if len(some.tasks) > 1 else []):
            one = some.scores[:, place : place + 1]
            own = evidence.texts(length, [task])
            alone = stats.frontier_gain(some.cost, some.dense, one, clusters=own, seed=evidence.seed)
            parts[f"{tokens(evidence, length)}, {evidence.task(task)}"] = effect_of(alone, n)
    return Outcome(independent_mean(whole), parts, evidence.models())


def decision(evidence: Evidence, claim: Claim) -> Outcome:
    """For the budget of each dense model: the best configuration less the best dense one within it.

    Raises:
        StudyError: no cost, or no length with two dense models.
    """
    parts: dict[str, Effect] = {}
    whole, told = [], []
    names = evidence.data["model"].values
    for length, some in by_length(evidence, claim).items():
        own = evidence.texts(length, some.tasks)
        at_length = []
        for place in np.flatnonzero(some.dense):
            budget = float(some.cost[place])
            won = stats.winner(some.cost, some.dense, some.scores, budget, clusters=own, seed=evidence.seed)
            order = np.argsort(-won.chosen, kind="stable")
            taken = [some.names[i] for i in order[:2] if won.chosen[i] > 0] or ["a dense model"]
            name = f"{tokens(evidence, length)}, budget of {some.names[place]}: {', then '.join(taken)}"
            parts[name] = effect_of(won.gain, some.scores.shape[2])
            at_length.append(parts[name])
        whole.append(_together(at_length))
        told.append(tokens(evidence, length))
    remark = f"Budgets are the costs of {', '.join(map(str, names))} at {', '.join(told)}."
    return Outcome(independent_mean(whole), parts, evidence.models(), remark)


def _together(parts: list[Effect]) -> Effect:
    """The mean of effects on the same prompts, with limits as if they rose and fell together."""
    estimate, low, high = (float(np.mean([part[i] for part in parts])) for i in range(3))
    return Effect(estimate, low, high, min(part.n for part in parts))
