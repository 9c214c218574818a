"""What demands cost in words, taken from the tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparsestudy import stats
from sparsestudy.claim_words import tolerance_state
from sparsestudy.words import counted, interval, level, listed, number, percent, span, tokens


def scene(run: str, rows: pd.DataFrame) -> str:
    """What a run varies, in a sentence."""
    parts = [
        f"{axis} ({listed(str(value) for value in sorted(some['value'].unique()))})"
        for axis, some in rows.groupby("axis", sort=False)
    ]
    return (
        f"Run `{run}` varies one number at a time, with "
        f"{listed(f'`{name}`' for name in rows['model'].unique())} at "
        f"{listed(tokens(length) for length in sorted(rows['length'].unique()))}: {listed(parts)}."
    )


def figure_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure."""
    told = int((rows["state"] != stats.CANNOT_SAY).sum())
    return (
        f"Tolerated sparsity against what is asked, {rows['model'].iloc[0]} at "
        f"{tokens(rows['length'].iloc[0])}: a panel for each number that grows, its values below and under "
        "each the score of dense attention. From the filled mark, up to which a loss of "
        f"{stats.MARGIN:g} is excluded (at zero, nothing is), to the open one, from which on a larger loss "
        "is shown; an arrowhead where none is, so that the end is not known; a cross where nothing can be "
        "told, as where dense attention is no better than guessing. "
        f"{told} of {counted(len(rows), 'curve')} can be told, each at {percent(stats.CONFIDENCE)}, "
        f"n = {span(rows.loc[rows['n'] > 0, 'n'])} pairs."
    )


def figure_alt(rows: pd.DataFrame) -> str:
    """What the figure shows."""
    parts = [
        f"{name} on {axis}, {_values(some)}"
        for (axis, name), some in rows.groupby(["axis", "name"], sort=False)
    ]
    return (
        f"Interval plot of tolerated sparsity, {rows['model'].iloc[0]} at "
        f"{tokens(rows['length'].iloc[0])}, a panel for each of "
        f"{counted(rows['axis'].nunique(), 'number')} that a task asks with: {'; '.join(parts)}."
    )


def _values(rows: pd.DataFrame) -> str:
    """What is tolerated at each value, such as ``at least 90 % at 1 and below 50 % at 4``."""
    some = rows.sort_values("value", kind="stable")
    return listed(f"{_state(row)} at {row['value']}" for _, row in some.iterrows())


def _state(row: pd.Series) -> str:
    return "an unknown share" if row["state"] == stats.CANNOT_SAY else tolerance_state(row)


def along(rows: pd.DataFrame, steps: pd.DataFrame) -> list[str]:
    """For each axis: what dense attention scores, what each method tolerates, and what one step more costs.

    Args:
        rows: `sparsestudy.demand_tables.tolerated` of one model and length.
        steps: `sparsestudy.demand_tables.steps` of the same.
    """
    told = []
    for axis, some in rows.groupby("axis", sort=False):
        first = some.drop_duplicates("value").sort_values("value", kind="stable").to_dict("records")
        dense = listed(f"{interval(row)} at {row['value']}{_at_floor(row)}" for row in first)
        own = some[some["kind"] == "method"]
        parts = []
        for name, mine in own.groupby("name", sort=False):
            step = steps[(steps["axis"] == axis) & (steps["name"] == name)]
            cost = _step(step.iloc[0]) if len(step) else "what a step costs cannot be told"
            parts.append(f"{name} tolerates {_values(mine)}; {cost}")
        count = span(some["samples"])
        told.append(f"**{axis}**: dense attention scores {dense} (n = {count}). {'. '.join(parts)}.")
    return told


def _at_floor(row: dict[str, Any]) -> str:
    """A note on a score that says nothing."""
    return " (no better than guessing)" if row["score_low"] <= row["chance"] < 1 else ""


def _step(row: pd.Series) -> str:
    """What one step more costs, as the end of a sentence; the verb is chosen by the interval."""
    slope, low, high = row["slope"], row["slope_low"], row["slope_high"]
    verb = "costs" if low > 0 else "has no cost that is shown,"
    if high < 0:
        verb, slope, low, high = "makes the loss smaller by", -slope, -high, -low
    return (
        f"one more {verb} {number(slope, 3)} ({number(low, 3)} to {number(high, 3)}, n = {row['n']} "
        f"prompts a variant) of accuracy, the mean loss going from {number(row['loss_first'])} to "
        f"{number(row['loss_last'])}"
    )


def summary(steps: pd.DataFrame) -> str:
    """On which axes a step more is shown to cost, and for which methods it costs most."""
    if steps.empty:
        return "What one step more costs is **not measured**."
    costs = steps[steps["slope_low"] > 0]
    if costs.empty:
        return (
            f"For none of {counted(steps['axis'].nunique(), 'number')} is one more shown to cost accuracy "
            f"(n = {span(steps['n'])} prompts a variant)."
        )
    most = costs.loc[costs["slope"].idxmax()]
    return (
        f"One more is shown to cost accuracy in {len(costs)} of {counted(len(steps), 'pair')} of a method "
        f"and a number, by each {level()} alone; it costs most for {most['name']} on {most['axis']}: "
        f"{interval(most, 'slope', 3)}, n = {most['n']} prompts a variant."
    )


def every(steps: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The costs of a step as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "number": steps["axis"],
            "model": steps["model"],
            "length": [f"{length:,}" for length in steps["length"]],
            "method": steps["name"],
            "from": steps["first"],
            "to": steps["last"],
            "mean loss": [
                f"{number(row['loss_first'])} to {number(row['loss_last'])}" for _, row in steps.iterrows()
            ],
            "one more costs": [interval(row, "slope", 3) for _, row in steps.iterrows()],
            "sparsities": steps["settings"],
            "n": steps["n"],
        }
    )
    caption = (
        "What one more costs: the slope of the mean loss against the number, by least squares, with its "
        f"{level()} over resampled prompts. The loss is the dense score less the sparse one on the same "
        "prompt, the mean over all sparsities of the run; mean loss: at the smallest and at the largest "
        "value. n: prompts of each variant."
    )
    return shown, caption
