"""Attention probabilities of some queries, in fp32: what estimates and oracles are made from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

# Queries computed at a time. At 16k tokens and 32 heads a chunk is 64 x 16384 x 32 x 4 bytes = 134 MB a row
# of the batch; with 256 the allocations cost more than the launches that they save.
CHUNK = 64


def probabilities(q: Tensor, k: Tensor, position: Tensor, scaling: float) -> Tensor:
    """Causal softmax attention of the queries at some positions.

    Args:
        q: queries ``(batch, heads, queries, dim)``.
        k: keys ``(batch, kv heads, tokens, dim)``, token 0 of every row first.
        position: of each query, int ``(batch or 1, queries)``; a negative one is no query.
        scaling: factor of the scores.

    Returns:
        fp32 ``(batch, heads, queries, tokens)``; 0 after the query, and everywhere for no query.
    """
    batch, heads, rows, dim = q.shape
    # The query heads of a KV group become the rows of one product, so that no key is copied for them.
    folded = q.float().reshape(batch, k.shape[1], heads // k.shape[1] * rows, dim)
    scores = (folded @ k.float().transpose(-1, -2) * scaling).view(batch, heads, rows, -1)
    future = torch.arange(k.shape[2], device=q.device) > position[:, None, :, None]
    return torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1).masked_fill(future, 0.0)


def window(
    q: Tensor, k: Tensor, lengths: Tensor, end: Tensor, size: int, scaling: float, last: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Attention of each row's last queries before `end`, some at a time.

    Args:
        q: queries ``(batch, heads, queries, dim)``, all of the prompt, token 0 of every row first; with
            `last` the last ones alone, each row's last query last.
        k: keys ``(batch, kv heads, tokens, dim)``, token 0 of every row first.
        lengths: real tokens of each row, int ``(batch,)``.
        end: position after the last query to look at, int ``(batch,)``.
        size: how many queries; rows that have fewer yield zeros for the rest.
        scaling: factor of the scores.
        last: how the queries are given.

    Yields:
        The probabilities ``(batch, heads, queries, tokens)`` and the positions ``(batch, queries)``, which
        are negative where there is no query.
    """
    first = lengths - q.shape[2] if last else torch.zeros_like(lengths)
    size = min(size, k.shape[2])
    for start in range(0, size, CHUNK):
        position = end[:, None] - size + torch.arange(start, min(start + CHUNK, size), device=q.device)
        index = position - first[:, None]
        position = position.masked_fill(index < 0, -1)
        index = index.clamp(min=0)[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])
        yield probabilities(q.gather(2, index), k, position, scaling), position


def every_row(
    q: Tensor, k: Tensor, lengths: Tensor, scaling: float, chunk: int = CHUNK
) -> Iterator[tuple[Tensor, int]]:
    """Attention of all queries of a prompt, `chunk` at a time.

    Yields:
        The probabilities ``(batch, heads, queries, tokens)``, 0 for queries past a row's length, and the
        position of the first of the queries.
    """
    tokens = k.shape[2]
    for start in range(0, q.shape[2], chunk):
        stop = min(start + chunk, q.shape[2])
        position = torch.arange(start, stop, device=q.device).expand(len(lengths), -1)
        position = position.masked_fill(position >= lengths[:, None], -1)
        # Later keys get nothing from any of these queries; leaving them out halves the work.
        held = probabilities(q[:, :, start:stop], k[:, :, :stop], position, scaling)
        yield pad(held, (0, tokens - stop)), start


def block_mass(q: Tensor, k: Tensor, lengths: Tensor, scaling: float, size: int) -> Tensor:
    """The attention that each block of queries pays to each block of keys, summed over its pairs.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, token 0 of every row first.
        k: keys ``(batch, kv heads, tokens, dim)``.
        lengths: real tokens of each row, int ``(batch,)``.
        scaling: factor of the scores.
        size: tokens per block.

    Returns:
        fp32 ``(batch, heads, blocks, blocks)``.
    """
    blocks = -(-q.shape[2] // size)
    mass = torch.zeros(*q.shape[:2], blocks, blocks, device=q.device)
    for rows, start in every_row(q, k, lengths, scaling, max(CHUNK, size)):
        padded = pad(rows, (0, -rows.shape[3] % size, 0, -rows.shape[2] % size))
        part = padded.unflatten(3, (-1, size)).sum(4).unflatten(2, (-1, size)).sum(3)
        mass[:, :, start // size : start // size + part.shape[2]] = part
    return mass


def step(q: Tensor, k: Tensor, offsets: Tensor, lengths: Tensor, scaling: float) -> Tensor:
    """Attention of one decode step over a left-padded cache, in real coordinates.

    Args:
        q: query ``(batch, heads, 1, dim)``.
        k: keys ``(batch, kv heads, slots, dim)``; row ``b`` has its token 0 in slot ``offsets[b]``.
        offsets: padding slots before each row, int ``(batch,)``.
        lengths: real tokens of each row, int ``(batch,)``.
        scaling: factor of the scores.

    Returns:
        fp32 ``(batch, heads, slots)``; token 0 of every row first, zeros at the end.
    """
    slot = torch.arange(k.shape[2], device=q.device)
    grouped = q.float().reshape(q.shape[0], k.shape[1], -1, q.shape[3])
    scores = (grouped @ k.float().transpose(-1, -2) * scaling).flatten(1, 2)
    padding = (slot < offsets[:, None])[:, None]
    held = torch.softmax(scores.masked_fill(padding, float("-inf")), dim=-1)
    token = (slot + offsets[:, None]).clamp(max=k.shape[2] - 1)
    real = (slot < lengths[:, None])[:, None]
    return held.gather(-1, token[:, None].expand_as(held)) * real
