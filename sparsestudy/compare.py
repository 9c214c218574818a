"""A local run beside the published one, cell by cell: the same, within noise, or different.

Cells are the same when model, weights, method variant, task variant, length and nominal sparsity
agree. Where both runs used the same prompts the samples are paired by the prompt's hash; otherwise the
two means are compared as independent ones.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from sparsestudy import stats, tables
from sparsestudy.schema import CELL
from sparsestudy.view import Run

SAME, NOISE, DIFFERS, ALONE = "same", "within noise", "differs", "only here"
_IDENTITY = ("method_name", "method_phase", "method_tail", "method_fields", "task_name", "task_fields", "sha")


def beside(local: Run, published: list[Run]) -> pd.DataFrame:
    """One row for every cell of a local run, with the published cell that it repeats.

    Args:
        local: one local run.
        published: the published runs; of several that hold a cell, the first stands for it.

    Returns:
        The distinct cells of the local run (see `sparsestudy.tables`) with ``published_run`` (empty when no
        run holds the cell), the published values as ``published_<column>``, ``paired`` (number of
        shared prompts), ``change`` with limits (local minus published), ``equal`` (whether every shared
        score is equal) and ``verdict``. The limits hold for all rows together (Bonferroni).
    """
    mine = _keyed(local)
    others = pd.concat([_keyed(run) for run in published] or [mine.iloc[:0]], ignore_index=True)
    keys = [*CELL, *_IDENTITY]
    kept = ["run", "score", "score_low", "score_high", "n", "achieved", "state"]
    first = others.drop_duplicates(keys)[[*keys, *kept]]
    table = mine.merge(first.rename(columns={name: f"published_{name}" for name in kept}), "left", on=keys)
    table["published_run"] = table["published_run"].fillna("")
    return _judged(table, local, {run.name: run for run in published})


def _keyed(run: Run) -> pd.DataFrame:
    """The distinct cells of a run with the weights that they were made with."""
    sha = dict(zip(run.data["model"].values, run.data["model_weights_sha256"].values, strict=True))
    table = tables.distinct(run.table)
    return table.assign(sha=table["model"].map(sha))


class _Samples:
    """Scores and prompts of a run, looked up by the labels of a cell."""

    def __init__(self, run: Run) -> None:
        self._score = run.data["score"].transpose(*CELL, "sample").to_numpy().astype(float)
        self._prompt = run.data["prompt_id"].transpose("model", "length", "task", "sample").to_numpy()
        self._at = {dim: {v: i for i, v in enumerate(run.data[dim].values.tolist())} for dim in CELL}

    def scores(self, row: dict[str, Any]) -> stats.Array:
        """All scores of a cell."""
        found: stats.Array = self._score[tuple(self._at[dim][row[dim]] for dim in CELL)]
        return found

    def by_prompt(self, row: dict[str, Any]) -> dict[str, float]:
        """The scores of a cell by the hash of their prompt; samples without one are left out."""
        prompts = self._prompt[tuple(self._at[dim][row[dim]] for dim in ("model", "length", "task"))]
        return {str(p): score for p, score in zip(prompts, self.scores(row), strict=True) if p}


def _judged(table: pd.DataFrame, local: Run, published: dict[str, Run]) -> pd.DataFrame:
    """Add paired counts, changes with limits, and the verdict."""
    both = table["n"].gt(0) & table["published_n"].gt(0)
    rows = table[both]
    binary = rows["task_binary"].to_numpy().astype(bool)
    confidence, seed = 1 - tables.LEVEL / max(len(rows), 1), stats.seed_of("compare", local.name)
    mine, theirs = _Samples(local), {name: _Samples(run) for name, run in published.items()}
    places = [(row, theirs[row["published_run"]]) for row in rows.to_dict("records")]
    pairs = [_shared(mine.by_prompt(row), other.by_prompt(row)) for row, other in places]
    paired = stats.paired_difference(
        _padded([pair[0] for pair in pairs]),
        _padded([pair[1] for pair in pairs]),
        binary,
        confidence=confidence,
        seed=seed,
    )
    here, there = (
        stats.mean_interval(_padded(scores), binary, confidence=confidence, seed=seed)
        for scores in ([mine.scores(row) for row, _ in places], [o.scores(row) for row, o in places])
    )
    alone = (here.estimate - there.estimate, *stats.combine(here, there))
    has_pairs = paired.n > 0
    for name, values, other in zip(("change", "change_low", "change_high"), paired[:3], alone, strict=True):
        table.loc[both, name] = np.where(has_pairs, values, other)
    table["paired"] = 0
    table.loc[both, "paired"] = paired.n
    table["equal"] = False
    table.loc[both, "equal"] = has_pairs & (paired.gains == 0) & (paired.losses == 0)
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table


def _shared(mine: dict[str, float], theirs: dict[str, float]) -> tuple[stats.Array, stats.Array]:
    """Scores of the prompts that both runs have, in the same order."""
    prompts = [prompt for prompt in mine if prompt in theirs]
    return np.array([mine[p] for p in prompts]), np.array([theirs[p] for p in prompts])


def _padded(rows: list[stats.Array]) -> stats.Array:
    out = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


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
