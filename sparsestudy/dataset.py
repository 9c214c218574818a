"""Datasets: made, checked, saved, opened, merged, compared.

In memory every integer stays an integer: a place without a value holds the variable's fill (-1, or
``not_run`` for the status), text is ``""`` and measurements are NaN. On disk the file is netCDF4 with CF
attributes. One file is one shard, that is one model at one length; :func:`open_run` gives all of them.

Select methods by a mapping, ``dataset.sel({"method": "quest"})``: ``method=`` is an option of ``sel`` itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.experiments import experiment, schema_of
from sparsestudy.merging import merge
from sparsestudy.opening import MIGRATIONS, open_local, open_run, open_shard, open_study
from sparsestudy.schema import (
    ACCURACY,
    CONVENTIONS,
    NOT_RUN,
    REPLY_BYTES,
    SCHEMA,
    SCHEMA_VERSION,
    STATUS,
    TIMINGS,
    Schema,
    Variable,
)
from sparsestudy.validation import tidy, validate

if TYPE_CHECKING:
    from sparsestudy.shards import Shard

__all__ = [
    "MIGRATIONS",
    "NOT_RUN",
    "SCHEMA",
    "STATUS",
    "attributes",
    "blank",
    "clip_reply",
    "content_hash",
    "differences",
    "equal",
    "merge",
    "open_local",
    "open_run",
    "open_shard",
    "open_study",
    "save",
    "stamp",
    "validate",
]


def blank(coordinates: Mapping[str, Any], schema: Schema = ACCURACY) -> xr.Dataset:
    """A dataset of the schema with the given coordinates and the fill value everywhere else.

    Args:
        coordinates: the values of every coordinate of the schema, by name; one that describes a
            dimension has the length of that dimension.
        schema: what the dataset shall hold.

    Raises:
        StudyError: a coordinate is missing or unknown.
    """
    missing = sorted(set(schema.coordinates) - set(coordinates))
    if missing:
        raise StudyError(f"The coordinates {', '.join(missing)} are missing; give all of the schema's.")
    variables = schema.variables
    sizes = {dim: len(coordinates[dim]) for dim in schema.dims}
    dataset = xr.Dataset(
        coords={name: (variables[name].dims, list(coordinates[name])) for name in coordinates}
    )
    for name, variable in variables.items():
        if variable.coordinate:
            continue
        dtype = object if variable.is_text else variable.dtype
        shape = tuple(sizes[dim] for dim in variable.dims)
        dataset[name] = (variable.dims, np.full(shape, variable.fill, dtype=dtype))
    return tidy(dataset, schema)


def clip_reply(text: str) -> str:
    """The beginning of a reply that fits into the file: at most 96 bytes of UTF-8, whole characters."""
    plain = text.replace("\0", "\ufffd").encode("utf-8", errors="replace")
    return plain[:REPLY_BYTES].decode("utf-8", errors="ignore")


def stamp(dataset: xr.Dataset, shard: Shard) -> xr.Dataset:
    """Add what identifies the dataset: attributes, commit, versions and the staleness key.

    Args:
        dataset: one shard's data, from :func:`blank`, filled in; the key follows the backends it records.
        shard: the shard that it belongs to.
    """
    from sparsestudy import provenance
    from sparsestudy.staleness import recorded, shard_key

    stamped = dataset.copy()
    variables = experiment(shard.run.experiment).schema.variables
    for name, text in {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "key": json.dumps(shard_key(shard, recorded(dataset)), sort_keys=True),
    }.items():
        stamped[name] = (variables[name].dims, np.full((1, 1), text, dtype=object))
    stamped.attrs = attributes(shard)
    return stamped


def attributes(shard: Shard) -> dict[str, Any]:
    """The attributes of a shard's dataset."""
    run = shard.run
    return {
        "title": f"{run.experiment}: {shard.model} at {shard.length} tokens, run {run.run}",
        "Conventions": CONVENTIONS,
        "schema_version": SCHEMA_VERSION,
        "experiment": run.experiment,
        "run": run.run,
        "published": int(run.published),
        "parameters": json.dumps(shard.parameters.plain()),
        "licence": "Apache-2.0",
    }


def _encoding(name: str, variable: Variable) -> dict[str, Any]:
    if variable.dtype == "str":
        return {"dtype": str}
    if variable.dtype == "bytes":
        return {"dtype": "S1", "char_dim_name": f"{name}_bytes", "zlib": True, "fletcher32": True}
    encoding: dict[str, Any] = {"dtype": variable.dtype, "_FillValue": variable.fill}
    if not variable.coordinate:
        # The checksum makes a flipped bit an error instead of another number.
        encoding |= {"zlib": True, "complevel": 5, "shuffle": True, "fletcher32": True}
    return encoding


def save(dataset: xr.Dataset, path: Path) -> None:
    """Check a dataset and write it, whole or not at all.

    The file is made in memory and then takes the place of the old one in one step.

    Raises:
        StudyError: the dataset breaks the schema, or the file cannot be written; the old one is intact.
    """
    dataset = tidy(dataset)
    validate(dataset)
    encoding = {name: _encoding(name, variable) for name, variable in schema_of(dataset).variables.items()}
    data = dataset.to_netcdf(engine="netcdf4", format="NETCDF4", encoding=encoding)
    try:
        paths.write_bytes(Path(path), data)
    except OSError as error:
        raise StudyError(
            f"{paths.shown(Path(path))} could not be written ({error.strerror or error}); it needs "
            f"{len(data) / 1e6:.1f} MB, and whatever stood there before is intact: make room and run again."
        ) from error


def equal(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether two datasets hold the same, timings apart."""
    return not differences(a, b)


def differences(a: xr.Dataset, b: xr.Dataset) -> list[str]:
    """The variables and attributes in which two datasets differ, timings apart."""
    one, other = _parts(a), _parts(b)
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def content_hash(dataset: xr.Dataset, without: tuple[str, ...] = ()) -> str:
    """A hash of everything in a dataset but the timings and some variables: 32 hexadecimal digits."""
    parts = json.dumps(_parts(dataset.drop_vars(without, errors="ignore")), sort_keys=True)
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _parts(dataset: xr.Dataset) -> dict[str, str]:
    """A hash of each variable, timings apart, and each attribute in words."""
    dataset = tidy(dataset)
    parts = {f"attribute {name}": json.dumps(value, default=str) for name, value in dataset.attrs.items()}
    for name, variable in dataset.variables.items():
        if name in TIMINGS:
            continue
        values = variable.values
        shape = json.dumps([variable.dims, variable.shape, str(values.dtype)])
        data = json.dumps(values.tolist()).encode() if values.dtype == object else values.tobytes()
        parts[str(name)] = hashlib.blake2b(shape.encode() + data, digest_size=16).hexdigest()
    return parts
