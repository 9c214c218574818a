"""Tables over models of several sizes: the frontiers with their bands, and pairs of models at equal cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import stats
from sparsestudy.claims import pairs
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.frontiers import by_length
from sparsestudy.errors import StudyError
from sparsestudy.pareto_views import View, compared, evidence_of
from sparsestudy.view import Run


def curves(run: Run, view: View, known: Evidence | None = None) -> pd.DataFrame:
    """Both frontiers of every length, one row a point, with bands and gain; empty with one dense cost.

    Arguments: as `sparsestudy.pareto_tables.points`.
    """
    evidence = known or evidence_of(run, view)
    if evidence is None:
        return pd.DataFrame()
    try:
        lengths = by_length(evidence, view.claim)
    except StudyError:
        return pd.DataFrame()
    rows = []
    for length, some in lengths.items():
        own = evidence.texts(length, some.tasks)
        found = stats.frontiers(some.cost, some.dense, some.scores, clusters=own, seed=evidence.seed)
        gain = found.gain
        for part, height in (("dense", found.dense), ("full", found.full)):
            for i, cost in enumerate(found.cost):
                rows.append(
                    {
                        "run": run.name,
                        "length": int(evidence.data["length"].values[length]),
                        "group": view.group,
                        "panel": view.group,
                        "measure": view.claim.cells.cost,
                        "batch": view.claim.cells.batch,
                        "generated": view.claim.cells.generated,
                        "part": part,
                        "cost": float(cost),
                        "relative": float(cost / found.cost[-1]),
                        "score": float(height.estimate[i]),
                        "score_low": float(height.low[i]),
                        "score_high": float(height.high[i]),
                        "n": some.scores.shape[2],
                        "estimate": float(gain.estimate),
                        "low": float(gain.low),
                        "high": float(gain.high),
                    }
                )
    return pd.DataFrame(rows)


def neighbours(run: Run, view: View, known: Evidence | None = None) -> pd.DataFrame:
    """Each larger sparse model less the smaller dense one at equal cost, over all tasks and by task.

    One row a pair of models, method, length and task; ``task`` is empty over all, where ``state`` is
    "no equal-cost point" without one. Empty with one dense cost. Intervals hold one at a time.

    Arguments: as `sparsestudy.pareto_tables.points`.
    """
    evidence = known or evidence_of(run, view)
    lengths = compared(evidence, view)
    if evidence is None or not lengths:
        return pd.DataFrame()
    every = list(pairs.neighbours(evidence, view.claim, lengths))
    rows: list[dict[str, Any]] = []
    for length, some in lengths.items():
        here = [(place, weights) for _, place, weights in every if place.length == length]
        rows += [_pair(evidence, view, place) for place, weights in here if weights is None]
        met = [(place, weights) for place, weights in here if weights is not None]
        if not met:
            continue
        values = np.array(
            [
                [
                    pairs.read(evidence, weights, place, task) - evidence.dense[place.small, length, task]
                    for task in some.tasks
                ]
                for place, weights in met
            ]
        )
        own = None if evidence.documents is None else evidence.documents[length, some.tasks]
        found = stats.stratified(values, clusters=own, seed=evidence.seed)
        for i, (place, _) in enumerate(met):
            rows.append(_pair(evidence, view, place, found.pooled, (i,)))
            for j, task in enumerate(some.tasks):
                more = {"subject": evidence.task(task), "task": evidence.label("task", task)}
                rows.append(_pair(evidence, view, place, found.each, (i, j)) | more)
    return pd.DataFrame(rows).assign(run=run.name)


def _pair(
    evidence: Evidence,
    view: View,
    place: pairs.Place,
    interval: stats.Interval | None = None,
    at: tuple[int, ...] = (),
) -> dict[str, Any]:
    state = pairs.NO_POINT if interval is None else "compared"
    numbers = [np.nan] * 3 if interval is None else [float(part[at]) for part in interval[:3]]
    return {
        "model": evidence.label("model", place.large),
        "peer": evidence.label("model", place.small),
        "name": evidence.method(place.method),
        "method": evidence.label("method", place.method),
        "group": view.group,
        "measure": view.claim.cells.cost,
        "batch": view.claim.cells.batch,
        "generated": view.claim.cells.generated,
        "length": int(evidence.label("length", place.length)),
        "task": "",
        "subject": "all tasks",
        "state": state,
        **dict(zip(("difference", "difference_low", "difference_high"), numbers, strict=True)),
        "n": 0 if interval is None else int(interval.n[at]),
    }
