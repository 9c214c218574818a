"""Which keys each query attends: the one value that passes between choosing and computing.

A selection lives in *real* coordinates: token 0 of a row is its first real token, whatever padding
stands before it, so a padded row and the same row alone have the same selection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What every form of selection knows about its queries, and the one definition of density.

    Args:
        query_block: queries that choose together. Query block ``i`` holds the queries
            ``first_query + i * query_block`` and on.
        first_query: position of query 0, int ``(batch,)``: 0 in prefill, the cache length in decode.
        lengths: real tokens up to and including the last query, int ``(batch,)``.
    """

    query_block: int
    first_query: Tensor
    lengths: Tensor

    def available(self) -> Tensor:
        """Causal (query, key) pairs, int64 ``(batch, 1)``."""
        total = self.lengths * (self.lengths + 1) // 2
        return (total - self.first_query * (self.first_query + 1) // 2)[:, None]

    def attended(self) -> Tensor:
        """Attended (query, key) pairs, int64 ``(batch, heads)``."""
        raise NotImplementedError

    def computed(self) -> Tensor:
        """Pairs a tiled kernel computes, masked-out parts of tiles included, int64 ``(batch, heads)``."""
        return self.attended()

    def density(self) -> Tensor:
        """Attended density, float64 ``(batch, heads)``: attended pairs / causal pairs."""
        return self.attended().double() / self.available().double()

    def mask(self, queries: slice, keys: int) -> Tensor:
        """The attended pairs of some queries, bool ``(batch, heads, queries, keys)``, True = attended."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class RowSelection(Counted):
    """A selection that is made row by row when it is asked for, so that nothing n x n is ever held.

    Args:
        rows: ``(queries, keys)`` -> bool mask ``(batch, heads, queries, keys)``.
        pairs: attended pairs, int64 ``(batch, heads)``.
    """

    rows: Callable[[slice, int], Tensor]
    pairs: Tensor

    @staticmethod
    def of_step(kept: Tensor, lengths: Tensor) -> RowSelection:
        """The selection of one decode step that reads the tokens of a mask.

        Args:
            kept: bool ``(batch, heads, tokens)``.
            lengths: real tokens of each row, the new one included, int ``(batch,)``.
        """
        return RowSelection(
            rows=lambda queries, keys: kept[:, :, None, :keys],
            pairs=kept.sum(-1),
            query_block=1,
            first_query=lengths - 1,
            lengths=lengths,
        )

    @property
    def heads(self) -> int:
        """Heads that choose on their own."""
        return self.pairs.shape[1]

    def attended(self) -> Tensor:
        """See :meth:`Counted.attended`."""
        return self.pairs

    def mask(self, queries: slice, keys: int) -> Tensor:
        """See :meth:`Counted.mask`."""
        return self.rows(queries, keys)


@dataclass(frozen=True, kw_only=True)
class Selection(Counted):
    """Key ranges, then single columns, per block of queries; a query attends those that are not later.

    Laws (tested for every method): causal, the ranges and columns of a query block are disjoint, a column
    is earlier than every query of its block, and every query keeps at least one key. The batch and heads
    axes may be 1, which stands for all.

    Args:
        starts: first key of each range, int ``(batch, heads, query blocks, ranges)``.
        widths: keys in each range, same shape; 0 is an unused slot.
        columns: single keys that all queries of a block attend, int ``(batch, heads, query blocks,
            columns)``; -1 is an unused slot. None where there are none.
    """

    starts: Tensor
    widths: Tensor
    columns: Tensor | None = None

    @property
    def heads(self) -> int:
        """Heads that choose on their own: 1, the KV heads, or the query heads."""
        return self.starts.shape[1]

    def mask(self, queries: slice, keys: int) -> Tensor:
        """The attended pairs as a boolean tensor, True = attended.

        Args:
            queries: query indices, a slice that starts at a multiple of ``query_block``.
            keys: number of keys, counted from token 0.

        Returns:
            bool ``(batch, heads, queries, keys)``; the memory is that of the slice, so a caller who
            never asks for all queries never holds an n x n tensor.
        """
        if queries.start % self.query_block:
            raise ValueError(f"queries must start at a multiple of {self.query_block}, not {queries.start}")
        block = slice(queries.start // self.query_block, -(-queries.stop // self.query_block))
        starts = self.starts[:, :, block].clamp(0, keys)
        stops = (self.starts + self.widths)[:, :, block].clamp(0, keys)
        if self.columns is not None:
            columns = self.columns[:, :, block]
            # An unused column begins and ends at 0, which adds nothing.
            starts = torch.cat([starts, columns.clamp(0, keys)], -1)
            stops = torch.cat([stops, (columns + 1).clamp(0, keys)], -1)
        # +1 where a range begins and -1 where it ends, then a running sum: disjoint ranges give 0 or 1.
        # Cost is O(rows * keys + ranges) whatever the number of ranges (256 at 4k with 16-token blocks).
        edges = torch.zeros(*starts.shape[:3], keys + 1, dtype=torch.int32, device=starts.device)
        one = torch.ones((), dtype=torch.int32, device=starts.device)
        edges.scatter_add_(-1, starts.long(), one.expand_as(starts))
        edges.scatter_add_(-1, stops.long(), -one.expand_as(stops))
        inside = edges.cumsum(-1, dtype=torch.int32)[..., :keys] > 0
        rows = queries.stop - queries.start
        inside = inside.repeat_interleave(self.query_block, dim=2)[:, :, :rows]
        position = self.first_query[:, None] + torch.arange(queries.start, queries.stop, device=starts.device)
        key = torch.arange(keys, device=starts.device)
        return inside & (key <= position[:, None, :, None])

    def attended(self) -> Tensor:
        """Attended (query, key) pairs, int64 ``(batch, heads)``: the only place where they are counted."""
        rows = self._rows()
        first = self.first_query[:, None] + self.query_block * torch.arange(rows.shape[1], device=rows.device)
        first, rows = first[:, None, :, None], rows[:, None, :, None]
        before = _pairs_below(first - self.starts, self.widths)
        pairs = (_pairs_below(first + rows - self.starts, self.widths) - before).sum((2, 3))
        return pairs + self._column_rows(rows).sum(2)

    def _column_rows(self, rows: Tensor) -> Tensor:
        """Pairs of the single columns for `rows` queries in each block, int64 ``(batch, heads, blocks)``."""
        if self.columns is None:
            return torch.zeros_like(rows[..., 0])
        return (self.columns >= 0).sum(-1) * rows[..., 0]

    def computed(self) -> Tensor:
        """Pairs a tiled kernel computes, masked-out parts of tiles included, int64 ``(batch, heads)``.

        A range or column counts whole for every query of its block, except keys after the block's last query.
        """
        if self.query_block == 1:
            return self.attended()
        rows = self._rows()[:, None, :, None]
        blocks = torch.arange(self.starts.shape[2], device=rows.device)
        last = self.first_query[:, None, None, None] + self.query_block * (blocks + 1)[:, None]
        reach = (last - self.starts).clamp(min=0).minimum(self.widths.long())
        full = (rows > 0) * self.query_block
        return (reach * full).sum((2, 3)) + self._column_rows(full).sum(2)

    def _rows(self) -> Tensor:
        """Real queries in each query block, int64 ``(batch, query blocks)``."""
        blocks = torch.arange(self.starts.shape[2], device=self.starts.device)
        queries = (self.lengths - self.first_query)[:, None]
        return (queries - blocks * self.query_block).clamp(0, self.query_block)


def _pairs_below(offset: Tensor, width: Tensor) -> Tensor:
    """Pairs of a range of `width` keys with the queries before position `offset` (relative to its start).

    Query ``y >= 0`` sees ``min(y + 1, width)`` keys of the range: a triangle, then a rectangle.
    """
    offset, width = offset.clamp(min=0).long(), width.long()
    triangle = offset.minimum(width)
    return triangle * (triangle + 1) // 2 + (offset - triangle) * width
