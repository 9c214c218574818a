"""Tables of the summary: claims with their verdicts, what the headline is drawn from, errors of the law."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from sparsestudy import claim_words, summary_words
from sparsestudy.claims import Verdict
from sparsestudy.pareto_blocks import Measured, of_largest_batch
from sparsestudy.view import Run

LENGTHS = 3
"""Lengths that the headline shows where it shows several."""


class Headline(NamedTuple):
    """What the headline figure is drawn from.

    Args:
        run: the run.
        rows: its settings, at the lengths that are drawn.
        lines: its frontiers there; empty where it has models of one cost.
        all_rows: its settings at all lengths.
        all_lines: its frontiers at all lengths.
        cheaper: what the accuracy of its best dense model takes.
    """

    run: Run
    rows: pd.DataFrame
    lines: pd.DataFrame
    all_rows: pd.DataFrame
    all_lines: pd.DataFrame
    cheaper: pd.DataFrame


def headline(found: list[Measured]) -> Headline | None:
    """Of the run that says most about sizes: all phases at some lengths, with the largest batch of each.

    With models of one cost that is the greatest length alone; else the shortest with a frontier, the middle
    one and the greatest. None where no run holds a setting.
    """
    some = [one for one in found if len(one.rows)]
    if not some:
        return None
    best = max(some, key=lambda one: (len(one.lines) > 0, one.rows["model"].nunique(), len(one.rows)))
    rows, lines = (
        table[~table["measure"].str.endswith("_seconds")] if len(table) else table
        for table in of_largest_batch(best.rows, best.lines)
    )
    known = sorted((lines if len(lines) else rows)["length"].unique())
    places = np.unique(np.linspace(0, len(known) - 1, LENGTHS).round().astype(int)) if len(lines) else [-1]
    lengths = [known[place] for place in places]
    drawn = lines[lines["length"].isin(lengths)].reset_index(drop=True) if len(lines) else lines
    shown = rows[rows["length"].isin(lengths)].reset_index(drop=True)
    return Headline(best.run, shown, drawn, rows, lines, best.cheaper)


def by_claim(found: list[Verdict]) -> list[list[Verdict]]:
    """For each claim the verdicts that tell something; where nothing was measured, all of them.

    Claims that were measured come first; otherwise the order is that of the ledger.
    """
    claims: dict[str, list[Verdict]] = {}
    for one in found:
        claims.setdefault(one.claim.id, []).append(one)
    told = [[one for one in some if one.outcome] or some for some in claims.values()]
    return sorted(told, key=lambda some: some[0].outcome is None)


def claims(found: list[Verdict]) -> tuple[pd.DataFrame, str]:
    """Each claim with verdict, effect, samples, models and dataset, as a page shows it, with a caption."""
    rows = []
    for some in by_claim(found):
        first = some[0]
        if first.outcome is None:
            why = " ".join(_missing(one) for one in some)
            rows.append((first.claim.statement, first.verdict, why, ""))
        for one in some:
            if one.outcome is not None:
                effect, models = one.outcome.effect, summary_words.deciders(one.outcome.models)
                rows.append(
                    (
                        one.claim.statement,
                        one.verdict,
                        f"{claim_words.limits(effect)}, {one.claim.effect}",
                        f"{models}; n = {effect.n}; {one.dataset}, hash {one.hash}",
                    )
                )
    shown = pd.DataFrame(rows, columns=["claim", "verdict", "effect, or what is missing", "decided by"])
    return shown, summary_words.claims_caption(found)


def _missing(one: Verdict) -> str:
    """Why a claim is not measured on a dataset."""
    return f"{one.dataset}, hash {one.hash}: {one.reason}" if one.hash else f"{one.dataset}: not published."


def law(found: list[Verdict]) -> pd.DataFrame:
    """How a law errs on cells that it was not fitted to, one row a method and axis; empty without."""
    rows = []
    for one in found:
        for name, (error, baseline) in one.outcome.errors.items() if one.outcome else ():
            assert one.outcome is not None
            part = one.outcome.parts[name]
            rows.append(
                {
                    "claim": one.claim.id,
                    "dataset": one.dataset,
                    "hash": one.hash,
                    "part": name,
                    "error": error,
                    "baseline_error": baseline,
                    **part._asdict(),
                }
            )
    return pd.DataFrame(rows)
