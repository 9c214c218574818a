"""The summary in words: what decides, how much was measured, and what the headline says."""

from __future__ import annotations

import pandas as pd

from sparsestudy import claim_words, stats, words
from sparsestudy.claims import VERDICTS, Verdict
from sparsestudy.pareto_words import cost
from sparsestudy.words import counted, interval, listed, number, percent, span, tokens


def deciders(models: list[str]) -> str:
    """Which models decide a claim; one that stands alone is called so."""
    if len(models) == 1:
        return f"one model, {models[0]}"
    return f"{counted(len(models), 'model')}: {', '.join(models)}"


def counts(found: list[Verdict]) -> str:
    """How many claims there are, and the verdicts on those that were measured."""
    total = len({one.claim.id for one in found})
    measured = [one for one in found if one.outcome]
    seen = len({one.claim.id for one in measured})
    kinds = VERDICTS[:-1]
    told = listed(f"{sum(one.verdict == kind for one in measured)} {kind}" for kind in kinds)
    # A claim that two runs decide has two verdicts, and these need not agree.
    each = f", with {counted(len(measured), 'verdict')}, one for each run" if len(measured) > seen else ""
    return (
        f"Of {counted(total, 'claim')} {seen} {'is' if seen == 1 else 'are'} measured{each}: {told}."
        if seen
        else (f"None of {counted(total, 'claim')} is measured yet.")
    )


def scope(found: list[Verdict]) -> str:
    """From how many models the verdicts come, and what follows for others."""
    measured = [one.outcome for one in found if one.outcome]
    models = list(dict.fromkeys(name for one in measured for name in one.models))
    if not models:
        return ""
    if len(models) == 1:
        return f"All verdicts come from one model, `{models[0]}`, and hold for it alone."
    alone = sum(len(one.models) == 1 for one in measured)
    return (
        f"The verdicts come from {counted(len(models), 'model')}"
        f"{f'; {alone} of them from one model alone' if alone else ''}, and hold for models like these."
    )


def claims_caption(found: list[Verdict]) -> str:
    """What the table of claims holds."""
    return (
        f"The claims under test. Effects with their {words.level()}; n: samples of the smallest cell. "
        f"{counts(found)}"
    )


def decided(found: list[Verdict]) -> list[str]:
    """Each measured verdict in a short sentence."""
    told = []
    for one in found:
        if one.outcome:
            effect = one.outcome.effect
            told.append(
                f"**{one.verdict.capitalize()}** by {deciders(one.outcome.models)}: "
                f"*{one.claim.statement}* The {one.claim.effect} is {claim_words.limits(effect)}, "
                f"n = {effect.n}."
            )
    return told


def saved(rows: pd.DataFrame, model: str) -> str:
    """What a model saves at most in each phase and tail, for no loss that matters.

    Args:
        rows: `sparsestudy.pareto_tables.savings` at one length.
        model: of which.
    """
    own = rows[rows["model"] == model]
    parts = []
    for group, some in own.groupby("group", sort=False):
        best = some.loc[some["saved"].idxmax()]
        much = (
            f"{percent(best['saved'])} of the {cost(best)} ({best['name']} at {percent(best['nominal'])}, "
            f"scoring {interval(best)})"
        )
        parts.append(f"**{group}** {much if best['saved'] > 0 else 'nothing'}")
    return (
        f"At {tokens(own['length'].iloc[0])}, with a loss of {stats.MARGIN:g} excluded on every task, "
        f"`{model}` is shown to save at most: {'; '.join(parts)} (n = {span(own['n'])})."
    )


def law(found: list[Verdict], rows: pd.DataFrame) -> str:
    """How well a law foretells cells that it was not fitted to, or why that is not known.

    Args:
        found: the verdicts on the claim that there is such a law.
        rows: `sparsestudy.summary_tables.law` of them.
    """
    if rows.empty:
        reasons = " ".join(dict.fromkeys(one.reason for one in found))
        return f"Whether such a law holds is **not measured**. {reasons}".rstrip()
    error, base = rows["error"], rows["baseline_error"]
    return (
        f"Over {counted(len(rows), 'method and axis', 'pairs of a method and an axis')}, the law errs by "
        f"{number(error.min(), 3)} to {number(error.max(), 3)} on the cells held out (root mean square, "
        f"accuracy), the baseline by {number(base.min(), 3)} to {number(base.max(), 3)}; the law is shown to "
        f"be better in {int((rows['low'] > 0).sum())} and worse in {int((rows['high'] < 0).sum())}."
    )


def law_table(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Errors on the cells held out as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "dataset": rows["dataset"],
            "law of": rows["part"],
            "its error": [number(x, 3) for x in rows["error"]],
            "error of the baseline": [number(x, 3) for x in rows["baseline_error"]],
            "share saved": [
                f"{number(row['estimate'])} ({number(row['low'])} to {number(row['high'])})"
                for row in rows.to_dict("records")
            ],
            "n": rows["n"],
        }
    )
    caption = (
        "Root mean squared errors on the cells held out, of the law and of the same law without compression, "
        f"and the share of the squared error that compression saves, with its {words.level()}. n: samples of "
        "the smallest cell."
    )
    return shown, caption
