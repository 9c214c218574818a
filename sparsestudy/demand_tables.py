"""What a task demands against what is tolerated: variants along one field, and the loss of one step more."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy import stats
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.specs import Cells
from sparsestudy.errors import StudyError
from sparsestudy.tables import subject
from sparsestudy.tasks import TASKS
from sparsestudy.view import Run

CURVE = ["model", "length", "method"]
KNOWN = ["state", "kept", "kept_holm", "lost", "n"]
"""What one curve of accuracy against sparsity is of, and what is known of its tolerance."""


def axes(data: xr.Dataset) -> pd.DataFrame:
    """The variants that differ in one number alone: a row for each number and each variant along it.

    Columns are ``axis`` (task and number in words, and what else its variants share where others of the task
    differ), ``demand`` (the number in words), ``value``, and ``subject`` and ``place`` of the variant. A
    variant stands on every axis that it belongs to; one that nothing is compared with stands on none.
    """
    facts = [data[name].values.tolist() for name in ("task_name", "task", "task_fields")]
    variants: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for place, (name, label, fields) in enumerate(zip(*facts, strict=True)):
        task = dataclasses.asdict(TASKS[name](**json.loads(fields or "{}")))
        variants.setdefault(name, []).append((place, subject(name, label, fields), task))
    rows: list[dict[str, Any]] = []
    for name, own in variants.items():
        varied = [key for key in own[0][2] if len({str(task[key]) for _, _, task in own}) > 1]
        for field in varied:
            rows += _along(name, field, [key for key in varied if key != field], own)
    columns = ["axis", "demand", "value", "subject", "place"]
    return pd.DataFrame(rows, columns=columns).sort_values(["axis", "value"], kind="stable", key=_ordered)


def _along(
    name: str, field: str, others: list[str], variants: list[tuple[int, str, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The axes of one field: as many as there are sets of other values with several of its own."""
    demand, rows = field.replace("_", " "), []
    kept = [one for one in variants if isinstance(one[2][field], int) and not isinstance(one[2][field], bool)]
    for shared in dict.fromkeys(tuple(task[key] for key in others) for _, _, task in kept):
        some = [one for one in kept if tuple(one[2][key] for key in others) == shared]
        if len({task[field] for _, _, task in some}) < 2:
            continue
        told = ", ".join(f"{key} {value}" for key, value in zip(others, shared, strict=True))
        axis = f"{name}: {demand}".replace("_", " ") + (f" ({told})".replace("_", " ") if told else "")
        rows += [
            {"axis": axis, "demand": demand, "value": task[field], "subject": text, "place": place}
            for place, text, task in some
        ]
    return rows


def _ordered(column: pd.Series) -> pd.Series:
    """Axes in the order of the run, values in their own."""
    return (
        column.map({name: i for i, name in enumerate(column.unique())}) if column.name == "axis" else column
    )


def tolerated(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """What is tolerated along every axis, with what dense attention scores there.

    Args:
        run: the run.
        rows: its `sparsestudy.tolerance_tables.tolerances`.

    Returns:
        One row a model, length, axis, value and method or control: the columns of `axes` and of ``rows``, and
        ``score`` with its limits, ``samples`` and ``chance`` of dense attention. A variant on which dense
        attention cannot be told from guessing has no curve: its ``state`` is that nothing can be said.
    """
    if rows.empty:
        return rows
    # A control that stands beside no method in particular comes once for each: here it has one row.
    curves = rows.drop_duplicates([*CURVE, "subject"])[[*CURVE, "subject", *KNOWN]]
    methods = rows.drop_duplicates(CURVE)[[*CURVE, "name", "method_name", "group", "short", "kind"]]
    table = run.table
    dense = table[(table["method_role"] == "dense") & (table["n"] > 0)].rename(columns={"n": "samples"})
    scores = ["score", "score_low", "score_high", "chance", "samples"]
    found = axes(run.data).merge(methods, how="cross").merge(curves, how="left", on=[*CURVE, "subject"])
    found = found.merge(dense[["model", "length", "subject", *scores]], on=["model", "length", "subject"])
    return found.assign(state=found["state"].fillna(stats.CANNOT_SAY), n=found["n"].fillna(0).astype(int))


def steps(run: Run) -> pd.DataFrame:
    """What one step more on an axis costs: the slope of the mean loss against the number, by least squares.

    The loss of a prompt is its dense score less its sparse one, the mean over all sparsities that the method
    ran on every variant, so that no sparsity is chosen by looking. Prompts are resampled within each variant.
    Variants that dense attention cannot be told from guessing on are left out.

    Returns:
        One row a model, length, axis and method: ``slope`` with limits, ``first`` and ``last`` value, the
        mean loss there (``loss_first``, ``loss_last``), ``settings`` (sparsities) and ``n`` prompts of
        each variant.
    """
    try:
        evidence = Evidence.of(run.data, Cells(), "demands")
    except StudyError:
        return pd.DataFrame()
    loss = -evidence.differences  # (model, method, sparsity, length, task, sample)
    rows = []
    for axis, some in axes(run.data).groupby("axis", sort=False):
        for model, method, length in np.argwhere(np.isfinite(loss).any((2, 4, 5))).tolist():
            own = loss[model, method, :, length][:, some["place"]]  # (sparsity, variant, sample)
            found = _step(own, some["value"].to_numpy(float), evidence.seed)
            if found:
                rows.append(
                    {
                        "model": str(run.data["model"].values[model]),
                        "length": int(run.data["length"].values[length]),
                        "axis": str(axis),
                        "demand": str(some["demand"].iloc[0]),
                        "method": str(run.data["method"].values[method]),
                        "name": evidence.method(method),
                        **found,
                    }
                )
    return pd.DataFrame(rows)


def _step(loss: stats.Array, value: stats.Array, seed: int) -> dict[str, float | int]:
    """The slope of the mean loss against the value, or nothing where fewer than two variants ran.

    Args:
        loss: (sparsity, variant, sample), NaN where not measured.
        value: (variant,), the number that grows.
        seed: of the resamples.
    """
    loss = loss[..., np.isfinite(loss).any((0, 1))]
    variants = np.flatnonzero(np.isfinite(loss).any((0, 2)))
    shared = np.flatnonzero(np.isfinite(loss[:, variants]).all((1, 2))) if len(variants) else variants
    if len(variants) < 2 or not len(shared):
        return {}
    own, x = loss[shared][:, variants].mean(0), value[variants]  # (variant, sample)
    weight = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    draws = np.zeros(stats.RESAMPLES)
    for place, prompts in enumerate(own):
        several = np.array([seed % 2**63, place])
        draws += weight[place] * (prompts @ stats.shares(len(prompts), stats.RESAMPLES, several))
    low, high = np.quantile(draws, [(1 - stats.CONFIDENCE) / 2, (1 + stats.CONFIDENCE) / 2])
    return {
        "slope": float(weight @ own.mean(1)),
        "slope_low": float(low),
        "slope_high": float(high),
        "first": int(x.min()),
        "last": int(x.max()),
        "loss_first": float(own[x.argmin()].mean()),
        "loss_last": float(own[x.argmax()].mean()),
        "settings": len(shared),
        "n": int(own.shape[1]),
    }
