"""Pictures of fidelity: against sparsity, against the position in the text, and layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from sparsestudy import fidelity_words, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = dict[str, style.Look]
# Divergences of the same sums in another order: 5e-8 nats in single precision on the published texts.
ROUNDING = 1e-6


def curves(rows: pd.DataFrame, measure: str, *, narrow: bool = False) -> Picture:
    """One measure against achieved sparsity: a row of panels a phase, a panel a length.

    Args:
        rows: `sparsestudy.fidelity_tables.settings` of one model, dense left out.
        measure: one of `sparsestudy.fidelity_tables.MEASURES`.
        narrow: for a phone.
    """
    lengths, groups = sorted(rows["length"].unique()), list(rows["group"].unique())
    look = _looks(rows)
    highest = float(rows[["nominal", "achieved"]].max().max())
    with style.theme(narrow):
        figure, grid, layout = _grid(rows, look, len(lengths), len(groups), narrow, 1.75, sharey="row")
        for i, group in enumerate(groups):
            for j, length in enumerate(lengths):
                axes, here = grid[i, j], rows[(rows["group"] == group) & (rows["length"] == length)]
                style.sparsity_axis(axes, highest)
                _scale(axes, measure)
                _lines(axes, here[here[measure].notna()].sort_values("achieved"), "achieved", measure, look)
                axes.set_title(f"{group}, {words.tokens(length)}")
        for axes, (group, length) in zip(
            grid.flat, [(group, length) for group in groups for length in lengths], strict=True
        ):
            here = rows[(rows["group"] == group) & (rows["length"] == length)]
            _crosses(axes, here[here["state"] == "unreachable"], look)
        layout.label(figure, "achieved sparsity in %", _short(measure))
    alt, caption = (
        make(rows, measure) for make in (fidelity_words.curves_alt, fidelity_words.curves_caption)
    )
    return Picture(figure, rows, alt, caption)


def by_position(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Divergence against the position, a panel a phase.

    Args:
        rows: `sparsestudy.fidelity_tables.positions` of one model, at one sparsity and length a phase.
        narrow: for a phone.
    """
    groups, look = list(rows["group"].unique()), _looks(rows)
    rows = rows.assign(middle=(rows["first"] + rows["last"]) / 2)
    with style.theme(narrow):
        across = 1 if narrow else len(groups)
        down = len(groups) if narrow else 1
        figure, grid, layout = _grid(rows, look, across, down, narrow, 2.0, sharex=False, sharey=True)
        for axes, group in zip(grid.flat, groups, strict=True):
            _scale(axes, "kl")
            _lines(axes, rows[rows["group"] == group].sort_values("middle"), "middle", "kl", look)
            axes.set_title(group)
            axes.locator_params(axis="x", nbins=5)
        layout.label(figure, "position in the text (token)", _short("kl"))
    alt, caption = fidelity_words.positions_alt(rows), fidelity_words.positions_caption(rows)
    return Picture(figure, rows.drop(columns="middle"), alt, caption)


def by_layer(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Recall in each layer, a panel a method.

    Args:
        rows: `sparsestudy.fidelity_tables.layers` at one sparsity and length a phase, with ``n``.
        narrow: for a phone.
    """
    rows = rows.sort_values("group", ascending=False, kind="stable")
    variants, look = list(dict.fromkeys(rows["method"])), _looks(rows)
    across = 2 if narrow else 4
    down = -(-len(variants) // across)
    with style.theme(narrow):
        figure, grid, layout = _grid(rows, {}, across, down, narrow, 0.95)
        for axes in grid.flat[len(variants) :]:
            axes.set_visible(False)
        for axes in grid.flat[max(len(variants) - across, 0) : len(variants)]:
            axes.tick_params(labelbottom=True)
        for axes, method in zip(grid.flat, variants, strict=False):
            some = rows[rows["method"] == method]
            one = look[some["name"].iloc[0]]
            axes.fill_between(
                some["layer"], some["smallest"], some["largest"], color=one.colour, alpha=0.2, lw=0
            )
            axes.plot(some["layer"], some["recall"], color=one.colour, linestyle=one.line)
            axes.set_ylim(-0.02, 1.02)
            axes.set_title(_wrapped(some.iloc[0], narrow), pad=3)
        layout.label(figure, "layer", "share of attention kept")
    return Picture(figure, rows, fidelity_words.layers_alt(rows), fidelity_words.layers_caption(rows))


def _wrapped(row: Any, narrow: bool) -> str:
    """Phase and name in two lines, as wide as a panel."""
    room = 23 if narrow else 26
    name = str(row["name"])
    return f"{row['group']}:\n{name if len(name) <= room else name[: room - 1] + '…'}"


def _looks(rows: pd.DataFrame) -> Look:
    roles = ["method" if role == "method" else "control" for role in rows["method_role"]]
    return style.looks(list(rows["method_name"]), roles, list(rows["name"]))


def _short(measure: str) -> str:
    return {"kl": "divergence (nats)", "excess": "extra loss (nats)", "recall": "share of attention kept"}[
        measure
    ]


def _grid(
    rows: pd.DataFrame,
    look: Look,
    across: int,
    down: int,
    narrow: bool,
    panel: float,
    sharex: Any = True,
    sharey: Any = True,
) -> tuple[Figure, Any, Layout]:
    """Panels with a legend above them; without looks there is none."""
    from matplotlib.lines import Line2D

    names = {
        name: Line2D([], [], color=one.colour, linestyle=one.line, **one.marker_style())
        for name, one in look.items()
    }
    if look and (rows["state"] == "unreachable").any():
        names["unreachable"] = Line2D([], [], color=style.MUTED, linestyle="none", marker="x", markersize=5)
    layout = Layout(
        narrow=narrow,
        across=across,
        down=down,
        panel=0.8 * panel if narrow and look else panel,
        entries=len(names),
        title=0.3 if look else 0.42,
        left=0.68,
        gap=0.16,
    )
    figure, grid = layout.subplots(sharex, sharey)
    if names:
        layout.legend(figure, list(names.values()), list(names))
    return figure, grid, layout


def _scale(axes: Axes, measure: str) -> None:
    if measure == "kl":
        axes.set_yscale("log")
    elif measure == "excess":
        axes.axhline(0, color=style.DENSE, linewidth=1.0)


def _lines(axes: Axes, ran: pd.DataFrame, x: str, measure: str, look: Look) -> None:
    """A line a variant with its intervals; on a logarithmic axis only what is above rounding and zero."""
    for name, some in ran.groupby("name", sort=False):
        one = look[str(name)]
        if measure == "kl":
            some = some[some["kl"] > ROUNDING]
        axes.plot(some[x], some[measure], color=one.colour, linestyle=one.line, **one.marker_style())
        low = some[f"{measure}_low"]
        if measure == "kl":
            low = low.where(low > 0, some["kl"] / 10)
        style.intervals(
            axes, some[x], low, some[f"{measure}_high"], color=one.colour, linewidth=0.9, alpha=0.7
        )


def _crosses(axes: Axes, missed: pd.DataFrame, look: Look) -> None:
    """Settings out of reach, at the foot."""
    for x, name in zip(missed["nominal"], missed["name"], strict=True):
        foot = axes.get_xaxis_transform()
        axes.plot(x, 0, "x", markersize=5, color=look[name].colour, clip_on=False, zorder=5, transform=foot)
