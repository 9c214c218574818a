"""What pictures and tables of speed show, selected and said from the data."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from sparsestudy.speed import tables
from sparsestudy.words import DASH, counted, listed, number, percent, span, tokens


def kernels(rows: pd.DataFrame) -> pd.DataFrame:
    """The attention kernels that ran, with ``series``, ``intensity`` (operations a byte) and ``rate``.

    Decode steps come from graphs where there are any: without one, launches from the host hide the device.
    """
    timed = rows[rows["seconds"].notna() & (rows["flops"] > 0)]
    decode = (timed["part"] == "decode") & timed["stage"].isin(("kernel", "total"))
    decode &= timed["graph"] == timed["graph"].max()
    # A prefill with its choice does other work than the operations of attention.
    prefill = (timed["part"] == "prefill") & (timed["stage"] == "kernel") & (timed["graph"] == 0)
    some = timed[decode | prefill].copy()
    some["series"] = [tables.code_name(row) for row in some.to_dict("records")]
    some["intensity"] = some["flops"] / some["bytes"]
    some["rate"] = some["flops"] / some["seconds"]
    return cast(pd.DataFrame, some.reset_index(drop=True))


def sparse_prefills(rows: pd.DataFrame) -> pd.DataFrame:
    """Kernels over random blocks, and methods with their choice, that ran; with ``series``."""
    pattern = (rows["method"] == "pattern") & (rows["stage"] == "kernel")
    chosen = (rows["method_name"] != "") & (rows["stage"] == "total")
    called = (rows["part"] == "prefill") & (rows["graph"] == 0) & rows["efficiency"].notna()
    some = rows[called & (pattern | chosen)].copy()
    some["series"] = [
        f"{tables.code_name(row)}, blocks of {row['block']}"
        if row["method"] == "pattern"
        else f"{tables.name(row)} with its choice"
        for row in some.to_dict("records")
    ]
    return cast(pd.DataFrame, some.reset_index(drop=True))


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """Fastest dense attention and methods with their choice, alone and in whole models; panel and series."""
    alone = (rows["part"] == "prefill") & (rows["stage"] == "total")
    whole = (rows["part"] == "model") & (rows["stage"] == "prefill")
    one = rows.loc[whole & (rows["sparsity"] > 0), "sparsity"].max()
    one = rows.loc[alone, "sparsity"].max() if pd.isna(one) else one
    sparse = rows[((alone & (rows["sparsity"] == one)) | whole) & rows["seconds"].notna()]
    called = (rows["part"] == "prefill") & (rows["graph"] == 0) & rows["seconds"].notna()
    dense = rows[called & (rows["method"] == "dense")]
    fastest = dense.loc[dense.groupby(["model", "length"])["seconds"].idxmin()]
    some = pd.concat([fastest, sparse], ignore_index=True)
    is_whole = some["part"] == "model"
    some["panel"] = np.where(is_whole, some["model"], "attention, " + some["model"])
    some["series"] = [
        "dense" if "dense" in (row["method"], row["method_name"]) else setting(row)
        for row in some.to_dict("records")
    ]
    return cast(pd.DataFrame, some.reset_index(drop=True))


def setting(row: Any) -> str:
    """A method and what it was asked to leave out."""
    return f"{tables.name(row)}, {percent(row['sparsity'] / 1000)}"


def milliseconds(seconds: float) -> str:
    """A time with three digits."""
    return DASH if pd.isna(seconds) else f"{1e3 * seconds:.3g} ms"


def _best(rows: pd.DataFrame, key: str) -> str:
    row = rows.loc[rows[key].idxmax()]
    return f"{row['series']} ({number(row[key])} at {tokens(row['length'])})"


def roofline_alt(rows: pd.DataFrame) -> str:
    """What the roofline shows."""
    parts = []
    for series, some in rows.groupby("series", sort=False):
        roof = np.minimum(some["intensity"] * some["copy"], some["multiply"])
        share = some["rate"] / roof
        parts.append(f"{series} reaches {percent(share.min())} to {percent(share.max())} of its ceiling")
    return (
        f"Scatter plot of operations per second against operations per byte, both logarithmic, with the "
        f"measured ceilings as a line, a panel for each length from {span(rows['length'])} tokens: "
        f"{'; '.join(parts)}."
    )


def roofline_caption(rows: pd.DataFrame) -> str:
    """What to see in the roofline."""
    copy, multiply = rows["copy"].median(), rows["multiply"].median()
    return (
        f"How far each kernel stays below what the device can do: the slope is a copy "
        f"({copy / 1e12:.3g} TB/s), the flat line a square product ({multiply / 1e12:.3g} tera-operations "
        "per second), both measured in the same run. Operations are those of the attended pairs, bytes the "
        "least that must move. Decode steps stand on the left, where memory is the limit, prefills on the "
        "right."
    )


def efficiency_alt(rows: pd.DataFrame) -> str:
    """What the figure of efficiency shows."""
    parts = [
        f"{series} from {number(some['efficiency'].min())} to {number(some['efficiency'].max())}"
        for series, some in rows.groupby("series", sort=False)
    ]
    return (
        f"Line chart of efficiency against achieved sparsity, a panel for each length from "
        f"{span(rows['length'])} tokens: {'; '.join(parts)}."
    )


def efficiency_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of efficiency."""
    slower = int((rows["speedup"] < 1).sum())
    return (
        "Efficiency is the speed-up over the fastest dense attention times the share of pairs attended: on "
        "the upper line, skipping a share of the work skips the same share of the time; below the dotted "
        f"curve, sparse is slower than dense, as {counted(slower, 'case')} of {len(rows)} are. Dashed lines "
        f"include the choice. Highest is {_best(rows, 'efficiency')}."
    )


def time_alt(rows: pd.DataFrame) -> str:
    """What the figure of time shows."""
    parts = []
    for panel, some in rows.groupby("panel", sort=False):
        longest = some[some["length"] == some["length"].max()].sort_values("seconds")
        times = listed(
            f"{row['series']} {milliseconds(row['seconds'])}" for row in longest.to_dict("records")
        )
        parts.append(f"{panel} at {tokens(longest['length'].iloc[0])}: {times}")
    return f"Line chart of time against length, both logarithmic. {'; '.join(parts)}."


def crossing(row: Any) -> str:
    """From which length on a method is faster than dense, in words."""
    if row["crossing"] == 0:
        return f"at every length from {tokens(row['shortest'])}"
    if np.isinf(row["crossing"]):
        return f"not up to {tokens(row['longest'])}"
    return f"from about {tokens(row['crossing'])}"


def time_caption(rows: pd.DataFrame, crossings: pd.DataFrame) -> str:
    """What to see in the figure of time."""
    keys = ["model", "part", "stage", "method", "sparsity"]
    here = crossings.merge(rows[[*keys, "panel"]].drop_duplicates(), on=keys)
    told = "; ".join(f"{setting(row)}, {row['panel']}: {crossing(row)}" for row in here.to_dict("records"))
    return (
        "Time of attention with its choice, and of the whole prefill of models, against the fastest dense "
        f"attention; dashed lines mark where they cross. Faster than dense: {told or 'nothing was measured'}."
    )


def split_alt(rows: pd.DataFrame) -> str:
    """What the figure of parts shows."""
    parts = [
        f"{setting(row)} at {tokens(row['length'])}: choice {milliseconds(row['selection'])}, kernel "
        f"{milliseconds(row['kernel'])}, rest {milliseconds(row['rest'])}, dense {milliseconds(row['dense'])}"
        for row in rows.to_dict("records")
    ]
    return f"Stacked bars of the time of a sparse prefill. {'; '.join(parts)}."


def split_caption(rows: pd.DataFrame) -> str:
    """What to see in the figure of parts."""
    share = rows["selection"] / rows["total"]
    high = rows.loc[share.idxmax()] if share.notna().any() else None
    most = (
        ""
        if high is None
        else f" Choosing weighs most for {setting(high)} at {tokens(high['length'])}: {percent(share.max())} "
        "of the time."
    )
    return (
        "What choosing and attending take when each is timed alone, and what both together take beyond that; "
        f"the line is dense attention.{most}"
    )
