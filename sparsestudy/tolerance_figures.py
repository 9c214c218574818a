"""Picture of tolerated sparsities by task and method, the controls beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsestudy import stats, style, tolerance_words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.length_figures import CARETRIGHT
from sparsestudy.tolerance_tables import ASIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tasks(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Tolerated sparsity: a row of panels a task, worst first, a panel a phase and tail, a row a method.

    Args:
        rows: `sparsestudy.tolerance_tables.chosen`.
        narrow: for a phone.
    """
    groups, subjects = list(rows["group"].unique()), list(rows["subject"].unique())
    kinds = ["method", *[kind for kind in ASIDE if kind in set(rows["kind"])]]
    looks = style.looks(kinds[1:], ["control"] * len(kinds[1:]), kinds[1:])
    looks = {"method": style.Look(style.DENSE, "o", "-", True), **looks}
    most = max(some["short"].nunique() for _, some in rows.groupby("group"))
    highest = float(np.nanmax([rows["lost"].max(), rows["kept"].max(), 0.9]))
    across = 1 if narrow else len(groups)
    with style.theme(narrow):
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=one.colour, linestyle=one.line, **one.marker_style())
            for one in looks.values()
        ]
        layout = Layout(
            narrow=narrow,
            across=across,
            down=len(subjects) * len(groups) // across,
            panel=0.2 + (0.11 * len(kinds) + 0.1) * most,
            entries=len(handles),
            left=1.3,
            title=0.6,
            gap=0.14 if narrow else 1.2,
            below=0.14,
            right=0.3,
        )
        figure, grid = layout.subplots(sharex=True, sharey=False)
        panels = [(subject, group) for subject in subjects for group in groups]
        for axes, (subject, group) in zip(grid.flat, panels, strict=True):
            some = rows[(rows["subject"] == subject) & (rows["group"] == group)]
            names = list(rows.loc[rows["group"] == group, "short"].unique())
            style.sparsity_axis(axes, highest)
            _rows(axes, some, names, looks)
            # The fields of a task stand on a line of their own: beside its name they would be cut off.
            name = subject.replace(" (", "\n(")
            axes.set_title(f"{name},\n{group}")
        layout.label(figure, "tolerated sparsity in %", "")
        layout.legend(figure, handles, list(looks))
    return Picture(figure, rows, tolerance_words.tasks_alt(rows), tolerance_words.tasks_caption(rows))


def _rows(axes: Axes, rows: pd.DataFrame, names: list[str], looks: dict[str, style.Look]) -> None:
    """A line from what is kept to what is lost, the kinds of one method under each other."""
    end = axes.get_xlim()[1]
    for turn, (kind, one) in enumerate(looks.items()):
        some = rows[rows["kind"] == kind]
        place = np.array([names.index(name) for name in some["short"]]) + 0.7 * (
            (turn + 0.5) / len(looks) - 0.5
        )
        told = (some["state"] != stats.CANNOT_SAY).to_numpy()
        kept, lost = some["kept"][told], some["lost"][told]
        points: dict[str, Any] = {"color": one.colour, "linestyle": "none"}
        axes.hlines(place[told], kept, lost.fillna(end), color=one.colour, linestyle=one.line, linewidth=1.2)
        axes.plot(kept, place[told], marker=one.marker, **points)
        axes.plot(lost, place[told], marker=one.marker, markerfacecolor="white", **points)
        unbounded = lost.isna().to_numpy()
        axes.plot(
            np.full(unbounded.sum(), end), place[told][unbounded], marker=CARETRIGHT, clip_on=False, **points
        )
        axes.plot(np.zeros((~told).sum()), place[~told], marker="x", **points)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
