"""A run as pages and figures look at it: its samples, its cells, and its hash, each computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sparsestudy import forms, tables
from sparsestudy.cells import summarise
from sparsestudy.dataset import content_hash
from sparsestudy.derived import kept
from sparsestudy.forms import Form
from sparsestudy.samples import REPLIES, samples

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

HASH_DIGITS = 12
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run as the pages use it.

    Args:
        name: of the run.
        data: its samples, read from disk where they are asked for; texts of replies stay in their files.
        files: a hash of the files that it was read from; without one nothing that is derived from it is kept.
    """

    name: str
    data: xr.Dataset
    files: str = ""

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run whose datasets lie in a folder.

        Raises:
            StudyError: a file cannot be read or is foreign, or two disagree.
        """
        found = hashlib.blake2b(digest_size=16)
        for file in sorted(folder.glob("*.nc")):
            found.update(f"{'/'.join(file.parts[-3:])}\n".encode() + file.read_bytes())
        data = samples(folder, found.hexdigest())
        return cls(folder.name, data, found.hexdigest())

    def keep(self, what: str, form: Form[T], make: Callable[[], T], *decisive: str) -> T:
        """What ``make`` returns, computed once for these files (see `sparsestudy.derived`).

        Args:
            what: names the value among those of this run, without dots.
            form: how it is written and read.
            make: computes it.
            decisive: whatever it depends on beside the run and the code.
        """
        if not self.files:
            return make()
        kind = "results" if self.data.attrs["published"] else "local"
        name = f"{what}-{kind}-{self.data.attrs['experiment']}-{self.name}"
        return kept(name, form, make, self.files, *decisive)

    @cached_property
    def summary(self) -> xr.Dataset:
        """Its cells."""
        return self.keep("cells", forms.DATASET, lambda: summarise(self.data))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Its cells, one a row."""
        return tables.tidy(self.summary).assign(run=self.name)

    @property
    def sparse(self) -> bool:
        """Whether it holds any sparse attention, and not dense attention alone."""
        return bool((self.data["method_role"] != "dense").any())

    @cached_property
    def hash(self) -> str:
        """Hash of its data, timings and texts of replies apart, as quoted when it is cited."""
        whole = self.keep("hash", forms.plain(str), lambda: content_hash(self.data, REPLIES))
        return str(whole)[:HASH_DIGITS]

    def subjects(self) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """(model, task, rows) for each pair that has any cell."""
        for (model, task), rows in self.table.groupby(["model", "task"], sort=False):
            yield str(model), str(task), rows.reset_index(drop=True)


@dataclass(frozen=True)
class Measured:
    """A run with what a page derives from it, which every part of the page then reads.

    Args:
        run: the run.
        rows: a table of what was derived.
    """

    run: Run
    rows: pd.DataFrame
