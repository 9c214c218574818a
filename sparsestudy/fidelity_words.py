"""Captions, descriptions and findings about fidelity, written from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy import fidelity_tables
from sparsestudy.words import counted, interval, level, listed, number, percent, span, tokens

TITLE = {
    "kl": "divergence from dense attention (nats)",
    "excess": "loss minus that of dense attention (nats)",
    "recall": "share of the true attention that is kept",
}
_HEADINGS = {"kl": "divergence", "excess": "extra loss", "recall": "recall"}
_DIGITS = {"kl": 3, "excess": 3, "recall": 2}


def told(row: Any, measure: str) -> str:
    """Estimate and limits, such as ``0.031 (0.025 to 0.038)``."""
    return interval(row, measure, _DIGITS[measure])


def variant(row: Any) -> str:
    """A method variant with its phase."""
    return f"{row['name']} ({row['group']})"


def _best_and_worst(rows: pd.DataFrame, measure: str) -> str:
    """For each group, who is closest to dense attention and who farthest where most variants meet."""
    parts = []
    for group, some in fidelity_tables.shared(rows).groupby("group", sort=False):
        ordered = some.sort_values(measure, ascending=measure != "recall")
        best, worst = ordered.iloc[0], ordered.iloc[-1]
        place = f"{percent(best['nominal'])} and {tokens(best['length'])}"
        parts.append(
            f"{group} at {place} goes from {told(best, measure)} for {best['name']} "
            f"to {told(worst, measure)} for {worst['name']}"
        )
    return _capital("; ".join(parts))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _missing(rows: pd.DataFrame) -> str:
    count = int((rows["state"] == "unreachable").sum())
    return f" Crosses at the foot mark {counted(count, 'setting')} out of reach." if count else ""


def curves_alt(rows: pd.DataFrame, measure: str) -> str:
    """What the figure of one measure against sparsity shows."""
    groups = listed(rows["group"].unique())
    return (
        f"Line chart of the {TITLE[measure]} against achieved sparsity on natural text, "
        f"{rows['model'].iloc[0]}: one row of panels for each of {groups}, a panel for each length from "
        f"{span(rows['length'])} tokens. {_best_and_worst(rows, measure)}."
    )


def curves_caption(rows: pd.DataFrame, measure: str) -> str:
    """What to see in the figure of one measure against sparsity."""
    see = {
        "kl": "See how far predictions move from those of dense attention; the axis is logarithmic",
        "excess": "What that costs where the text really goes on; below zero, the text is predicted better",
        "recall": "How much of the attention paid by the dense model the choices would keep",
    }[measure]
    return (
        f"{see}. {_best_and_worst(rows, measure)}. Bars: {level()}, n = {span(rows.loc[rows['n'] > 0, 'n'])} "
        f"texts; controls are dashed.{_missing(rows)}"
    )


def positions_alt(rows: pd.DataFrame) -> str:
    """What the figure by position shows."""
    return (
        f"Line chart of the {TITLE['kl']} against the position in the text, {rows['model'].iloc[0]}, a panel "
        f"a phase, a line a method. {_drift(rows)}"
    )


def positions_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure by position."""
    return (
        f"Divergence by position ({_where(rows)}): in the prompt for prefill, in the steps for decode; "
        "what is no more than rounding is left out. "
        f"{_drift(rows)} Bars: {level()}, n = {span(rows['n'])} texts."
    )


def _where(rows: pd.DataFrame) -> str:
    """The asked sparsity and the length of each phase."""
    firsts = [some.iloc[0] for _, some in rows.groupby("group", sort=False)]
    return "; ".join(
        f"{one['group']}: asked {percent(one['nominal'])} at {tokens(one['length'])}" for one in firsts
    )


def _drift(rows: pd.DataFrame) -> str:
    """How many methods diverge more in the last part than in the first, by phase."""
    parts = []
    for group, some in rows.groupby("group", sort=False):
        ends = [
            (one.sort_values("first").iloc[0]["kl"], one.sort_values("first").iloc[-1]["kl"])
            for _, one in some.groupby("method", sort=False)
        ]
        more = sum(last > first for first, last in ends)
        parts.append(f"in {group} {more} of {counted(len(ends), 'line')} end above where they begin")
    return f"{_capital('; '.join(parts))}."


def layers_alt(rows: pd.DataFrame) -> str:
    """What the figure by layer shows."""
    parts = []
    for _, some in rows.groupby("method", sort=False):
        worst = some.loc[some["recall"].idxmin()]
        parts.append(
            f"{variant(worst)}: lowest in layer {int(worst['layer'])}, {number(worst['recall'])} "
            f"({number(worst['smallest'])} to {number(worst['largest'])} over heads)"
        )
    return (
        f"{counted(len(parts), 'panel')}, one a method: the mean share of attention kept in each layer, and "
        f"a band from the lowest to the highest head. {'; '.join(parts)}."
    )


def layers_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure by layer."""
    wide = rows.loc[(rows["largest"] - rows["smallest"]).idxmax()]
    return (
        f"Share of the true attention kept, layer by layer ({_where(rows)}): lines are means over heads, "
        f"bands reach from the lowest to the highest head. Heads differ most under {variant(wide)} in layer "
        f"{int(wide['layer'])}: {number(wide['smallest'])} to {number(wide['largest'])}. "
        f"Means over n = {span(rows['n'])} texts."
    )


def scope(run: str, data: Any, rows: pd.DataFrame) -> str:
    """What was read, in a sentence."""
    titles = listed(
        f"*{title}*" for title in sorted({str(x) for x in data["text_title"].values.ravel() if x})
    )
    steps = rows.loc[rows["group"] == "decode", "positions"]
    after = f", each followed by {span(steps)} tokens that are fed as decode steps" if len(steps) else ""
    return (
        f"Run `{run}`: {span(rows.loc[rows['n'] > 0, 'n'])} passages of {span(rows['length'])} tokens from "
        f"{titles}{after}, read by {listed(f'`{name}`' for name in rows['model'].unique())}."
    )


def findings(rows: pd.DataFrame) -> list[str]:
    """Sentences on one model: dense loss, who is closest, whether choosing helps, whether recall tells."""
    found = [_dense(rows)]
    for _, some in fidelity_tables.shared(rows).groupby("group", sort=False):
        found += _of_group(some)
    found += [_agreement(some) for _, some in fidelity_tables.sparse(rows).groupby("group", sort=False)]
    return [sentence for sentence in found if sentence]


def _dense(rows: pd.DataFrame) -> str:
    parts = []
    for (group, length), some in rows.groupby(["group", "length"], sort=False):
        if group != "dense":
            parts.append(f"{number(some['dense_loss'].iloc[0])} ({group}, {tokens(length)})")
    n = span(rows.loc[rows["n"] > 0, "n"])
    return (
        f"Dense attention has a loss of {listed(parts)} nats a token at the places compared (n = {n} texts)."
    )


def _of_group(some: pd.DataFrame) -> list[str]:
    """The closest method of a group, and each method beside its random control and its oracle."""
    methods = some[some["method_role"] == "method"].sort_values("kl")
    if methods.empty:
        return []
    first = methods.iloc[0]
    place = f"At {tokens(first['length'])} and {percent(first['nominal'])}"
    text = (
        f"{place} the mean divergence is smallest under **{variant(first)}** among the methods: "
        f"{told(first, 'kl')}, with a recall of {told(first, 'recall')}, n = {int(first['n'])} texts"
    )
    if len(methods) > 1:
        last = methods.iloc[-1]
        text += f"; largest under {last['name']}: {told(last, 'kl')}, recall {told(last, 'recall')}"
    sentences = [f"{text}."]
    for method in methods.to_dict("records"):
        beside = some[some["method_like"] == method["method_name"]].set_index("method_name")
        told_beside = [
            f"{name} {told(beside.loc[name], 'kl')}" for name in ("random", "oracle") if name in beside.index
        ]
        if told_beside:
            sentences.append(
                f"{place} {variant(method)} diverges by {told(method, 'kl')}; with its units and budget "
                f"{listed(told_beside)} (n = {int(method['n'])} texts)."
            )
    return sentences


def _agreement(some: pd.DataFrame) -> str:
    """Rank correlation of recall and divergence over the settings of a group."""
    from scipy.stats import spearmanr

    if len(some) < 4:
        return ""
    found = float(spearmanr(some["recall"], some["kl"]).statistic)
    if not np.isfinite(found):
        return ""
    return (
        f"Over the {counted(len(some), 'setting')} of {some['group'].iloc[0]}, recall and divergence have a "
        f"rank correlation of {number(found)}."
    )


def listing(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Every setting as a table to read, and its caption."""
    shown = []
    for row in rows[rows["method_role"] != "dense"].to_dict("records"):
        ran = row["n"] > 0
        note = "" if row["state"] == "ok" else str(row["state"]).replace("_", " ")
        if row["state"] == "unreachable":
            note = f"unreachable: at most {percent(1 - row['lowest_density'])} can be left out"
        shown.append(
            {
                "phase": row["group"],
                "method": row["name"],
                "length": f"{row['length']:,}",
                "asked": percent(row["nominal"]),
                "achieved": percent(row["achieved"]) if ran else "–",
                **{name: told(row, measure) if ran else "–" for measure, name in _HEADINGS.items()},
                "n": row["n"],
                "note": note,
            }
        )
    caption = f"Every setting on {rows['model'].iloc[0]}: means over texts with {level()}s; nats a token."
    return pd.DataFrame(shown), caption
