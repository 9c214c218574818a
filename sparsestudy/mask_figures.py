"""Pictures of what methods chose: masks of some heads, and achieved against asked sparsity of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparsestudy import mask_words, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout
from sparsestudy.mask_tables import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = {"prefill": 1.75, "steps": 1.0, "kept": 0.28}
_HEIGHT_NARROW = {"prefill": 1.35, "steps": 0.9, "kept": 0.28}


def mask(drawing: Drawing, *, narrow: bool = False) -> Picture:
    """Small multiples of one method: a panel for each drawn layer and head.

    Args:
        drawing: from `sparsestudy.mask_tables.drawing`.
        narrow: for a phone.
    """
    at, shares, kind = drawing.at, drawing.shares, drawing.kind
    layers, heads = at["drawn_layer"].values, at["drawn_head"].values
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=len(heads) if narrow else len(layers),
            down=len(layers) if narrow else len(heads),
            panel=(_HEIGHT_NARROW if narrow else _HEIGHT)[kind],
            title=0.26,
            gap=0.1,
        )
        figure, grid = layout.subplots()
        for i, layer in enumerate(layers):
            for j, head in enumerate(heads):
                axes = grid[i, j] if narrow else grid[j, i]
                _mask(axes, shares[i, j], drawing)
                axes.set_title(f"layer {layer}, head {head}", pad=7)
        layout.label(figure, "key (token)", {"prefill": "query (token)", "steps": "step", "kept": ""}[kind])
    return Picture(
        figure, drawing.table, mask_words.picture_alt(drawing), mask_words.picture_caption(drawing)
    )


def _mask(axes: Axes, share: Any, drawing: Drawing) -> None:
    """One picture: what is available as a plate, what is attended as colour, the evidence marked."""
    from matplotlib.colors import to_rgb

    rows, columns = share.shape
    height, width = rows * int(drawing.at["row_size"]), columns * int(drawing.at["column_size"])
    corners = [(0, 0), (0, height), (width, height)]
    if drawing.kind != "prefill":
        corners.append((width, 0))
    axes.fill(*zip(*corners, strict=True), color=style.GRID, linewidth=0, zorder=0)
    # A colour for light and dark pages alike: pictures inside an SVG are not recoloured.
    image = np.empty((rows, columns, 4))
    image[..., :3] = to_rgb(style.ATTENDED)
    image[..., 3] = np.nan_to_num(share)
    axes.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="nearest", zorder=1)
    for start, stop in drawing.evidence:
        middle = (start + stop) / 2
        axes.axvline(middle, color=style.TEXT, linewidth=0.7, linestyle=(0, (3, 2)))
        axes.plot(
            [middle], [1.0], marker="v", color=style.TEXT, clip_on=False, transform=axes.get_xaxis_transform()
        )
    axes.grid(visible=False)
    # The last label would meet the first one of the next panel.
    axes.locator_params(axis="x", nbins=4, prune="upper")
    if drawing.kind == "kept":
        axes.set_yticks([])
    else:
        axes.locator_params(axis="y", nbins=4)


def spread(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Achieved sparsity of every method: a panel for each length, the spread over layers and heads.

    Args:
        rows: `sparsestudy.mask_tables.settings` of one model.
        narrow: for a phone.
    """
    lengths, names = sorted(rows["length"].unique()), list(rows["name"].unique())
    asked = sorted(rows["nominal"].unique())
    looks = dict(zip(asked, style.turns(len(asked)), strict=True))
    with style.theme(narrow):
        layout = Layout(
            narrow=narrow,
            across=1 if narrow else len(lengths),
            down=len(lengths) if narrow else 1,
            panel=0.3 + 0.26 * len(names),
            entries=len(asked),
            columns=2 if narrow else len(asked),
            left=1.75 if narrow else 1.95,
            title=0.3,
        )
        figure, grid = layout.subplots()
        for axes, length in zip(grid.flat, lengths, strict=True):
            _spread(axes, rows[rows["length"] == length], names, looks)
            axes.set_title(words.tokens(length))
        handles, labels = grid.flat[0].get_legend_handles_labels()
        layout.legend(figure, handles, labels)
        layout.label(figure, "achieved sparsity in %", "")
    return Picture(figure, rows, mask_words.spread_alt(rows), mask_words.spread_caption(rows))


def _spread(axes: Axes, rows: pd.DataFrame, names: list[str], looks: dict[float, tuple[str, str]]) -> None:
    """One length: a line a method, a mark and its spread for each sparsity that was asked."""
    for turn, (nominal, (colour, marker)) in enumerate(looks.items()):
        some = rows[rows["nominal"] == nominal]
        place = np.array([names.index(name) for name in some["name"]]) + 0.24 * (turn - (len(looks) - 1) / 2)
        axes.axvline(100 * nominal, color=colour, linewidth=0.8, linestyle=":")
        axes.hlines(place, 100 * some["smallest"], 100 * some["largest"], color=colour, linewidth=0.9)
        axes.hlines(
            place, 100 * some["lower_quartile"], 100 * some["upper_quartile"], color=colour, linewidth=2.6
        )
        label = f"asked {words.percent(nominal)}"
        axes.plot(100 * some["median"], place, marker=marker, color=colour, linestyle="none", label=label)
        missed = (some["state"] == "unreachable").to_numpy()
        axes.plot(
            100 * (1 - some["lowest_density"][missed]),
            place[missed],
            marker="x",
            color=colour,
            linestyle="none",
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
