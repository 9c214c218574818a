"""Parts of the page on length."""

from __future__ import annotations

import pandas as pd

from sparsestudy import assets, claim_tables, claim_words, forms, length_figures, length_tables, length_words
from sparsestudy.claims import ledger
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import load
from sparsestudy.report import box, bullets, html, markdown, show_table
from sparsestudy.view import Measured, Run

CLAIMS = ("length-tolerance", "fixed-budget")


def measured(runs: list[Run]) -> list[Measured]:
    """What is tolerated in every run, computed once."""
    return [Measured(run, _budgets(run)) for run in runs]


def _budgets(run: Run) -> pd.DataFrame:
    return run.keep("budgets", forms.FRAME, lambda: length_tables.budgets(run))


def scene(found: list[Measured]) -> str:
    """What the runs hold, in sentences."""
    told = [length_words.scene(one.run.name, one.rows) for one in found]
    return " ".join(told) or "No published run has measured tolerance against length yet."


def figures(found: list[Measured]) -> None:
    """Budgets and sparsities against length for the largest model of a run, and every number in a table."""
    for one in found:
        if one.rows.empty:
            box("note", f"Run `{one.run.name}`", length_words.scene(one.run.name, one.rows))
            continue
        rows = length_tables.largest(one.rows)
        for make in (length_figures.budgets, length_figures.sparsities):
            html(assets.figure(make, assets.slug("length", make.__name__, one.run.name), rows))
        # The figures offer these rows, where they are all of them.
        more = one.rows if len(rows) < len(one.rows) else None
        show_table(*length_words.budget_table(one.rows), data=more, name=f"budgets-{one.run.name}")


def along(found: list[Measured]) -> None:
    """What each method tolerates, length by length, in sentences for the largest model."""
    for one in found:
        if len(one.rows):
            rows = length_tables.largest(one.rows)
            markdown(f"**`{rows['model'].iloc[0]}`** (run `{one.run.name}`)")
            bullets(length_words.along(rows))


def exponents(found: list[Measured]) -> None:
    """The exponents of every run, or why there are none."""
    for one in found:
        rows, why = length_tables.exponents(one.run, one.rows)
        if why:
            box("note", f"Run `{one.run.name}`: not measured", why)
            continue
        markdown(f"Run `{one.run.name}`: {length_words.exponents(rows)}")
        show_table(*length_words.exponent_table(rows), data=rows, name=f"exponents-{one.run.name}")


def verdicts(runs: list[Run]) -> None:
    """The claims of the ledger that this page is about, with what their verdicts are made of."""
    claims = [claim for claim in load(list(ESTIMANDS)) if claim.id in CLAIMS]
    judged = ledger({f"{run.data.attrs['experiment']}/{run.name}": run for run in runs}, claims)
    bullets(claim_words.told(judged))
    shown, data, caption = claim_tables.parts([one for one in judged if one.claim.id == "fixed-budget"])
    if len(shown):
        show_table(shown, caption, data=data, name="length-parts")
