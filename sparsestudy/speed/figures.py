"""Pictures of speed: against the ceilings, against sparsity, against length, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsestudy import style
from sparsestudy import words as general
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.speed import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("selection", "kernel", "rest")
DENSE = "dense"


def _turns(names: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name; dense attention has those that it has everywhere."""
    others = [name for name in names if name != DENSE]
    looks = dict(zip(others, style.turns(len(others)), strict=True))
    return {name: looks.get(name, (style.DENSE, "s")) for name in names}


def _legend(layout: Layout, figure: Any, looks: dict[str, tuple[str, str]], lines: bool = True) -> None:
    from matplotlib.lines import Line2D

    width = None if lines else 0.0
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=width) for colour, marker in looks.values()
    ]
    layout.legend(figure, handles, list(looks))


def roofline(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Operations per second against operations per byte, under the measured ceilings; a panel a length.

    Args:
        rows: `sparsestudy.speed.tables.cases` of one model, the kernels that ran.
        narrow: for a phone.
    """
    rows = words.kernels(rows)
    lengths, looks = sorted(rows["length"].unique()), _turns(list(dict.fromkeys(rows["series"])))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1 if narrow else len(lengths),
            down=len(lengths) if narrow else 1,
            panel=1.5 if narrow else 2.1,
            entries=len(looks),
            columns=2 if narrow else 4,
            left=0.72,
            title=0.3,
        )
        figure, grid = layout.subplots()
        for axes, length in zip(grid.flat, lengths, strict=True):
            here = rows[rows["length"] == length]
            copy, multiply = (float(here[key].median()) for key in ("copy", "multiply"))
            x = np.geomspace(0.5 * rows["intensity"].min(), 2 * rows["intensity"].max(), 200)
            axes.plot(x, np.minimum(x * copy, multiply) / 1e12, color=style.DENSE, linewidth=1.0)
            for series, some in here.groupby("series", sort=False):
                colour, marker = looks[str(series)]
                axes.plot(some["intensity"], some["rate"] / 1e12, marker, color=colour, linestyle="none")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(general.tokens(length))
        _legend(layout, figure, looks, lines=False)
        layout.label(figure, "operations per byte", "tera-operations per second")
    return Picture(figure, rows, words.roofline_alt(rows), words.roofline_caption(rows))


def efficiency(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Efficiency against achieved sparsity: a panel a length, a line a code and pattern.

    Args:
        rows: `sparsestudy.speed.tables.cases` of one model.
        narrow: for a phone.
    """
    rows = words.sparse_prefills(rows)
    lengths, looks = sorted(rows["length"].unique()), _turns(list(dict.fromkeys(rows["series"])))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1 if narrow else len(lengths),
            down=len(lengths) if narrow else 1,
            panel=1.6 if narrow else 2.3,
            entries=len(looks),
            columns=1 if narrow else 2,
            title=0.3,
        )
        figure, grid = layout.subplots()
        highest = float((1 - rows["density"]).max())
        # The panels share one axis, and the best kernels lie above one.
        top = 1.08 * max(1.0, float(rows["efficiency"].max()))
        for axes, length in zip(grid.flat, lengths, strict=True):
            here = rows[rows["length"] == length].sort_values("density", ascending=False)
            style.sparsity_axis(axes, highest)
            x = np.linspace(0, highest, 100)
            axes.plot(x, 1 - x, color=style.DENSE, linewidth=1.0, linestyle=":")
            axes.axhline(1, color=style.DENSE, linewidth=1.0)
            for series, some in here.groupby("series", sort=False):
                colour, marker = looks[str(series)]
                line = "--" if (some["stage"] == "total").all() else "-"
                axes.plot(
                    1 - some["density"], some["efficiency"], color=colour, marker=marker, linestyle=line
                )
            axes.set_ylim(0, top)
            axes.set_title(general.tokens(length))
        _legend(layout, figure, looks)
        layout.label(figure, "achieved sparsity in %", "efficiency")
    return Picture(figure, rows, words.efficiency_alt(rows), words.efficiency_caption(rows))


def time(rows: pd.DataFrame, crossings: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Seconds against length, dense and sparse, with the crossings: panels for attention and whole models.

    Args:
        rows: `sparsestudy.speed.tables.cases` of a run.
        crossings: `sparsestudy.speed.tables.crossings` of it.
        narrow: for a phone.
    """
    rows = words.timed(rows)
    panels, looks = list(dict.fromkeys(rows["panel"])), _turns(list(dict.fromkeys(rows["series"])))
    with style.theme(narrow):
        across = 1 if narrow else min(len(panels), 4)
        layout = Layout(
            narrow=narrow,
            across=across,
            down=-(-len(panels) // across),
            panel=1.6 if narrow else 2.1,
            entries=len(looks),
            columns=1 if narrow else 2,
            left=0.72,
            title=0.3,
            gap=0.4,
        )
        figure, grid = layout.subplots(sharex=True, sharey=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            here = rows[rows["panel"] == panel].sort_values("length")
            for series, some in here.groupby("series", sort=False):
                colour, marker = looks[str(series)]
                axes.plot(some["length"], some["seconds"], color=colour, marker=marker)
            _crossings(axes, here, crossings)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_title(panel)
        _legend(layout, figure, looks)
        layout.label(figure, "length in tokens", "seconds")
    return Picture(figure, rows, words.time_alt(rows), words.time_caption(rows, crossings))


def _crossings(axes: Axes, rows: pd.DataFrame, crossings: pd.DataFrame) -> None:
    keys = ["model", "part", "stage", "method", "sparsity"]
    here = crossings.merge(rows[keys].drop_duplicates(), on=keys)
    for place in here.loc[np.isfinite(here["crossing"]) & (here["crossing"] > 0), "crossing"]:
        axes.axvline(place, color=style.MUTED, linewidth=0.8, linestyle=(0, (3, 2)))


def split(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Where the time of a prefill goes, as a share of dense attention: a panel a length, a bar a setting.

    Args:
        rows: `sparsestudy.speed.tables.split` of one model.
        narrow: for a phone.
    """
    lengths, looks = sorted(rows["length"].unique()), _turns(list(PARTS))
    rows = rows.assign(setting=[words.setting(row) for row in rows.to_dict("records")])
    names = list(dict.fromkeys(rows["setting"]))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1 if narrow else len(lengths),
            down=len(lengths) if narrow else 1,
            panel=0.3 + 0.2 * len(names),
            entries=len(PARTS),
            columns=3,
            left=1.95 if narrow else 2.4,
            title=0.3,
        )
        figure, grid = layout.subplots(sharex=False)
        for axes, length in zip(grid.flat, lengths, strict=True):
            here = rows[rows["length"] == length]
            place = [names.index(name) for name in here["setting"]]
            start = np.zeros(len(here))
            for part in PARTS:
                share = (here[part].fillna(0) / here["dense"]).to_numpy()
                axes.barh(place, share, left=start, color=looks[part][0], height=0.7)
                start = start + share
            axes.axvline(1, color=style.DENSE, linewidth=1.0)
            axes.set_xlim(0, 1.05 * max(1.0, float(start.max(initial=0.0))))
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_title(general.tokens(length))
            axes.grid(visible=False, axis="y")
        _legend(layout, figure, looks, lines=False)
        layout.label(figure, "time / time of dense attention", "")
    return Picture(figure, rows, words.split_alt(rows), words.split_caption(rows))
