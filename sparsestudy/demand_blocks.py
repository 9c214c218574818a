"""The section on what demands cost, of the page on tasks and methods."""

from __future__ import annotations

import pandas as pd

from sparsestudy import assets, demand_figures, demand_tables, demand_words, forms, tolerance_tables
from sparsestudy.report import box, bullets, html, markdown, show_table
from sparsestudy.view import Measured, Run


def measured(runs: list[Run]) -> list[Measured]:
    """What is tolerated along the axes of every run, computed once."""
    return [Measured(run, _tolerated(run)) for run in runs]


def _tolerated(run: Run) -> pd.DataFrame:
    return run.keep(
        "demands", forms.FRAME, lambda: demand_tables.tolerated(run, tolerance_tables.tolerances(run))
    )


def _steps(run: Run) -> pd.DataFrame:
    return run.keep("steps", forms.FRAME, lambda: demand_tables.steps(run))


def cost(found: list[Measured]) -> None:
    """Figure, sentences and the cost of one step more, for every run."""
    if not found:
        markdown("*Not measured:* no published run varies what a task demands.")
    for one in found:
        if one.rows.empty:
            text = "It compares no variants that differ in one number alone with dense attention."
            box("note", f"Run `{one.run.name}`", text)
            continue
        steps = _steps(one.run)
        rows = tolerance_tables.chosen(one.rows)
        here = steps[(steps["model"] == rows["model"].iloc[0]) & (steps["length"] == rows["length"].iloc[0])]
        markdown(f"{demand_words.scene(one.run.name, one.rows)} {demand_words.summary(here)}")
        html(assets.figure(demand_figures.demands, assets.slug("demands", one.run.name), rows))
        bullets(demand_words.along(rows, here))
        show_table(*demand_words.every(steps), data=steps, name=f"steps-{one.run.name}")
