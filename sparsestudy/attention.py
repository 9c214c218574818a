"""Attention over a selection in plain torch: runs everywhere, and is the twin that kernels must match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sparsestudy.selection import Selection

# Rows computed at a time. The mask of a chunk is 512 x keys booleans a head, never n x n; below 256 rows the
# launches dominate (SmolLM2 shapes, 2 cores), above 1024 the keys after the chunk cost more than they save.
CHUNK = 512


def selected_attention(q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float) -> Tensor:
    """Prefill: exact softmax attention over the selected keys.

    Args:
        q: queries ``(batch, heads, tokens, dim)``, rows in real coordinates (token 0 first, padding last).
        k: keys ``(batch, kv heads, tokens, dim)``.
        v: values, as `k`.
        selection: which keys each query attends.
        scaling: factor of the scores.

    Returns:
        ``(batch, heads, tokens, dim)`` in the dtype of `q`; rows after a row's length are unspecified.
    """
    tokens = q.shape[2]
    step = max(CHUNK // selection.query_block, 1) * selection.query_block
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for start in range(0, tokens, step):
        stop = min(start + step, tokens)
        mask = _per_query_head(selection.mask(slice(start, stop), stop), q.shape[1])
        out[:, :, start:stop] = scaled_dot_product_attention(
            q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], mask, scale=scaling, enable_gqa=True
        )
    return out


def selected_decode(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, offsets: Tensor, scaling: float
) -> Tensor:
    """Decode: one query a row over the selected keys of a left-padded cache.

    Args:
        q: queries ``(batch, heads, 1, dim)``.
        k: keys ``(batch, kv heads, slots, dim)``; row ``b`` has its token 0 in slot ``offsets[b]``.
        v: values, as `k`.
        selection: attended keys in real coordinates.
        offsets: padding slots before each row, int ``(batch,)``.
        scaling: factor of the scores.

    Returns:
        ``(batch, heads, 1, dim)`` in the dtype of `q`.
    """
    slots = k.shape[2]
    mask = selection.mask(slice(0, 1), slots)
    token = torch.arange(slots, device=q.device) - offsets[:, None]
    index = token.clamp(min=0)[:, None, None].expand(-1, mask.shape[1], 1, -1)
    mask = mask.expand(len(offsets), -1, -1, -1).gather(-1, index) & (token >= 0)[:, None, None]
    # The query heads of a KV group become the rows of one product, so that no key is copied for them.
    groups = q.shape[1] // k.shape[1]
    grouped = q.view(q.shape[0], k.shape[1], groups, q.shape[3])
    mask = mask.view(len(offsets), k.shape[1], groups, slots) if mask.shape[1] == q.shape[1] else mask
    return scaled_dot_product_attention(grouped, k, v, mask, scale=scaling).view_as(q)


def _per_query_head(mask: Tensor, heads: int) -> Tensor:
    """Spread a mask with 1, KV or query heads over the query heads: ``(batch, heads, queries, keys)``."""
    if mask.shape[1] in (1, heads):
        return mask
    return mask.repeat_interleave(heads // mask.shape[1], dim=1)
