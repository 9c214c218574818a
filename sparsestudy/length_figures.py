"""Pictures of tolerance against length: the tolerated budget in tokens, and the tolerated sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsestudy import length_words, stats, style
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.panels import places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPREAD = 0.3
"""Share of the step between lengths over which the methods of a panel stand beside each other."""
# Markers of matplotlib: their tips are at the point, their bodies below and above it.
CARETUP, CARETDOWN, CARETRIGHT = 6, 7, 5
_LIMITS = {"budget": ("budget_high", "budget_low"), "sparsity": ("kept", "lost")}
_DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


def budgets(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Limits of the tolerated budget against length: a row of panels a task, a panel a phase and tail.

    Args:
        rows: `sparsestudy.length_tables.budgets` of one model.
        narrow: for a phone.
    """
    return _picture(rows, "budget", narrow)


def sparsities(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Limits of the tolerated sparsity against length, laid out as `budgets`."""
    return _picture(rows, "sparsity", narrow)


def _picture(rows: pd.DataFrame, what: str, narrow: bool) -> Picture:
    groups, tasks = list(rows["group"].unique()), list(rows["subject"].unique())
    look = style.looks(list(rows["method_name"]), ["method"] * len(rows), list(rows["name"]))
    across = 1 if narrow else len(groups)
    where = [
        ((place[0], place[1]), task, group)
        for task_row, task in enumerate(tasks)
        for place, _, group in places([""], groups, across)
        for place in [(task_row * (-(-len(groups) // across)) + place[0], place[1])]
    ]
    with style.theme(narrow):
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=one.colour, linestyle="-", **one.marker_style()) for one in look.values()
        ]
        layout = Layout(
            narrow=narrow,
            across=across,
            down=max(row for (row, _), _, _ in where) + 1,
            panel=1.3 if narrow else 1.7,
            entries=len(handles),
            left=0.68,
            title=0.42,
        )
        figure, grid = layout.subplots()
        for axes in grid.flat:
            axes.set_visible(False)
        for place, task, group in where:
            axes = grid[place]
            axes.set_visible(True)
            axes.set_title(f"{task},\n{group}")
            _axes(axes, rows, what)
            _intervals(axes, rows[(rows["subject"] == task) & (rows["group"] == group)], what, look)
        layout.label(
            figure,
            "length in tokens",
            "tolerated budget in tokens" if what == "budget" else "tolerated sparsity in %",
        )
        layout.legend(figure, handles, list(look))
    alt, caption = (make(rows, what) for make in (length_words.limits_alt, length_words.limits_caption))
    return Picture(figure, rows, alt, caption)


def _axes(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    """Logarithmic lengths; budgets beside lines of equal sparsity, or sparsities by the share that is "
    "kept.
    """
    lengths = sorted(rows["length"].unique())
    ends = np.array([lengths[0] / 1.5, lengths[-1] * 1.5])
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.set_xticks([], minor=True)
    if what == "budget":
        bottom = _floor(rows)
        axes.set_yscale("log")
        axes.set_ylim(bottom, 2 * lengths[-1])
        axes.yaxis.set_major_formatter("{x:,.0f}")
        for density in _DENSITIES:
            axes.plot(ends, density * ends, color=style.GRID, linewidth=0.9, zorder=0)
        axes.grid(visible=False)
        return
    share_axis(axes, rows)


def share_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Scale the y axis of tolerated sparsities by the share that is kept, up to the highest of some rows."""
    top = float(np.nanmax([rows["lost"].max(), rows["kept"].max(), 0.9]))
    axes.set_yscale(
        "function",
        functions=(
            lambda s: -np.log10(np.clip(1 - np.asarray(s, float), 1e-4, None)),
            lambda y: 1 - 10 ** -np.asarray(y, float),
        ),
    )
    ticks = [tick for tick in style.TICKS if tick <= top + 1e-9]
    axes.set_yticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(-0.15, 1 - (1 - top) * 0.7)


def _floor(rows: pd.DataFrame) -> float:
    return float(np.nanmin([rows["budget_low"].min(), rows["budget_high"].min(), rows["length"].min()])) / 2


def _intervals(axes: Axes, rows: pd.DataFrame, what: str, look: dict[str, style.Look]) -> None:
    """A line between the limits; an arrowhead where one is open, and a cross where nothing can be told."""
    names = list(rows["name"].unique())
    bottom, top = axes.get_ylim()
    steps = np.diff(np.log(sorted(rows["length"].unique())))
    width = 2 * _SPREAD * float(steps.min() if len(steps) else np.log(2.0))
    for turn, name in enumerate(names):
        some, one = rows[rows["name"] == name], look[str(name)]
        x = some["length"] * np.exp(width * ((turn + 0.5) / len(names) - 0.5))
        told = some["state"] != stats.CANNOT_SAY
        enough, failed = (some[column][told] for column in _LIMITS[what])
        # An end that no setting shows is drawn to where it might lie at most.
        most, least = (some["tokens"][told], bottom) if what == "budget" else (0.0, top)
        first, last = enough.fillna(most), failed.fillna(least)
        axes.vlines(x[told], first, last, color=one.colour, linewidth=1.2)
        points: dict[str, Any] = {"color": one.colour, "linestyle": "none"}
        axes.plot(x[told], enough, marker=one.marker, **points)
        axes.plot(x[told], failed, marker=one.marker, markerfacecolor="white", **points)
        up, down = (x[told][enough.isna()], first[enough.isna()]), x[told][failed.isna()]
        axes.plot(*up, marker=CARETUP, **points)
        axes.plot(
            down, np.full(len(down), least), marker=CARETDOWN if what == "budget" else CARETUP, **points
        )
        lost = x[~told]
        axes.plot(lost, np.full(len(lost), bottom), marker="x", clip_on=False, zorder=5, **points)
