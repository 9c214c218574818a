"""Tables of the page on tasks: tolerated sparsities with those of the controls beside them, and ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import claim_tables, stats, tables
from sparsestudy.cells import group_of
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.specs import Cells
from sparsestudy.errors import StudyError
from sparsestudy.view import Run

ASIDE = ("random", "oracle", "window")
"""Controls that stand beside a method, in the order of the page."""


def tolerances(run: Run) -> pd.DataFrame:
    """Tolerated sparsity of every curve of methods and, by the same tests, of controls; worst task first.

    Adds to `sparsestudy.claim_tables.tolerances`: ``group``, ``short`` (the method in words, alone), ``kind``
    (``method`` or the name of the control) and ``beside`` (the variant that it stands beside). A control that
    was made for no method comes once for each method of its phase and tail that has none of its kind.
    """
    own = claim_tables.tolerances(run)
    if own.empty:
        return own
    roles = run.data["method_role"].values
    # To the tests a control is a method like others; what holds for all methods together is of `own`.
    tried = run.data.assign_coords(method_role=("method", np.where(roles == "dense", roles, "method")))
    every = claim_tables.tolerances(Run(run.name, tried))
    facts = _facts(run)
    methods = own.merge(facts, on="method")
    methods = methods.assign(kind="method", beside=methods["method"])
    controls = every.merge(facts[facts["role"] != "method"], on="method")
    beside = [_beside(one, controls) for one in methods.drop_duplicates("method").to_dict("records")]
    table = pd.concat([methods, *beside], ignore_index=True)
    rank = {subject: place for place, subject in enumerate(_worst_first(methods))}
    table["worst"] = table["subject"].map(rank)
    order = ["model", "length", "worst", "group", "beside"]
    table = table.sort_values(order, kind="stable", key=lambda column: _ordered(column, methods))
    return table[table["worst"].notna()].drop(columns=["worst", "role", "like"]).reset_index(drop=True)


def _ordered(column: pd.Series, methods: pd.DataFrame) -> pd.Series:
    """Labels in the order of the data, numbers in their own."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    names = list(dict.fromkeys(methods[str(column.name)]))
    return column.map({name: place for place, name in enumerate(names)})


def _facts(run: Run) -> pd.DataFrame:
    """One row a method variant: how it is called and what it stands beside."""
    data = run.data
    rows = []
    for place in range(data.sizes["method"]):
        at = data.isel(method=place)
        name, label, fields = (str(at[key].item()) for key in ("method_name", "method", "method_fields"))
        rows.append(
            {
                "method": label,
                "method_name": name,
                "role": str(at["method_role"].item()),
                "like": str(at["method_like"].item()),
                "group": group_of(str(at["method_phase"].item()), str(at["method_tail"].item())),
                "short": tables.short_name(name, label, fields),
            }
        )
    return pd.DataFrame(rows)


def _beside(method: dict[str, Any], controls: pd.DataFrame) -> pd.DataFrame:
    """The controls of one method variant: those made for it, else those made for none."""
    here = controls[(controls["group"] == method["group"]) & controls["method_name"].isin(ASIDE)]
    mine = here[here["like"] == method["method_name"]]
    rest = here[here["like"].isin(tables.GENERAL) & ~here["method_name"].isin(mine["method_name"])]
    both = pd.concat([mine, rest])
    return both.assign(kind=both["method_name"], beside=method["method"], short=method["short"])


def _worst_first(methods: pd.DataFrame) -> list[str]:
    """The tasks in ascending order of the mean sparsity that is kept, over the curves that can be told."""
    told = methods[methods["state"] != stats.CANNOT_SAY]
    kept = told.groupby("subject", sort=False)["kept"].mean().sort_values(kind="stable")
    blind = [name for name in methods["subject"].unique() if name not in kept.index]
    return [*map(str, kept.index), *blind]


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest model, at the length where most curves can be told, the greatest of these."""
    mine = rows[rows["model"] == rows["model"].iloc[-1]]
    told = mine[(mine["kind"] == "method") & (mine["state"] != stats.CANNOT_SAY)]
    counts = told["length"].value_counts()
    length = max(counts[counts == counts.max()].index) if len(counts) else mine["length"].max()
    return mine[mine["length"] == length].reset_index(drop=True)


def ranks(run: Run) -> pd.DataFrame:
    """Methods of one phase and tail ranked by score on the settings that all of them ran, with intervals.

    One row a model, task and method. Prompts are resampled, with lengths as strata, and all methods ranked
    anew in every resample. Empty where no group has two methods.
    """
    try:
        evidence = Evidence.of(run.data, Cells(), "tolerances")
    except StudyError:
        return pd.DataFrame()
    facts = _facts(run)
    rows = []
    for group, members in facts[facts["role"] == "method"].groupby("group", sort=False):
        methods = [place for place in members.index if place in evidence.methods]
        for model in range(evidence.scores.shape[0]) if len(methods) > 1 else []:
            for task in range(evidence.scores.shape[4]):
                rows += _ranked(evidence, model, methods, task, facts, str(group))
    return pd.DataFrame(rows).assign(run=run.name) if rows else pd.DataFrame()


def _ranked(
    evidence: Evidence, model: int, methods: list[int], task: int, facts: pd.DataFrame, group: str
) -> list[dict[str, Any]]:
    scores = evidence.scores[model, methods, :, :, task]  # (method, sparsity, length, sample)
    ran = np.isfinite(scores) | ~evidence.asked
    shared = np.asarray(ran.all((0, 3))) & evidence.asked.any(-1)  # (sparsity, length)
    lengths = [int(place) for place in np.flatnonzero(shared.any(0))]
    if not lengths:
        return []
    means, drawn = np.zeros(len(methods)), np.zeros((len(methods), stats.RESAMPLES))
    for length in lengths:
        own = scores[:, shared[:, length], length].mean(1)[:, evidence.asked[length]]
        texts = evidence.texts(length, [task])
        labels = None if texts is None else texts[0]
        seed = np.array([evidence.seed % 2**63, length])
        means += own.mean(1) / len(lengths)
        drawn += own @ stats.shares(own.shape[1], stats.RESAMPLES, seed, labels) / len(lengths)
    places = _places(drawn)
    tails = [(1 - stats.CONFIDENCE) / 2, (1 + stats.CONFIDENCE) / 2]
    low, high = np.quantile(places, tails, axis=1, method="inverted_cdf")
    rank = _places(means[:, None])[:, 0]
    shown = [
        {
            "model": str(evidence.data["model"].values[model]),
            "group": group,
            "subject": evidence.task(task),
            "task": str(evidence.data["task"].values[task]),
            "method": facts["method"].iloc[method],
            "name": facts["short"].iloc[method],
            "rank": float(rank[i]),
            "rank_low": float(low[i]),
            "rank_high": float(high[i]),
            "rivals": len(methods),
            "score": float(means[i]),
            "settings": int(shared.sum()),
            "n": int(evidence.asked[lengths].sum(1).min()),
        }
        for i, method in enumerate(methods)
    ]
    return sorted(shown, key=lambda row: row["rank"])


def _places(scores: stats.Array) -> stats.Array:
    """Ranks along the first axis, the best first; equal scores share the best place of theirs."""
    return np.asarray(1.0 + (scores[None] > scores[:, None] + 1e-9).sum(1))


def first_losses(run: Run) -> pd.DataFrame:
    """For each model and method the smallest sparsity with a shown loss on some task and length, if any."""
    table = run.table
    compared = tables.compared(table[table["method_role"] == "method"])
    rows = []
    for (model, method), some in compared.groupby(["model", "method"], sort=False):
        lost = some[tables.loses(some)].sort_values(["nominal", "difference"])
        first = lost.iloc[0] if len(lost) else some.iloc[0]
        rows.append(
            {
                "model": str(model),
                "method": str(method),
                "loss_from": float(first["nominal"]) if len(lost) else np.nan,
                "subject": str(first["subject"]),
                "length": int(first["length"]),
                "pairs": int(first["pairs"]),
                **{key: float(first[key]) for key in ("difference", "difference_low", "difference_high")},
            }
        )
    return pd.DataFrame(rows)
