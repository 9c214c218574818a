"""Tolerated sparsities by task and method in words, taken from the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import stats
from sparsestudy.claim_words import tolerance_state
from sparsestudy.tolerance_tables import ASIDE
from sparsestudy.words import DASH, counted, interval, level, listed, number, percent, span, tokens


def scene(run: str, rows: pd.DataFrame) -> str:
    """What a run holds on tasks, in a sentence, with the tasks from the worst on."""
    if rows.empty:
        return f"Run `{run}` compares no method with dense attention above guessing."
    own = rows[rows["kind"] == "method"]
    subjects = list(own["subject"].unique())
    told = int((own["state"] != stats.CANNOT_SAY).sum())
    order = (
        f"From the task that tolerates least on, they are {listed(subjects)}."
        if len(subjects) > 1
        else "With one task, whether tolerance depends on the task is **not measured**."
    )
    return (
        f"Run `{run}` holds {counted(own['beside'].nunique(), 'variant')} of methods on "
        f"{counted(len(subjects), 'task')} with {listed(f'`{name}`' for name in own['model'].unique())}; "
        f"{told} of {counted(len(own), 'curve')} can be told (n = {span(own['n'])} pairs each). {order}"
    )


def tasks_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of tasks and methods."""
    own = rows[rows["kind"] == "method"]
    told = int((own["state"] != stats.CANNOT_SAY).sum())
    return (
        f"Tolerated sparsity by task and method, {rows['model'].iloc[0]} at "
        f"{tokens(rows['length'].iloc[0])}, the "
        f"worst task first: from the filled mark, up to which a loss of {stats.MARGIN:g} is excluded (at "
        "zero, "
        "nothing is), to the open one, from which on a larger loss is shown; an arrowhead where none is. "
        "Beside each "
        "method the same budget spent without looking (random) and by the attention that is really paid "
        "(oracle): "
        "where the oracle tolerates much and the method little, the choice is wrong; where the oracle "
        "tolerates "
        f"little, the budget is too small. {told} of {counted(len(own), 'curve')} of methods can be told; "
        "crosses "
        f"mark the others. Each holds at {percent(stats.CONFIDENCE)}, one at a time, n = {span(rows['n'])} "
        "pairs."
    )


def tasks_alt(rows: pd.DataFrame) -> str:
    """What the figure of tasks and methods shows."""
    own = rows[rows["kind"] == "method"]
    parts = [
        f"{row['short']} ({row['group']}) on {row['subject']} {tolerance_state(row)}"
        for _, row in own.iterrows()
    ]
    return (
        f"Interval plot of tolerated sparsity, {rows['model'].iloc[0]} at {tokens(rows['length'].iloc[0])}: "
        "a panel "
        f"for each task, phase and tail, a row for each method with its controls. {'; '.join(parts)}."
    )


def beside(rows: pd.DataFrame) -> list[str]:
    """For each method and task: what it tolerates, and what its controls do.

    Args:
        rows: of one model and length.
    """
    told = []
    for (name, group, subject), some in rows.groupby(["beside", "group", "subject"], sort=False):
        del name
        own = some[some["kind"] == "method"].iloc[0]
        parts = [
            f"{kind} {tolerance_state(some[some['kind'] == kind].iloc[0])}"
            for kind in ASIDE
            if (some["kind"] == kind).any()
        ]
        controls = f"; beside it {listed(parts)}" if parts else ""
        told.append(
            f"**{own['short']}** ({group}), {subject}: {tolerance_state(own)}{controls} (n = "
            f"{span(some['n'])})."
        )
    return told


def every(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """All tolerances as a page shows them, one row a method, task and length, the controls beside it."""
    shown = []
    keys = ["model", "length", "subject", "group", "beside"]
    for _, some in rows.groupby(keys, sort=False):
        own = some[some["kind"] == "method"]
        if own.empty:
            continue
        first = own.iloc[0]
        shown.append(
            {
                "task": first["subject"],
                "model": first["model"],
                "length": f"{first['length']:,}",
                "method": f"{first['short']} ({first['group']})",
                "tolerated": tolerance_state(first),
                "all curves together": DASH if np.isnan(first["kept_holm"]) else percent(first["kept_holm"]),
                **{kind: _of(some, kind) for kind in ASIDE},
                "n": first["n"],
            }
        )
    caption = (
        f"Tolerated sparsity (nominal) at a margin of {stats.MARGIN:g}, at each length the worst task first. "
        "All "
        "curves together: what is kept with those of all methods holding at once (Holm). Random, oracle and "
        "window: "
        "the controls of the same phase and tail, by the same tests."
    )
    return pd.DataFrame(shown), caption


def _of(rows: pd.DataFrame, kind: str) -> str:
    some = rows[rows["kind"] == kind]
    return tolerance_state(some.iloc[0]) if len(some) else DASH


def ranking(rows: pd.DataFrame, losses: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The ranks as a page shows them, with a caption."""
    first = {(row["model"], row["method"]): row for row in losses.to_dict("records")}
    shown = pd.DataFrame(
        {
            "task": rows["subject"],
            "model": rows["model"],
            "phase": rows["group"],
            "method": rows["name"],
            "rank": [_rank(row) for row in rows.to_dict("records")],
            "mean score": [number(score) for score in rows["score"]],
            "settings": rows["settings"],
            "n": rows["n"],
            "first loss": [
                _loss(first.get((row["model"], row["method"]))) for row in rows.to_dict("records")
            ],
        }
    )
    caption = (
        "Methods of one phase and tail ranked by their mean score on the settings that all of them ran, "
        "with the "
        f"{level()} of the rank over resampled prompts; equal scores share a place. Settings are pairs of "
        "length and "
        "sparsity, n the prompts of each. First loss: the smallest sparsity with a loss to dense attention "
        "on any "
        "task or length that is shown after correction for all comparisons of the run (Holm)."
    )
    return shown, caption


def _rank(row: Any) -> str:
    low, high = int(row["rank_low"]), int(row["rank_high"])
    return f"{int(row['rank'])} ({low} to {high}) of {row['rivals']}"


def _loss(row: Any) -> str:
    if row is None:
        return DASH
    if np.isnan(row["loss_from"]):
        return "none shown"
    return (
        f"{percent(row['loss_from'])}, {row['subject']} at {row['length']:,}: {interval(row, 'difference')}"
    )


def best(rows: pd.DataFrame) -> list[str]:
    """Which method is first on each task, in its phase and tail, whatever prompts are drawn."""
    told = []
    for (model, group), some in rows.groupby(["model", "group"], sort=False):
        parts = []
        for subject, here in some.groupby("subject", sort=False):
            first = [str(name) for name in here.loc[here["rank_high"] == 1, "name"]]
            parts.append(f"on {subject} {listed(first) if first else 'none'}")
        told.append(
            f"**{group}**, `{model}`: ranked first with its whole {level()} is {listed(parts)} "
            f"(n = {span(some['n'])} prompts a setting)."
        )
    return told
