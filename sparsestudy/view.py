"""A run as pages and figures look at it: its samples, its cells, and its hash, each computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sparsestudy import tables
from sparsestudy.cells import summarise
from sparsestudy.dataset import content_hash

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

HASH_DIGITS = 12


@dataclass(frozen=True)
class Run:
    """One run as the pages use it.

    Args:
        name: of the run.
        data: its samples.
    """

    name: str
    data: xr.Dataset

    @cached_property
    def summary(self) -> xr.Dataset:
        """Its cells."""
        return summarise(self.data)

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
        """Hash of its data, timings apart, as quoted when it is cited."""
        return content_hash(self.data)[:HASH_DIGITS]

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
