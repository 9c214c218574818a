"""Tables of fidelity: one row a setting, one a setting and position, one a setting and layer."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy import stats
from sparsestudy.cells import group_of
from sparsestudy.mask_tables import places
from sparsestudy.schema import NOT_RUN, STATUS
from sparsestudy.tables import short_name

MEASURES = ("kl", "excess", "recall")
# Smallest and largest value that a mean of each can have.
_BOUNDS = {"kl": (0.0, np.inf), "excess": (-np.inf, np.inf), "recall": (0.0, 1.0)}


def interval(values: Any, measure: str) -> dict[str, float]:
    """Mean over texts with Student's limits, under the names of a measure; NaN limits for one text.

    Args:
        values: one number a text.
        measure: one of :data:`MEASURES`, whose bounds the limits keep to.
    """
    from scipy.stats import t as student

    n, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    reach = error * float(student.ppf(0.5 + stats.CONFIDENCE / 2, n - 1)) if n > 1 else np.nan
    low, high = _BOUNDS[measure]
    return {
        measure: mean,
        f"{measure}_low": float(np.clip(mean - reach, low, high)),
        f"{measure}_high": float(np.clip(mean + reach, low, high)),
    }


def _setting(at: xr.Dataset) -> dict[str, Any]:
    """What names a setting."""
    row: dict[str, Any] = {
        name: at[name].item()
        for name in ("model", "method", "method_name", "method_role", "method_like", "length", "sparsity")
    }
    row["name"] = short_name(row["method_name"], row["method"], str(at["method_fields"].item()))
    row["group"] = group_of(str(at["method_phase"].item()), str(at["method_tail"].item())).split(",")[0]
    return row | {"nominal": row["sparsity"] / 1000, "state": STATUS[int(at["status"])]}


def _asked(data: xr.Dataset) -> list[xr.Dataset]:
    found = places(data, ("model", "method", "length", "sparsity"))
    return [at for at in found if int(at["status"]) != NOT_RUN]


def _measured(at: xr.Dataset) -> dict[str, Any]:
    """Values of one setting, ``(texts, bins)``; empty where nothing ran."""
    if not np.isfinite(at["loss"].values).any():
        return {}
    values = {name: at[name].values.astype(float) for name in ("loss", "dense_loss", "kl", "recall")}
    return values | {"excess": values["loss"] - values["dense_loss"]}


def settings(data: xr.Dataset) -> pd.DataFrame:
    """One row a method variant, length and sparsity that was asked for.

    Columns name the setting, then ``achieved``, each of :data:`MEASURES` with its limits, ``dense_loss``,
    ``n`` (texts), ``positions`` (predictions a text), ``lowest_density`` and ``hyperparameters``. Texts are
    the samples: positions of one text depend on each other and are averaged first.
    """
    rows = []
    for at in _asked(data):
        row, values = _setting(at), _measured(at)
        row["n"] = len(values["kl"]) if values else 0
        row["positions"] = int(at["bin_stop"].max() - at["bin_start"].min())
        row["achieved"] = 1 - float(at["attended_density"].mean()) if values else np.nan
        for measure in MEASURES:
            per_text = values[measure].mean(1) if values else np.full(1, np.nan)
            row |= interval(per_text, measure)
        row["dense_loss"] = float(at["dense_loss"].mean())
        row["lowest_density"] = float(at["lowest_density"])
        rows.append(row | {"hyperparameters": str(at["hyperparameters"].item())})
    return pd.DataFrame(rows)


def positions(data: xr.Dataset) -> pd.DataFrame:
    """One row a setting that ran and run of positions, ``first`` to ``last``: the measures over its texts."""
    rows = []
    for at in _asked(data):
        values = _measured(at)
        if not values:
            continue
        edges = zip(at["bin_start"].values, at["bin_stop"].values, strict=True)
        for place, (start, stop) in enumerate(edges):
            row = _setting(at) | {"first": int(start), "last": int(stop) - 1, "n": len(values["kl"])}
            for measure in MEASURES:
                row |= interval(values[measure][:, place], measure)
            rows.append(row)
    return pd.DataFrame(rows)


def layers(data: xr.Dataset) -> pd.DataFrame:
    """One row a setting that ran and sparsified layer: recall, mean and extremes over its heads."""
    rows = []
    for at in _asked(data):
        for layer, heads in zip(at["layer"].values, at["head_recall"].values, strict=True):
            if np.isfinite(heads).all():
                found = {"recall": heads.mean(), "smallest": heads.min(), "largest": heads.max()}
                rows.append(
                    _setting(at) | {"layer": int(layer)} | {k: float(value) for k, value in found.items()}
                )
    return pd.DataFrame(rows)


def sparse(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that leave something out: a method that ran at a sparsity above 0."""
    ran = rows["kl"].notna() if "kl" in rows else rows["recall"].notna()
    return cast(pd.DataFrame, rows[ran & (rows["method_role"] != "dense") & (rows["state"] == "ok")])


def shared(rows: pd.DataFrame) -> pd.DataFrame:
    """Each group at its greatest length, at the highest sparsity that over half of its variants reached."""
    ran, parts = sparse(rows), []
    for _, some in ran.groupby("group", sort=False):
        here = some[some["length"] == some["length"].max()]
        reached = here.groupby("sparsity")["method"].nunique()
        parts.append(here[here["sparsity"] == reached[2 * reached > reached.max()].index.max()])
    return cast(pd.DataFrame, pd.concat(parts, ignore_index=True)) if parts else ran
