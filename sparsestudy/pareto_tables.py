"""Tables of the page on accuracy against cost: every setting with its cost, and what each method saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import claim_tables, stats, tables
from sparsestudy.cells import group_of
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.frontiers import Configurations, configurations, contrasted
from sparsestudy.pareto_views import View, evidence_of
from sparsestudy.view import Run


def points(run: Run, view: View, known: Evidence | None = None) -> pd.DataFrame:
    """One row a setting: score, mean over the tasks, and cost; dense, methods, then controls beside them.

    ``relative`` is the cost over that of the dearest dense model at the length, ``share`` that over the cost
    of the same model with dense attention; ``panel`` is the group of the view. Empty where the run has no
    cell of it.

    Args:
        run: the run.
        view: what is set against each other.
        known: the cells of the view, where they were looked up already.
    """
    evidence = known or evidence_of(run, view)
    if evidence is None:
        return pd.DataFrame()
    cost = view.cost(evidence)
    base = evidence.dense_cost(cost)
    rows: list[dict[str, Any]] = []
    for length in range(len(evidence.data["length"])):
        some = configurations(evidence, view.claim, length, sizes=1)
        if some is None:
            continue
        # Marks are means over the tasks of the frontiers, where there are frontiers.
        telling = contrasted(evidence, some, length)
        some = telling if telling.tasks else some
        inside = _scored(evidence, some, length)
        rows += inside
        rows += _controls(run, view, some, length, {str(row["model"]) for row in inside})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    at = (table.pop("at_model"), table.pop("at_method"), table.pop("at_sparsity"), table.pop("at_length"))
    table["cost"] = cost[at]
    table["share"] = table["cost"] / base[at[0], at[3]]
    table["relative"] = table["cost"] / np.nanmax(base, axis=0)[at[3]]
    table["batch"], table["generated"] = view.claim.cells.batch, view.claim.cells.generated
    table["measure"], table["panel"] = view.claim.cells.cost, view.group
    names = [evidence.task(place) for place in range(len(evidence.data["task"]))]
    table["subject"] = [
        names[tasks[0]] if len(tasks) == 1 else f"mean over {len(tasks)} tasks"
        for tasks in table.pop("at_tasks")
    ]
    return table[table["cost"].notna()].assign(run=run.name).reset_index(drop=True)


def _scored(evidence: Evidence, some: Configurations, length: int) -> list[dict[str, Any]]:
    """Rows of the dense models and of the methods, which may be on a frontier."""
    if len(some.tasks) == 1:
        kind = bool(evidence.binary[some.tasks[0]])
        found = stats.mean_interval(some.scores[:, 0], kind, seed=evidence.seed)
    else:
        own = evidence.texts(length, some.tasks)
        level = (stats.CONFIDENCE,)
        found = stats.pooled_at(some.scores, level, clusters=own, seed=evidence.seed)[0]
    return [
        _row(evidence, place, length, some.tasks)
        | {"score": float(found.estimate[i]), "score_low": float(found.low[i])}
        | {"score_high": float(found.high[i]), "n": some.scores.shape[2]}
        for i, place in enumerate(some.places)
    ]


def _row(evidence: Evidence, place: tuple[int, int, int], length: int, tasks: list[int]) -> dict[str, Any]:
    model, method, sparsity = place
    name, role, label, fields, phase, tail = (
        evidence.label(key, method)
        for key in ("method_name", "method_role", "method", "method_fields", "method_phase", "method_tail")
    )
    return {
        "model": evidence.label("model", model),
        "method": label,
        "method_name": name,
        "method_role": role,
        "name": tables.short_name(name, label, fields),
        "group": group_of(phase, tail),
        "length": int(evidence.label("length", length)),
        "sparsity": int(evidence.label("sparsity", sparsity)),
        "nominal": float(evidence.nominal[sparsity]),
        "at_tasks": tasks,
        **dict(zip(("at_model", "at_method", "at_sparsity", "at_length"), (*place, length), strict=True)),
    }


def _controls(
    run: Run, view: View, some: Configurations, length: int, models: set[str]
) -> list[dict[str, Any]]:
    """Rows of the window and of the oracle over single tokens: drawn beside a frontier, never on it."""
    data = run.data
    labels = {dim: data[dim].values.tolist() for dim in ("model", "method", "sparsity", "length", "task")}
    table = tables.overview(run.table)
    table = table[(table["method_role"] != "method") & (table["group"] == view.group) & (table["n"] > 0)]
    table = table[(table["sparsity"] > 0) & (table["length"] == labels["length"][length])]
    table = table[table["model"].isin(models) & table["task"].isin([labels["task"][t] for t in some.tasks])]
    kept = ["model", "method", "method_name", "method_role", "name", "group", "length", "sparsity", "nominal"]
    means = table.groupby(kept, sort=False).agg(
        score=("score", "mean"), n=("n", "min"), tasks=("task", "count")
    )
    whole = means[means["tasks"] == len(some.tasks)].drop(columns="tasks").reset_index()
    return [
        row
        | {
            "at_model": labels["model"].index(row["model"]),
            "at_method": labels["method"].index(row["method"]),
        }
        | {
            "at_sparsity": labels["sparsity"].index(row["sparsity"]),
            "at_length": length,
            "at_tasks": some.tasks,
        }
        for row in whole.to_dict("records")
    ]


def savings(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """What each method saves up to the sparsity that all tasks tolerate, and at most; one row a cost.

    Args:
        run: whose tolerances are asked for.
        rows: `points` of one view or of several.

    ``kept`` is as `sparsestudy.claim_tables.tolerances` has it, the smallest of all tasks; NaN where one
    cannot be told.
    """
    known = claim_tables.tolerances(run)
    methods = rows[rows["method_role"] == "method"]
    found = []
    keys = ["model", "method", "name", "group", "length", "measure", "batch", "generated"]
    for place, some in methods.groupby(keys, sort=False):
        one = dict(zip(keys, place, strict=True))
        told = known[
            (known["model"] == one["model"])
            & (known["method"] == one["method"])
            & (known["length"] == one["length"])
        ]
        kept = float(told["kept"].to_numpy().min()) if len(told) else np.nan
        within = some[some["nominal"] <= kept + 1e-9].sort_values("share")
        most = some.sort_values("share").iloc[0]
        found.append(
            one
            | {"run": run.name, "kept": kept, "n": int(some["n"].min())}
            | _saved(within.iloc[0] if len(within) else None, "")
            | _saved(most, "most_")
        )
    return pd.DataFrame(found)


def _saved(row: pd.Series | None, prefix: str) -> dict[str, float]:
    names = ("nominal", "score", "score_low", "score_high")
    values = {f"{prefix}{name}": np.nan if row is None else float(row[name]) for name in names}
    # With nothing kept the method is dense attention, which saves nothing.
    return values | {f"{prefix}saved": 0.0 if row is None else 1 - float(row["share"])}
