"""A run over many models and tasks in words: captions, descriptions and sentences, task by task."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparsestudy import findings, tables, words
from sparsestudy.words import counted, interval, level, listed, number, percent, samples_of, span, tokens


def place(rows: pd.DataFrame) -> str:
    """The model and the length of cells that share both."""
    return f"{rows['model'].iloc[0]} at {tokens(rows['length'].iloc[0])}"


def _groups(rows: pd.DataFrame) -> str:
    groups = [group for group in rows["group"].unique() if group != "dense"]
    return f"one row of panels for each of {listed(groups)}" if groups else "one row of panels"


def _dense(rows: pd.DataFrame, by: str) -> str:
    own = rows[(rows["method_role"] == "dense") & (rows["n"] > 0)]
    at = {"length": tokens}.get(by, str)
    told = listed(f"{interval(row)} for {at(row[by])}" for row in own.to_dict("records"))
    return f"Dense attention scores {told}." if len(own) else "Dense attention was not measured."


def tasks_alt(rows: pd.DataFrame) -> str:
    """What the figure of all tasks shows."""
    return (
        f"Line chart of accuracy against achieved sparsity, {place(rows)}: {_groups(rows)}, a panel for each "
        f"of {counted(rows['label'].nunique(), 'task')}. {_dense(rows, 'label')} {_lost(rows)}"
    )


def tasks_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of all tasks."""
    return (
        f"Accuracy of {place(rows)}, a panel for each task. See on which tasks a curve leaves the band of "
        f"dense attention early. {_lost(rows)} Bars and band: {level()}, "
        f"{samples_of(rows)} per mark.{_guess(rows)}"
    )


def _guess(rows: pd.DataFrame) -> str:
    return " Dotted: guessing in the right form." if (rows["chance"] < 1).any() else ""


def _lost(rows: pd.DataFrame) -> str:
    """In how many settings of methods a loss is shown, task by task."""
    ran = tables.compared(rows[rows["method_role"] == "method"])
    if ran.empty:
        return "No method was compared with dense attention."
    told = []
    for label, some in ran.groupby("label", sort=False):
        lost = some[tables.loses(some)]
        first = f" (from {percent(lost['nominal'].min())} on)" if len(lost) else ""
        told.append(f"{label} {len(lost)} of {len(some)}{first}")
    return f"Settings of methods with a loss that is shown: {listed(told)}."


def losses_alt(rows: pd.DataFrame) -> str:
    """What the figure of differences shows."""
    ran = tables.compared(rows)
    if ran.empty:
        return f"Line chart without marks: nothing of {place(rows)} was compared with dense attention."
    worst, best = (ran.loc[at] for at in (ran["difference"].idxmin(), ran["difference"].idxmax()))
    ends = " to ".join(
        f"{interval(row, 'difference')} ({row['label']}, {words.variant(row)}, {percent(row['nominal'])})"
        for row in (worst, best)
    )
    return (
        f"Line chart of the paired difference to dense attention against achieved sparsity, {place(rows)}, a "
        f"panel for each task. It runs from {ends}."
    )


def losses_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of differences."""
    ran = tables.compared(rows)
    if ran.empty:
        return f"No setting of {place(rows)} was compared with dense attention."
    lost, kept = int(tables.loses(ran).sum()), int(tables.keeps(ran).sum())
    return (
        f"Accuracy minus that of dense attention on the same prompts, {place(rows)}, a panel for each task. "
        f"Bars that end below zero are losses: {lost} of {counted(len(ran), 'setting')} remain so after "
        f"correction for all comparisons of the run (Holm); {kept} are shown to lose less than "
        f"{tables.MARGIN:g}. {level().capitalize()}s one at a time, n = {span(ran['pairs'])} pairs."
    )


def means_alt(rows: pd.DataFrame, by: str) -> str:
    """What a figure of means over tasks shows, a panel a model or a length."""
    return (
        f"Line chart of {rows['subject'].iloc[0]} of accuracy against achieved sparsity: {_groups(rows)}, a "
        f"panel for each {by}. {_dense(rows, by)} {_highest(rows, by)}"
    )


def means_caption(rows: pd.DataFrame, by: str) -> str:
    """What to see in a figure of means over tasks."""
    where = tokens(rows["length"].iloc[0]) if by == "model" else str(rows["model"].iloc[0])
    return (
        f"Accuracy, {rows['subject'].iloc[0]}, {where}, a panel for each {by}. See "
        "whether the curves leave the band of dense attention later from panel to panel. "
        f"{_highest(rows, by)} Bars and band: {level()} of the mean, {samples_of(rows)} per task and "
        "mark; every task counts alike, also one at the floor."
    )


def _highest(rows: pd.DataFrame, by: str) -> str:
    """The best method of each panel at the highest sparsity of all."""
    at = {"length": tokens}.get(by, str)
    own = rows[(rows["method_role"] == "method") & rows["score"].notna()]
    if own.empty:
        return "No method ran on every task."
    own = own[own["nominal"] == own["nominal"].max()]
    best = [some.loc[some["score"].idxmax()] for _, some in own.groupby(by, sort=False)]
    told = listed(f"{words.variant(row)} with {interval(row)} for {at(row[by])}" for row in best)
    return f"At {percent(own['nominal'].iloc[0])} the highest score is that of {told}."


def controls_alt(rows: pd.DataFrame) -> str:
    """What the figure of methods and their controls shows."""
    return (
        f"Line chart of {rows['subject'].iloc[0]} of accuracy against achieved sparsity, {place(rows)}: a "
        f"panel for each method, with the controls beside it. {_dense(rows, 'label')}"
    )


def controls_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of methods and their controls."""
    return (
        f"Each method with its controls, {rows['subject'].iloc[0]}, {place(rows)}: the same units, forced "
        "units and budget, chosen at random or by the attention that is really paid (oracle). Above random, "
        "the choice is worth something; below the oracle, a better estimate would help. Bars and band: "
        f"{level()}, {samples_of(rows)} per task and mark."
    )


def by_task(rows: pd.DataFrame) -> list[str]:
    """One sentence a task: what dense attention scores, and where methods lose."""
    told = []
    for label, some in rows.groupby("label", sort=False):
        own = some[some["method_role"] == "dense"].to_dict("records")
        dense = f"dense {interval(own[0])}, n = {int(own[0]['n'])}" if own else "dense not measured"
        told.append(f"**{label}** ({dense}): {_of_task(some)}")
    return told


def _of_task(rows: pd.DataFrame) -> str:
    dense = rows[rows["method_role"] == "dense"]
    if dense["floor"].any():
        return "dense attention cannot be told from guessing, so no loss can be seen."
    ran = tables.compared(rows[rows["method_role"] == "method"])
    lost = ran[tables.loses(ran)] if len(ran) else ran
    if lost.empty:
        return f"no method shows a loss at any of {counted(len(ran), 'setting')}."
    first = lost[lost["nominal"] == lost["nominal"].min()]
    worst = findings.difference(first.loc[first["difference"].idxmin()])
    names = list(dict.fromkeys(words.variant(row) for row in ran.to_dict("records")))
    losers = {words.variant(row) for row in lost.to_dict("records")}
    safe = [name for name in names if name not in losers]
    rest = f" No loss is shown for {listed(safe)}." if safe else " Every method shows a loss somewhere."
    early = listed(words.variant(row) for row in first.to_dict("records"))
    return (
        f"a loss is shown in {len(lost)} of {counted(len(ran), 'setting')}, from "
        f"{percent(first['nominal'].iloc[0])} on ({early}; at worst {worst}).{rest}"
    )


def care(rows: pd.DataFrame) -> list[str]:
    """Cells that need care, counted by task, and what a comparison could find.

    Args:
        rows: all cells of a run with their ``label``.
    """
    own = tables.distinct(rows)
    told = []
    for flag, text in (
        (own["floor"], "no better than guessing"),
        (own["ceiling"], "every sample right"),
        (own["state"] == "unreachable", "unreachable, since forced tokens fill the budget"),
        (own["state"] == "failed", "failed"),
        (own["state"] == "skipped_memory", "skipped for lack of memory"),
    ):
        if flag.any():
            counts = own[flag]["label"].value_counts(sort=False)
            parts = listed(f"{label} {count:,}" for label, count in counts.items())
            told.append(f"{text.capitalize()}: {counted(int(flag.sum()), 'cell')} of {len(own):,} ({parts}).")
    return [*told, *findings.replies(own[own["n"] > 0]), findings.sensitivity(rows)]


def grid(table: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Scores of methods by task as a page shows them, with a caption.

    Args:
        table: `sparsestudy.sweep_tables.grid`.
        rows: of these cells.
    """
    shown: list[dict[str, Any]] = [
        {"method": row.pop("name"), "phase": row.pop("group"), "sparsity": percent(row.pop("nominal"))}
        | {name: words.DASH if pd.isna(text) else text for name, text in row.items()}
        for row in table.to_dict("records")
    ]
    half = (rows["score_high"] - rows["score_low"]).max() / 2
    caption = (
        f"Accuracy of {place(rows)} on every task, {samples_of(rows)}; no {level()} is wider "
        f"than ±{number(half)}. A star marks a loss against dense attention that remains after correction "
        "for all comparisons of the run. The files hold every model, length and control, with intervals and "
        "differences."
    )
    return pd.DataFrame(shown), caption
