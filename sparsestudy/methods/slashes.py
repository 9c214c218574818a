"""Columns and diagonals ("slashes") of the attention map: their sums, and the key ranges that hold them.

A slash is an offset, query position - key position. A block of queries that attends a slash needs a tile of
keys for it; tiles that touch are merged into ranges, from the earliest key to the latest, as the index kernel
of MInference does.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.methods.base import Context
from sparsestudy.methods.probabilities import every_row, window
from sparsestudy.methods.top import indices
from sparsestudy.selection import Selection


def window_sums(q: Tensor, k: Tensor, context: Context, end: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Attention of the last `size` queries before `end`, summed over each column and along each offset.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, token 0 of every row first.
        k: keys ``(batch, kv heads, tokens, dim)``.
        context: lengths and scaling.
        end: position after the last query, int ``(batch,)``.
        size: how many queries.

    Returns:
        Column sums and offset sums, fp32 ``(batch, heads, tokens)`` each.
    """
    chunks = window(q, k, context.lengths, end, size, context.scaling)
    return _sums(((rows, position[:, -1]) for rows, position in chunks), q)


def all_sums(q: Tensor, k: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """As :func:`window_sums`, over all queries of the prompt."""
    chunks = every_row(q, k, context.lengths, context.scaling)
    return _sums(
        ((rows, torch.full_like(context.lengths, start + rows.shape[2] - 1)) for rows, start in chunks), q
    )


def _sums(chunks: Iterable[tuple[Tensor, Tensor]], q: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over chunks of probabilities of consecutive queries, each with the position of its last query."""
    columns, offsets = torch.zeros(2, *q.shape[:3], device=q.device)
    for rows, last in chunks:
        columns += rows.sum(2)
        offsets += _by_offset(rows, last)
    return columns, offsets


def _by_offset(rows: Tensor, last: Tensor) -> Tensor:
    """Sums along offsets, without a scatter: each row is shifted by one more than the row after it.

    Args:
        rows: probabilities of consecutive queries, ``(batch, heads, queries, tokens)``.
        last: position of the last query; negative where there is none, int ``(batch,)``.

    Returns:
        ``(batch, heads, tokens)``, offset 0 first.
    """
    size, tokens = rows.shape[2:]
    across = tokens + size - 1
    # A pitch of one less than the padded width moves row i right by i. With the last query first, place c
    # collects query - key = last - c.
    flat = pad(rows.flip(2), (0, size)).flatten(2)[..., : size * across]
    skewed: Tensor = flat.unflatten(2, (size, across)).sum(2)
    place = (last[:, None] - torch.arange(tokens, device=rows.device))[:, None]
    return skewed.gather(-1, place.clamp(min=0).expand(-1, rows.shape[1], -1)) * (place >= 0)


def selected(columns: Tensor, offsets: Tensor, tile: int, lengths: Tensor) -> Selection:
    """The ranges and single columns that hold chosen columns and offsets, for blocks of `tile` queries.

    For queries ``m .. m + tile - 1`` each offset ``s < m + tile`` wants keys ``m - s .. m - s + tile - 1``,
    moved right where that is negative. Offsets are taken from the largest to the smallest. One whose keys end
    more than a tile after the current range begins a new one; otherwise, if they end after it at all, the
    range grows by a whole tile. So ranges hold more than the offsets alone. Chosen columns before the block
    and outside all ranges stay single.

    Args:
        columns: bool ``(batch, heads, tokens)``.
        offsets: bool, same shape; offset 0 is chosen.
        tile: queries in a block and keys in a tile.
        lengths: real tokens of each row, int ``(batch,)``.

    Returns:
        The selection. Its largest tensors are (blocks x ranges) and (blocks x columns) a head.
    """
    tokens = columns.shape[-1]
    first = torch.arange(0, tokens, tile, device=columns.device)
    more, latest, following = _growth(offsets, tile)
    # The first range of a block: at key 0 if an offset reaches before it, else at the largest offset.
    reach = (first + tile).clamp(max=tokens)
    begin = torch.where(latest[..., reach] >= first, first, latest[..., first])
    chain = _chains(begin, following)
    used = chain >= 0
    at = chain.clamp(min=0)
    tiles = 1 + more.gather(-1, at.flatten(-2)).view_as(at)
    starts = (first[:, None] - at).masked_fill(~used, 0).int()
    widths = (tiles * tile).masked_fill(~used, 0).int()
    return Selection(
        starts=starts,
        widths=widths,
        columns=_single(indices(columns).int(), starts, widths, first.int()),
        query_block=tile,
        first_query=torch.zeros_like(lengths),
        lengths=lengths,
    )


def _growth(offsets: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """How a range that begins at an offset goes on, which is the same for every block of queries.

    A range that begins at offset x grows while the next `tile` smaller offsets hold a chosen one:
    ``x - tile .. x - 1``, then ``x - 2 tile .. x - tile - 1`` and so on. After an empty stretch, the next
    range begins at the largest chosen offset below it.

    Returns:
        For each x in 0..tokens, int64 ``(batch, heads, tokens + 1)``: the tiles added to the first one, the
        largest chosen offset below x, and that at which the next range begins; -1 is none.
    """
    x = torch.arange(offsets.shape[-1] + 1, device=offsets.device)
    latest = pad(torch.where(offsets, x[:-1], -1).cummax(-1).values, (1, 0), value=-1)
    held = latest >= (x - tile).clamp(min=0)
    # Rows of a tile's length put x, x - tile, x - 2 tile ... below each other.
    stacked = pad(held, (0, -len(x) % tile)).unflatten(-1, (-1, tile))
    row = torch.arange(stacked.shape[-2], device=x.device)[:, None]
    empty = torch.where(stacked, -1, row).cummax(-2).values
    more = (row - empty).flatten(-2)[..., : len(x)]
    return more, latest, latest.gather(-1, (x - tile * more).clamp(min=0))


def _chains(begin: Tensor, following: Tensor) -> Tensor:
    """From the offset of each block's first range to those of all its ranges.

    Every pass doubles the length of the chains and of the jumps, so there are few, and one wait for the
    device in each.

    Args:
        begin: int64 ``(batch, heads, blocks)``; -1 is none.
        following: x -> next offset, int64 ``(batch, heads, tokens + 1)``; -1 is none.

    Returns:
        int64 ``(batch, heads, blocks, ranges)``, falling; -1 fills the blocks that have fewer.
    """
    # Moved up by one, none is 0 and follows itself.
    chain, jump = (begin + 1)[..., None], pad(following[..., :-1] + 1, (1, 0))
    while True:
        rest = jump.gather(-1, chain.flatten(-2)).view_as(chain)
        most = int((rest > 0).sum(-1).max())
        if most == 0:
            return chain - 1
        chain = torch.cat([chain, rest], -1)[..., : chain.shape[-1] + most]
        jump = jump.gather(-1, jump)


def _single(columns: Tensor, starts: Tensor, widths: Tensor, first: Tensor) -> Tensor | None:
    """Columns before a block and outside its ranges, int32 ``(batch, heads, blocks, columns)``, -1 last.

    Args:
        columns: chosen ones, rising, -1 at the end, int32 ``(batch, heads, columns)``.
        starts: of the ranges, rising, int32 ``(batch, heads, blocks, ranges)``.
        widths: of the ranges; 0 at the end.
        first: query of each block, int32 ``(blocks,)``.
    """
    column = columns[:, :, None].expand(-1, -1, len(first), -1).contiguous()
    behind = torch.iinfo(starts.dtype).max
    place = torch.searchsorted(starts.masked_fill(widths == 0, behind), column, right=True) - 1
    stop = (starts + widths).gather(-1, place.clamp(min=0)).masked_fill(place < 0, -1)
    free = (column >= stop) & (column >= 0) & (column < first[:, None])
    most = int(free.sum(-1).max()) if free.numel() else 0
    if most == 0:
        return None
    # The one slot after the last takes what is not kept.
    slot = torch.where(free, free.cumsum(-1) - 1, most)
    kept = torch.full((*free.shape[:-1], most + 1), -1, dtype=column.dtype, device=column.device)
    return kept.scatter_(-1, slot, column)[..., :most]
