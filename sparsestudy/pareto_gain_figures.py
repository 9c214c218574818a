"""The picture of how far sparse attention lifts the frontier of accuracy against cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsestudy import pareto_gain_words, pareto_words, style, words
from sparsestudy.figures import Picture
from sparsestudy.layout import Layout


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
