"""Parts of the page on accuracy against cost."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sparsestudy import (
    assets,
    claim_tables,
    claim_words,
    forms,
    pareto_cheaper,
    pareto_figures,
    pareto_gain_figures,
    pareto_gain_words,
    pareto_models,
    pareto_tables,
    pareto_views,
    pareto_words,
    words,
)
from sparsestudy.claims import ledger
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import load
from sparsestudy.report import box, bullets, glue, html, markdown, show_table
from sparsestudy.view import Run

CLAIMS = ("pareto-prefill", "pareto-decode", "bounded", "decision")


@dataclass(frozen=True)
class Measured:
    """A run with what the page shows of it.

    Args:
        run: the run.
        rows: every setting with its costs.
        lines: the frontiers, empty where it has models of one cost.
        pairs: neighbouring models at equal cost, likewise.
        cheaper: what the accuracy of the best dense model takes, likewise.
    """

    run: Run
    rows: pd.DataFrame
    lines: pd.DataFrame
    pairs: pd.DataFrame
    cheaper: pd.DataFrame


def measured(runs: list[Run]) -> list[Measured]:
    """Everything that is computed from the runs, once."""
    return [Measured(run, *_kept(run)) for run in runs]


def _kept(run: Run) -> list[pd.DataFrame]:
    """Settings, frontiers, pairs and what is cheaper of a run, all views below each other, computed once."""
    views = pareto_views.views(run)
    return run.keep(
        "costs", forms.FRAMES, lambda: _tables(run, views), *(one.claim.model_dump_json() for one in views)
    )


def _tables(run: Run, views: list[pareto_views.View]) -> list[pd.DataFrame]:
    found: list[list[pd.DataFrame]] = []
    for view in views:
        # The cells of a view are looked up once, since that takes as long as what is made of them.
        known = pareto_views.evidence_of(run, view)
        makes = (
            pareto_tables.points,
            pareto_models.curves,
            pareto_models.neighbours,
            pareto_cheaper.table,
        )
        found.append([pd.DataFrame() if known is None else make(run, view, known) for make in makes])
    return [pd.concat(tables, ignore_index=True) for tables in zip(*found, strict=True)]


def state(found: list[Measured]) -> None:
    """Give the page the sentence on sizes, the length of replies and the runs whose seconds compare."""
    told = [pareto_words.sizes(one.run.name, one.rows, one.lines) for one in found]
    seconds = [f"`{one.run.name}`" for one in found if pareto_views.timed(one.run)]
    glue(
        sizes=" ".join(told) or "No published run has measured accuracy against cost yet.",
        reply=words.tokens(pareto_views.REPLY),
        seconds=f"Seconds compare in {words.listed(seconds)} and are shown for them."
        if seconds
        else "No published run on accuracy was timed on a quiet device, so seconds are *not measured* here.",
    )


def settings(found: list[Measured]) -> None:
    """A figure for each phase of each run, with the largest batch of a decode; tables hold the others."""
    for one in found:
        if one.rows.empty:
            box("note", f"Run `{one.run.name}`", pareto_words.sizes(one.run.name, one.rows, one.lines))
            continue
        rows, lines = of_largest_batch(one.rows, one.lines)
        for phase in ("prefill", "decode"):
            own, frontiers = (_of_phase(table, phase) for table in (rows, lines))
            if len(own):
                name = assets.slug("pareto", one.run.name, phase)
                html(assets.figure(pareto_figures.settings, name, own, frontiers))


def of_largest_batch(rows: pd.DataFrame, lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Settings and frontiers with the largest batch of each cost, in which the cache is most of it."""
    batches = rows.groupby("measure")["batch"].max()
    shown, drawn = (
        table[table["batch"] == table["measure"].map(batches)] if len(table) else table
        for table in (rows, lines)
    )
    return shown, drawn


def _of_phase(table: pd.DataFrame, phase: str) -> pd.DataFrame:
    """The rows of the costs of a phase."""
    return table[table["measure"].str.startswith(phase)].reset_index(drop=True) if len(table) else table


def savings(found: list[Measured]) -> None:
    """What each method saves, in sentences and as a table."""
    for one in found:
        if len(one.rows):
            table = pareto_tables.savings(one.run, one.rows)
            model = pareto_words.largest(one.rows)
            markdown(f"**`{model}`** (run `{one.run.name}`)")
            bullets(pareto_words.saved(table, model))
            show_table(*pareto_words.savings(table), data=table, name=f"savings-{one.run.name}")


def sizes(found: list[Measured]) -> None:
    """How far sparse attention moves the frontier, and pairs of models at equal cost."""
    for one in found:
        if one.lines.empty:
            box("note", "Not measured", pareto_words.sizes(one.run.name, one.rows, one.lines))
            continue
        keys = ["group", "measure", "batch", "length"]
        gains = one.lines.drop_duplicates(keys).reset_index(drop=True)
        html(assets.figure(pareto_gain_figures.gains, assets.slug("gains", one.run.name), gains))
        bullets(pareto_gain_words.bounded(one.pairs))
        show_table(*pareto_gain_words.pairs(one.pairs), data=one.pairs, name=f"pairs-{one.run.name}")


def cheaper(found: list[Measured]) -> None:
    """What the accuracy of the best dense model takes, in sentences and as a table."""
    for one in found:
        if len(one.cheaper):
            bullets(pareto_cheaper.told(one.cheaper))
            show_table(*pareto_cheaper.shown(one.cheaper), data=one.cheaper, name=f"cheaper-{one.run.name}")


def verdicts(runs: list[Run]) -> None:
    """The claims of the ledger that this page is about, with what their verdicts are made of."""
    claims = [claim for claim in load(list(ESTIMANDS)) if claim.id in CLAIMS]
    found = ledger({f"{run.data.attrs['experiment']}/{run.name}": run for run in runs}, claims)
    bullets(claim_words.told(found))
    shown, data, caption = claim_tables.parts(found)
    if len(shown):
        show_table(shown, caption, data=data, name="pareto-parts")
