"""Parts of the page on length that show how concentrated attention is."""

from __future__ import annotations

import pandas as pd

from sparsestudy import (
    assets,
    concentration_figures,
    concentration_tables,
    concentration_words,
    forms,
    length_tables,
    report,
)
from sparsestudy.report import bullets, html, markdown, show_table
from sparsestudy.view import Measured, Run


def measured(runs: list[Run]) -> list[Measured]:
    """The counts of every run, computed once."""
    return [Measured(run, _counts(run)) for run in runs]


def _counts(run: Run) -> pd.DataFrame:
    return run.keep("counts", forms.FRAME, lambda: concentration_tables.counts(run))


def _exponents(run: Run) -> pd.DataFrame:
    return run.keep("exponents", forms.FRAME, lambda: concentration_tables.exponents(run))


def scene(found: list[Measured], sweeps: list[Run]) -> str:
    """What the runs hold, in sentences."""
    told = [concentration_words.scene(one.run, one.rows, sweeps) for one in found]
    return " ".join(told) or "No published run has measured concentration yet."


def figures(found: list[Measured]) -> None:
    """Keys against length for the largest model of a run."""
    if found:
        report.state([one.run for one in found])
    for one in found:
        rows = length_tables.largest(one.rows)
        html(assets.figure(concentration_figures.growth, assets.slug("concentration", one.run.name), rows))


def findings(found: list[Measured], sweeps: list[Measured]) -> None:
    """Whether a smaller share suffices in longer text, model by model, and every exponent in a table.

    Args:
        found: runs on concentration.
        sweeps: runs on accuracy with their tolerated budgets, whose exponents stand beside.
    """
    parts = [length_tables.exponents(one.run, one.rows)[0] for one in sweeps if len(one.rows)]
    tolerated = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    for one in found:
        run = one.run
        rows = _exponents(run)
        if rows.empty:
            markdown(f"Run `{run.name}` has a single length, so that nothing is said of growth.")
            continue
        by_head = concentration_tables.heads(run)
        for model, own in rows.groupby("model", sort=False):
            counts = one.rows[one.rows["model"] == model]
            markdown(f"**`{model}`** (run `{run.name}`). {concentration_words.answer(own, counts)}")
            bullets(
                [
                    *concentration_words.tasks(own),
                    *concentration_words.heads(by_head[by_head["model"] == model]),
                ]
            )
        shown, caption = concentration_words.exponent_table(rows, tolerated)
        data = pd.concat([rows, one.rows], ignore_index=True)
        show_table(shown, caption, data=data, name=f"concentration-{run.name}")
