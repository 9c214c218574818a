"""Numbers as words: formats, captions and descriptions of figures, all written from the data.

Nothing here holds a result. A sentence takes its numbers, names and its verb from the table it is
given, so another dataset gives another sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from sparsestudy import stats, tables

DASH = "–"


def number(value: float, digits: int = 2) -> str:
    """A score or difference with a true minus sign, such as ``0.93`` or ``−0.08``."""
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:.{digits}f}".replace("-", "−")


def interval(row: Any, name: str = "score", digits: int = 2) -> str:
    """Estimate and limits of one row, such as ``0.93 (0.86 to 0.97)``."""
    low, high = number(row[f"{name}_low"], digits), number(row[f"{name}_high"], digits)
    return f"{number(row[name], digits)} ({low} to {high})"


def percent(share: float) -> str:
    """A share as percent with the digits it needs, such as ``95 %`` or ``66.7 %``; it never breaks a line."""
    return f"{round(100 * float(share), 1):g}\u00a0%"


def tokens(length: int) -> str:
    """``4,096 tokens``."""
    return f"{int(length):,} tokens"


def level() -> str:
    """What the intervals are, such as ``95 % interval``."""
    return f"{percent(stats.CONFIDENCE)} interval"


def span(values: Iterable[Any]) -> str:
    """One value, or the smallest and the largest: ``100`` or ``60 to 100``."""
    known = sorted({int(value) for value in values})
    if not known:
        return "none"
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"


def listed(items: Iterable[str]) -> str:
    """``a``, ``a and b`` or ``a, b and c``."""
    parts = list(items)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "none"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 cell`` or ``12 cells``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def variant(row: Any) -> str:
    """A method with the phase it works in, such as ``quest (decode, dense tail)``."""
    return f"{row['name']} ({row['group']})" if row["group"] != "dense" else str(row["name"])


def samples_of(rows: pd.DataFrame) -> str:
    """``n = 100`` or ``n = 60 to 100`` over the cells that ran."""
    return f"n = {span(rows.loc[rows['n'] > 0, 'n']) if (rows['n'] > 0).any() else 0}"


def tolerance(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method variant and length: where a loss is shown and up to where it is excluded.

    Args:
        rows: a tidy table of one model and task.

    Returns:
        Columns group, name, role, length, ``measured`` (cells that ran), ``loss_from`` (smallest nominal
        sparsity with a loss after correction, NaN when none), ``kept_to`` (largest one up to which every
        setting is shown to lose less than the margin, NaN when none), ``top`` (the highest setting that was
        compared), its difference with limits and pairs, ``unreachable_from`` and ``detectable``.
    """
    found = []
    keys = ["group", "name", "method_role", "length"]
    for (group, name, role, length), some in rows[rows["group"] != "dense"].groupby(keys, sort=False):
        ran = tables.compared(some).sort_values("nominal")
        unreachable = some.loc[some["state"] == "unreachable", "nominal"]
        entry: dict[str, Any] = {"group": group, "name": name, "role": role, "length": length}
        entry["measured"] = int((some["n"] > 0).sum())
        entry["unreachable_from"] = unreachable.min()
        if len(ran):
            lost = ran.loc[tables.loses(ran), "nominal"]
            held = ran.loc[tables.keeps(ran).cummin(), "nominal"]
            last = ran.iloc[-1]
            entry |= {"loss_from": lost.min(), "kept_to": held.max(), "top": last["nominal"]}
            entry |= {key: last[key] for key in ("difference", "difference_low", "difference_high", "pairs")}
            entry["detectable"] = ran["detectable"].max()
        found.append(entry)
    columns = ["loss_from", "kept_to", "top", "difference", "difference_low", "difference_high", "pairs"]
    return pd.DataFrame(found).reindex(
        columns=["group", "name", "role", "length", "measured", *columns, "unreachable_from", "detectable"]
    )


def outcome(entry: Any) -> str:
    """What happens to one method variant at one length, as the end of a sentence."""
    if not entry["measured"]:
        return "ran at no sparsity"
    if pd.isna(entry["top"]):
        return "was not compared with dense attention"
    if pd.isna(entry["loss_from"]):
        return f"shows no loss up to {percent(entry['top'])}"
    return f"first loses at {percent(entry['loss_from'])}"


def _outcomes(rows: pd.DataFrame) -> str:
    """The outcome of every method at the greatest length, and of the controls together."""
    longest = rows["length"].max()
    table = tolerance(rows[rows["length"] == longest])
    parts = [f"{variant(e)} {outcome(e)}" for e in table.to_dict("records") if e["role"] == "method"]
    control = table.loc[(table["role"] == "control") & table["top"].notna(), "loss_from"]
    if len(control):
        lost = f"first lose at {percent(control.min())}" if control.notna().any() else "show no loss"
        parts.append(f"the controls {lost}")
    return f"At {tokens(longest)} {'; '.join(parts)}." if parts else ""


def _dense_text(rows: pd.DataFrame) -> str:
    dense = rows[(rows["method_role"] == "dense") & (rows["n"] > 0)].sort_values("length")
    parts = [f"{interval(row)} at {tokens(row['length'])}" for row in dense.to_dict("records")]
    return f"Dense attention scores {listed(parts)}." if parts else "Dense attention was not measured."


def _missing(rows: pd.DataFrame) -> str:
    count = int((rows["state"] == "unreachable").sum())
    return f" Crosses at the foot mark {counted(count, 'setting')} that cannot be reached." if count else ""


def _subject(rows: pd.DataFrame) -> str:
    return f"{rows['subject'].iloc[0]}, {rows['model'].iloc[0]}"


def accuracy_alt(rows: pd.DataFrame) -> str:
    """What the accuracy figure shows, in two or three sentences with numbers."""
    groups = [group for group in rows["group"].unique() if group != "dense"]
    layout = f"one row of panels for each of {listed(groups)}" if groups else "one panel"
    return (
        f"Line chart of accuracy against achieved sparsity on {_subject(rows)}: {layout}, a panel for "
        f"each length from {span(rows['length'])} tokens. {_dense_text(rows)} {_outcomes(rows)}"
    )


def accuracy_caption(rows: pd.DataFrame) -> str:
    """What to see in the accuracy figure."""
    return (
        f"Accuracy on {_subject(rows)}. See where a curve leaves the band of dense attention. "
        f"{_outcomes(rows)} Bars and band: {level()}, {samples_of(rows)} per mark. Equal steps to the right "
        f"keep an equal fraction of what was left.{_missing(rows)}"
    )


def _beside(rows: pd.DataFrame) -> str:
    """Method and controls of every group at the greatest length and the highest sparsity that all reached."""
    here = rows[(rows["length"] == rows["length"].max()) & (rows["n"] > 0) & (rows["sparsity"] > 0)]
    parts = []
    for group, some in here.groupby("group", sort=False):
        kinds = some["name"].nunique()
        shared = some[some.groupby("sparsity")["name"].transform("count") == kinds]
        if shared.empty:
            continue
        cells = shared[shared["sparsity"] == shared["sparsity"].max()].to_dict("records")
        told = listed(f"{cell['name']} {interval(cell)}" for cell in cells)
        parts.append(f"{group} at {percent(cells[0]['nominal'])}: {told}")
    longest = tokens(rows["length"].max())
    return f"At {longest}, {'; '.join(parts)} ({samples_of(here)})." if parts else ""


def controls_alt(rows: pd.DataFrame) -> str:
    """What the figure of methods and their controls shows."""
    groups = [group for group in rows["group"].unique() if group != "dense"]
    return (
        f"Line chart of accuracy against achieved sparsity on {_subject(rows)}: one row of panels for each "
        f"of {listed(groups)}, a panel for each length from {span(rows['length'])} tokens, with the "
        f"controls beside the method. {_beside(rows)}"
    )


def controls_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of methods and their controls."""
    return (
        f"Each method with its controls on {_subject(rows)}: the same units, forced units and budget, chosen "
        f"at random or by the attention that is really paid (oracle). Above random, the choice is worth "
        f"something; below the oracle, a better estimate would help. {_beside(rows)} Bars and band: "
        f"{level()}, {samples_of(rows)} per mark.{_missing(rows)}"
    )


def difference_alt(rows: pd.DataFrame) -> str:
    """What the difference figure shows."""
    ran = tables.compared(rows)
    if ran.empty:
        return f"Line chart without marks: nothing on {_subject(rows)} was compared with dense attention."
    worst = ran.loc[ran["difference"].idxmin()]
    best = ran.loc[ran["difference"].idxmax()]
    return (
        f"Line chart of the paired difference to dense attention against achieved sparsity on "
        f"{_subject(rows)}. It runs from {_at(worst)} to {_at(best)}. {_outcomes(rows)}"
    )


def _at(row: Any) -> str:
    place = f"{variant(row)}, {percent(row['nominal'])}, {tokens(row['length'])}"
    return f"{interval(row, 'difference')} ({place}, n = {int(row['pairs'])})"


def difference_caption(rows: pd.DataFrame) -> str:
    """What to see in the difference figure."""
    ran = tables.compared(rows)
    if ran.empty:
        return f"No setting on {_subject(rows)} was compared with dense attention."
    lost, kept = int(tables.loses(ran).sum()), int(tables.keeps(ran).sum())
    return (
        f"Accuracy minus that of dense attention on the same prompts, {_subject(rows)}. Bars that end below "
        f"zero are losses: {lost} of {counted(len(ran), 'setting')} remain so after correction for their "
        f"number (Holm); {kept} are shown to lose less than {tables.MARGIN:g} (bar above the lower edge of "
        f"the band). {level().capitalize()}s one at a time, n = {span(ran['pairs'])} pairs."
    )
