"""Small multiples: a row of panels for each group of methods, a panel for each length, task or model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparsestudy import style, tables, words
from sparsestudy.layout import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_COLUMNS = (
    *("group", "name", "method_name", "method_role", "state", "n", "nominal", "achieved", "chance"),
    *("score", "score_low", "score_high", "difference_low", "difference_high"),
)
"""What a panel reads of a cell, beside its value and what has a panel for each of its values."""


def draw(rows: pd.DataFrame, columns: tuple[str, str, str], narrow: bool, by: str = "length") -> Figure:
    """Small multiples: each group of methods begins a row, each length is a panel.

    Args:
        rows: the cells.
        columns: names of the value and of its limits.
        narrow: for a phone.
        by: what has a panel for each of its values, in their order; numbers rise.
    """
    # Panels look at the rows many times, and a table of all columns takes longest to look at.
    used = dict.fromkeys([by, *columns, *_COLUMNS])
    rows = rows[[column for column in used if column in rows]]
    groups = [group for group in rows["group"].unique() if group != "dense"] or ["dense"]
    lengths = list(rows[by].unique())
    lengths = sorted(lengths) if pd.api.types.is_numeric_dtype(rows[by]) else lengths
    many = len(groups) if len(lengths) == 1 else len(lengths)
    most = (1 if len(lengths) == 1 else 2) if narrow else 4
    across = -(-many // -(-many // most))  # rows of equal length, none longer than the most that fit
    where = places(groups, lengths, across)
    look = style.looks(list(rows["method_name"]), list(rows["method_role"]), list(rows["name"]))
    scores = columns[0] == "score"
    bounds = (-0.06, 1.04) if scores else _bounds(rows)
    highest = float(rows[["nominal", "achieved"]].max().max())
    with style.theme(narrow):
        handles, labels = _legend(rows, look, scores)
        layout = Layout(
            narrow=narrow,
            across=across,
            down=max(row for (row, _), _, _ in where) + 1,
            panel=1.15 if narrow else 1.5,
            entries=len(labels),
        )
        figure, grid = layout.subplots()
        for axes in grid.flat:
            axes.set_visible(False)
        style.sparsity_axis(grid[0, 0], highest)  # which all panels share
        for (row, column), group, length in where:
            axes = grid[row, column]
            axes.set_visible(True)
            here = rows[rows[by] == length]
            _panel(axes, here, group, columns, look, bounds)
            label = words.tokens(length) if by == "length" else str(length)
            first = length == lengths[0] if by != "length" else column == 0
            _title(axes, here, group, label, narrow or first or len(lengths) == 1)
            last = all(other <= row or place != column for (other, place), own, _ in where if own == group)
            axes.tick_params(labelbottom=last)
        layout.label(figure, "achieved sparsity in %", "accuracy" if scores else "difference to dense")
        layout.legend(figure, handles, labels)
    return figure


def places(groups: list[str], lengths: list[Any], across: int) -> list[tuple[tuple[int, int], str, Any]]:
    """(row, column) in the grid for every group and length; with one length the groups share rows."""
    if len(lengths) == 1:
        return [(divmod(index, across), group, lengths[0]) for index, group in enumerate(groups)]
    high = -(-len(lengths) // across)
    return [
        ((g * high + index // across, index % across), group, length)
        for g, group in enumerate(groups)
        for index, length in enumerate(lengths)
    ]


def _bounds(rows: pd.DataFrame) -> tuple[float, float]:
    """Limits of the difference axis: in tenths, around all intervals and at least a little around zero."""
    low, high = rows["difference_low"].min(), rows["difference_high"].max()
    return min(-0.2, math.floor(10 * (low - 0.03)) / 10 if low < 0 else 0.0), max(
        0.15, math.ceil(10 * high) / 10 if high > 0 else 0.0
    )


def _title(axes: Axes, rows: pd.DataFrame, group: str, label: str, named: bool) -> None:
    """The group above a row's first panel (every panel on a phone), then its label and sample count."""
    here = rows[rows["group"].isin([group, "dense"]) & (rows["n"] > 0)]
    axes.set_title(f"{label}, n = {words.span(here['n']) if len(here) else 0}")
    if named:
        heading(axes, group)


def heading(axes: Axes, text: str) -> None:
    """Name a group of panels, in bold above the title of its first."""
    axes.annotate(
        text,
        (0, 1),
        xytext=(0, 16),
        xycoords="axes fraction",
        textcoords="offset points",
        weight="bold",
        color=style.TEXT,
    )


def _panel(
    axes: Axes,
    rows: pd.DataFrame,
    group: str,
    columns: tuple[str, str, str],
    look: dict[str, style.Look],
    bounds: tuple[float, float],
) -> None:
    """One group at one length."""
    value, low, high = columns
    if value == "score":
        _dense_band(axes, rows)
        if rows["chance"].iloc[0] < 1:
            chance = float(rows["chance"].iloc[0])
            axes.axhline(chance, color=style.MUTED, linewidth=0.9, linestyle=":")
        axes.set_ylim(*bounds)
    else:
        axes.axhspan(-tables.MARGIN, tables.MARGIN, color=style.DENSE, alpha=0.12, linewidth=0)
        axes.axhline(0, color=style.DENSE, linewidth=1.0)
        axes.set_ylim(*bounds)
    # Dense is the band; a task with less context has nothing else.
    here = rows[(rows["group"] == group) & (rows["method_role"] != "dense")]
    ran = here[here[value].notna()].sort_values("achieved")
    for name, some in ran.groupby("name", sort=False):
        one = look[str(name)]
        axes.plot(
            some["achieved"],
            some[value],
            color=one.colour,
            linestyle=one.line,
            markeredgewidth=0.75,
            **one.marker_style(),
        )
        look_of = {"color": one.colour, "linewidth": 0.9, "alpha": 0.7}
        style.intervals(axes, some["achieved"], some[low], some[high], **look_of)
    missing = here[here["state"] == "unreachable"]
    for x, name in zip(missing["nominal"], missing["name"], strict=True):
        axes.plot(x, axes.get_ylim()[0], "x", markersize=5, color=look[name].colour, clip_on=False, zorder=5)
    axes.set(xlabel="", ylabel="")


def _dense_band(axes: Axes, rows: pd.DataFrame) -> None:
    dense = rows[(rows["method_role"] == "dense") & (rows["n"] > 0)]
    if len(dense):
        cell = dense.iloc[0]
        axes.axhspan(cell["score_low"], cell["score_high"], color=style.DENSE, alpha=0.13, linewidth=0)
        axes.axhline(cell["score"], color=style.DENSE, linewidth=1.0)


def _legend(rows: pd.DataFrame, look: dict[str, style.Look], scores: bool) -> tuple[list[Any], list[str]]:
    """Handles and labels: dense first, then each method, then what the other marks mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=style.DENSE, linewidth=1.0),
        Patch(color=style.DENSE, alpha=0.14),
    ]
    labels = ["dense", f"its {words.level()}"] if scores else ["no difference", f"within ±{tables.MARGIN:g}"]
    for name, one in look.items():
        handles.append(Line2D([], [], color=one.colour, linestyle=one.line, **one.marker_style()))
        labels.append(name if one.filled else f"{name} (control)")
    if (rows["state"] == "unreachable").any():
        handles.append(Line2D([], [], color=style.MUTED, linestyle="none", marker="x", markersize=5))
        labels.append("unreachable")
    if scores and (rows["chance"] < 1).any():
        handles.append(Line2D([], [], color=style.MUTED, linestyle=":", linewidth=0.9))
        labels.append("guessing")
    return handles, labels
