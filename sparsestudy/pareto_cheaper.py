"""The accuracy of the best dense model for less: by any configuration, and by smaller dense models alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import stats, words
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.frontiers import Configurations
from sparsestudy.pareto_views import View, compared, evidence_of
from sparsestudy.pareto_words import cost
from sparsestudy.view import Run
from sparsestudy.words import interval, listed, percent, span, tokens


def table(run: Run, view: View, known: Evidence | None = None) -> pd.DataFrame:
    """The smallest share of the best dense model's cost at which its accuracy is kept; one row a length.

    ``share`` is by any configuration (``name``, the one that most splits chose), ``dense_share`` by dense
    models alone (``dense_name``); 1 where no smaller budget is shown to lose less than the margin, NaN where
    not even its own is, as with few samples. ``difference`` with limits is that at ``share``, and
    ``dense_difference`` that at ``dense_share``. Empty with one dense cost.

    Arguments: as `sparsestudy.pareto_tables.points`.
    """
    evidence = known or evidence_of(run, view)
    lengths = compared(evidence, view)
    rows = []
    for length, some in lengths.items():
        assert evidence is not None
        every = _found(evidence, some, length, np.ones(len(some.cost), bool), view)
        alone = _found(evidence, some, length, some.dense, view)
        rows.append(
            {
                "run": run.name,
                "group": view.group,
                "measure": view.claim.cells.cost,
                "batch": view.claim.cells.batch,
                "generated": view.claim.cells.generated,
                "length": int(evidence.label("length", length)),
                **every,
                **{f"dense_{name}": value for name, value in alone.items() if name != "best"},
                "tasks": len(some.tasks),
                "n": some.scores.shape[2],
            }
        )
    return pd.DataFrame(rows)


def _found(
    evidence: Evidence, some: Configurations, length: int, allowed: Any, view: View
) -> dict[str, float | str]:
    """What one kind of configurations needs."""
    found = stats.cheaper(
        some.cost,
        some.dense,
        some.scores,
        allowed=allowed,
        margin=view.claim.margin,
        clusters=evidence.texts(length, some.tasks),
        seed=evidence.seed,
    )
    at = max(found.kept - 1, 0)
    names = ("difference", "difference_low", "difference_high")
    return {
        "best": evidence.label("model", some.places[found.best][0]),
        "share": float(found.budget[at] / found.budget[0]) if found.kept else np.nan,
        "name": some.names[int(found.chosen[at].argmax())],
        **{name: float(part[at]) for name, part in zip(names, found.change[:3], strict=True)},
    }


def told(rows: pd.DataFrame) -> list[str]:
    """A sentence for each phase and tail, with the largest batch of a decode."""
    sentences = []
    for group, some in _of_largest_batch(rows).groupby("group", sort=False):
        records = some.to_dict("records")
        at = [f"{_share(row['share'])} at {tokens(row['length'])} ({row['name']})" for row in records]
        alone = [
            f"{_share(row['dense_share'])} at {tokens(row['length'])} ({row['dense_name']})"
            for row in records
            if row["dense_share"] < 1
        ]
        sentences.append(
            f"**{group}**, {cost(some.iloc[0])}: {'; '.join(at)}. "
            f"Smaller dense models alone: {'; '.join(alone) or 'none is shown to keep it for less'}. "
            f"n = {span(some['n'])} samples of each task."
        )
    return sentences


def summary(rows: pd.DataFrame) -> str:
    """What it takes at the greatest length that a verdict may use, with the largest batch, in a sentence."""
    enough = rows[rows["n"] >= stats.LEAST] if len(rows) else rows
    if enough.empty:
        return ""
    some = _of_largest_batch(enough[enough["length"] == enough["length"].max()])
    parts = [
        f"**{row['group']}** {_share(row['share'])} of the {cost(row)} ({row['name']}; "
        f"{_alone(row['dense_share'])})"
        for row in some.to_dict("records")
    ]
    return (
        f"At {tokens(some['length'].iloc[0])}, the accuracy of the best dense model is kept, with a loss of "
        f"{stats.MARGIN:g} excluded on average over the tasks, for a part of its cost: {'; '.join(parts)} "
        f"(n = {span(some['n'])})."
    )


def shown(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table as a page shows it, with a caption."""
    records = rows.to_dict("records")
    page = pd.DataFrame(
        {
            "cost": [f"{row['group']}: {cost(row)}" for row in records],
            "length": [f"{row['length']:,}" for row in records],
            "best dense": rows["best"],
            "share, any": [_share(row["share"]) for row in records],
            "by": rows["name"],
            "difference": [interval(row, "difference") for row in records],
            "share, dense": [_share(row["dense_share"]) for row in records],
            "n": rows["n"],
        }
    )
    caption = (
        "How much of the cost of the best dense model its accuracy takes. Budgets fall by a factor of the "
        "root of two, from its own cost down, until a mean loss of the margin over the tasks is no longer "
        f"excluded; difference: at the last budget, with its {words.level()}. Runs: "
        f"{listed(rows['run'].unique())}. n: samples of each task."
    )
    return page, caption


def _share(share: float) -> str:
    """A share of the cost; nothing is known where not even the whole cost excludes the loss."""
    return "cannot say" if np.isnan(share) else percent(share)


def _alone(share: float) -> str:
    """What a smaller dense model does."""
    if np.isnan(share) or share == 1:
        return "no smaller dense model is shown to keep it"
    return f"a smaller dense model keeps it for {percent(share)}"


def _of_largest_batch(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["batch"] == rows["measure"].map(rows.groupby("measure")["batch"].max())]
