"""Tables of what methods chose: one row a setting, and the cells of one picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy.cells import group_of
from sparsestudy.schema import NOT_RUN, STATUS
from sparsestudy.tables import short_name

QUARTILES = {"smallest": 0.0, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "largest": 1.0}


def settings(data: xr.Dataset) -> pd.DataFrame:
    """One row a method variant, length and sparsity that was asked for.

    Columns: model, method, method_name, method_role, name, group, length, sparsity, nominal, state,
    ``achieved`` (mean sparsity over layers and heads) with its smallest, quartiles and largest,
    lowest_density, hyperparameters.
    """
    rows = []
    for at in places(data, ("model", "method", "length", "sparsity")):
        status = int(at["status"])
        if status == NOT_RUN:
            continue
        density = at["head_density"].values
        sparse = 1 - density[np.isfinite(density)].astype(float)
        row: dict[str, Any] = {
            name: at[name].item()
            for name in ("model", "method", "method_name", "method_role", "length", "sparsity")
        }
        row["name"] = short_name(row["method_name"], row["method"], str(at["method_fields"].item()))
        row["group"] = group_of(str(at["method_phase"].item()), str(at["method_tail"].item()))
        row |= {"nominal": row["sparsity"] / 1000, "state": STATUS[status]}
        row["achieved"] = sparse.mean() if len(sparse) else np.nan
        row |= {key: np.quantile(sparse, q) if len(sparse) else np.nan for key, q in QUARTILES.items()}
        row["lowest_density"] = float(at["lowest_density"])
        row["hyperparameters"] = str(at["hyperparameters"].item())
        rows.append(row)
    return pd.DataFrame(rows)


def places(data: xr.Dataset, dims: tuple[str, ...]) -> list[xr.Dataset]:
    """The dataset at each place along some dimensions, the last one fastest."""
    found = [data]
    for dim in dims:
        found = [place.isel({dim: i}) for place in found for i in range(data.sizes[dim])]
    return found


def given(hyperparameters: str) -> dict[str, Any]:
    """The fields of a method by name; of a control beside a method, those of that method too."""
    fields: dict[str, Any] = json.loads(hyperparameters or "{}")
    beside = fields.pop("budget", "")
    return fields | (json.loads(beside) if beside else {})


@dataclass(frozen=True)
class Drawing:
    """The pictures of one method variant at one sparsity and length.

    Args:
        at: the dataset at this place.
        name: the variant in words.
    """

    at: xr.Dataset
    name: str

    @property
    def shares(self) -> Any:
        """Share attended, ``(layers, heads, rows, columns)``, less unused rows and columns."""
        used = self.at["pairs"].values > 0
        rows, columns = (int(np.flatnonzero(used.any(axis)).max()) + 1 for axis in (1, 0))
        return self.at["share"].values[..., :rows, :columns]

    @property
    def kind(self) -> str:
        """``prefill``, ``steps`` (of a decode) or ``kept`` (after an eviction)."""
        if not int(self.at["steps"]):
            return "prefill"
        return "kept" if self.shares.shape[2] == 1 < int(self.at["steps"]) else "steps"

    @property
    def table(self) -> pd.DataFrame:
        """One row a cell with pairs: layer, head, row, column, share."""
        shares = self.shares
        layer, head, row, column = np.nonzero(np.isfinite(shares))
        return pd.DataFrame(
            {
                "layer": self.at["drawn_layer"].values[layer].astype("int16"),
                "head": self.at["drawn_head"].values[head].astype("int16"),
                "row": row.astype("int16"),
                "column": column.astype("int16"),
                "share": shares[layer, head, row, column].round(4),
            }
        )

    @property
    def evidence(self) -> list[tuple[int, int]]:
        """Token spans of the evidence."""
        ends = (self.at[f"evidence_{end}"].values.tolist() for end in ("start", "stop"))
        return [(start, stop) for start, stop in zip(*ends, strict=True) if start >= 0]

    def attended(self, evidence: bool = False) -> Any:
        """Share of its pairs that each picture attends, ``(layers, heads)``; or of the evidence's pairs."""
        shares = self.shares
        pairs = self.at["pairs"].values[: shares.shape[2], : shares.shape[3]].clip(min=0).astype(float)
        if evidence:
            size = int(self.at["column_size"])
            hit = np.zeros(shares.shape[3], dtype=bool)
            for start, stop in self.evidence:
                hit[start // size : (stop - 1) // size + 1] = True
            pairs = pairs * hit
        return np.nansum(shares * pairs, axis=(2, 3)) / pairs.sum()


def drawing(data: xr.Dataset, model: str, method: str) -> Drawing | None:
    """The picture that stands for a variant: the longest prompt, the highest sparsity that it reached."""
    of_method = data.sel({"model": model, "method": method})
    name = short_name(*(str(of_method[key].item()) for key in ("method_name", "method", "method_fields")))
    for at in reversed(places(of_method, ("length", "sparsity"))):
        if STATUS[int(at["status"])] == "ok" and np.isfinite(at["share"].values).any():
            return Drawing(at, name)
    return None
