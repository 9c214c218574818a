"""Attention over a selection in plain torch: runs everywhere, and is the twin that kernels must match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sparsestudy.selection import RowSelection, Selection

# Rows computed at a time under a mask. The mask of a chunk is 512 x keys booleans a head, never n x n; below
# 256 rows the launches dominate (SmolLM2 shapes, 2 cores), above 1024 the keys after the chunk cost more than
# they save.
CHUNK = 512
# Scores held at a time on the gathered path: 2^18 fp32 numbers are 1 MB, within a core's cache. With 2^20
# blocks of 16 were 1.1 to 1.4 times slower, with 2^22 all were 1.5 to 3 times (n = 4096, 2 cores). A GPU
# wants few launches.
SCORES = {"cpu": 1 << 18, "cuda": 1 << 28}
# Fewer queries than this a block make products too thin to be worth a gather.
LEAST_BLOCK = 16
# Gathered pairs / causal pairs above which the mask is taken. At 0.5 and n = 4096 gathering took 98 ms to
# 94 with blocks of 16, and 61 to 92 with blocks of 64 (2 cores): the true limit rises with the block.
DENSE_ENOUGH = 0.6


def selected_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection | RowSelection, scaling: float
) -> Tensor:
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
    if isinstance(selection, Selection) and selection.query_block >= LEAST_BLOCK:
        tokens = q.shape[2]
        counts = _reach(selection, tokens).sum(-1)
        if selection.columns is not None:
            counts = counts + selection.columns.shape[-1]
        # Heads are computed together, so each block costs what its most demanding head needs.
        needed = counts.amax((0, 1))
        if int(needed.sum()) * selection.query_block < DENSE_ENOUGH * tokens * (tokens + 1) / 2:
            return _gathered_attention(q, k, v, selection, scaling, needed.tolist())
    return masked_attention(q, k, v, selection, scaling)


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection | RowSelection, scaling: float
) -> Tensor:
    """As :func:`selected_attention`, through a mask for some rows at a time; right for every selection."""
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


def _reach(selection: Selection, tokens: int) -> Tensor:
    """Keys of each range that its block's last query may see, ``(batch, heads, blocks, ranges)``."""
    block = torch.arange(1, selection.starts.shape[2] + 1, device=selection.starts.device)
    last = (block * selection.query_block).clamp(max=tokens)
    return (last[:, None] - selection.starts).clamp(min=0).minimum(selection.widths)


def _gathered_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection, scaling: float, needed: list[int]
) -> Tensor:
    """Only the selected keys, copied together for some query blocks at a time.

    Args:
        q: as in :func:`selected_attention`.
        k: likewise.
        v: likewise.
        selection: likewise.
        scaling: likewise.
        needed: keys that each query block gathers.
    """
    batch, heads, tokens, dim = q.shape
    size = selection.query_block
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    kv_heads = k.shape[1]
    row = torch.arange(batch, device=q.device)[:, None] * kv_heads
    group = torch.arange(heads, device=q.device) // (heads // kv_heads)
    first_key = ((row + group) * tokens)[:, :, None, None]
    flat_k, flat_v = k.reshape(-1, dim), v.reshape(-1, dim)
    room = SCORES.get(q.device.type, SCORES["cuda"])
    begin = 0
    while begin < len(needed):
        end, most = begin + 1, needed[begin]
        while end < len(needed):
            more = max(most, needed[end])
            if (end + 1 - begin) * batch * heads * size * more > room:
                break
            end, most = end + 1, more
        key, blocks = _keys(selection, begin, end, tokens), end - begin
        key = _per_query_head(key, heads).expand(batch, heads, -1, -1)
        rows = slice(begin * size, min(end * size, tokens))
        index = (key.clamp(min=0) + first_key).flatten()
        held_k = flat_k.index_select(0, index).view(batch, heads, blocks, -1, dim)
        held_v = flat_v.index_select(0, index).view(batch, heads, blocks, -1, dim)
        queries = q[:, :, rows]
        short = blocks * size - queries.shape[2]
        if short:
            queries = torch.nn.functional.pad(queries, (0, 0, 0, short))
        scores = (queries * scaling).unflatten(2, (blocks, size)) @ held_k.transpose(-1, -2)
        position = torch.arange(begin * size, end * size, device=q.device).view(blocks, size, 1)
        hidden = (key < 0)[..., None, :] | (key[..., None, :] > position)
        shares = torch.softmax(scores.float().masked_fill_(hidden, float("-inf")), -1).to(q.dtype)
        out[:, :, rows] = (shares @ held_v).flatten(2, 3)[:, :, : rows.stop - rows.start]
        begin = end
    return out


def _keys(selection: Selection, begin: int, end: int, tokens: int) -> Tensor:
    """The keys that each of some query blocks gathers, int64 ``(batch, heads, blocks, keys)``; -1 is none."""
    reach = _reach(selection, tokens)[:, :, begin:end].long()
    starts = selection.starts[:, :, begin:end].long()
    ends = reach.cumsum(-1)
    most = int(ends[..., -1].max())
    place = torch.arange(most, device=starts.device).expand(*ends.shape[:-1], most).contiguous()
    # The range that holds the place: the first whose end lies after it.
    which = torch.searchsorted(ends, place, right=True)
    inside = which < ends.shape[-1]
    which = which.clamp(max=ends.shape[-1] - 1)
    key = starts.gather(-1, which) + place - (ends - reach).gather(-1, which)
    key = key.masked_fill(~inside, -1)
    if selection.columns is not None:
        key = torch.cat([key, selection.columns[:, :, begin:end].long()], -1)
    return key


def selected_decode(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection | RowSelection, offsets: Tensor, scaling: float
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
    return scaled_dot_product_attention(grouped, k, v, mask, scale=scaling).reshape(q.shape)


def _per_query_head(mask: Tensor, heads: int) -> Tensor:
    """Spread what has 1, KV or query heads on its axis 1 over the query heads; 1 stays: it stands for all."""
    if mask.shape[1] in (1, heads):
        return mask
    return mask.repeat_interleave(heads // mask.shape[1], dim=1)
