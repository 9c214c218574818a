"""What the data say, in sentences: every number, name and verb is taken from the table at hand.

Each function takes tidy tables (`sparsestudy.tables.tidy`) and returns Markdown. A sentence that states a
finding is chosen by a test on the data: another dataset may turn "loses" into "shows no loss".
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparsestudy import tables, words
from sparsestudy.words import counted, interval, listed, number, percent, span, tokens, variant


def scope(runs: dict[str, pd.DataFrame]) -> str:
    """Which models, tasks, lengths and sparsities were measured, with how many samples."""
    if not runs:
        return "No published run was found, so this page has no results to show."
    table = tables.distinct(pd.concat(runs.values(), ignore_index=True))
    ran = table[table["n"] > 0]
    sizes = ran.drop_duplicates("model")
    models = [f"`{row['model']}` ({size(row['model_parameters'])})" for row in sizes.to_dict("records")]
    tasks = [str(task) for task in ran["subject"].unique()]
    return (
        f"The published data cover {listed(models)} on {listed(tasks)}, with prompts of "
        f"{span(ran['length'])} tokens, nominal sparsities from {percent(table['nominal'].min())} to "
        f"{percent(table['nominal'].max())} and {words.samples_of(ran)} samples a cell: "
        f"{counted(len(ran), 'cell')} measured{_not_measured(table)}."
    )


def size(parameters: int) -> str:
    """A number of parameters, such as ``135M parameters``."""
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= limit:
            return f"{parameters / limit:.3g}{letter} parameters"
    return f"{parameters} parameters"


def _not_measured(table: pd.DataFrame) -> str:
    states = table.loc[table["n"] == 0, "state"].value_counts()
    parts = [f"{int(count)} {str(state).replace('_', ' ')}" for state, count in states.items()]
    return f", {listed(parts)}" if parts else ""


def dense(rows: pd.DataFrame) -> str:
    """How well dense attention does, so that losses have a scale."""
    own = rows[(rows["method_role"] == "dense") & (rows["n"] > 0)].sort_values("length")
    if own.empty:
        return "Dense attention was not measured, so losses cannot be told."
    parts = [f"{interval(row)} at {tokens(row['length'])}" for row in own.to_dict("records")]
    return f"Dense attention scores {listed(parts)} ({words.samples_of(own)}).{_saturation(own)}"


def _saturation(own: pd.DataFrame) -> str:
    low = own.loc[own["floor"], "length"]
    high = own.loc[own["ceiling"], "length"]
    text = ""
    if len(low):
        text += (
            f" At {_lengths(low)} it is at the floor (no better than guessing), so no loss can be seen there."
        )
    if len(high):
        text += (
            f" At {_lengths(high)} it is at the ceiling (every sample right), so no gain can be seen there."
        )
    return text


def _lengths(lengths: pd.Series) -> str:
    return f"{listed(f'{int(length):,}' for length in sorted(lengths.unique()))} tokens"


def outcomes(rows: pd.DataFrame) -> list[str]:
    """One sentence a method variant, at the greatest length: where it loses and how much."""
    longest = rows["length"].max()
    here = rows[rows["length"] == longest]
    table = words.tolerance(here)
    return [_outcome(entry, here) for entry in table.to_dict("records") if entry["role"] == "method"]


def _outcome(entry: dict[str, Any], here: pd.DataFrame) -> str:
    text = f"At {tokens(entry['length'])} **{variant(entry)}** {words.outcome(entry)}"
    if pd.isna(entry["top"]):
        return f"{text}."
    ran = tables.compared(here[(here["group"] == entry["group"]) & (here["name"] == entry["name"])])
    if pd.isna(entry["loss_from"]):
        text += f"; its difference to dense there is {difference(entry)}"
    else:
        first = ran[ran["nominal"] == entry["loss_from"]].iloc[0]
        text += f"; its difference to dense is {difference(first)} there"
        if entry["top"] > entry["loss_from"]:
            text += f" and {difference(entry)} at {percent(entry['top'])}"
    if pd.notna(entry["kept_to"]):
        text += f"; up to {percent(entry['kept_to'])} a loss of {tables.MARGIN:g} or more is excluded"
    return f"{text}."


def difference(row: Any) -> str:
    """A paired difference with its interval and pairs: ``−0.08 (−0.15 to −0.03, n = 100 pairs)``."""
    low, high = number(row["difference_low"]), number(row["difference_high"])
    return f"{number(row['difference'])} ({low} to {high}, n = {int(row['pairs'])} pairs)"


def beyond_control(rows: pd.DataFrame) -> list[str]:
    """One sentence a method variant: does its choice of tokens beat the control at equal sparsity?"""
    longest = rows["length"].max()
    here = rows[(rows["length"] == longest) & (rows["over_control_pairs"] > 0)]
    sentences = []
    for _, some in here.groupby(["group", "name"], sort=False):
        last = some.sort_values("nominal").iloc[-1]
        higher, lower = int((some["over_control_low"] > 0).sum()), int((some["over_control_high"] < 0).sum())
        low, high = last["over_control_low"], last["over_control_high"]
        verb = "scores higher" if low > 0 else "scores lower" if high < 0 else "cannot be told from it"
        sentences.append(
            f"At {tokens(longest)} **{variant(last)}** scores higher than the control that stands beside it "
            f"at {higher} of {counted(len(some), 'sparsity', 'sparsities')} and lower at {lower or 'none'}. "
            f"At the highest, {percent(last['nominal'])}, it {verb}: {number(last['over_control'])} "
            f"({number(low)} to {number(high)}, n = {int(last['over_control_pairs'])} pairs)."
        )
    return sentences


def overall(rows: pd.DataFrame) -> str:
    """Whether any method keeps its accuracy at every setting, and where the first loss appears."""
    own = rows[rows["method_role"] == "method"]
    ran = tables.compared(own)
    if ran.empty:
        return "No sparse setting was compared with dense attention."
    lost = ran[tables.loses(ran)]
    names = list(dict.fromkeys(ran.apply(variant, axis=1)))
    losers = set(lost.apply(variant, axis=1)) if len(lost) else set()
    safe = [name for name in names if name not in losers]
    total = counted(len(ran), "setting")
    if lost.empty:
        return f"Over all lengths, no method shows a loss at any of the {total} that ran."
    first = lost[lost["nominal"] == lost["nominal"].min()]
    text = (
        f"Over all lengths, a loss is shown in {len(lost)} of the {total} that ran; the lowest sparsity with "
        f"one is {percent(first['nominal'].iloc[0])} ({_where(first)}). "
    )
    if not safe:
        return f"{text}No method is free of loss at every setting."
    verb = "shows" if len(safe) == 1 else "show"
    return f"{text}{listed(safe)} {verb} none at any setting."


def care(rows: pd.DataFrame) -> list[str]:
    """Cells that need care: unreachable, failed, at floor or ceiling, unparsed or cut replies."""
    sentences = []
    for _, some in rows[rows["state"] == "unreachable"].groupby(["group", "name"], sort=False):
        parts = []
        for length, at_length in some.groupby("length"):
            first = at_length.sort_values("nominal").iloc[0]
            most = percent(1 - first["lowest_density"])
            parts.append(
                f"from {percent(first['nominal'])} on at {tokens(length)} (at most {most} can be left out)"
            )
        sentences.append(f"Unreachable for {variant(some.iloc[0])}: {listed(parts)}.")
    for state in ("failed", "skipped_memory"):
        count = int((rows["state"] == state).sum())
        if count:
            sentences.append(f"{state.replace('_', ' ').capitalize()}: {counted(count, 'cell')}.")
    ran = tables.distinct(rows[rows["n"] > 0])
    for flag, meaning in (("floor", "no better than guessing"), ("ceiling", "every sample right")):
        some = ran[ran[flag]]
        if len(some):
            sentences.append(
                f"At the {flag} ({meaning}): {counted(len(some), 'cell')} of {len(ran)}, {_where(some)}."
            )
    return [*sentences, *replies(ran)]


def replies(ran: pd.DataFrame) -> list[str]:
    """How many replies could not be parsed or were cut, and how long answers are."""
    if ran.empty:
        return []
    sentences = []
    told = (
        (1 - ran["parsed"], "could not be parsed", "Every reply could be parsed"),
        (ran["cut"], "ran into the limit of tokens", "No reply ran into the limit of tokens"),
    )
    for share, what, none in told:
        if share.max() <= 0:
            sentences.append(f"{none} ({words.samples_of(ran)} per cell).")
            continue
        worst = ran.loc[share.idxmax()]
        place = (
            f"{variant(worst)}, {percent(worst['nominal'])}, {tokens(worst['length'])}, n = {int(worst['n'])}"
        )
        sentences.append(f"At worst {percent(share.max())} of a cell's replies {what} ({place}).")
    low, high = (number(value, 1) for value in (ran["output_tokens"].min(), ran["output_tokens"].max()))
    length = low if low == high else f"{low} to {high}"
    return [*sentences, f"Answers are {length} tokens long on average, {words.samples_of(ran)} per cell."]


def _where(some: pd.DataFrame) -> str:
    parts = []
    for name, group in some.groupby(some.apply(variant, axis=1), sort=False):
        parts.append(f"{name} at {_lengths(group['length'])}")
    return "; ".join(parts)


def sensitivity(rows: pd.DataFrame) -> str:
    """The smallest loss that the comparison with dense could have found."""
    ran = tables.compared(rows)
    if ran.empty:
        return "Nothing was compared."
    low, high = number(ran["detectable"].min()), number(ran["detectable"].max())
    size_text = low if low == high else f"{low} to {high}"
    return (
        f"With n = {span(ran['pairs'])} pairs a single comparison finds a true loss of {size_text} with a "
        f"probability of {percent(tables.POWER)}; the correction for {counted(len(ran), 'comparison')} makes "
        "it stricter."
    )
