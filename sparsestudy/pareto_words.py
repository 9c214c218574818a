"""Accuracy against cost in words, taken from the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import stats, words
from sparsestudy.schema import AS_MEASURED
from sparsestudy.words import DASH, counted, interval, listed, percent, span, tokens

_COUNTED = {"flops": "operations", "bytes": "bytes", "seconds": "seconds"}


def cost(row: Any) -> str:
    """What a cost is, such as ``operations of the prefill``."""
    phase, _, unit = str(row["measure"]).rpartition("_")
    text = f"{_COUNTED[unit]} of the {phase}"
    if row["generated"] != AS_MEASURED:
        text += f", {tokens(row['generated'])}, batch {row['batch']}"
    return text


def panel(row: Any) -> str:
    """What a row of panels shows, in few words: ``decode, dense tail: bytes, batch 64``."""
    unit = _COUNTED[str(row["measure"]).rpartition("_")[2]]
    batch = "" if row["generated"] == AS_MEASURED else f", batch {row['batch']}"
    return f"{row['panel']}: {unit}{batch}"


def sizes(run: str, rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """Whether a run holds a frontier over sizes, in a sentence.

    Args:
        run: its name.
        rows: `sparsestudy.pareto_tables.points` of all its views.
        lines: `sparsestudy.pareto_models.curves` of them.
    """
    if rows.empty:
        return f"Run `{run}` compares no method with dense attention above guessing."
    models = listed(f"`{name}`" for name in rows["model"].unique())
    if lines.empty:
        return (
            f"{_alike(run, rows, models)}, so a frontier over sizes, and with it whether a larger sparse "
            "model beats a smaller dense one, is **not measured**. What it shows is what each method saves "
            "on the same model, and at which accuracy."
        )
    above = lines.drop_duplicates(["group", "measure", "batch", "length"])
    return (
        f"Run `{run}` holds {counted(rows['model'].nunique(), 'model')} ({models}). Of "
        f"{counted(len(above), 'frontier')}, one for each phase, tail, cost and length, that of all "
        "configurations "
        f"is shown to lie above that of the dense models in {int((above['low'] > 0).sum())}, on average over "
        f"costs, and below it in {int((above['high'] < 0).sum())} (n = {span(above['n'])} samples of each "
        "task)."
    )


def _alike(run: str, rows: pd.DataFrame, models: str) -> str:
    """Why a run has no frontier over sizes."""
    if rows.groupby("length")["model"].nunique().max() == 1:
        return f"Run `{run}` holds dense models of one cost ({models})"
    return (
        f"In run `{run}` no larger dense model is shown to score higher than the smallest on any task "
        f"({models})"
    )


def _scene(rows: pd.DataFrame) -> str:
    models = listed(str(name) for name in rows["model"].unique())
    what = dict.fromkeys(cost(row) for row in rows.to_dict("records"))
    return f"{'; '.join(what)}, {models}, {listed(rows['subject'].unique())}"


def _lowest(rows: pd.DataFrame) -> str:
    """The cheapest setting of every method of the largest model, at the greatest length and batch."""
    here = rows[(rows["length"] == rows["length"].max()) & (rows["method_role"] == "method")]
    here = here[(here["measure"] == rows["measure"].iloc[0]) & (here["model"] == largest(rows))]
    if here.empty:
        return ""
    told = []
    for (group, name), some in here.groupby(["group", "name"], sort=False):
        row = some.loc[some["share"].idxmin()]
        told.append(f"{name} ({group}) {percent(row['share'])}, scoring {interval(row)}")
    return (
        f"At {tokens(here['length'].iloc[0])} with {largest(rows)}, the cheapest setting of each method "
        "needs, of "
        f"what dense attention needs: {'; '.join(told)} (n = {span(here['n'])})."
    )


def largest(rows: pd.DataFrame) -> str:
    """The model whose dense attention costs most."""
    dense = rows[rows["method_role"] == "dense"] if "method_role" in rows else rows
    return str(dense.loc[dense["cost"].idxmax(), "model"])


def settings_caption(rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """What to see in the figure of settings."""
    if len(lines):
        seen = (
            "Where the solid line lies above the dashed one, some sparse configuration is better than any "
            "dense "
            "model of its cost; both are chosen on one half of the samples and scored on the other, with "
            "bands "
            f"at {percent(stats.CONFIDENCE)}"
        )
    else:
        seen = "A method saves where its curve runs to the left at the height of dense attention, the square"
    return (
        f"Accuracy against cost: {_scene(rows)}. {seen}. Cost includes choosing; it is a share of that of "
        "the "
        "largest dense model at each length, on a logarithmic axis. Controls are dashed and on no frontier. "
        f"Bars: {words.level()}. {_lowest(rows)}"
    )


def settings_alt(rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """What the figure of settings shows."""
    both = " with the frontiers of dense models and of all configurations" if len(lines) else ""
    return (
        f"Line chart of accuracy against cost{both}: {_scene(rows)}; a panel for each length from "
        f"{span(rows['length'])} tokens. {_lowest(rows)}"
    )


def saved(rows: pd.DataFrame, model: str) -> list[str]:
    """For each group and cost: what a model saves for no loss that matters, length by length.

    Args:
        rows: `sparsestudy.pareto_tables.savings`.
        model: of which.
    """
    told = []
    for _, some in rows[rows["model"] == model].groupby(["group", "measure", "batch"], sort=False):
        first, most = some.iloc[0], some.loc[some["most_saved"].idxmax()]
        best = some.loc[some.groupby("length")["saved"].idxmax()]
        some_saved, none = best[best["saved"] > 0], best.loc[best["saved"] <= 0, "length"]
        parts = [
            f"{percent(row['saved'])} at {tokens(row['length'])} ({row['name']} at "
            f"{percent(row['nominal'])}, "
            f"scoring {interval(row)})"
            for row in some_saved.to_dict("records")
        ]
        if len(none):
            parts.append(f"nothing at {listed(f'{length:,}' for length in none)} tokens")
        told.append(
            f"**{first['group']}**, {cost(first)}: with a loss of {stats.MARGIN:g} excluded on every task, "
            f"the most that is saved is {listed(parts)}; without heed of the loss, "
            f"{percent(most['most_saved'])} "
            f"({most['name']} at {percent(most['most_nominal'])} and {tokens(most['length'])}, scoring "
            f"{interval(most, 'most_score')}). n = {span(some['n'])}."
        )
    return told


def savings(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The savings as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "model": rows["model"],
            "method": rows["name"] + " (" + rows["group"] + ")",
            "cost": [cost(row) for row in rows.to_dict("records")],
            "length": [f"{n:,}" for n in rows["length"]],
            "kept": [stats.CANNOT_SAY if np.isnan(k) else percent(k) for k in rows["kept"]],
            "saved": [
                percent(row["saved"]) if np.isfinite(row["kept"]) else DASH for row in rows.to_dict("records")
            ],
            "score there": [_score(row, "score") for row in rows.to_dict("records")],
            "saved at most": [percent(x) for x in rows["most_saved"]],
            "score then": [_score(row, "most_score") for row in rows.to_dict("records")],
            "n": rows["n"],
        }
    )
    caption = (
        "What each method saves of the cost of dense attention with the same model. Kept: the nominal "
        "sparsity "
        f"up to which a loss of {stats.MARGIN:g} is excluded on every task, one curve at a time; the saving "
        "beside "
        f"it is the largest up to there. Scores with their {words.level()}."
    )
    return shown, caption


def _score(row: Any, name: str) -> str:
    return DASH if np.isnan(row[name]) else interval(row, name)
