"""Shards into one dataset: the labels joined, equal where they overlap, or an error with both names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy.errors import StudyError
from sparsestudy.experiments import schema_of
from sparsestudy.schema import TIMINGS, Variable
from sparsestudy.validation import tidy

# Parameters in which the shards of one run differ by nature: their union is the run's.
_UNITED = ("models", "lengths")


def merge(datasets: list[xr.Dataset], names: list[str]) -> xr.Dataset:
    """One dataset from several parts of the same run.

    Labels are joined (models and methods in order of appearance, numbers rising). A place that one part
    covers takes its value, a place that two parts cover must be equal in both (timings apart, where the
    first is taken), and every other place keeps its fill. Attributes must agree, but for the title; of the
    parameters, models and lengths are united, and numbers of samples may differ: the most at each length
    are named.

    Args:
        datasets: the parts.
        names: what to call them in an error, such as their files.

    Raises:
        StudyError: two parts disagree; names the variable and both parts.
    """
    attributes = _attributes([part.attrs for part in datasets], names)
    schema = schema_of(datasets[0])
    labels = {dim: _joined([part.variables[dim].values for part in datasets]) for dim in schema.dims}
    variables: dict[str, Any] = {}
    for name, variable in schema.variables.items():
        if all(name not in part.variables for part in datasets):
            continue  # none of the parts was read with it
        variables[name] = _overlaid(name, variable, datasets, names, labels)
    coordinates = {name: variables.pop(name) for name in schema.coordinates}
    return tidy(xr.Dataset(variables, coords=coordinates, attrs=attributes))


def _joined(parts: list[np.ndarray[Any, Any]]) -> list[Any]:
    union = list(dict.fromkeys(label for part in parts for label in part.tolist()))
    return sorted(union) if all(part.dtype.kind == "i" for part in parts) else union


def _overlaid(
    name: str, variable: Variable, parts: list[xr.Dataset], names: list[str], labels: dict[str, list[Any]]
) -> xr.Variable:
    shape = tuple(len(labels[dim]) for dim in variable.dims)
    dtype = object if variable.is_text else np.dtype(variable.dtype)
    values = np.full(shape, variable.fill if variable.fill is not None else 0, dtype=dtype)
    origin = np.full(shape, -1, np.int32)
    for number, part in enumerate(parts):
        where = _places(
            [
                [labels[dim].index(label) for label in part.variables[dim].values.tolist()]
                for dim in variable.dims
            ]
        )
        new = part.variables[name].values
        present = np.ones(new.shape, dtype=bool) if variable.fill is None else ~_same(new, variable.fill)
        if (origin[where] < 0).all():  # nothing here yet, as between shards of one run
            values[where] = new
            origin[where] = np.where(present, number, -1)
            continue
        clash = present & (origin[where] >= 0) & ~_same(new, values[where])
        if clash.any() and name not in TIMINGS:
            other = names[int(origin[where][clash][0])]
            raise StudyError(
                f"{other} and {names[number]} disagree about '{name}' of one place; keep the one "
                "that is right and move the other away, or make both again."
            )
        take = present & (origin[where] < 0)
        values[where] = np.where(take, new, values[where])
        origin[where] = np.where(take, number, origin[where])
    return xr.Variable(variable.dims, values)


def _places(indices: list[list[int]]) -> Any:
    """What picks the product of some indices: slices where all follow each other, which copy nothing."""
    if all(index == list(range(index[0], index[-1] + 1)) for index in indices if index):
        return tuple(slice(index[0], index[-1] + 1) if index else slice(0, 0) for index in indices)
    return np.ix_(*indices)


def _same(a: Any, b: Any) -> np.ndarray[Any, Any]:
    """Where two arrays are equal, NaN being equal to NaN."""
    a, b = np.asarray(a), np.asarray(b)
    equal = np.asarray(a == b)
    if a.dtype.kind == "f" and b.dtype.kind == "f":
        equal = equal | (np.isnan(a) & np.isnan(b))
    return equal


def _attributes(parts: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    first = dict(parts[0])
    united = json.loads(first["parameters"])
    if "samples" in united:
        united["samples"] = _samples(parts)
    for part, name in zip(parts[1:], names[1:], strict=True):
        for key in first:
            if key not in ("title", "parameters") and part.get(key) != first[key]:
                raise StudyError(
                    f"{names[0]} and {name} disagree about the attribute '{key}'; are both of one run?"
                )
        other = json.loads(part["parameters"])
        for key in united.keys() | other.keys():
            if key in _UNITED:
                united[key] = united.get(key, []) + [
                    x for x in other.get(key, []) if x not in united.get(key, [])
                ]
            elif united.get(key) != other.get(key) and key != "samples":
                raise StudyError(
                    f"{names[0]} and {name} disagree about the parameter '{key}'; make the one that is out "
                    "of date again, or move it away."
                )
    united["lengths"] = sorted(united.get("lengths", []))
    if len(parts) > 1:
        first["title"] = f"{first['experiment']}: run {first['run']}"
    return first | {"parameters": json.dumps(united)}


def _samples(parts: list[dict[str, Any]]) -> int | dict[str, int]:
    """The number of samples of a run, or one for each length, as run files have it.

    Parts of one length may differ while a run is extended, one part after the other.
    """
    most: dict[str, int] = {}
    for part in parts:
        asked = json.loads(part["parameters"])
        for length in asked["lengths"]:
            most[str(length)] = max(asked["samples"], most.get(str(length), 0))
    return most if len(set(most.values())) > 1 else next(iter(most.values()))
