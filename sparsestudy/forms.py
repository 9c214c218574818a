"""How values are written to files and read again as they were: netCDF for datasets, JSON for all else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

T = TypeVar("T")


@dataclass(frozen=True)
class Form(Generic[T]):
    """One kind of file.

    Args:
        suffix: of its name.
        write: a value as bytes.
        read: the value that was written; anything else raises ValueError, KeyError, TypeError or OSError.
    """

    suffix: str
    write: Callable[[T], bytes]
    read: Callable[[bytes], T]


def plain(kind: Any) -> Form[Any]:
    """The form of a type that pydantic can check: texts, lists, named tuples, dataclasses, models."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return Form("json", lambda value: json.dumps(value, default=_told).encode(), adapter.validate_json)


def _told(value: Any) -> Any:
    """What JSON has no word for, in words that it has."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"A {type(value).__name__} cannot be written as JSON.")


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    """A table with rows that are merely counted; numbers are written with all their digits."""
    return {str(name): [str(column.dtype), column.tolist()] for name, column in frame.items()}


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values, dtype=kind) for name, (kind, values) in columns.items()})


def _to_netcdf(data: xr.Dataset) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "data.nc"
        data.to_netcdf(file, engine="netcdf4")
        return file.read_bytes()


def _from_netcdf(data: bytes) -> xr.Dataset:
    import xarray as xr

    with TemporaryDirectory() as folder:
        file = Path(folder) / "data.nc"
        file.write_bytes(data)
        return xr.load_dataset(file, engine="netcdf4")


FRAME: Form[pd.DataFrame] = Form(
    "json",
    lambda frame: json.dumps(_columns(frame), default=_told).encode(),
    lambda data: _frame(json.loads(data)),
)
"""A table whose rows are numbered from 0."""
FRAMES: Form[list[pd.DataFrame]] = Form(
    "json",
    lambda frames: json.dumps([_columns(frame) for frame in frames], default=_told).encode(),
    lambda data: [_frame(columns) for columns in json.loads(data)],
)
"""Several such tables."""
DATASET: Form[xr.Dataset] = Form("nc", _to_netcdf, _from_netcdf)
"""Labelled arrays, loaded into memory."""
