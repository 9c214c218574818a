"""Parts of the pages on accuracy: a run with few models and tasks pair by pair, one with many in short."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from sparsestudy import (
    assets,
    blocks,
    figures,
    findings,
    listings,
    report,
    sweep_figures,
    sweep_tables,
    sweep_words,
    tables,
)
from sparsestudy.figures import Picture
from sparsestudy.report import bullets, html, markdown
from sparsestudy.sweep_tables import FEW, View
from sparsestudy.view import Run
from sparsestudy.words import tokens


def few(run: Run) -> bool:
    """Whether a page can show each model and task of a run by itself."""
    return len(run.table[["model", "task"]].drop_duplicates()) <= FEW


def _title(run: Run, view: View) -> None:
    markdown(f"**All tasks** with `{view.model}` at {tokens(view.length)} (run `{run.name}`)")


def _show(make: Callable[..., Picture], run: Run, rows: pd.DataFrame) -> None:
    html(assets.figure(make, assets.slug("sweep", make.__name__, run.name), rows))


def curves(run: Run) -> None:
    """Accuracy against sparsity: every pair of model and task, or tasks, models and lengths of the run."""
    if few(run):
        for model, task, rows in run.subjects():
            report.subject_title(run, model, rows)
            report.show(figures.accuracy, run, model, task)
        return
    view = sweep_tables.view(run.table)
    _title(run, view)
    _show(sweep_figures.tasks, run, view.tasks)
    if view.models["model"].nunique() > 1:
        markdown(f"**Models beside each other** (run `{run.name}`)")
        _show(sweep_figures.models, run, view.models)
    if view.lengths["length"].nunique() > 1:
        markdown(f"**Lengths beside each other** with `{view.model}` (run `{run.name}`)")
        _show(sweep_figures.lengths, run, view.lengths)


def losses(run: Run) -> None:
    """What sparsity costs against dense attention."""
    if few(run):
        for model, task, rows in run.subjects():
            blocks.losses(run, model, task, rows)
        return
    view = sweep_tables.view(run.table)
    _title(run, view)
    bullets(sweep_words.by_task(view.tasks))
    if len(tables.compared(view.tasks)):
        _show(sweep_figures.losses, run, view.tasks)


def controls(run: Run) -> None:
    """Each method beside its controls, where the run has any."""
    if few(run):
        for model, task, rows in run.subjects():
            blocks.controls(run, model, task, rows)
        return
    view = sweep_tables.view(run.table)
    rows = view.models[view.models["model"] == view.model].reset_index(drop=True)
    _title(run, view)
    if len(tables.with_controls(rows)):
        _show(sweep_figures.controls, run, rows)
    bullets(findings.beyond_control(rows))


def care(run: Run) -> None:
    """Cells to read with care, and what the comparisons could find."""
    if few(run):
        for model, _, rows in run.subjects():
            report.subject_title(run, model, rows)
            bullets([*findings.care(rows), findings.sensitivity(rows)])
        return
    markdown(f"**All models, tasks and lengths** (run `{run.name}`)")
    bullets(sweep_words.care(run.table.assign(label=sweep_tables.labels(run.table))))


def cells(run: Run) -> None:
    """Every cell: shown, or the scores of methods by task with the rest to download, a file a model."""
    if few(run):
        for model, task, rows in run.subjects():
            report.show_table(*listings.cells(rows), data=rows, name=f"{run.name}-{model}-{task}")
        return
    view = sweep_tables.view(run.table)
    shown, caption = sweep_words.grid(sweep_tables.grid(view.tasks), view.tasks)
    links = []
    for model, rows in run.table.groupby("model", sort=False):
        title = f"All cells of {model}, run {run.name}"
        found = assets.data_links(rows, assets.slug("table", run.name, str(model)), title)
        links += [(f"{model} {label}", address) for label, address in found]
    html(assets.table(shown, caption, links, tall=True))
