"""What a method chose, watched while it runs and reduced to a picture: attended pairs in each cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sparsestudy.methods.base import Chosen, Context, Method

# Queries whose mask is held at a time; a multiple of every size of query blocks.
CHUNK = 512
Counts = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Grid:
    """How the pairs of a picture fall into its cells.

    Args:
        first: position of the first query: 0 in prefill, the prefilled tokens in decode.
        queries: queries or steps; 1 for an eviction.
        keys: tokens up to and including the last query; those of the prompt for an eviction.
        cells: most cells along a side.
    """

    first: int
    queries: int
    keys: int
    cells: int

    @property
    def row_size(self) -> int:
        """Queries or steps in a row."""
        return -(-self.queries // self.cells)

    @property
    def column_size(self) -> int:
        """Keys in a column."""
        return -(-self.keys // self.cells)

    def available(self) -> Counts:
        """Causal pairs in each cell, int64 ``(cells, cells)``; an eviction has those of its one row."""
        position = self.first + np.arange(self.queries)[:, None]
        start = self.column_size * np.arange(self.cells)
        size = np.clip(self.keys - start, 0, self.column_size)
        pairs = np.zeros((self.cells, self.cells), dtype=np.int64)
        np.add.at(pairs, np.arange(self.queries) // self.row_size, np.clip(position + 1 - start, 0, size))
        return pairs

    def summed(self, mask: Tensor, query: int) -> Counts:
        """Attended pairs by head, row and column, int64 ``(heads, cells, cells)``.

        Args:
            mask: attended pairs of some queries, bool ``(heads, queries, keys)``.
            query: number of the first of them.
        """
        room = self.cells * self.column_size - mask.shape[2]
        columns = torch.nn.functional.pad(mask, (0, room)).unflatten(2, (self.cells, -1)).sum(3)
        pairs = np.zeros((self.cells, mask.shape[0], self.cells), dtype=np.int64)
        rows = (query + np.arange(mask.shape[1])) // self.row_size
        np.add.at(pairs, rows, columns.transpose(0, 1).cpu().numpy())
        return pairs.swapaxes(0, 1)


@dataclass(frozen=True)
class Watched(Method):
    """Does what another method does, and counts what it attends in some layers and heads.

    Args:
        method: which one.
        grid: of the pictures.
        layers: layers to watch.
        heads: query heads to watch.
        query_heads: how many there are.
        seen: attended pairs of each watched layer, int64 ``(heads, cells, cells)``; filled while it runs.
    """

    name: ClassVar[str] = "watched"

    phase: Any = field(default="none", init=False)
    method: Method
    grid: Grid
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    query_heads: int
    seen: dict[int, Counts] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Take over phase and scope."""
        object.__setattr__(self, "phase", self.method.phase)
        object.__setattr__(self, "scope", self.method.scope)

    @property
    def evicts(self) -> bool:
        """See :attr:`Method.evicts`."""
        return self.method.evicts

    @property
    def row_by_row(self) -> bool:
        """See :attr:`Method.row_by_row`."""
        return self.method.row_by_row

    @property
    def observed(self) -> int:
        """See :attr:`Method.observed`."""
        return self.method.observed

    @property
    def question_aware(self) -> bool:
        """See :attr:`Method.question_aware`."""
        return self.method.question_aware

    def metadata_read(self, lengths: Tensor) -> Tensor:
        """See :meth:`Method.metadata_read`."""
        return self.method.metadata_read(lengths)

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.prefill`; rows of one prompt."""
        chosen = self.method.prefill(q, k, context)
        if context.layer in self.layers:
            for start in range(0, self.grid.queries, CHUNK):
                queries = slice(start, min(start + CHUNK, self.grid.queries))
                self._count(context.layer, self._mask(chosen, queries, 0, q.device), start)
        return chosen

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.decode`; one row."""
        chosen = self.method.decode(q, k, context)
        if context.layer in self.layers:
            step = int(context.lengths[0] - context.prefilled[0]) - 1
            position = int(context.lengths[0]) - 1
            self._count(context.layer, self._mask(chosen, slice(0, 1), position, q.device), step)
        return chosen

    def evict(self, q: Tensor, k: Tensor, context: Context) -> Tensor | None:
        """See :meth:`Method.evict`; one row."""
        kept = self.method.evict(q, k, context)
        if context.layer in self.layers:
            shown = torch.ones(1, 1, k.shape[2], dtype=torch.bool) if kept is None else kept
            self._count(context.layer, self._drawn(shown)[:, None], 0)
        return kept

    def _mask(self, chosen: Chosen | None, queries: slice, first: int, device: torch.device) -> Tensor:
        """Attended pairs of the watched heads, bool ``(heads, queries, keys)``; None attends every pair."""
        if chosen is not None:
            return self._drawn(chosen.mask(queries, self.grid.keys))
        position = first + torch.arange(queries.start, queries.stop, device=device)
        causal = torch.arange(self.grid.keys, device=device) <= position[:, None]
        return causal.expand(len(self.heads), -1, -1)

    def _drawn(self, values: Tensor) -> Tensor:
        """The watched heads of the first row ``(batch, heads, ...)``; a shared choice is each head's."""
        own = [head * values.shape[1] // self.query_heads for head in self.heads]
        return values[0, own]

    def _count(self, layer: int, mask: Tensor, query: int) -> None:
        self.seen[layer] = self.seen.get(layer, 0) + self.grid.summed(mask, query)
