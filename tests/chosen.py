"""Selections for tests of kernels, made on any device."""

from __future__ import annotations

import torch

from sparsestudy.methods.slashes import selected
from sparsestudy.selection import Selection


def blocks(lengths: list[int], size: int, heads: int, kept: int, device: str = "cpu") -> Selection:
    """Random blocks: so many for each block of queries, its own one and the first among them."""
    generator = torch.Generator(device).manual_seed(kept)
    count = -(-max(lengths) // size)
    score = torch.rand(len(lengths), heads, count, count, generator=generator, device=device)
    block = torch.arange(count, device=device)
    score[..., 0] = 2
    score[..., block, block] = 2
    score.masked_fill_(block > block[:, None], -1)
    best = score.topk(min(kept, count), -1)
    return Selection(
        starts=(best.indices * size).int(),
        widths=(best.values >= 0).int() * size,
        query_block=size,
        first_query=torch.zeros(len(lengths), dtype=torch.long, device=device),
        lengths=torch.tensor(lengths, device=device),
    )


def slashes(lengths: list[int], tile: int, heads: int, share: float, device: str = "cpu") -> Selection:
    """Random columns and offsets, this share of each; offset 0 is always there."""
    generator = torch.Generator(device).manual_seed(tile)
    tokens = max(lengths)
    shape = (2, len(lengths), heads, tokens)
    real = torch.arange(tokens, device=device) < torch.tensor(lengths, device=device)[:, None, None]
    columns, offsets = (torch.rand(shape, generator=generator, device=device) < share) & real
    offsets[..., 0] = True
    return selected(columns, offsets, tile, torch.tensor(lengths, device=device))


def ranges(tokens: int, block: int, parts: list[tuple[int, int]], device: str = "cpu") -> Selection:
    """The same (start, width) for every block of queries; None of them is cut at the diagonal."""
    count = -(-tokens // block)
    starts, widths = (
        torch.tensor(parts, device=device).T[:, None, None, None, :].expand(2, 1, 1, count, len(parts))
    )
    return Selection(
        starts=starts,
        widths=widths,
        query_block=block,
        first_query=torch.zeros(1, dtype=torch.long, device=device),
        lengths=torch.tensor([tokens], device=device),
    )
