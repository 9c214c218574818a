"""The picture of concentration: keys that hold attention against the length of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparsestudy import concentration_words, style
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.panels import places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shares of the text that the lines in the back stand for.
_SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


def growth(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Keys against length: a row of panels a kind of query, a panel a mass, a line a task.

    Args:
        rows: `sparsestudy.concentration_tables.counts` of one model.
        narrow: for a phone.
    """
    regions, masses = list(rows["region"].unique()), list(rows["mass"].unique())
    subjects = list(rows["subject"].unique())
    looks = dict(zip(subjects, style.turns(len(subjects)), strict=True))
    across = 2 if narrow else len(masses)
    where = places(regions, masses, across)
    with style.theme(narrow):
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=colour, marker=marker) for colour, marker in looks.values()]
        layout = Layout(
            narrow=narrow,
            across=across,
            down=max(row for (row, _), _, _ in where) + 1,
            panel=1.3 if narrow else 1.75,
            entries=len(handles),
            columns=1 if narrow else 3,
            left=0.68,
        )
        figure, grid = layout.subplots()
        for axes in grid.flat:
            axes.set_visible(False)
        for place, region, mass in where:
            axes = grid[place]
            axes.set_visible(True)
            axes.set_title(f"{region},\n{concentration_words.mass(int(mass))}")
            _scales(axes, rows)
            _lines(axes, rows[(rows["region"] == region) & (rows["mass"] == mass)], looks)
        layout.label(figure, "length in tokens", "keys")
        layout.legend(figure, handles, subjects)
    return Picture(figure, rows, concentration_words.alt(rows), concentration_words.caption(rows))


def _scales(axes: Axes, rows: pd.DataFrame) -> None:
    """Logarithmic axes, with lines of equal share in the back."""
    lengths = sorted(rows["length"].unique())
    ends = np.array([lengths[0] / 1.3, lengths[-1] * 1.3])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*ends)
    axes.set_ylim(max(rows["keys"].min() / 2, 0.8), rows["keys"].max() * 2)
    # Every second length, counted from the last, so that their names do not touch.
    shown = lengths[::-2][::-1]
    axes.set_xticks(shown, [f"{length:,}" for length in shown])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    for share in _SHARES:
        axes.plot(ends, share * ends, color=style.GRID, linewidth=0.9, zorder=0)
    axes.grid(visible=False)


def _lines(axes: Axes, rows: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    for name, some in rows.groupby("subject", sort=False):
        colour, marker = looks[str(name)]
        axes.plot(some["length"], some["keys"], color=colour, marker=marker)
        axes.vlines(some["length"], some["keys_low"], some["keys_high"], color=colour, linewidth=0.9)
