"""Pictures of accuracy against cost: every setting, and frontiers over models of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from sparsestudy import pareto_gain_words, pareto_words, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.panels import heading, places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRONTIERS: dict[str, tuple[str, Literal["-", "--"]]] = {
    "dense": (style.MUTED, "--"),
    "full": (style.DENSE, "-"),
}
"""Colour and line of the dense-only frontier and of that of all configurations."""
_FEW, _NARROW = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), (0.6, 0.7, 0.8, 0.9, 1.0)


def headline(rows: pd.DataFrame, lines: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """The picture that answers best whether a smaller dense or a larger sparse model is the better choice.

    With models of several costs that is `frontiers`; with one it is `settings`, what each method saves.

    Args:
        rows: `sparsestudy.pareto_tables.points` of some costs and lengths.
        lines: `sparsestudy.pareto_models.curves` for the same, or empty.
        narrow: for a phone.
    """
    make = frontiers if len(lines) else settings
    return make(rows, lines, narrow=narrow)


def settings(rows: pd.DataFrame, lines: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Score against cost: a row of panels a cost and group of methods, a panel a length.

    Args:
        rows: `sparsestudy.pareto_tables.points` of one phase, or of several at one length.
        lines: `sparsestudy.pareto_models.curves` for the same, or empty.
        narrow: for a phone.
    """
    look = style.looks(
        list(rows["method_name"]),
        ["method" if role == "method" else "control" for role in rows["method_role"]],
        list(rows["name"]),
    )
    handles = _legend(look) | (_frontier_legend() if len(lines) else {})
    figure = _draw(rows, lines, handles, narrow, lambda axes, here: _settings(axes, here, look))
    alt, caption = pareto_words.settings_alt(rows, lines), pareto_words.settings_caption(rows, lines)
    return Picture(figure, rows, alt, caption)


def frontiers(rows: pd.DataFrame, lines: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Both frontiers: a row of panels a cost and group of methods, a panel a length, a colour a model.

    Args:
        rows: `sparsestudy.pareto_tables.points`, in which models have several costs.
        lines: `sparsestudy.pareto_models.curves` for the same.
        narrow: for a phone.
    """
    from matplotlib.lines import Line2D

    models = rows[rows["method_role"] == "dense"].sort_values("cost")["model"].drop_duplicates().tolist()
    looks = dict(zip(models, style.turns(len(models)), strict=True))
    rows = rows[rows["method_role"].isin(["dense", "method"])].reset_index(drop=True)
    if narrow:  # two panels fit beside each other: the shortest prompts and the longest
        ends = [lines["length"].min(), lines["length"].max()]
        rows, lines = (table[table["length"].isin(ends)] for table in (rows, lines))
    handles = _frontier_legend() | {
        model: Line2D([], [], color=colour, marker=marker, linestyle="none")
        for model, (colour, marker) in looks.items()
    }
    across = 1 if narrow else 3  # names of models are long
    figure = _draw(rows, lines, handles, narrow, lambda axes, here: _models(axes, here, looks), across)
    both = pd.concat([rows.assign(part="setting"), lines], ignore_index=True)
    text = both.select_dtypes(exclude="number").columns
    both = both.assign(**{name: both[name].fillna("") for name in text})
    alt, caption = pareto_gain_words.frontiers_alt(lines, models), pareto_gain_words.frontiers_caption(lines)
    return Picture(figure, both, alt, caption)


def _draw(
    rows: pd.DataFrame,
    lines: pd.DataFrame,
    handles: dict[str, Any],
    narrow: bool,
    marks: Callable[[Axes, pd.DataFrame], None],
    columns: int | None = None,
) -> Figure:
    """Panels with the frontiers and whatever ``marks`` draws of the rows of each."""
    rows, lines = (
        table.assign(what=[pareto_words.panel(row) for row in table.to_dict("records")])
        for table in (rows, lines)
    )
    costs = list(dict.fromkeys(rows["what"]))
    lengths = sorted(rows["length"].unique())
    many = len(costs) if len(lengths) == 1 else len(lengths)
    most = (1 if len(lengths) == 1 else 2) if narrow else 4
    across = -(-many // -(-many // most))
    where = places(costs, lengths, across)
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=across,
            down=max(row for (row, _), _, _ in where) + 1,
            panel=1.15 if narrow else 1.5,
            entries=len(handles),
            columns=columns,
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
            marks(axes, here)
            _title(axes, here, what, None if len(lengths) == 1 else length, column == 0)
        of = f" at {words.tokens(lengths[0])}" if len(lengths) == 1 else ""
        layout.label(figure, f"cost in % of the largest dense model's{of}", "accuracy")
        layout.legend(figure, list(handles.values()), list(handles))
    return figure


def _title(axes: Axes, rows: pd.DataFrame, what: str, length: int | None, first: bool) -> None:
    """The cost above a row's first panel, then length and samples; without a length each panel is a cost."""
    group, _, unit = what.partition(": ")
    n = words.span(rows["n"]) if len(rows) else 0
    axes.set_title(f"{unit if length is None else words.tokens(length)}, n = {n}")
    if length is None or first:
        heading(axes, group if length is None else what)


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
            style.intervals(axes, some["relative"], low, high, color=one.colour, linewidth=0.9, alpha=0.7)
    axes.vlines(dense["relative"], dense["score_low"], dense["score_high"], color=style.DENSE, linewidth=1.2)
    axes.plot(dense["relative"], dense["score"], marker="s", color=style.DENSE, linestyle="none", zorder=4)


def _models(axes: Axes, rows: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Every dense model as a mark with its interval, and its sparse settings as small pale ones."""
    for model, (colour, marker) in looks.items():
        own = rows[rows["model"] == model]
        dense, sparse = own[own["method_role"] == "dense"], own[own["method_role"] == "method"]
        shared: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
        axes.plot(sparse["relative"], sparse["score"], markersize=2.2, alpha=0.45, **shared)
        axes.vlines(dense["relative"], dense["score_low"], dense["score_high"], color=colour, linewidth=1.2)
        axes.plot(dense["relative"], dense["score"], markersize=6.0, zorder=4, **shared)


def _legend(look: dict[str, style.Look]) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {"dense": Line2D([], [], color=style.DENSE, linestyle="none", marker="s")}
    for name, one in look.items():
        label = name if one.filled else f"{name} (control)"
        handles[label] = Line2D([], [], color=one.colour, linestyle=one.line, **one.marker_style())
    return handles


def _frontier_legend() -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for label, part in (("frontier of dense models", "dense"), ("frontier of all", "full")):
        colour, line = FRONTIERS[part]
        handles[label] = Line2D([], [], color=colour, linestyle=line, linewidth=2.0)
    return handles
