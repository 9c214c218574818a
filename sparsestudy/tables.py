"""Tables of cells: one row a cell, with names to read and the verdict on each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pandas as pd
import xarray as xr

from sparsestudy import stats
from sparsestudy.cells import group_of
from sparsestudy.schema import CELL, NOT_RUN, STATUS

MARGIN = stats.MARGIN
POWER = stats.POWER
LEVEL = 1 - stats.CONFIDENCE
"""Chance of a false alarm that is accepted over all comparisons of a run."""


def _given(label: str, fields: str) -> list[str]:
    """The fields that a label names, in words, less those that the group of a method tells already."""
    known = json.loads(fields) if fields else {}
    named = [key for key in sorted(known) if f"-{key}_" in label and key not in ("phase", "tail")]
    return [f"{key} {known[key]}".replace("_", " ") for key in named]


def short_name(name: str, label: str, fields: str) -> str:
    """A method variant in words, such as ``block sparse`` or ``quest, page size 32``."""
    return ", ".join([name.replace("_", " "), *_given(label, fields)])


def subject(name: str, label: str, fields: str) -> str:
    """A task variant in words, such as ``needle (needles 4, queries 4)``."""
    given = _given(label, fields)
    return name.replace("_", " ") + (f" ({', '.join(given)})" if given else "")


def tidy(summary: xr.Dataset) -> pd.DataFrame:
    """One row a cell that was asked for, in the order of the dataset, with readable names.

    Columns are the variables of `summarise`, the coordinates of the labels, and ``group``, ``name``,
    ``subject`` (the task in words), ``nominal`` (sparsity in 0..1), ``state`` (the status in words) and
    ``note``.
    """
    table = summary.to_dataframe(dim_order=list(CELL)).reset_index()
    table = table[table["status"] != NOT_RUN].reset_index(drop=True)
    places = zip(table["method_phase"], table["method_tail"], strict=True)
    table["group"] = [group_of(phase, tail) for phase, tail in places]
    table["name"] = _named(table, short_name, "method")
    table["subject"] = _named(table, subject, "task")
    table["nominal"] = table["sparsity"] / 1000
    table["state"] = table["status"].map(dict(enumerate(STATUS)))
    told = table["state"].ne("ok") | table["floor"] | table["ceiling"]
    table["note"] = ""
    table.loc[told, "note"] = [_note(row) for row in table.loc[told, NOTED].to_dict("records")]
    return cast(pd.DataFrame, table)


def _named(table: pd.DataFrame, name: Callable[[str, str, str], str], kind: str) -> pd.Series:
    """A column of names of methods or tasks, each made once."""
    columns = [f"{kind}_name", kind, f"{kind}_fields"]
    known = {row[1]: name(*row) for row in table[columns].drop_duplicates().itertuples(index=False)}
    return table[kind].map(known)


NOTED = ["state", "lowest_density", "floor", "ceiling"]
"""Columns that a note is made of."""


def _note(row: dict[str, Any]) -> str:
    """What a reader must know about a cell before trusting its number; empty for most."""
    if row["state"] == "unreachable":
        return f"unreachable: at most {1 - row['lowest_density']:.1%} can be left out"
    if row["state"] not in ("ok", "fell_back_dense"):
        return str(row["state"]).replace("_", " ")
    if row["floor"]:
        return "floor: no better than guessing"
    return "ceiling: every sample right" if row["ceiling"] else ""


# What an oracle that stands beside no method has for its like.
GENERAL = ("", "tokens")


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of dense, methods, and controls that stand beside no method in particular."""
    return cast(pd.DataFrame, table[(table["method_role"] == "method") | table["method_like"].isin(GENERAL)])


def with_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Each method with the controls that stand beside it, as a group of its own; empty where there are none.

    A control that stands beside no method in particular comes again in each group of its phase and tail,
    unless the method has one of the same kind. ``group`` is the method, ``name`` is "method" or the
    kind of control.
    """
    aside = table["method_role"].isin(("control", "oracle"))
    parts = []
    for (group, name, method), own in table[table["method_role"] == "method"].groupby(
        ["group", "name", "method_name"], sort=False
    ):
        here = table[aside & (table["group"] == group)]
        mine = here[here["method_like"] == method]
        if mine.empty:
            continue
        rest = here[here["method_like"].isin(GENERAL) & ~here["method_name"].isin(mine["method_name"])]
        controls = pd.concat([mine, rest])
        names = controls["name"].str.replace(f", like {method.replace('_', ' ')}", "", regex=False)
        both = pd.concat([own.assign(name="method"), controls.assign(name=names)])
        parts.append(both.assign(group=f"{name} ({group})"))
    if not parts:
        return table.iloc[:0]
    # One look for all methods: the group names them.
    first = parts[0]["method_name"].iloc[0]
    found = pd.concat([table[table["method_role"] == "dense"], *parts], ignore_index=True)
    found.loc[found["name"] == "method", "method_name"] = first
    return found


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are runs of their own: at sparsity 0 every method repeats dense, which is kept once."""
    return cast(pd.DataFrame, table[(table["method_role"] == "dense") | (table["sparsity"] > 0)])


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand beside dense: a sparse setting that ran and has pairs."""
    return cast(pd.DataFrame, table[table["difference"].notna()])


def loses(table: pd.DataFrame) -> Any:
    """Rows whose score is lower than dense after correction for the number of comparisons."""
    return (table["difference"] < 0) & (table["p_holm"] < LEVEL)


def keeps(table: pd.DataFrame) -> Any:
    """Rows whose loss is shown to be smaller than the margin: the interval ends above it."""
    return table["difference_low"] > -MARGIN
