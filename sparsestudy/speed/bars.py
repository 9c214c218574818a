"""The bars that the study's own code must reach, held against a dataset."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sparsestudy.speed.tables import OWN


@cache
def _declared() -> dict[str, Any]:
    text = files("sparsestudy.speed").joinpath("bars.yaml").read_text(encoding="utf-8")
    declared: dict[str, Any] = yaml.safe_load(text)
    return declared


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Every bar with what was measured.

    Args:
        table: from :func:`sparsestudy.speed.tables.cases`.

    Returns:
        One row a bar: ``name``, ``measure`` (``efficiency`` or ``speedup``), length, sparsity, batch,
        ``ours`` (the best of the study's own code), ``peer`` (the best other one), ``peer_code``, ``ratio``
        of both, ``least`` (the bar), ``met``, and ``note``: why there is no figure, which is a bar not met.
    """
    declared, rows = _declared(), []
    for bar in declared["bars"]:
        for target in bar["targets"]:
            where = {**bar["where"], **{key: value for key, value in target.items() if key != "least"}}
            where |= {"model": declared["model"], "batch": where.get("batch", 1)}
            found = _matching(table, where)
            own = found["code"].isin(OWN)
            ours = found.loc[own, bar["measure"]].max()
            peer, code = _peer(table, found[~own], where, bar["measure"])
            known = {key: where[key] for key in ("length", "sparsity", "batch")}
            rows.append(
                {
                    "name": bar["name"],
                    "measure": bar["measure"],
                    **known,
                    "ours": ours,
                    "peer": peer,
                    "peer_code": code,
                    "ratio": ours / peer,
                    "least": float(target["least"]),
                    "met": bool(ours >= target["least"]),
                    "note": "" if np.isfinite(ours) else _why(found[own]),
                }
            )
    return pd.DataFrame(rows)


def _matching(table: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    kept = np.ones(len(table), dtype=bool)
    for key, value in where.items():
        kept &= (table[key] == value).to_numpy()
    return table[kept]


def _peer(
    table: pd.DataFrame, others: pd.DataFrame, where: dict[str, Any], measure: str
) -> tuple[float, str]:
    """The best figure of somebody else's code; for a decode step that is the fastest dense one."""
    if measure == "speedup":
        dense = {key: where[key] for key in ("model", "length", "part", "batch", "graph")}
        rows = _matching(table, {**dense, "method": "dense"})
        others = rows[~rows["code"].isin(OWN)]
    others = others[others[measure].notna()]
    if others.empty:
        return np.nan, ""
    best = others.loc[others[measure].idxmax()]
    return float(best[measure]), str(best["code"])


def _why(rows: pd.DataFrame) -> str:
    """Why nothing came out."""
    if rows.empty:
        return "not measured"
    row = rows.iloc[0]
    return f"{str(row['state']).replace('_', ' ')}: {row['reason']}"
