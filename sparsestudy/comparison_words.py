"""A local run beside the published one, in words: verdicts, caption and description, from the data."""

from __future__ import annotations

import pandas as pd

from sparsestudy import listings
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


def lines(run: str, table: pd.DataFrame, every: bool = False) -> list[str]:
    """A comparison as lines of text: its verdicts, then each cell that is not the same.

    Args:
        run: name of the local run.
        table: what `sparsestudy.compare.beside` returns.
        every: whether to list the other cells, too.
    """
    told = [f"run {run}: {verdicts(table)}"]
    for row in listings.comparison(table)[0].to_dict("records"):
        if every or row["verdict"] in ("within noise", "differs"):
            told.append(
                f"  {row['verdict']}: {row['method']} ({row['phase']}), {row['task']}, {row['length']} "
                f"tokens, sparsity {row['nominal']}: here {row['this machine']}, published "
                f"{row['published']}, change {row['change']} on "
                f"{counted(int(row['shared prompts']), 'shared prompt')}"
            )
    return [line.replace("\u00a0", " ") for line in told]
