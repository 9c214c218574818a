"""Pictures of a run over many models and tasks: small multiples by task, model or length."""

from __future__ import annotations

import pandas as pd

from sparsestudy import panels, sweep_words, tables
from sparsestudy.figures import Picture

_SCORE = ("score", "score_low", "score_high")
_DIFFERENCE = ("difference", "difference_low", "difference_high")


def tasks(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Score against achieved sparsity of one model at one length, a panel a task.

    Args:
        rows: ``tasks`` of `sparsestudy.sweep_tables.View`.
        narrow: for a phone.
    """
    own = tables.overview(rows)
    alt, caption = sweep_words.tasks_alt(own), sweep_words.tasks_caption(own)
    return Picture(panels.draw(own, _SCORE, narrow, "label"), own, alt, caption)


def losses(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Paired difference to dense on the same prompts, laid out as `tasks`."""
    own = tables.overview(rows)
    alt, caption = sweep_words.losses_alt(own), sweep_words.losses_caption(own)
    return Picture(panels.draw(own, _DIFFERENCE, narrow, "label"), tables.compared(own), alt, caption)


def models(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Mean score over tasks against achieved sparsity at one length, a panel a model.

    Args:
        rows: ``models`` of `sparsestudy.sweep_tables.View`.
        narrow: for a phone.
    """
    return _means(rows, "model", narrow)


def lengths(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Mean score over tasks against achieved sparsity of one model, a panel a length.

    Args:
        rows: ``lengths`` of `sparsestudy.sweep_tables.View`.
        narrow: for a phone.
    """
    return _means(rows, "length", narrow)


def _means(rows: pd.DataFrame, by: str, narrow: bool) -> Picture:
    own = tables.overview(rows)
    alt, caption = sweep_words.means_alt(own, by), sweep_words.means_caption(own, by)
    return Picture(panels.draw(own, _SCORE, narrow, by), own, alt, caption)


def controls(rows: pd.DataFrame, *, narrow: bool = False) -> Picture:
    """Mean score over tasks of one model at one length, a panel a method with its controls.

    Args:
        rows: ``models`` of `sparsestudy.sweep_tables.View`, those of one model.
        narrow: for a phone.
    """
    own = tables.with_controls(rows)
    alt, caption = sweep_words.controls_alt(own), sweep_words.controls_caption(own)
    return Picture(panels.draw(own, _SCORE, narrow), own, alt, caption)
