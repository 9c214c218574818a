"""Parts of the page that opens the report."""

from __future__ import annotations

from dataclasses import dataclass

from sparsestudy import (
    assets,
    claim_blocks,
    pareto_blocks,
    pareto_cheaper,
    pareto_figures,
    pareto_tables,
    pareto_words,
    stats,
    summary_tables,
    summary_words,
)
from sparsestudy.claims import Verdict
from sparsestudy.report import glue, html, markdown, show_table
from sparsestudy.summary_tables import Headline
from sparsestudy.view import Run

LAW = "law"
"""The estimand of the claim that a law foretells accuracy."""


@dataclass(frozen=True)
class Summary:
    """What the published runs say, in short.

    Args:
        verdicts: every claim judged.
        headline: what the headline figure is drawn from, or nothing.
    """

    verdicts: list[Verdict]
    headline: Headline | None

    @property
    def answer(self) -> str:
        """What is known about the choice between smaller dense and larger sparse, in sentences."""
        if self.headline is None:
            return "No published run has measured accuracy against cost yet."
        return pareto_words.sizes(self.headline.run.name, self.headline.all_rows, self.headline.all_lines)

    @property
    def saved(self) -> str:
        """What the largest model of the headline saves in each phase and tail, or nothing.

        At the greatest length with the samples that a verdict needs, where there is one: with fewer, hardly
        any loss can be excluded, and nothing saved would say nothing.
        """
        if self.headline is None:
            return ""
        rows = self.headline.all_rows
        enough = rows[rows["n"] >= stats.LEAST]
        rows = enough if len(enough) else rows
        longest = rows[rows["length"] == rows["length"].max()]
        table = pareto_tables.savings(self.headline.run, longest)
        return summary_words.saved(table, pareto_words.largest(longest)) if len(table) else ""

    @property
    def cheaper(self) -> str:
        """What the accuracy of the best dense model takes, or nothing."""
        return "" if self.headline is None else pareto_cheaper.summary(self.headline.cheaper)


def measured(runs: list[Run]) -> Summary:
    """Everything that the page shows; shared with the pages that show more of it."""
    headline = summary_tables.headline(pareto_blocks.measured(runs))
    return Summary(claim_blocks.judge(runs), headline)


def state(found: Summary) -> None:
    """Give the page its sentences."""
    glue(
        answer=found.answer,
        counts=" ".join((summary_words.counts(found.verdicts), summary_words.scope(found.verdicts))),
    )


def headline(found: Summary) -> None:
    """The headline figure, and what is saved in it."""
    if found.headline is not None:
        name = assets.slug("headline", found.headline.run.name)
        html(assets.figure(pareto_figures.headline, name, found.headline.rows, found.headline.lines))
    markdown(found.cheaper)
    markdown(found.saved)


def claims(found: Summary) -> None:
    """Every claim with its verdict, in one table."""
    shown, caption = summary_tables.claims(found.verdicts)
    show_table(shown, caption, prose=True)


def law(found: Summary) -> None:
    """How well a law foretells what it was not fitted to."""
    of_law = [one for one in found.verdicts if one.claim.estimand == LAW]
    rows = summary_tables.law(of_law)
    markdown(summary_words.law(of_law, rows))
    if len(rows):
        show_table(*summary_words.law_table(rows), data=rows, name="law")
