"""Tables of the page on length: tolerated budgets of every curve and length, and their exponents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import stats, tables
from sparsestudy.cells import group_of
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import Claim, load
from sparsestudy.claims.tolerances import budget_exponent, curves, limits_of
from sparsestudy.errors import StudyError
from sparsestudy.view import Run

OPEN_ABOVE, OPEN_BELOW, CLOSED = "open above", "open below", "closed"
FIXED, GROWS = "fixed", "grows"


def claim() -> Claim:
    """The committed claim on length, whose cells, margin and test this page has."""
    return next(one for one in load(list(ESTIMANDS)) if one.id == "length-tolerance")


def evidence_of(run: Run) -> Evidence | None:
    """The cells of the claim; None where the run has none that can lose anything."""
    try:
        return Evidence.of(run.data, claim().cells, claim().id)
    except StudyError:
        return None


def budgets(run: Run) -> pd.DataFrame:
    """One row a curve and length: the limits of the tolerated budget in tokens, and of the sparsity.

    ``budget_high`` is shown to be enough and ``budget_low`` to be too little; NaN where no setting shows it,
    which ``censored`` tells. Empty where the run has no cell of the claim.
    """
    evidence = evidence_of(run)
    if evidence is None:
        return pd.DataFrame()
    found = curves(evidence, claim().margin, joint=False)
    limits = limits_of(evidence, found)
    growth = _growth(evidence)
    rows = []
    for row, place in enumerate(found.places):
        state, high = str(found.known.state[row]), float(limits[2, row])
        low = float(limits[1, row])
        told = state != stats.CANNOT_SAY
        censored = CLOSED if low > 0 and np.isfinite(high) else OPEN_BELOW if low <= 0 else OPEN_ABOVE
        rows.append(
            _labels(evidence, place.model, place.method, place.task)
            | {
                "run": run.name,
                "length": int(evidence.label("length", place.length)),
                "tokens": float(limits[0, row]),
                "evidence": growth.get(place.task, FIXED),
                "state": state,
                "kept": float(found.known.kept[row]),
                "lost": float(found.known.lost[row]),
                "budget_low": low if told and low > 0 else np.nan,
                "budget_high": high if told and np.isfinite(high) else np.nan,
                "censored": censored if told else state,
                "n": int(found.known.n[row]),
            }
        )
    return pd.DataFrame(rows)


def _labels(evidence: Evidence, model: int, method: int, task: int) -> dict[str, Any]:
    name, label, fields, phase, tail = (
        evidence.label(key, method)
        for key in ("method_name", "method", "method_fields", "method_phase", "method_tail")
    )
    return {
        "model": evidence.label("model", model),
        "parameters": int(evidence.label("model_parameters", model)),
        "method": label,
        "method_name": name,
        "method_role": "method",
        "name": tables.short_name(name, label, fields),
        "group": group_of(phase, tail),
        "task": evidence.label("task", task),
        "subject": evidence.task(task),
        "part": evidence.curve(model, method, task),
    }


def _growth(evidence: Evidence) -> dict[int, str]:
    """Whether the tokens of a task's evidence grow with the prompt: by more than the root of its length."""
    start, stop = (
        evidence.data[name]
        .transpose("model", "length", "task", "sample", "evidence")
        .to_numpy()
        .astype(float)
        for name in ("evidence_start", "evidence_stop")
    )
    size = np.where(start >= 0, stop - start, 0).sum(-1).mean(-1)  # (model, length, task)
    tokens = evidence.tokens
    found = {}
    for task in range(size.shape[2]):
        model = int(np.argmax((size[:, :, task] > 0).sum(1)))
        some = np.flatnonzero((size[model, :, task] > 0) & (tokens[model, :, task] > 0))
        if len(some) < 2:
            continue
        first, last = some[0], some[-1]
        ratio = size[model, last, task] / size[model, first, task]
        grows = ratio > np.sqrt(tokens[model, last, task] / tokens[model, first, task])
        found[task] = GROWS if grows else FIXED
    return found


def exponents(run: Run, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The exponent of every curve, and why there are none, which is empty otherwise.

    Args:
        run: the run.
        rows: its `budgets`.
    """
    evidence = evidence_of(run)
    if evidence is None:
        return pd.DataFrame(), "The run compares no method with dense attention above guessing."
    try:
        outcome = budget_exponent(evidence, claim())
    except StudyError as error:
        return pd.DataFrame(), str(error)
    found = []
    for part, effect in outcome.parts.items():
        own = rows[(rows["part"] == part) & (rows["state"] != stats.CANNOT_SAY)]
        first = own.iloc[0]
        keys = (
            "run",
            "model",
            "parameters",
            "method",
            "name",
            "group",
            "task",
            "subject",
            "evidence",
            "part",
        )
        found.append(
            {key: first[key] for key in keys}
            | {"estimate": effect.estimate, "low": effect.low, "high": effect.high, "n": effect.n}
            | {"lengths": len(own), "open_above": int((own["censored"] == OPEN_ABOVE).sum())}
            | {"open_below": int((own["censored"] == OPEN_BELOW).sum())}
        )
    return pd.DataFrame(found), ""


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the model with the most parameters, for figures; tables hold all."""
    return rows[rows["parameters"] == rows["parameters"].max()].reset_index(drop=True)
