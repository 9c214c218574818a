"""Does a dataset keep to the schema? Each breach is one sentence that names the variable."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy.errors import StudyError
from sparsestudy.experiments import schema_of
from sparsestudy.schema import (
    ATTRIBUTES,
    COSTS,
    FELL_BACK_DENSE,
    OK,
    REPLY_BYTES,
    SCHEMA_VERSION,
    UNREACHABLE,
    Schema,
    Variable,
)

# Measurements are stored in single precision, where a sum of shares may end a little above 1.
_ROUNDING = 1e-5


def tidy(dataset: xr.Dataset, schema: Schema | None = None) -> xr.Dataset:
    """The same data in the schema's form: order, types where nothing is lost, attributes, text as objects.

    Variables that the schema does not know are kept, so that :func:`validate` can name them.

    Args:
        dataset: the data.
        schema: for data that does not say yet of which experiment it is; else that experiment's is taken.
    """
    schema = schema or schema_of(dataset)
    known_variables = schema.variables
    variables: dict[str, Any] = {}
    for name in [*known_variables, *(str(n) for n in dataset.variables if n not in known_variables)]:
        if name not in dataset.variables:
            continue
        variable = dataset.variables[name]
        expected = known_variables.get(name)
        if expected is None:
            variables[name] = variable
            continue
        values = np.asarray(variable.values)
        if expected.is_text and values.dtype.kind in "UOT":
            values = values.astype(object)
        elif not expected.is_text and values.dtype.kind in "biuf":
            values = _cast(values, np.dtype(expected.dtype))
        variables[name] = xr.Variable(variable.dims, values, expected.attributes())
    coordinates = {name: variables.pop(name) for name in schema.coordinates if name in variables}
    known = [name for name in ATTRIBUTES if name in dataset.attrs]
    attributes = {
        name: value.item() if isinstance(value := dataset.attrs[name], np.generic) else value
        for name in [*known, *(name for name in dataset.attrs if name not in ATTRIBUTES)]
    }
    return xr.Dataset(variables, coords=coordinates, attrs=attributes)


def _cast(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Change the type where every value survives it; floats may lose digits."""
    if values.dtype == dtype:
        return values
    if dtype.kind == "f":
        return values.astype(dtype)
    with np.errstate(invalid="ignore"):
        changed: np.ndarray[Any, Any] = values.astype(dtype)
    return changed if np.array_equal(changed, values) else values


def validate(dataset: xr.Dataset, without: Collection[str] = ()) -> None:
    """Check a dataset against the schema.

    Args:
        dataset: what to check.
        without: variables that were not read.

    Raises:
        StudyError: a variable or attribute is missing, unknown, or holds what the schema excludes.
    """
    schema = schema_of(dataset)
    for name in schema.variables:
        if name not in dataset.variables and name not in without:
            raise StudyError(f"the variable '{name}' is missing.")
    unknown = [str(name) for name in dataset.variables if name not in schema.variables]
    if unknown:
        raise StudyError(f"the variable '{unknown[0]}' is unknown to the schema.")
    for name, expected in schema.variables.items():
        if name in dataset.variables:
            _check_variable(name, expected, dataset.variables[name])
    for dim in schema.dims:
        _check_index(dim, dataset.variables[dim].values, dim in schema.may_be_empty)
    _check_cells(dataset, schema.measured)
    _check_attributes(dataset.attrs)


def _check_variable(name: str, expected: Variable, actual: xr.Variable) -> None:
    if actual.dims != expected.dims:
        raise StudyError(f"the variable '{name}' has dimensions {actual.dims}; expected {expected.dims}.")
    values = actual.values
    if expected.is_text:
        _check_text(name, expected, values)
        return
    if values.dtype != np.dtype(expected.dtype):
        raise StudyError(f"the variable '{name}' holds {values.dtype}; expected {expected.dtype}.")
    if expected.bounds is None:
        return
    low, high = expected.bounds
    slack = _ROUNDING if values.dtype.kind == "f" else 0
    filled = _is_fill(values, expected)
    wrong = ~filled & ~((values >= low - slack) & (values <= high + slack))
    if wrong.any():
        raise StudyError(f"the variable '{name}' holds {values[wrong][0]}; allowed are {low:g} to {high:g}.")


def _is_fill(values: np.ndarray[Any, Any], variable: Variable) -> Any:
    if variable.fill is None:
        return np.zeros(values.shape, dtype=bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.asarray(values == variable.fill)


def _check_text(name: str, expected: Variable, values: np.ndarray[Any, Any]) -> None:
    # Most texts come again and again.
    for value in dict.fromkeys(values.ravel().tolist()):
        if not isinstance(value, str):
            raise StudyError(f"the variable '{name}' holds {value!r}, which is not text.")
        if expected.choices and value and value not in expected.choices:
            raise StudyError(
                f"the variable '{name}' holds {value!r}; choose among {', '.join(expected.choices)}."
            )
        if expected.dtype != "bytes":
            continue
        if "\0" in value or len(value.encode("utf-8", errors="replace")) > REPLY_BYTES:
            raise StudyError(
                f"the variable '{name}' holds text with a zero byte or above {REPLY_BYTES} bytes; clip it."
            )


def _check_index(dim: str, values: np.ndarray[Any, Any], may_be_empty: bool) -> None:
    items = values.tolist()
    if not items and not may_be_empty:
        raise StudyError(f"the dimension '{dim}' is empty.")
    if len(set(items)) != len(items):
        raise StudyError(f"the coordinate '{dim}' names something twice.")
    if values.dtype.kind == "i" and items != sorted(items):
        raise StudyError(f"the coordinate '{dim}' is not in rising order.")


def _check_cells(dataset: xr.Dataset, measured: str) -> None:
    status = dataset.variables["status"].values
    ran = np.isin(status, (OK, FELL_BACK_DENSE))
    has_value = np.isfinite(dataset.variables[measured].values).reshape(*status.shape, -1).any(axis=-1)
    if (has_value & ~ran).any():
        raise StudyError(f"the variable '{measured}' has a value where the status says that nothing ran.")
    if (ran & ~has_value).any():
        raise StudyError(f"the variable '{measured}' is empty where the status says that the cell ran.")
    if (
        "lowest_density" in dataset.variables
        and (np.isfinite(dataset.variables["lowest_density"].values) & (status != UNREACHABLE)).any()
    ):
        raise StudyError("the variable 'lowest_density' has a value where the status is not unreachable.")
    if "request_flops" in dataset.variables:
        _check_costs(dataset, ran)
    if "evidence_start" not in dataset.variables:
        return
    start, stop = (dataset.variables[f"evidence_{end}"].values for end in ("start", "stop"))
    if ((stop < start) | ((start < 0) != (stop < 0))).any():
        raise StudyError("the variable 'evidence_stop' lies before 'evidence_start'.")


def _check_costs(dataset: xr.Dataset, ran: Any) -> None:
    for name in COSTS:
        values = dataset.variables[name].values
        if np.isfinite(values[~ran]).any():
            raise StudyError(f"the variable '{name}' has a value where the status says that nothing ran.")
    prefill, decode, request = (
        dataset.variables[f"{part}_flops"].values for part in ("prefill", "decode", "request")
    )
    whole = prefill[..., None] + decode
    if not np.allclose(request, whole, rtol=_ROUNDING, atol=0, equal_nan=True):
        raise StudyError("the variable 'request_flops' is not the sum of 'prefill_flops' and 'decode_flops'.")


def _check_attributes(attributes: dict[str, Any]) -> None:
    for name in ATTRIBUTES:
        if name not in attributes:
            raise StudyError(f"the attribute '{name}' is missing.")
    if attributes["schema_version"] != SCHEMA_VERSION:
        raise StudyError(f"the attribute 'schema_version' is not {SCHEMA_VERSION}.")
    try:
        parameters = json.loads(attributes["parameters"])
    except (TypeError, ValueError):
        raise StudyError("the attribute 'parameters' is not JSON.") from None
    if not isinstance(parameters, dict):
        raise StudyError("the attribute 'parameters' is not a JSON mapping.")
