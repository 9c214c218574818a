"""Dot plot of two runs: one line a cell, grouped by method, a panel for each model, task and length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from sparsestudy import style, words
from sparsestudy.layout import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED, LOCAL = style.DENSE, style.LOCAL


def draw(rows: pd.DataFrame, narrow: bool) -> Figure:
    """The figure; ``rows`` are the cells of `sparsestudy.compare.beside` that ran in both."""
    parts = [part for _, part in rows.groupby(["model", "task", "length"], sort=False)] or [rows]
    across = 1 if narrow else min(3, len(parts))
    lines = max(_lines(part) for part in parts)
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=across,
            down=-(-len(parts) // across),
            panel=0.175 * lines + 0.15,
            entries=2,
            columns=2,
            left=0.5,
            gap=0.5,
        )
        figure, grid = layout.subplots(sharex=False, sharey=False)
        for axes in grid.flat[len(parts) :]:
            axes.set_visible(False)
        several = rows[["model", "task"]].drop_duplicates().shape[0] > 1
        for axes, part in zip(grid.flat, parts, strict=False):
            _panel(axes, part, lines, several)
        layout.label(figure, "accuracy", "")
        _legend(figure, layout)
    return figure


def _lines(part: pd.DataFrame) -> int:
    return len(part) + part.apply(words.variant, axis=1).nunique() if len(part) else 1


def _panel(axes: Axes, part: pd.DataFrame, lines: int, several: bool) -> None:
    """One length: a heading for each method variant, then a line for each sparsity."""
    at, ticks, labels = 0, [], []
    for name, some in part.groupby(part.apply(words.variant, axis=1), sort=False) if len(part) else ():
        axes.text(
            0, at, str(name), va="center", ha="left", weight="bold", transform=axes.get_yaxis_transform()
        )
        for row in some.sort_values("sparsity").to_dict("records"):
            at += 1
            ticks.append(at)
            labels.append(words.percent(row["nominal"]))
            _line(axes, row, at)
        at += 1
    axes.set_yticks(ticks, labels)
    axes.set(ylim=(lines - 0.4, -0.6), xlim=(-0.04, 1.04), xlabel="", ylabel="")
    axes.grid(visible=False, axis="y")
    if len(part):
        first = part.iloc[0]
        subject = f"{first['subject']}, {first['model']}\n" if several else ""
        axes.set_title(f"{subject}{words.tokens(first['length'])}")


def _line(axes: Axes, row: dict[str, Any], at: float) -> None:
    axes.plot(
        [row["published_score_low"], row["published_score_high"]],
        [at, at],
        color=PUBLISHED,
        alpha=0.25,
        linewidth=6,
        solid_capstyle="butt",
    )
    axes.plot(row["published_score"], at, marker="|", markersize=8, markeredgewidth=2, color=PUBLISHED)
    axes.plot([row["score_low"], row["score_high"]], [at, at], color=LOCAL, linewidth=1)
    axes.plot(row["score"], at, marker="D", markersize=4.5, markerfacecolor="white", color=LOCAL)


def _legend(figure: Figure, layout: Layout) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=PUBLISHED, alpha=0.4, linewidth=6),
        Line2D([], [], color=LOCAL, linewidth=1, marker="D", markersize=4.5, markerfacecolor="white"),
    ]
    layout.legend(figure, handles, ["published", "this machine"])
