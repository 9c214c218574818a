"""What dense attention scores on each task: with the whole context, with the evidence alone, with none."""

from __future__ import annotations

import json

import pandas as pd

from sparsestudy import words
from sparsestudy.tables import subject
from sparsestudy.view import Run

NOT_MEASURED = "not measured"
# Context of a prompt -> heading of the column.
CONTEXTS = {"full": "whole context", "evidence": "evidence alone", "none": "no context"}
_PLACE = ["run", "model", "variant", "length"]


def dense(runs: list[Run]) -> pd.DataFrame:
    """Every cell of dense attention, one a row, with ``variant``: the task in words, its context apart."""
    tables = [run.table for run in runs]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    table = table[(table["method_role"] == "dense") & (table["n"] > 0)].reset_index(drop=True)
    table = table.assign(variant=[_variant(row) for row in table.to_dict("records")])
    return table.sort_values(_PLACE, kind="stable", ignore_index=True)


def _variant(row: dict[str, object]) -> str:
    """A task variant in words, whatever its context."""
    fields = json.loads(str(row["task_fields"]) or "{}")
    fields.pop("context", None)
    label = "".join(f"-{name}_" for name in fields)
    return subject(str(row["task_name"]), label, json.dumps(fields))


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """The scores of one task: a row for each run, model, variant and length, with intervals and counts."""
    found = []
    for place, rows in table.groupby(_PLACE, sort=False):
        contexts = {str(row["task_context"]): row for row in rows.to_dict("records")}
        run, model, variant, length = place
        shown = {"run": run, "model": model, "variant": variant, "length": f"{length:,}"}
        for context, heading in CONTEXTS.items():
            row = contexts.get(context)
            shown[heading] = f"{words.interval(row)}, n = {int(row['n'])}" if row else NOT_MEASURED
            if context != "evidence":
                shown[f"guessing, {heading}"] = words.number(row["chance"]) if row else NOT_MEASURED
        found.append(shown)
    return pd.DataFrame(found)


def able(table: pd.DataFrame) -> pd.DataFrame:
    """For each run, model and variant with the whole context: the lengths at which it beats guessing."""
    found = []
    for place, rows in table[table["task_context"] == "full"].groupby(_PLACE[:-1], sort=False):
        run, model, variant = place
        certain = rows["chance"] >= 1
        found.append(
            {
                "run": run,
                "model": model,
                "task": variant,
                "better than guessing at": _lengths(rows[~rows["floor"] & ~certain]),
                "no better at": _lengths(rows[rows["floor"]]),
                "guessing is always right at": _lengths(rows[certain]),
            }
        )
    return pd.DataFrame(found)


def _lengths(rows: pd.DataFrame) -> str:
    lengths = sorted(rows["length"].unique())
    return words.listed(f"{int(length):,}" for length in lengths) if lengths else words.DASH
