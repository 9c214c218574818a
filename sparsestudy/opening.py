"""Datasets read from their files: one shard, a run, a whole study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.merging import merge
from sparsestudy.schema import COSTS, SCHEMA, SCHEMA_VERSION
from sparsestudy.validation import tidy, validate

# What netCDF4 and xarray raise on damaged files.
_UNREADABLE = (OSError, RuntimeError, ValueError, AttributeError, KeyError, TypeError)


READING: dict[str, Any] = {
    "engine": "netcdf4",
    "mask_and_scale": False,
    "decode_times": False,
    "decode_timedelta": False,
}
"""How files are read: values as they were stored."""


def _with_fills(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """The dataset with variables that it did not have, empty."""
    for name in names:
        variable = SCHEMA[name]
        shape = tuple(dataset.sizes[dim] for dim in variable.dims)
        dtype = object if variable.is_text else variable.dtype
        dataset[name] = (variable.dims, np.full(shape, variable.fill, dtype=dtype))
    return dataset


def _without_diagnostics(dataset: xr.Dataset) -> xr.Dataset:
    """Version 1 knew nothing of layers and heads, of controls beside a method, and of calibration."""
    empty = {"layer": np.zeros(0, "int16"), "head": np.zeros(0, "int16")}
    dataset = dataset.assign_coords(empty)
    dataset = dataset.assign_coords(method_like=("method", [""] * dataset.sizes["method"]))
    return _with_fills(dataset, "selection_seconds", "head_density", "notes", "calibrated_density")


def _without_contexts(dataset: xr.Dataset) -> xr.Dataset:
    """Version 2 had full contexts alone, one chance level for all lengths, and all fields of a task."""
    if "task_chance" not in dataset.variables:
        return dataset
    chance = dataset["task_chance"].values.astype("float32")
    shape = (dataset.sizes["model"], dataset.sizes["length"], len(chance))
    dataset["chance"] = (SCHEMA["chance"].dims, np.broadcast_to(chance, shape).copy())
    given = [
        json.dumps({key: value for key, value in json.loads(fields).items() if f"-{key}_" in label})
        for label, fields in zip(dataset["task"].values, dataset["task_fields"].values, strict=True)
    ]
    dataset = dataset.assign_coords(
        task_context=("task", ["full"] * len(chance)), task_fields=("task", given)
    )
    return dataset.drop_vars("task_chance")


def _without_costs(dataset: xr.Dataset) -> xr.Dataset:
    """Version 3 knew nothing of costs, and each of its samples stood in a text of its own."""
    if "task" not in dataset.dims:
        return dataset
    dataset = dataset.assign_coords(generated=np.zeros(0, "int32"), batch=np.zeros(0, "int16"))
    return _with_fills(dataset, *COSTS, "document")


# From a schema version to the function that turns such a dataset into one of the next version.
MIGRATIONS: dict[int, Callable[[xr.Dataset], xr.Dataset]] = {
    1: _without_diagnostics,
    2: _without_contexts,
    3: _without_costs,
}


def open_shard(path: Path, without: tuple[str, ...] = ()) -> xr.Dataset:
    """One dataset file, checked, in memory.

    Args:
        path: of the file.
        without: variables that are not read.

    Raises:
        StudyError: the file cannot be read, is no dataset of this study, or was made by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"There is no dataset {paths.shown(path)}.")
    try:
        with xr.open_dataset(path, drop_variables=without, **READING) as opened:
            dataset = opened.load()
    except _UNREADABLE as error:
        raise StudyError(
            f"{paths.shown(path)} cannot be read as netCDF ({_first_line(error)}); restore it from git, or "
            "move it away and run again."
        ) from error
    version = dataset.attrs.get("schema_version")
    if not isinstance(version, int | np.integer):
        raise StudyError(
            f"{paths.shown(path)} is not a dataset of this study (it has no schema_version); move it out of "
            "results/."
        )
    try:
        dataset = tidy(_migrated(dataset, int(version)))
        validate(dataset, without)
    except StudyError as error:
        raise StudyError(f"{paths.shown(path)}: {error}") from error
    return dataset


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _migrated(dataset: xr.Dataset, version: int) -> xr.Dataset:
    if version > SCHEMA_VERSION:
        raise StudyError(
            f"its schema_version {version} is newer than {SCHEMA_VERSION}, the newest that this version of "
            "sparsestudy reads; update the checkout."
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise StudyError(
                f"its schema_version {version} is older than any that can be read; make it again."
            )
        dataset = MIGRATIONS[version](dataset)
        version += 1
        dataset.attrs["schema_version"] = version
    return dataset


def open_run(folder: Path, without: tuple[str, ...] = ()) -> xr.Dataset:
    """All datasets of one run, merged; places that no file covers hold fills and ``not_run``.

    Args:
        folder: of the run.
        without: variables that are not read.

    Raises:
        StudyError: there is none, one cannot be read or is foreign, or two disagree.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.nc"))
    if not files:
        raise StudyError(f"There is no dataset in {paths.shown(folder)}.")
    datasets = [open_shard(file, without) for file in files]
    for file, dataset in zip(files, datasets, strict=True):
        _check_place(file, dataset)
    return merge(datasets, [paths.shown(file) for file in files])


def _check_place(file: Path, dataset: xr.Dataset) -> None:
    """A dataset lies where its run lies, under the name that says what it holds."""
    expected = [
        f"{dataset.attrs['experiment']}/{dataset.attrs['run']}/{model}-{length}.nc"
        for model in dataset["model"].values
        for length in dataset["length"].values
    ]
    actual = "/".join(file.parts[-3:])
    if expected != [actual]:
        raise StudyError(
            f"{paths.shown(file)} holds {' and '.join(expected)} and does not belong there; move it away."
        )


def run_folders(experiment: str, published: bool = True) -> dict[str, Path]:
    """The folders of an experiment that hold a dataset, by run name.

    The scratch run ``notebook`` is left out, which every notebook that is started by hand without a name
    overwrites.

    Raises:
        StudyError: a file belongs to no run.
    """
    folder = paths.results(published) / experiment
    stray = sorted(folder.glob("*.nc"))
    if stray:
        raise StudyError(f"{paths.shown(stray[0])} belongs to no run; move it out of results/.")
    runs = [run for run in sorted(folder.glob("*/")) if run.name != paths.SCRATCH and any(run.glob("*.nc"))]
    return {run.name: run for run in runs}


def open_study(experiment: str, published: bool = True) -> dict[str, xr.Dataset]:
    """The merged datasets of an experiment by run name.

    Raises:
        StudyError: a file cannot be read or is foreign, or two files of one run disagree.
    """
    return {name: open_run(folder) for name, folder in run_folders(experiment, published).items()}


def open_local(experiment: str) -> dict[str, xr.Dataset]:
    """The merged datasets of the smoke run and of the user's own runs, by run name."""
    return open_study(experiment, published=False)
