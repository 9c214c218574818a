"""A local run beside the published one, in words: verdicts, caption and description, from the data."""

from __future__ import annotations

import pandas as pd

from sparsestudy.words import counted, level, listed, span


def verdicts(table: pd.DataFrame) -> str:
    """How many cells of a comparison are the same, within noise, different, or without counterpart."""
    found = {str(verdict): int(count) for verdict, count in table["verdict"].value_counts().items()}
    matched = len(table) - found.get("only here", 0)
    if not matched:
        return "No cell of this run was also published."
    told = {"same": "the same", "within noise": "within noise", "differs": "different"}
    named = [f"{found.get(verdict, 0)} {words}" for verdict, words in told.items()]
    alone = (
        f" {counted(found['only here'], 'cell')} of this run have no published counterpart."
        if ("only here" in found)
        else ""
    )
    return f"Of {counted(matched, 'cell')} that were also published, {listed(named)}.{alone}"


def beside_alt(table: pd.DataFrame) -> str:
    """What the comparison figure shows."""
    return (
        f"Dot plot of accuracy, one line for each of {counted(int(table['change'].notna().sum()), 'cell')}: "
        f"the published mean with its interval and the mean of this machine. {verdicts(table)}"
    )


def beside_caption(table: pd.DataFrame) -> str:
    """What to see in the comparison figure."""
    rows = table[table["change"].notna()]
    if rows.empty:
        return verdicts(table)
    paired = rows["paired"]
    how = (
        f"on {span(paired)} prompts that both runs scored"
        if (paired > 0).all()
        else ("as independent samples where the prompts differ")
    )
    return (
        f"Published means (bars) and those of this machine (diamonds), each with its {level()}; n = "
        f"{span(rows['published_n'])} and {span(rows['n'])}. A bar and a diamond may lie apart by chance "
        f"alone: the verdict compares them {how}. {verdicts(table)}"
    )
