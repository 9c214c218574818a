"""Pictures of a summary: accuracy, paired differences, and a local run beside a published one.

Each function takes the dataset that `sparsestudy.cells.summarise` makes and returns a `Picture`: the
figure, the table behind it, and the words that go with it, written from that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from sparsestudy import comparison_words, dots, panels, tables, words
from sparsestudy.errors import StudyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure with everything that must stand beside it.

    Args:
        figure: the drawing.
        data: the tidy table behind it, one row a mark.
        alt: what it shows, for those who cannot see it.
        caption: what to see in it.
    """

    figure: Figure
    data: pd.DataFrame
    alt: str
    caption: str


def select(summary: xr.Dataset, model: str, task: str, lengths: list[int] | None = None) -> pd.DataFrame:
    """The tidy rows of one model and task, for all or some lengths.

    Raises:
        StudyError: the summary holds no such tables.
    """
    table = tables.tidy(summary)
    rows = table[(table["model"] == model) & (table["task"] == task)]
    if lengths is not None:
        rows = rows[rows["length"].isin(lengths)]
    if rows.empty:
        raise StudyError(f"There is nothing to draw for the model '{model}' and the task '{task}'.")
    return rows.reset_index(drop=True)


def accuracy(
    summary: xr.Dataset, model: str, task: str, *, lengths: list[int] | None = None, narrow: bool = False
) -> Picture:
    """Score against achieved sparsity: a row of panels a phase, a panel a length, intervals on every mark."""
    rows = tables.overview(select(summary, model, task, lengths))
    figure = panels.draw(rows, ("score", "score_low", "score_high"), narrow)
    return Picture(figure, rows, words.accuracy_alt(rows), words.accuracy_caption(rows))


def difference(
    summary: xr.Dataset, model: str, task: str, *, lengths: list[int] | None = None, narrow: bool = False
) -> Picture:
    """Paired difference to dense on the same prompts, laid out as `accuracy`."""
    rows = tables.overview(select(summary, model, task, lengths))
    figure = panels.draw(rows, ("difference", "difference_low", "difference_high"), narrow)
    return Picture(figure, tables.compared(rows), words.difference_alt(rows), words.difference_caption(rows))


def controls(
    summary: xr.Dataset, model: str, task: str, *, lengths: list[int] | None = None, narrow: bool = False
) -> Picture:
    """Score against achieved sparsity, a row of panels a method, with the controls that stand beside it.

    Raises:
        StudyError: no method of the run has a control beside it.
    """
    rows = tables.with_controls(select(summary, model, task, lengths))
    if rows.empty:
        raise StudyError("No method of this run has controls beside it; add {name: random, like: ...} to it.")
    figure = panels.draw(rows, ("score", "score_low", "score_high"), narrow)
    return Picture(figure, rows, words.controls_alt(rows), words.controls_caption(rows))


def beside(table: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """A local run beside the published one: one line a cell, both means with their intervals.

    Args:
        table: what `sparsestudy.compare.beside` returns.
        narrow: for a phone.
    """
    rows = table[table["change"].notna()].reset_index(drop=True)
    alt, caption = comparison_words.beside_alt(table), comparison_words.beside_caption(table)
    return Picture(dots.draw(rows, narrow), rows, alt, caption)
