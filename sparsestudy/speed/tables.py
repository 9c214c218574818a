"""Tables of speed: one row a case with what it stands against, crossings with dense, parts of the time."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy.schema import STATUS

OWN = ("triton", "torch")
"""Codes of the study itself."""
# What must be the same for a dense case to stand against another.
_ALIKE = ["model", "length", "part", "batch", "graph", "versus"]


def cases(data: xr.Dataset) -> pd.DataFrame:
    """One row a case that was tried or left out.

    Columns name the case (model, length, and every ``case_`` coordinate without its prefix), then ``state``,
    ``reason``, ``seconds`` (median over repeats) with ``smallest``, ``largest`` and ``n``, ``density``,
    ``flops``, ``bytes``, ``choosing``, ``peak``, the medians of the ceilings ``copy`` and ``multiply``,
    ``dense`` (seconds of the fastest dense case that does the same), its ``dense_code``, ``speedup`` over it
    and ``efficiency``: speed-up times density.
    """
    rows: list[dict[str, Any]] = []
    names = [name for name in data.coords if str(name).startswith("case_")]
    for m, model in enumerate(data["model"].values.tolist()):
        for n, length in enumerate(data["length"].values.tolist()):
            ceilings = {
                "copy": _median(data["copy_rate"].values[m, n]),
                "multiply": _median(data["multiply_rate"].values[m, n]),
            }
            for place in range(data.sizes["case"]):
                at = (m, n, place)
                row = {str(name).removeprefix("case_"): data[name].values[place] for name in names}
                row |= {"model": model, "length": int(length), "case": str(data["case"].values[place])}
                rows.append(row | ceilings | _values(data, at))
    table = pd.DataFrame(rows)
    # A place that no dataset covers has neither a status nor a reason.
    table = table[(table["state"] != "not_run") | (table["reason"] != "")].reset_index(drop=True)
    return _against_dense(table)


def _values(data: xr.Dataset, at: tuple[int, int, int]) -> dict[str, Any]:
    seconds = data["seconds"].values[at].astype(float)
    seconds = seconds[np.isfinite(seconds)]
    return {
        "state": STATUS[int(data["status"].values[at])],
        "reason": str(data["reason"].values[at]),
        "seconds": _median(seconds),
        "smallest": seconds.min() if len(seconds) else np.nan,
        "largest": seconds.max() if len(seconds) else np.nan,
        "n": len(seconds),
        "density": float(data["attended_density"].values[at]),
        "flops": float(data["flops"].values[at]),
        "bytes": float(data["bytes"].values[at]),
        "choosing": float(data["choosing_seconds"].values[at]),
        "peak": float(data["peak_bytes"].values[at]),
        "hyperparameters": str(data["hyperparameters"].values[at]),
    }


def _median(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _against_dense(table: pd.DataFrame) -> pd.DataFrame:
    """Add the fastest dense case of the same part, batch, and for models phase."""
    table["versus"] = np.where(table["part"] == "model", table["stage"], "attention")
    dense = table[(table["method"] == "dense") & table["seconds"].notna()].sort_values("seconds")
    best = dense.groupby(_ALIKE, as_index=False).first()[[*_ALIKE, "seconds", "code"]]
    best = best.rename(columns={"seconds": "dense", "code": "dense_code"})
    table = table.merge(best, on=_ALIKE, how="left")
    table["speedup"] = table["dense"] / table["seconds"]
    table["efficiency"] = table["speedup"] * table["density"]
    return cast(pd.DataFrame, table)


def name(row: Any) -> str:
    """A method in words, such as ``block sparse, blocks of 128``, or what else a case is about."""
    known = str(row["method_name"]) or ("random blocks" if row["method"] == "pattern" else str(row["method"]))
    blocks = f", blocks of {row['block']}" if row["block"] else ""
    return known.replace("_", " ") + blocks


def code_name(row: Any) -> str:
    """Who computes, in words: the study's own code or the peer."""
    code = str(row["code"])
    return {"triton": "ours", "torch": "ours, plain torch", "flex": "FlexAttention"}.get(code, code)


def crossings(table: pd.DataFrame) -> pd.DataFrame:
    """From which length on each method is faster than dense, choice included.

    Columns: model, part, stage, method, name, block, sparsity, ``shortest`` and ``longest`` length measured,
    and ``crossing``: the length, interpolated between two measured ones in the logarithms of both; 0 where
    every length is faster and infinite where the longest is not.
    """
    attention = (table["part"] == "prefill") & (table["stage"] == "total")
    whole = (table["part"] == "model") & (table["stage"] == "prefill") & (table["method"] != "dense")
    rows = []
    some = table[(attention | whole) & table["speedup"].notna()]
    keys = ["model", "part", "stage", "method", "method_name", "block", "sparsity"]
    for key, group in some.groupby(keys, sort=False):
        lengths, gains = _sorted(group)
        row = dict(zip(keys, key, strict=True))
        row |= {"name": name(row), "shortest": lengths[0], "longest": lengths[-1]}
        rows.append(row | {"crossing": crossing(lengths, gains)})
    return pd.DataFrame(rows, columns=[*keys, "name", "shortest", "longest", "crossing"])


def _sorted(group: pd.DataFrame) -> tuple[list[float], list[float]]:
    group = group.sort_values("length")
    return group["length"].astype(float).tolist(), group["speedup"].astype(float).tolist()


def crossing(lengths: list[float], gains: list[float]) -> float:
    """The length from which on a speed-up stays above 1; 0 if it always is, infinite if at last it is not."""
    slower = [place for place, gain in enumerate(gains) if gain <= 1]
    if not slower:
        return 0.0
    if slower[-1] == len(gains) - 1:
        return float("inf")
    at = slower[-1]
    x, y = np.log(lengths[at : at + 2]), np.log(gains[at : at + 2])
    return float(np.exp(x[0] - y[0] * (x[1] - x[0]) / (y[1] - y[0])))


def split(table: pd.DataFrame) -> pd.DataFrame:
    """Where the time goes in a prefill with a choice: seconds of selection, kernel and rest, and of dense.

    The parts are timed alone; the rest is what both together take beyond them, not below 0.
    """
    some = table[(table["part"] == "prefill") & (table["method_name"] != "") & table["seconds"].notna()]
    keys = ["model", "length", "method", "method_name", "block", "sparsity"]
    wide = some.pivot_table(index=keys, columns="stage", values="seconds", sort=False).reset_index()
    for stage in ("selection", "kernel", "total"):
        if stage not in wide:
            wide[stage] = np.nan
    dense = some[["model", "length", "dense"]].drop_duplicates()
    wide = wide.merge(dense, on=["model", "length"], how="left")
    wide["rest"] = (wide["total"] - wide["selection"] - wide["kernel"]).clip(lower=0)
    wide["name"] = [name(row) for row in wide.to_dict("records")]
    return cast(pd.DataFrame, wide.dropna(subset=["total"]).reset_index(drop=True))
