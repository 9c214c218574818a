"""Parts of the page on fidelity: what was read, the figures, the findings and every setting."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from sparsestudy import assets, fidelity_figures, fidelity_tables, fidelity_words
from sparsestudy.report import bullets, html, markdown, show_table
from sparsestudy.view import Run


def scene(runs: list[Run]) -> str:
    """What was read, in a sentence."""
    told = [fidelity_words.scope(run.name, run.data, fidelity_tables.settings(run.data)) for run in runs]
    return " ".join(told) or "No published run has measured fidelity yet."


def _models(runs: list[Run]) -> Iterator[tuple[Run, str, pd.DataFrame]]:
    """Each run and model with its settings, dense left out."""
    for run in runs:
        rows = fidelity_tables.settings(run.data)
        for model, some in rows[rows["method_role"] != "dense"].groupby("model", sort=False):
            if some["kl"].notna().any():
                yield run, str(model), some.reset_index(drop=True)


def curves(runs: list[Run], measure: str) -> None:
    """Show one measure against achieved sparsity, one figure a model."""
    for run, model, rows in _models(runs):
        name = assets.slug("fidelity", measure, run.name, model)
        html(assets.figure(fidelity_figures.curves, name, rows, measure))


def findings(runs: list[Run]) -> None:
    """Show what the data say, model by model."""
    for run, model, rows in _models(runs):
        markdown(f"**`{model}`** (run `{run.name}`)")
        bullets(fidelity_words.findings(rows))


def by_position(runs: list[Run]) -> None:
    """Show divergence by position, one figure a model."""
    for run, model, rows in _models(runs):
        some = _at_shared(fidelity_tables.positions(run.data), rows)
        if len(some):
            name = assets.slug("fidelity-position", run.name, model)
            html(assets.figure(fidelity_figures.by_position, name, some))


def by_layer(runs: list[Run]) -> None:
    """Show recall by layer, one figure a model."""
    for run, model, rows in _models(runs):
        some = _at_shared(fidelity_tables.layers(run.data), rows)
        if len(some):
            name = assets.slug("fidelity-layer", run.name, model)
            html(assets.figure(fidelity_figures.by_layer, name, some))


def _at_shared(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a finer table at the settings where most variants meet, with the number of texts."""
    where = fidelity_tables.shared(rows)[["model", "method", "length", "sparsity", "n"]]
    kept = table.drop(columns="n", errors="ignore")
    return kept.merge(where, on=["model", "method", "length", "sparsity"]).reset_index(drop=True)


def every(runs: list[Run]) -> None:
    """Show every setting as a table."""
    for run, model, rows in _models(runs):
        show_table(*fidelity_words.listing(rows), data=rows, name=f"fidelity-{run.name}-{model}")
