"""Verdicts, tolerances and planning numbers in words, taken from what was computed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsestudy import stats
from sparsestudy.claims import VERDICTS, Verdict
from sparsestudy.claims.evidence import Effect
from sparsestudy.words import DASH, counted, listed, number, percent, span, tokens


def limits(effect: Effect) -> str:
    """``0.05 (0.04 to 0.07)``, with an open end where the data set no limit."""
    if np.isnan(effect.estimate):
        return DASH
    low = number(effect.low) if np.isfinite(effect.low) else "no lower limit"
    high = number(effect.high) if np.isfinite(effect.high) else "no upper limit"
    return f"{number(effect.estimate)} ({low} to {high})"


def told(verdicts: list[Verdict]) -> list[str]:
    """A claim in a sentence, then its verdict on each dataset, for every claim."""
    claims = {one.claim.id: one.claim for one in verdicts}
    return [
        " ".join([f"*{claim.statement}*", *(sentence(one) for one in verdicts if one.claim.id == name)])
        for name, claim in claims.items()
    ]


def sentence(verdict: Verdict) -> str:
    """A verdict with the effect, interval, samples, models and dataset that decide it."""
    claim = verdict.claim
    head = f"**{verdict.verdict.capitalize()}**"
    if verdict.outcome is None:
        return f"{head} on `{verdict.dataset}`: {verdict.reason}"
    effect = verdict.outcome.effect
    models = listed(f"`{name}`" for name in verdict.outcome.models)
    rest = " ".join(filter(None, (verdict.reason, verdict.outcome.remark)))
    return (
        f"{head} on `{verdict.dataset}` (hash `{verdict.hash}`, {models}): the {claim.effect} is "
        f"{limits(effect)}, n = {effect.n}. {rest}".rstrip()
    )


def counts(verdicts: list[Verdict]) -> str:
    """How many verdicts of each kind there are, all four named."""
    found = [sum(one.verdict == kind for one in verdicts) for kind in VERDICTS]
    told = listed(f"{count} {kind}" for count, kind in zip(found, VERDICTS, strict=True))
    return f"{counted(len({one.claim.id for one in verdicts}), 'claim')}, judged on each dataset: {told}."


def tolerance_state(row: pd.Series) -> str:
    """What is known of one tolerated sparsity, such as ``50 % to 66.7 %`` or ``at least 90 %``."""
    if row["state"] == stats.CANNOT_SAY:
        return stats.CANNOT_SAY
    if row["state"] == "at least":
        return f"at least {percent(row['kept'])}"
    if row["state"] == "below":
        return f"below {percent(row['lost'])}"
    return f"{percent(row['kept'])} to {percent(row['lost'])}"


def tolerance_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of tolerated sparsities."""
    told = rows[rows["state"] != stats.CANNOT_SAY]
    return (
        f"Tolerated sparsity, {rows['model'].iloc[0]}: from the filled mark, up to which a loss of "
        f"{stats.MARGIN:g} is excluded (at zero, nothing is), to the open mark, from which on a larger loss "
        f"is shown. A line without an open mark has no known end. Each holds at {percent(stats.CONFIDENCE)}, "
        f"one at a time, n = {span(rows['n'])} pairs. {len(told)} of {counted(len(rows), 'curve')} can be "
        "told; a cross marks the others."
    )


def tolerance_alt(rows: pd.DataFrame) -> str:
    """What the figure of tolerated sparsities shows, curve by curve at the greatest length."""
    longest = rows["length"].max()
    here = rows[rows["length"] == longest]
    parts = [f"{row['name']} on {row['subject']} {tolerance_state(row)}" for _, row in here.iterrows()]
    return (
        f"Interval plot of the tolerated sparsity of {rows['model'].iloc[0]}: a panel for each of "
        f"{counted(rows['subject'].nunique(), 'task')}, a row for each method, and in it a line for each "
        f"length from {span(rows['length'])} tokens. At {tokens(longest)}: {'; '.join(parts)}."
    )


def planning_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of planning numbers."""
    return (
        f"What a number of pairs can tell, with a probability of {percent(stats.POWER)}: the smallest loss "
        "that is found, and the smallest margin that is excluded where nothing is lost, for several shares "
        "of pairs that flip by noise alone, both ways together. Dotted lines mark the margin "
        f"{stats.MARGIN:g} and the wider one of {stats.WIDE_MARGIN:g}. Computed for right-or-wrong scores, "
        f"for {span(rows['n'])} pairs."
    )


def planning_alt(rows: pd.DataFrame) -> str:
    """What the figure of planning numbers shows."""
    few, many = rows["n"].min(), rows["n"].max()
    calm, noisy = rows["flips"].min(), rows["flips"].max()

    def at(n: int, flips: float) -> pd.Series:
        return rows[(rows["n"] == n) & (rows["flips"] == flips)].iloc[0]

    told = [
        f"with {counted(int(n), 'pair')} and {percent(flips)} of flips {number(at(n, flips)['found'])} is "
        f"found and {number(at(n, flips)['excluded'])} excluded"
        for n in (few, many)
        for flips in (calm, noisy)
    ]
    return f"Two line charts against the number of pairs; all lines fall. {'; '.join(told).capitalize()}."


def noise(table: pd.DataFrame) -> str:
    """The share of pairs that flip in the published comparisons, and what follows for a single one."""
    rows = table[table["difference"].notna()]
    if rows.empty:
        return "No published setting was compared with dense attention, so the noise is not known."
    low, high = number(rows["detectable"].min()), number(rows["detectable"].max())
    return (
        f"Over the {counted(len(rows), 'published comparison')} (n = {span(rows['pairs'])} pairs), a single "
        f"comparison finds a true loss of {low if low == high else f'{low} to {high}'}, given the pairs that "
        "flipped both ways in it."
    )


def checks_caption() -> str:
    """What the table of simulations holds."""
    return (
        f"The methods on simulated data whose truth is known. An interval should hold it in "
        f"{percent(stats.CONFIDENCE)} of the runs; a test should err in no more than stands beside it."
    )
