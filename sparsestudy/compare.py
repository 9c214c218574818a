"""A local run beside the published one, cell by cell: the same, within noise, or different.

Cells are the same when model, weights, method variant, task variant, length and nominal sparsity
agree. Where both runs used the same prompts the samples are paired by the prompt's hash; otherwise the
two means are compared as independent ones.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy import stats, tables
from sparsestudy.cells import summarise
from sparsestudy.schema import CELL

SAME, NOISE, DIFFERS, ALONE = "same", "within noise", "differs", "only here"
_IDENTITY = ("method_name", "method_phase", "method_tail", "method_fields", "task_name", "task_fields")


def beside(local: xr.Dataset, published: dict[str, xr.Dataset]) -> pd.DataFrame:
    """One row for every cell of a local run, with the published cell that it repeats.

    Args:
        local: one local run.
        published: the published runs, by name.

    Returns:
        The distinct cells of the local run (see `sparsestudy.tables`) with ``published_run`` (empty when no
        run holds the cell), the published values as ``published_<column>``, ``paired`` (number of
        shared prompts), ``change`` with limits (local minus published), ``equal`` (whether every shared
        score is equal) and ``verdict``. The limits hold for all rows together (Bonferroni).
    """
    mine = tables.distinct(tables.tidy(summarise(local)))
    theirs = [_keyed(ds, run) for run, ds in published.items()]
    others = pd.concat(theirs, ignore_index=True) if theirs else mine.iloc[:0].assign(run="", sha="")
    mine = mine.assign(sha=mine["model"].map(_weights(local)))
    keys = [*CELL, *_IDENTITY, "sha"]
    kept = ["run", "score", "score_low", "score_high", "n", "achieved", "state"]
    # of several published runs that hold a cell, the first one by name stands for it
    first = others.drop_duplicates(keys)[[*keys, *kept]]
    table = mine.merge(first.rename(columns={name: f"published_{name}" for name in kept}), "left", on=keys)
    table["published_run"] = table["published_run"].fillna("")
    return _judged(table, local, published)


def _weights(ds: xr.Dataset) -> dict[str, str]:
    return dict(zip(ds["model"].values.tolist(), ds["model_weights_sha256"].values.tolist(), strict=True))


def _keyed(ds: xr.Dataset, run: str) -> pd.DataFrame:
    table = tables.tidy(summarise(ds))
    return table.assign(run=run, sha=table["model"].map(_weights(ds)))


def _judged(table: pd.DataFrame, local: xr.Dataset, published: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Add paired counts, changes with limits, and the verdict."""
    both = table["n"].gt(0) & table["published_n"].gt(0)
    rows = table[both]
    confidence = 1 - tables.LEVEL / max(len(rows), 1)
    pairs = [_scores(row, local, published[row["published_run"]]) for row in rows.to_dict("records")]
    mine, theirs = _padded([p[0] for p in pairs]), _padded([p[1] for p in pairs])
    binary = rows["task_binary"].to_numpy().astype(bool)
    seed = stats.seed_of("compare", local.attrs.get("run"))
    paired = stats.paired_difference(mine, theirs, binary, confidence=confidence, seed=seed)
    alone = _independent(rows, local, published, confidence, seed)
    has_pairs = paired.n > 0
    for name, values, other in (
        ("change", paired.estimate, alone[0]),
        ("change_low", paired.low, alone[1]),
        ("change_high", paired.high, alone[2]),
    ):
        table.loc[both, name] = np.where(has_pairs, values, other)
    table["paired"] = 0
    table.loc[both, "paired"] = paired.n
    table["equal"] = False
    table.loc[both, "equal"] = has_pairs & (paired.gains == 0) & (paired.losses == 0)
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table


def _padded(rows: list[stats.Array]) -> stats.Array:
    out = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def _cell(ds: xr.Dataset, row: dict[str, Any]) -> xr.Dataset:
    return ds[["score", "prompt_id"]].sel({dim: row[dim] for dim in CELL})


def _scores(row: dict[str, Any], local: xr.Dataset, other: xr.Dataset) -> tuple[stats.Array, stats.Array]:
    """Scores of the prompts that both runs scored, in the same order."""
    mine, theirs = _cell(local, row), _cell(other, row)
    _, here, there = np.intersect1d(
        _identifiers(mine), _identifiers(theirs), assume_unique=True, return_indices=True
    )
    return mine["score"].to_numpy().astype(float)[here], theirs["score"].to_numpy().astype(float)[there]


def _identifiers(cell: xr.Dataset) -> Any:
    """Prompt hashes; a sample without one gets a name that nothing else has."""
    ids = [str(value) for value in cell["prompt_id"].values]
    return np.array([text or f"{id(cell)}-{index}" for index, text in enumerate(ids)], dtype=object).astype(
        str
    )


def _independent(
    rows: pd.DataFrame, local: xr.Dataset, published: dict[str, xr.Dataset], confidence: float, seed: int
) -> tuple[stats.Array, stats.Array, stats.Array]:
    """Differences of two means whose samples have nothing in common."""
    records = rows.to_dict("records")
    binary = rows["task_binary"].to_numpy().astype(bool)
    intervals = []
    for source in ([local] * len(records), [published[row["published_run"]] for row in records]):
        scores = _padded(
            [_cell(ds, row)["score"].to_numpy() for ds, row in zip(source, records, strict=True)]
        )
        intervals.append(stats.mean_interval(scores, binary, confidence=confidence, seed=seed))
    low, high = stats.combine(*intervals)
    return intervals[0].estimate - intervals[1].estimate, low, high


def _verdict(row: dict[str, Any]) -> str:
    if not row["published_run"]:
        return ALONE
    if not (row["n"] > 0 and row["published_n"] > 0):
        return SAME if row["state"] == row["published_state"] else DIFFERS
    if row["equal"]:
        return SAME
    return NOISE if row["change_low"] <= 0 <= row["change_high"] else DIFFERS


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many cells have each verdict, all four named."""
    found = table["verdict"].value_counts()
    return {verdict: int(found.get(verdict, 0)) for verdict in (SAME, NOISE, DIFFERS, ALONE)}


def matched(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that ran in both."""
    return cast(pd.DataFrame, table[table["change"].notna()]) if "change" in table else table.iloc[:0]
