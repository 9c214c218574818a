"""Picture of tolerated sparsity against what a task demands, a panel for each number that grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsestudy import demand_words, stats, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.length_figures import CARETUP, share_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPREAD = 0.3
"""Share of the step between values over which the methods of a panel stand beside each other."""


def demands(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Tolerated sparsity against the number that grows: a panel an axis, a colour a method.

    Args:
        rows: `sparsestudy.demand_tables.tolerated` of one model and length.
        narrow: for a phone.
    """
    names = list(rows["axis"].unique())
    roles = ["method" if kind == "method" else "control" for kind in rows["kind"]]
    look = style.looks(list(rows["method_name"]), roles, list(rows["name"]))
    across = 1 if narrow else min(3, len(names))
    with style.theme(narrow):
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=one.colour, linestyle=one.line, marker=one.marker) for one in look.values()
        ]
        layout = Layout(
            narrow=narrow,
            across=across,
            down=-(-len(names) // across),
            panel=1.6,
            entries=len(handles),
            columns=1 if narrow else 2,
            bottom=0.68,
            title=0.42,
            gap=0.42,
        )
        figure, grid = layout.subplots(sharex=False)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        for place, axis in enumerate(names):
            axes, some = grid.flat[place], rows[rows["axis"] == axis]
            share_axis(axes, rows)
            axes.set_title(str(axis).replace(": ", ",\n"))
            _panel(axes, some, look)
        layout.label(figure, "value, and below it the dense score", "tolerated sparsity in %")
        layout.legend(figure, handles, list(look))
    return Picture(figure, rows, demand_words.figure_alt(rows), demand_words.figure_caption(rows))


def _panel(axes: Axes, rows: pd.DataFrame, look: dict[str, style.Look]) -> None:
    """A line from what is kept to what is lost for each value and method; values stand at equal steps."""
    first = rows.drop_duplicates("value").sort_values("value", kind="stable")
    values, (bottom, top) = first["value"].tolist(), axes.get_ylim()
    here = [name for name in look if name in set(rows["name"])]
    for turn, name in enumerate(here):
        some, one = rows[rows["name"] == name], look[name]
        at = np.array([values.index(value) for value in some["value"]], float)
        at += 2 * _SPREAD * ((turn + 0.5) / len(here) - 0.5)
        told = (some["state"] != stats.CANNOT_SAY).to_numpy()
        kept, lost = some["kept"][told], some["lost"][told]
        points: dict[str, Any] = {"color": one.colour, "linestyle": "none"}
        axes.vlines(at[told], kept, lost.fillna(top), color=one.colour, linestyle=one.line, linewidth=1.2)
        axes.plot(at[told], kept, marker=one.marker, **points)
        axes.plot(at[told], lost, marker=one.marker, markerfacecolor="white", **points)
        unbounded = lost.isna().to_numpy()
        ends = at[told][unbounded]
        axes.plot(ends, np.full(len(ends), top), marker=CARETUP, clip_on=False, **points)
        blind = at[~told]
        axes.plot(blind, np.full(len(blind), bottom), marker="x", clip_on=False, zorder=5, **points)
    labels = [f"{row['value']}\n{words.number(row['score'])}" for _, row in first.iterrows()]
    axes.set_xticks(range(len(values)), labels)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.grid(visible=False, axis="x")
