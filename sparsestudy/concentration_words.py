"""Concentration of attention in words, taken from the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import concentration_tables
from sparsestudy.concentration_schema import CONTEXT, QUESTION
from sparsestudy.concentration_tables import CHIEF, EFFECTIVE
from sparsestudy.view import Run
from sparsestudy.words import counted, interval, level, listed, number, percent, span, tokens

OF = {QUESTION: "queries of the question", CONTEXT: "queries of the context"}
NOT_MEASURED = "not measured"
UNSET = "not set by the data"
ROOT = 0.5
"""The exponent of the root of the length."""


def mass(permille: int) -> str:
    """What is counted, such as ``90 % of the attention``."""
    return "effective number" if permille == EFFECTIVE else f"{percent(permille / 1000)} of the attention"


def scene(run: Run, rows: pd.DataFrame, sweeps: list[Run]) -> str:
    """What a run holds, and with which sweeps it shares its prompts."""
    models = listed(f"`{name}`" for name in rows["model"].unique())
    own = len(concentration_tables.prompts(run.data))
    shared = concentration_tables.shared_prompts(run, sweeps)
    same = [f"{found} are prompts of the run `{name}` on accuracy as well" for name, found in shared.items()]
    return (
        f"Run `{run.name}` looked at {models} on {listed(rows['subject'].unique())}, at "
        f"{span(rows['length'])} tokens (n = {span(rows['n'])} prompts a task and length). Of its "
        f"{counted(own, 'prompt')}, {listed(same)}, by their hashes."
    )


def answer(found: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Whether a smaller share of the keys suffices in longer text, for one model.

    Args:
        found: `sparsestudy.concentration_tables.exponents` of a model.
        rows: its `sparsestudy.concentration_tables.counts`.
    """
    chief = found[found["mass"] == CHIEF]
    below, above = int((chief["high"] < 1).sum()), int((chief["low"] > 1).sum())
    head, reason = _verdict(below, above, len(chief))
    share = _share(rows)
    if below and above and share.iloc[-1] >= share.iloc[0]:
        reason = "is, all tasks together, no reason why"
    parts = [
        f"{OF[str(region)]} {_shares(rows[rows['region'] == region])}" for region in chief["region"].unique()
    ]
    return (
        f"**{head}**: of {counted(len(chief), 'exponent')} of the keys that hold {mass(CHIEF)}, one a task "
        f"and kind of query, {below} {'is' if below == 1 else 'are'} shown to be below that of a fixed share "
        f"and {above} above it. Averaged over the tasks, {'; '.join(parts)}. So concentration {reason} this "
        "model would tolerate more sparsity in longer text."
    )


def _verdict(below: int, above: int, count: int) -> tuple[str, str]:
    """What some exponents below and above that of a fixed share say of longer text, and of tolerance."""
    if below == count:
        return "A smaller share of the keys suffices in longer text", "is a reason why"
    if below and above:
        return (
            "Whether a smaller share of the keys suffices in longer text depends on task and query",
            "is a reason on some tasks alone why",
        )
    if below:
        return (
            "A smaller share of the keys suffices in longer text on some tasks",
            "is a reason on some tasks alone why",
        )
    if above == count:
        return "A larger share of the keys is needed in longer text", "is no reason why"
    if above:
        return (
            "On no task a smaller share of the keys is shown to suffice in longer text",
            "is no reason why",
        )
    return "No change of the share of keys with the length of the text is shown", "is no reason why"


def _shares(rows: pd.DataFrame) -> str:
    """The share of the keys that holds the chief mass, at the smallest and at the greatest length."""
    some = rows[rows["mass"] == CHIEF]
    ends = list(dict.fromkeys([some["length"].min(), some["length"].max()]))
    share = _share(rows)
    keys = some.groupby("length")["keys"].mean()
    told = [f"{round(keys[at]):,} keys ({percent(share[at])}) at {tokens(at)}" for at in ends]
    return f"need {' and '.join(told)}"


def _share(rows: pd.DataFrame) -> pd.Series:
    """The share of the keys that holds the chief mass, by rising length, tasks averaged."""
    some = rows[rows["mass"] == CHIEF]
    return (some["keys"] / some["available"]).groupby(some["length"]).mean()


def tasks(found: pd.DataFrame) -> list[str]:
    """For each kind of query of a model: the exponents of the chief mass, smallest and largest."""
    told = []
    narrowest = int(found.loc[found["mass"] != EFFECTIVE, "mass"].min())
    for region, own in found.groupby("region", sort=False):
        some = own[own["mass"] == CHIEF].sort_values("estimate")
        ends = dict.fromkeys([0, len(some) - 1])
        parts = [
            f"{interval(_exponent(some.iloc[at]), 'estimate')} on {some['subject'].iloc[at]}" for at in ends
        ]
        narrow = own[own["mass"] == narrowest]
        told.append(
            f"**{OF[str(region)].capitalize()}**: the exponent is {' to '.join(parts)} for {mass(CHIEF)}, "
            f"and {_range(narrow['estimate'])} for {mass(narrowest)} (n = {span(some['n'])} prompts a "
            "task and length)."
        )
    return told


def _exponent(row: Any) -> Any:
    return {"estimate": row["estimate"], "estimate_low": row["low"], "estimate_high": row["high"]}


def _range(values: pd.Series) -> str:
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def heads(found: pd.DataFrame) -> list[str]:
    """For each kind of query of a model: how the exponents of its heads lie."""
    told = []
    for region, some in found.groupby("region", sort=False):
        slopes = some["estimate"]
        told.append(
            f"**Head by head**, {OF[str(region)]}: the median exponent over {counted(len(slopes), 'head')} "
            f"is {number(slopes.median())}, from {number(slopes.min())} to {number(slopes.max())}; in "
            f"{int((slopes < ROOT).sum()) or 'none'} the keys grow slower than the root of the length, in "
            f"{int((slopes > 1).sum()) or 'none'} faster than the length itself (all tasks together, no "
            "intervals)."
        )
    return told


def beside(found: pd.DataFrame, tolerated: pd.DataFrame) -> list[str]:
    """For each row of a table of exponents what the sweeps say of tolerated budgets on the model and task.

    Args:
        found: `sparsestudy.concentration_tables.exponents`.
        tolerated: `sparsestudy.length_tables.exponents` of all sweeps; may be empty.
    """
    told = []
    for row in found.to_dict("records"):
        own = tolerated
        if len(own):
            own = own[(own["model"] == row["model"]) & (own["task"] == row["task"])]
        if own.empty:
            told.append(NOT_MEASURED)
            continue
        known = own[np.isfinite(own[["low", "high"]]).any(axis=1)]
        some = f"{_range(known['estimate'])} ({counted(len(known), 'curve')} of {len(own)})"
        told.append(some if len(known) else UNSET)
    return told


def exponent_table(found: pd.DataFrame, tolerated: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The exponents as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "model": found["model"],
            "task": found["subject"],
            "queries of the": found["region"],
            "keys that hold": [mass(int(value)) for value in found["mass"]],
            "exponent": [interval(_exponent(row), "estimate") for row in found.to_dict("records")],
            "exponent of tolerated budgets": beside(found, tolerated),
            "lengths": found["lengths"],
            "n": found["n"],
        }
    )
    caption = (
        f"Exponent of the number of keys against length, with its {level()} from a bootstrap over prompts: "
        "what other prompts would have given, not whether the growth follows a power. Effective number: the "
        "exponential of the entropy. Beside it the exponents of the tolerated budgets of all methods on the "
        "same model and task, from the smallest estimate to the largest. n: prompts of the length that has "
        "the fewest."
    )
    return shown, caption


def alt(rows: pd.DataFrame) -> str:
    """What the figure of keys against length shows: every task at the smallest and at the greatest length."""
    some = rows[rows["mass"] == CHIEF]
    told = []
    for length in dict.fromkeys([some["length"].min(), some["length"].max()]):
        here = some[some["length"] == length].to_dict("records")
        parts = [f"{row['subject']} ({row['region']}) {round(row['keys']):,}" for row in here]
        told.append(f"At {tokens(length)} {mass(CHIEF)} is held by this many keys: {'; '.join(parts)}.")
    return (
        f"Line chart of the number of keys that hold the attention of {rows['model'].iloc[0]} against "
        "length, a row of panels for queries of the question and of the context, a panel for each share of "
        f"the attention and one for the effective number, a line for each task. {' '.join(told)}"
    )


def caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of keys against length."""
    return (
        f"Fewest keys that hold a share of a query's attention, and the effective number, against length, "
        f"{rows['model'].iloc[0]}, dense attention. Thin lines in the back are equal shares of the text: "
        "curves along them need the same share at all lengths, flatter ones a smaller share in longer text. "
        f"Means over queries, layers and heads; bars: {level()} over prompts, n = {span(rows['n'])} a mark."
    )
