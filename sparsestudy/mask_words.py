"""Captions and descriptions of the pictures of choices, written from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sparsestudy.mask_tables import Drawing
from sparsestudy.words import counted, listed, percent, span, tokens

_ROWS = {
    "prefill": "Each row is a run of the prompt's queries",
    "steps": "Each row is a decode step, or a run of them",
    "kept": "The one row holds the tokens of the prompt that stay in the cache",
}


def _range(shares: Any) -> str:
    """``20 %`` or ``18 % to 25 %``."""
    low, high = percent(float(np.min(shares))), percent(float(np.max(shares)))
    return low if low == high else f"{low} to {high}"


def picture_caption(drawing: Drawing) -> str:
    """What to see in the picture of one method."""
    at = drawing.at
    needle = listed(span(pair) for pair in drawing.evidence)
    return (
        f"{drawing.name}, asked to leave out {percent(int(at['sparsity']) / 1000)} of a prompt of "
        f"{tokens(int(at['prompt_tokens']))}. {_ROWS[drawing.kind]}, each column a run of "
        f"{counted(int(at['column_size']), 'key')}; the stronger the colour, the larger the share that is "
        f"attended. Triangle and dashed line mark the evidence (tokens {needle}). Over these heads "
        f"{_range(drawing.attended())} of all pairs are attended, and {_range(drawing.attended(True))} of "
        "those whose key lies in a column of the evidence."
    )


def picture_alt(drawing: Drawing) -> str:
    """What the picture of one method shows, panel by panel."""
    at, shares, there = drawing.at, drawing.attended(), drawing.attended(True)
    panels = [
        f"layer {layer}, head {head}: {percent(shares[i, j])} attended, {percent(there[i, j])} in the "
        "columns of the evidence"
        for i, layer in enumerate(at["drawn_layer"].values)
        for j, head in enumerate(at["drawn_head"].values)
    ]
    return (
        f"{counted(shares.size, 'panel')} that show which keys {drawing.name} attends, queries or steps from "
        f"top to bottom, keys from left to right. {'; '.join(panels)}."
    )


def spread_alt(rows: pd.DataFrame) -> str:
    """What the figure over all methods shows."""
    ran = rows[rows["achieved"].notna()]
    told = [
        f"asked for {percent(nominal)}, means from {percent(some['achieved'].min())} to "
        f"{percent(some['achieved'].max())}, single heads from {percent(some['smallest'].min())} to "
        f"{percent(some['largest'].max())}"
        for nominal, some in ran.groupby("nominal")
    ]
    return (
        f"Dot plot of achieved sparsity, one line for each of {counted(rows['name'].nunique(), 'method')} "
        f"and one panel for each of {counted(rows['length'].nunique(), 'length')}: {'; '.join(told)}."
    )


def spread_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure over all methods."""
    ran, missed = rows[rows["achieved"].notna()], int((rows["state"] == "unreachable").sum())
    if ran.empty:
        return "No setting could be reached."
    off = ran.loc[(ran["achieved"] - ran["nominal"]).abs().idxmax()]
    wide = ran.loc[(ran["largest"] - ran["smallest"]).idxmax()]
    crosses = (
        f" Crosses mark {counted(missed, 'setting')} out of reach, at the most they can." if missed else ""
    )
    return (
        "Achieved sparsity over all layers and heads on one prompt: marks are medians, thick bars hold the "
        "middle half of the heads, thin lines reach from the smallest to the largest; dotted lines are "
        f"what was asked. The mean that is farthest from its target is that of {off['name']} at "
        f"{tokens(off['length'])}: {percent(off['achieved'])} where {percent(off['nominal'])} were asked. "
        f"Heads differ most under {wide['name']}: {percent(wide['smallest'])} to {percent(wide['largest'])} "
        f"at {tokens(wide['length'])}.{crosses}"
    )
