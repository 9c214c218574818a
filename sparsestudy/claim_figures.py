"""Pictures of the page on decisions: tolerated sparsities as intervals, and planning numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparsestudy import claim_words, stats, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tolerance(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Tolerated sparsities: a panel for each task, a row for each method, a line for each length.

    Args:
        rows: `sparsestudy.claim_tables.tolerances` of one model.
        narrow: for a phone.
    """
    tasks, names = list(rows["subject"].unique()), list(rows["name"].unique())
    lengths = sorted(rows["length"].unique())
    looks = dict(zip(lengths, style.turns(len(lengths)), strict=True))
    across = 1 if narrow else min(2, len(tasks))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=across,
            down=-(-len(tasks) // across),
            panel=0.3 + (0.16 * len(lengths) + 0.1) * len(names),
            entries=len(lengths),
            left=1.35 if narrow else 1.75,
            title=0.32,
            gap=0.3,
        )
        figure, grid = layout.subplots()
        for axes in grid.flat[len(tasks) :]:
            axes.set_visible(False)
        for axes, task in zip(grid.flat, tasks, strict=False):
            _intervals(axes, rows[rows["subject"] == task], names, looks)
            axes.set_title(task)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        layout.legend(figure, handles, labels)
        layout.label(figure, "sparsity in %", "")
    return Picture(figure, rows, claim_words.tolerance_alt(rows), claim_words.tolerance_caption(rows))


def _intervals(axes: Axes, rows: pd.DataFrame, names: list[str], looks: dict[int, tuple[str, str]]) -> None:
    """One task: a line from what is kept to what is lost, the lengths of a method under each other."""
    highest = float(np.nanmax([rows["lost"].max(), rows["kept"].max(), 0.9]))
    style.sparsity_axis(axes, highest)
    end = axes.get_xlim()[1]
    for turn, (length, (colour, marker)) in enumerate(looks.items()):
        some = rows[rows["length"] == length]
        place = np.array([names.index(name) for name in some["name"]]) + 0.8 * (
            (turn + 0.5) / len(looks) - 0.5
        )
        unknown = (some["state"] == stats.CANNOT_SAY).to_numpy()
        axes.hlines(
            place[~unknown],
            some["kept"][~unknown],
            some["lost"].fillna(end)[~unknown],
            color=colour,
            linewidth=1.2,
        )
        axes.plot(
            some["kept"], place, marker=marker, color=colour, linestyle="none", label=words.tokens(length)
        )
        axes.plot(some["lost"], place, marker=marker, markerfacecolor="white", color=colour, linestyle="none")
        axes.plot(np.zeros(unknown.sum()), place[unknown], marker="x", color=colour, linestyle="none")
    axes.set_yticks(range(len(names)), [name.replace(" (", "\n(") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def planning(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """The smallest loss that is found and the smallest margin that is excluded, against the number of pairs.

    Args:
        rows: `sparsestudy.claim_tables.planning`.
        narrow: for a phone.
    """
    flips = sorted(rows["flips"].unique())
    looks = dict(zip(flips, style.turns(len(flips)), strict=True))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1 if narrow else 2,
            down=2 if narrow else 1,
            panel=1.3 if narrow else 1.8,
            entries=len(flips),
            title=0.32,
        )
        figure, grid = layout.subplots()
        for axes, (column, title) in zip(
            grid.flat, (("found", "loss that is found"), ("excluded", "margin that is excluded")), strict=True
        ):
            for share, (colour, marker) in looks.items():
                some = rows[rows["flips"] == share]
                label = f"{words.percent(share)} flip"
                axes.plot(some["n"], some[column], color=colour, marker=marker, label=label)
            for margin in (stats.MARGIN, stats.WIDE_MARGIN):
                axes.axhline(margin, color=style.DENSE, linewidth=1.0, linestyle=":")
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(rows["n"].unique()), [f"{n:,}" for n in sorted(rows["n"].unique())])
            axes.set_ylim(0, None)
            axes.set_title(title)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        layout.legend(figure, handles, labels)
        layout.label(figure, "pairs", "loss")
    return Picture(figure, rows, claim_words.planning_alt(rows), claim_words.planning_caption(rows))
