"""Parts of the page on tasks and methods."""

from __future__ import annotations

import pandas as pd

from sparsestudy import (
    assets,
    claim_tables,
    claim_words,
    forms,
    tolerance_figures,
    tolerance_tables,
    tolerance_words,
)
from sparsestudy.claims import ledger
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import load
from sparsestudy.report import box, bullets, html, markdown, show_table
from sparsestudy.view import Measured, Run
from sparsestudy.words import tokens

TASKS = ("task-tolerance", "no-universal-method", "no-free-sparsity")
PHASES = ("decode-over-prefill", "decode-over-prefill-at-equal-cost")


def measured(runs: list[Run]) -> list[Measured]:
    """What is tolerated in every run, computed once."""
    return [Measured(run, _tolerances(run)) for run in runs]


def _tolerances(run: Run) -> pd.DataFrame:
    return run.keep("tolerated", forms.FRAME, lambda: tolerance_tables.tolerances(run))


def scene(found: list[Measured]) -> str:
    """What the runs hold, in sentences."""
    told = [tolerance_words.scene(one.run.name, one.rows) for one in found]
    return " ".join(told) or "No published run has measured tolerance yet."


def tasks(found: list[Measured]) -> None:
    """Figure and sentences at the length that tells most, and every curve as a table."""
    for one in found:
        if one.rows.empty:
            box("note", f"Run `{one.run.name}`", tolerance_words.scene(one.run.name, one.rows))
            continue
        rows = tolerance_tables.chosen(one.rows)
        html(assets.figure(tolerance_figures.tasks, assets.slug("tasks", one.run.name), rows))
        markdown(f"**`{rows['model'].iloc[0]}`** at {tokens(rows['length'].iloc[0])} (run `{one.run.name}`)")
        bullets(tolerance_words.beside(rows))
        show_table(*tolerance_words.every(one.rows), data=one.rows, name=f"tolerated-{one.run.name}")


def ranks(found: list[Measured]) -> None:
    """Methods ranked within their phase and tail."""
    for one in found:
        rows = tolerance_tables.ranks(one.run)
        if rows.empty:
            text = "No phase has two methods that ran the same settings, so there is nothing to rank."
            box("note", f"Run `{one.run.name}`", text)
            continue
        bullets(tolerance_words.best(rows))
        losses = tolerance_tables.first_losses(one.run)
        show_table(*tolerance_words.ranking(rows, losses), data=rows, name=f"ranks-{one.run.name}")


def verdicts(runs: list[Run], names: tuple[str, ...]) -> None:
    """Some claims of the ledger, with what their verdicts are made of."""
    claims = [claim for claim in load(list(ESTIMANDS)) if claim.id in names]
    judged = ledger({f"{run.data.attrs['experiment']}/{run.name}": run for run in runs}, claims)
    bullets(claim_words.told(judged))
    shown, data, caption = claim_tables.parts(judged)
    if len(shown):
        show_table(shown, caption, data=data, name=f"parts-{names[0]}")
