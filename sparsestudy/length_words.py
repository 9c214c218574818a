"""Tolerance against length in words, taken from the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import claim_words, length_tables, stats
from sparsestudy.claims.evidence import Effect
from sparsestudy.words import counted, level, listed, percent, span, tokens

UNSET = "not set by the data"


def scene(run: str, rows: pd.DataFrame) -> str:
    """What a run holds on length, in a sentence."""
    if rows.empty:
        return f"Run `{run}` compares no method with dense attention above guessing."
    models = listed(f"`{name}`" for name in rows["model"].unique())
    told = int((rows["state"] != stats.CANNOT_SAY).sum())
    return (
        f"Run `{run}` holds {counted(rows['part'].nunique(), 'curve')} of {models}, each a method on a task, "
        "at "
        f"{counted(rows['length'].nunique(), 'length')} from {span(rows['length'])} tokens: what is "
        "tolerated can "
        f"be told at {told} of {len(rows)} places (n = {span(rows['n'])} pairs each)."
    )


def budget(row: Any) -> str:
    """A tolerated budget such as ``26 to 103 tokens``, ``at most 256 tokens`` or ``more than 1,024 "
    "tokens``.
    """
    low, high = row["budget_low"], row["budget_high"]
    if row["state"] == stats.CANNOT_SAY:
        return stats.CANNOT_SAY
    if row["censored"] == length_tables.OPEN_BELOW:
        if np.isnan(high):
            return "not bounded"
        return f"at most {tokens(round(high))}"
    if row["censored"] == length_tables.OPEN_ABOVE:
        return f"more than {tokens(round(low))}"
    return f"{round(low):,} to {tokens(round(high))}"


def limits_caption(rows: pd.DataFrame, what: str) -> str:
    """What to see in the figure of limits."""
    counts = rows["censored"].value_counts()
    kinds = (length_tables.CLOSED, length_tables.OPEN_ABOVE, length_tables.OPEN_BELOW, stats.CANNOT_SAY)
    told = listed(f"{int(counts.get(kind, 0))} {kind}" for kind in kinds)
    meaning = (
        f"The filled mark is a budget at which a loss of {stats.MARGIN:g} is excluded, the open one a budget "
        "at "
        "which a larger loss is shown; an open triangle means that no budget below the whole prompt is known "
        "to "
        "be enough, a line without an open mark that no budget is known to be too small. Thin lines in the "
        "back "
        "are equal sparsity: intervals along them tolerate the same sparsity at all lengths, level ones the "
        "same "
        "budget"
        if what == "budget"
        else f"The filled mark is the sparsity up to which a loss of {stats.MARGIN:g} is excluded, none at "
        "zero, the open one that from which on a larger loss is shown; an arrowhead where none is known"
    )
    return (
        f"Tolerated {what} against length, {rows['model'].iloc[0]}. {meaning}. Crosses: cannot be told. Of "
        "the "
        f"{counted(len(rows), 'interval')}, {told}. Each holds at {percent(stats.CONFIDENCE)}, one at a "
        "time, "
        f"n = {span(rows['n'])} pairs."
    )


def limits_alt(rows: pd.DataFrame, what: str) -> str:
    """What the figure of limits shows: every method at the smallest and at the greatest length."""
    ends = [rows["length"].min(), rows["length"].max()]
    told = []
    for length in dict.fromkeys(ends):
        here = rows[rows["length"] == length]
        parts = [
            f"{row['name']} ({row['group']}) on {row['subject']} "
            f"{budget(row) if what == 'budget' else claim_words.tolerance_state(row)}"
            for _, row in here.iterrows()
        ]
        told.append(f"At {tokens(length)}: {'; '.join(parts)}.")
    return (
        f"Interval plot of the tolerated {what} of {rows['model'].iloc[0]} against length, a panel for each "
        "task, "
        f"phase and tail. {' '.join(told)}"
    )


def along(rows: pd.DataFrame) -> list[str]:
    """For each method and task of a model: what is tolerated, length by length."""
    told = []
    for _, some in rows.groupby("part", sort=False):
        first = some.iloc[0]
        parts = [f"{claim_words.tolerance_state(row)} at {row['length']:,}" for _, row in some.iterrows()]
        told.append(
            f"**{first['name']}** ({first['group']}), {first['subject']}: {listed(parts)} tokens "
            f"(n = {span(some['n'])})."
        )
    return told


def exponents(rows: pd.DataFrame) -> str:
    """How many curves tell whether the tolerated sparsity rises with length."""
    below, above = int((rows["high"] < 1).sum()), int((rows["low"] > 1).sum())
    return (
        f"Of {counted(len(rows), 'curve')}, the exponent is shown to be below that of a fixed sparsity in "
        f"{below} "
        f"and above it in {above}; {int((rows['low'] > 0).sum())} are shown to need a budget that grows at "
        "all. "
        f"{int(np.isinf(rows[['low', 'high']]).any(axis=1).sum())} have an open end, for "
        f"{int(np.isinf(rows[['low', 'high']]).all(axis=1).sum())} of them the data set neither."
    )


def exponent_table(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The exponents as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "model": rows["model"],
            "method": rows["name"] + " (" + rows["group"] + ")",
            "task": rows["subject"],
            "evidence": rows["evidence"],
            "exponent": [
                claim_words.limits(Effect(row["estimate"], row["low"], row["high"], row["n"]))
                if np.isfinite([row["low"], row["high"]]).any()
                else UNSET
                for row in rows.to_dict("records")
            ],
            "lengths": rows["lengths"],
            "open above": rows["open_above"],
            "open below": rows["open_below"],
            "n": rows["n"],
        }
    )
    caption = (
        "Exponent of the tolerated budget against length, with its profile-likelihood "
        f"{level()}. Evidence: whether the tokens that an answer rests on grow with the prompt. Open: "
        "lengths at which no budget is known to be enough (above), or to be too small (below). n: pairs of "
        "the "
        "smallest cell."
    )
    return shown, caption


def budget_table(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The budgets as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "model": rows["model"],
            "method": rows["name"] + " (" + rows["group"] + ")",
            "task": rows["subject"],
            "length": [f"{length:,}" for length in rows["length"]],
            "tolerated sparsity": [claim_words.tolerance_state(row) for _, row in rows.iterrows()],
            "tolerated budget": [budget(row) for _, row in rows.iterrows()],
            "censored": rows["censored"],
            "n": rows["n"],
        }
    )
    caption = (
        f"What is tolerated at a margin of {stats.MARGIN:g}, one curve and length a row; sparsities are "
        "nominal, budgets are attended tokens of the whole prompt, as achieved."
    )
    return shown, caption
