"""Pictures of accuracy against cost: every setting, and frontiers over models of several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sparsestudy import pareto_gain_words, pareto_words, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.panels import heading, places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRONTIERS: dict[str, tuple[str, Literal["-", "--"]]] = {
    "dense": (style.MUTED, "--"),
    "full": (style.DENSE, "-"),
}
"""Colour and line of the dense-only frontier and of that of all configurations."""
_FEW, _NARROW = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), (0.6, 0.7, 0.8, 0.9, 1.0)


def settings(rows: pd.DataFrame, lines: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Score against cost: a row of panels a cost and group of methods, a panel a length.

    Args:
        rows: `sparsestudy.pareto_tables.points` of one phase.
        lines: `sparsestudy.pareto_models.curves` for the same, or empty.
        narrow: for a phone.
    """
    rows = rows.assign(what=[pareto_words.panel(row) for row in rows.to_dict("records")])
    if len(lines):
        lines = lines.assign(what=[pareto_words.panel(row) for row in lines.to_dict("records")])
    costs = list(dict.fromkeys(rows["what"]))
    lengths = sorted(rows["length"].unique())
    look = style.looks(
        list(rows["method_name"]),
        ["method" if role == "method" else "control" for role in rows["method_role"]],
        list(rows["name"]),
    )
    many = len(costs) if len(lengths) == 1 else len(lengths)
    most = (1 if len(lengths) == 1 else 2) if narrow else 4
    across = -(-many // -(-many // most))
    where = places(costs, lengths, across)
    with style.theme(narrow):
        handles = _legend(look, len(lines) > 0)
        layout = Layout(
            narrow=narrow,
            across=across,
            down=max(row for (row, _), _, _ in where) + 1,
            panel=1.15 if narrow else 1.5,
            entries=len(handles),
            gap=0.2,
        )
        figure, grid = layout.subplots(sharex=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for (row, column), what, length in where:
            axes = grid[row, column]
            axes.set_visible(True)
            here = rows[(rows["what"] == what) & (rows["length"] == length)]
            _scale(axes, float(rows.loc[rows["what"] == what, "relative"].min()))
            if len(lines):
                _frontiers(axes, lines[(lines["what"] == what) & (lines["length"] == length)])
            _settings(axes, here, look)
            axes.set_title(f"{words.tokens(length)}, n = {words.span(here['n']) if len(here) else 0}")
            if column == 0 or len(lengths) == 1:
                heading(axes, what)
        layout.label(figure, "cost in % of the largest dense model's", "accuracy")
        layout.legend(figure, list(handles.values()), list(handles))
    alt, caption = pareto_words.settings_alt(rows, lines), pareto_words.settings_caption(rows, lines)
    return Picture(figure, rows.drop(columns="what"), alt, caption)


def _scale(axes: Axes, lowest: float) -> None:
    """A logarithmic axis of shares, with the ticks that its range leaves room for."""
    axes.set_xscale("log")
    ticks = [tick for tick in (_NARROW if lowest > 0.5 else _FEW) if tick >= lowest * 0.99] or [1.0]
    axes.set_xticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    room = (1 / lowest) ** 0.06 if lowest < 1 else 1.1
    axes.set_xlim(lowest / room, room)
    axes.set_ylim(-0.06, 1.04)


def _frontiers(axes: Axes, lines: pd.DataFrame) -> None:
    for part, (colour, line) in FRONTIERS.items():
        some = lines[lines["part"] == part]
        axes.fill_between(
            some["relative"], some["score_low"], some["score_high"], color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(some["relative"], some["score"], color=colour, linestyle=line, linewidth=2.0)


def _settings(axes: Axes, rows: pd.DataFrame, look: dict[str, style.Look]) -> None:
    """A line a model and variant, from dense attention on; with one model every mark has its interval."""
    dense = rows[rows["method_role"] == "dense"]
    alone = rows["model"].nunique() == 1
    for (model, name), some in rows[rows["method_role"] != "dense"].groupby(["model", "name"], sort=False):
        one = look[str(name)]
        start = dense[dense["model"] == model]
        line = pd.concat([start, some]).sort_values("nominal")
        axes.plot(line["relative"], line["score"], color=one.colour, linestyle=one.line, linewidth=0.9)
        mark: dict[str, Any] = one.marker_style()
        axes.plot(some["relative"], some["score"], color=one.colour, linestyle="none", **mark)
        if alone and some["score_low"].notna().any():
            low, high = some["score_low"], some["score_high"]
            axes.vlines(some["relative"], low, high, color=one.colour, linewidth=0.9, alpha=0.7)
    axes.vlines(dense["relative"], dense["score_low"], dense["score_high"], color=style.DENSE, linewidth=1.2)
    axes.plot(dense["relative"], dense["score"], marker="s", color=style.DENSE, linestyle="none", zorder=4)


def _legend(look: dict[str, style.Look], frontiers: bool) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {"dense": Line2D([], [], color=style.DENSE, linestyle="none", marker="s")}
    for name, one in look.items():
        label = name if one.filled else f"{name} (control)"
        handles[label] = Line2D([], [], color=one.colour, linestyle=one.line, **one.marker_style())
    if frontiers:
        for label, part in (("frontier of dense models", "dense"), ("frontier of all", "full")):
            colour, line = FRONTIERS[part]
            handles[label] = Line2D([], [], color=colour, linestyle=line, linewidth=2.0)
    return handles


def gains(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """How far the full frontier lies above that of the dense models: a row a cost, a mark a length.

    Args:
        rows: one row a cost and length, with ``estimate``, ``low`` and ``high``.
        narrow: for a phone.
    """
    what = [f"{row['group']}: {pareto_words.cost(row)}" for row in rows.to_dict("records")]
    names, lengths = list(dict.fromkeys(what)), sorted(rows["length"].unique())
    looks = dict(zip(lengths, style.turns(len(lengths)), strict=True))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1,
            down=1,
            panel=0.3 + (0.15 * len(lengths) + 0.1) * len(names),
            entries=len(lengths),
            left=1.75 if narrow else 2.6,
            title=0.1,
        )
        figure, grid = layout.subplots()
        axes = grid[0, 0]
        axes.axvline(0, color=style.DENSE, linewidth=1.0)
        for turn, (length, (colour, marker)) in enumerate(looks.items()):
            some = rows[rows["length"] == length]
            place = np.array([names.index(what[i]) for i in some.index]) + 0.8 * (
                (turn + 0.5) / len(looks) - 0.5
            )
            axes.hlines(place, some["low"], some["high"], color=colour, linewidth=1.2)
            axes.plot(
                some["estimate"],
                place,
                marker=marker,
                color=colour,
                linestyle="none",
                label=words.tokens(length),
            )
        axes.set_yticks(range(len(names)), [name.replace(": ", ":\n") for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        layout.legend(figure, *axes.get_legend_handles_labels())
        layout.label(figure, "mean height above the frontier of dense models", "")
    return Picture(figure, rows, pareto_gain_words.gains_alt(rows), pareto_gain_words.gains_caption(rows))
