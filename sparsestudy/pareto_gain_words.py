"""Frontiers over sizes, and pairs of models at equal cost, in words taken from the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsestudy import words
from sparsestudy.pareto_words import cost
from sparsestudy.words import counted, interval, listed, number, span, tokens


def gains_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of gains."""
    up, down = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
    return (
        "Mean height of the frontier of all configurations above that of the dense models, from the cost of "
        f"the cheapest dense model to that of the dearest, with its {words.level()}: above zero in {up} of "
        f"{counted(len(rows), 'comparison')}, below it in {down}. n = {span(rows['n'])} samples of each task."
    )


def gains_alt(rows: pd.DataFrame) -> str:
    """What the figure of gains shows, at the greatest length."""
    here = rows[rows["length"] == rows["length"].max()]
    return (
        f"Interval plot, a row for each phase and cost and a mark for each length. At "
        f"{tokens(here['length'].iloc[0])}: {_heights(here)}."
    )


def frontiers_caption(lines: pd.DataFrame) -> str:
    """What to see in the figure of both frontiers."""
    each = lines.drop_duplicates(["group", "measure", "batch", "length"])
    return (
        "Smaller dense or larger sparse? Accuracy against cost; large marks are dense models, small pale "
        "ones their sparse settings. Where the solid line, the frontier of all configurations, lies above "
        "the dashed one, that of the dense models, a larger sparse model is the better choice at that cost. "
        "Both are chosen on one half of the prompts and scored on the other. Cost includes choosing; it is "
        "a share of that of the largest dense model at each length, on a logarithmic axis. The full "
        f"frontier is shown to lie above the other in {int((each['low'] > 0).sum())} of "
        f"{counted(len(each), 'panel')} and below it in {int((each['high'] < 0).sum())}, on average over "
        f"costs. Bands and bars: {words.level()}, n = {span(each['n'])} samples of each task."
    )


def frontiers_alt(lines: pd.DataFrame, models: list[str]) -> str:
    """What the figure of both frontiers shows, at the greatest length.

    Args:
        lines: `sparsestudy.pareto_models.curves`.
        models: the models, from the cheapest.
    """
    each = lines.drop_duplicates(["group", "measure", "batch", "length"])
    told = _heights(each[each["length"] == each["length"].max()])
    return (
        f"Line chart of accuracy against cost with the frontiers of dense models and of all configurations "
        f"of {listed(models)}; a panel for each length from {span(each['length'])} tokens. Mean height of "
        f"the full frontier above the other at {tokens(each['length'].max())}: {told}."
    )


def _heights(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{row['group']}, {cost(row)}: "
        f"{number(row['estimate'])} ({number(row['low'])} to {number(row['high'])})"
        for row in rows.to_dict("records")
    )


def pairs(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Neighbouring models at equal cost as a page shows them, over all tasks, with a caption."""
    whole = rows[rows["task"] == ""]
    shown = pd.DataFrame(
        {
            "larger sparse": whole["model"] + ", " + whole["name"],
            "smaller dense": whole["peer"],
            "cost": [cost(row) for row in whole.to_dict("records")],
            "length": [f"{n:,}" for n in whole["length"]],
            "difference": [
                row["state"] if np.isnan(row["difference"]) else interval(row, "difference")
                for row in whole.to_dict("records")
            ],
            "n": whole["n"],
        }
    )
    met = whole[whole["difference"].notna()]
    caption = (
        "A larger sparse model less the next smaller dense one at equal cost, on the same prompts, mean over "
        f"tasks, with its {words.level()}, one at a time: {len(met)} of {counted(len(whole), 'pair')} have a "
        "point "
        "of equal cost. n: samples over all tasks."
    )
    return shown, caption


def bounded(rows: pd.DataFrame) -> list[str]:
    """Where the smaller dense model wins, and where the larger sparse one does, task by task."""
    each = rows[(rows["task"] != "") & rows["difference"].notna()]
    if each.empty:
        return ["No pair of neighbouring models has a point of equal cost."]
    told = []
    for what, some in (
        ("smaller dense", each[each["difference_high"] < 0]),
        ("larger sparse", each[each["difference_low"] > 0]),
    ):
        text = (
            f"The {what} model is better in {len(some)} of {counted(len(each), 'comparison')} at equal cost"
        )
        if len(some):
            worst = some.loc[some["difference"].abs().idxmax()]
            text += (
                f", by most for {worst['model']} with {worst['name']} against {worst['peer']} on "
                f"{worst['subject']} at {tokens(worst['length'])} ({cost(worst)}): "
                f"{interval(worst, 'difference')}, n = {worst['n']}"
            )
        told.append(f"{text}.")
    return told
