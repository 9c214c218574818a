"""The samples of a run for the pages: merged once, kept in a file, read from it where they are asked for.

A run over many models, lengths and tasks has tens of millions of samples. Each page is a process of its own,
and none needs all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsestudy import forms
from sparsestudy.dataset import content_hash, open_run
from sparsestudy.derived import kept, kept_file
from sparsestudy.opening import READING

if TYPE_CHECKING:
    import xarray as xr

REPLIES = ("reply",)
"""Most of the bytes of a run, which no page shows."""
_LARGE = 100_000
"""Values above which a variable is compressed."""


def samples(folder: Path, files: str) -> xr.Dataset:
    """The samples of the run in a folder, without the texts of replies.

    Args:
        folder: of the run.
        files: a hash of its files.

    Raises:
        StudyError: a file cannot be read or is foreign, or two disagree.
    """
    import xarray as xr

    name = "-".join(folder.absolute().parts[-3:])

    def write(path: Path) -> None:
        data = open_run(folder, REPLIES)
        kept(f"hash-{name}", forms.plain(str), lambda: content_hash(data, REPLIES), files)
        data.to_netcdf(path, engine="netcdf4", encoding={n: _encoding(v) for n, v in data.variables.items()})

    file = kept_file(f"samples-{name}", "nc", write, files)
    if file is None:
        return open_run(folder, REPLIES)
    opened = xr.open_dataset(file, **READING).drop_encoding()
    return opened.assign_coords({name: opened[name].load() for name in opened.coords})


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """Fast to read, a model and length at a time."""
    if variable.dtype == object:
        return {}
    if variable.size < _LARGE:
        return {"_FillValue": None}
    chunks = [
        1 if dim in ("model", "length") else size
        for dim, size in zip(variable.dims, variable.shape, strict=True)
    ]
    return {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks, "_FillValue": None}
