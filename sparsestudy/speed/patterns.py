"""What kernels are timed on: random patterns of blocks, and queries and keys that attend as a model's do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsestudy.cache import updated_page_bounds
from sparsestudy.methods.base import Context
from sparsestudy.selection import Selection
from sparsestudy.speed.shapes import Shape


@dataclass(frozen=True)
class Inputs:
    """Queries ``(batch, heads, tokens, dim)``, keys and values ``(batch, kv heads, tokens, dim)``."""

    q: Tensor
    k: Tensor
    v: Tensor

    @property
    def tokens(self) -> int:
        """Of each row."""
        return self.k.shape[2]

    @property
    def scaling(self) -> float:
        """Factor of the scores."""
        return float(self.q.shape[-1] ** -0.5)

    def context(self) -> Context:
        """What a method may know of a prefill of whole rows."""
        lengths = torch.full((len(self.q),), self.tokens, device=self.q.device)
        zeros = torch.zeros_like(lengths)
        return Context(
            lengths=lengths,
            offsets=zeros,
            scaling=self.scaling,
            layer=0,
            page_bounds=lambda size: updated_page_bounds(self.k, zeros, size, None),
            prefilled=lengths,
            question=None,
            salt=lambda: zeros,
        )


def normal(shape: Shape, tokens: int, queries: int, batch: int, like: Tensor, seed: int) -> Inputs:
    """Standard normal numbers, which no kernel can profit from.

    Args:
        shape: whose heads.
        tokens: of each row.
        queries: of each row.
        batch: rows.
        like: gives device and dtype.
        seed: of the draw.
    """
    source = torch.Generator(like.device).manual_seed(seed)

    def drawn(heads: int, count: int) -> Tensor:
        size = (batch, heads, count, shape.dim)
        return torch.randn(size, device=like.device, dtype=like.dtype, generator=source)

    k, v = (drawn(shape.kv_heads, tokens) for _ in range(2))
    return Inputs(drawn(shape.heads, queries), k, v)


def lifelike(shape: Shape, tokens: int, like: Tensor, seed: int) -> Inputs:
    """As :func:`normal`, with attention that depends on the distance and has heavy columns.

    Every query and key is one vector of its KV group plus noise, rotated by its position as in a model:
    scores are then highest nearby and rise again at some distances, and slashes cluster. One key in 64, the
    first four among them, is longer in the slowest frequencies, which distance hardly turns: a column.
    """
    drawn = normal(shape, tokens, tokens, 1, like, seed)
    source = torch.Generator(like.device).manual_seed(seed + 1)
    half = shape.dim // 2
    common = torch.randn(shape.kv_heads, 1, shape.dim, device=like.device, generator=source)
    heavy = torch.rand(shape.kv_heads, tokens, 1, device=like.device, generator=source) < 1 / 64
    heavy[:, :4] = True
    place = torch.arange(tokens, device=like.device)[:, None]
    angle = place * shape.theta ** (-torch.arange(half, device=like.device) / half)
    cos, sin = angle.cos(), angle.sin()
    slow = torch.arange(shape.dim, device=like.device) % half >= 3 * half // 4

    def rotated(x: Tensor) -> Tensor:
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(like.dtype)

    group = shape.heads // shape.kv_heads
    # Head by head, since fp32 copies of all heads at 128k tokens are gigabytes.
    for head in range(shape.heads):
        drawn.q[0, head] = rotated(drawn.q[0, head].float() + common[head // group])
    for head in range(shape.kv_heads):
        key = drawn.k[0, head].float() + common[head] * (1 + 2 * (heavy[head] & slow))
        drawn.k[0, head] = rotated(key)
    return drawn


def blocks(
    shape: Shape, tokens: int, size: int, sparsity: float, device: torch.device, seed: int
) -> Selection:
    """A random pattern for each head: the diagonal and the first block, and equally many others in each row.

    Args:
        shape: whose heads.
        tokens: of the row.
        size: tokens of a block.
        sparsity: share of the causal pairs that is left out; rows that have fewer blocks keep all.
        device: where to put it.
        seed: of the draw.
    """
    count = -(-tokens // size)
    kept = _per_row(tokens, size, count, sparsity)
    row = torch.arange(count, device=device)
    later, own = row > row[:, None], row == row[:, None]
    source = torch.Generator(device).manual_seed(seed)
    starts, widths = (
        torch.empty(1, shape.heads, count, kept, dtype=torch.int32, device=device) for _ in range(2)
    )
    for head in range(shape.heads):
        score = torch.rand(count, count, device=device, generator=source)
        score = score.masked_fill_(own | (row == 0), 2.0).masked_fill_(later, -1.0)
        value, block = score.topk(kept, -1)
        block = block.masked_fill(value < 0, count).sort(-1).values
        widths[0, head] = (block < count).int() * size
        starts[0, head] = block.int() * widths[0, head]
    lengths = torch.full((1,), tokens, device=device)
    return Selection(
        starts=starts, widths=widths, query_block=size, first_query=torch.zeros_like(lengths), lengths=lengths
    )


def _per_row(tokens: int, size: int, count: int, sparsity: float) -> int:
    """The fewest blocks in each row, at least two where there are, that attend as many pairs as asked for."""
    wanted = (1 - sparsity) * tokens * (tokens + 1) / 2
    own = count * size * (size + 1) / 2
    for kept in range(2, count):
        # The first rows have fewer than `kept` earlier blocks.
        full = (kept - 1) * kept / 2 + (count - kept) * (kept - 1)
        if own + full * size * size >= wanted:
            return kept
    return count
