"""Attention of one new token a row on a GPU: over whole, selected and evicted caches."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsestudy.eviction import EvictedLayer
from sparsestudy.kernels.split import split_attention
from sparsestudy.selection import RowSelection, Selection


def whole_decode(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, offsets: Tensor, scaling: float) -> Tensor:
    """Decode: one query a row over all keys of a left-padded cache.

    Args:
        q: queries ``(batch, heads, 1, dim)``.
        k: keys ``(batch, kv heads, slots, dim)``; row ``b`` has its token 0 in slot ``offsets[b]``.
        v: values, as `k`.
        lengths: real tokens of each row, int ``(batch,)``; slots after them are not read.
        offsets: padding slots before each row, int ``(batch,)``.
        scaling: factor of the scores.

    Returns:
        ``(batch, heads, 1, dim)`` in the dtype of `q`.
    """
    first, count = (x[:, None].expand(-1, k.shape[1]) for x in (offsets, lengths))
    return split_attention(q, k, v, first, count, k.shape[2], scaling)


def selected_decode(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection | RowSelection, offsets: Tensor, scaling: float
) -> Tensor:
    """As :func:`sparsestudy.attention.selected_decode`, its twin, whose arguments and result it shares."""
    starts, widths = _as_ranges(selection, k.shape[2])
    ends = widths.cumsum(-1, dtype=torch.int32)
    choosers = max(starts.shape[1], k.shape[1])
    first, count = (x.expand(len(offsets), choosers) for x in (offsets[:, None], ends[..., -1]))
    return split_attention(q, k, v, first, count, k.shape[2], scaling, (starts, ends))


def _as_ranges(selection: Selection | RowSelection, slots: int) -> tuple[Tensor, Tensor]:
    """First tokens and widths of a step's ranges, int32 ``(batch, heads, ranges)``, none after its query."""
    batch = len(selection.lengths)
    if isinstance(selection, RowSelection):
        widths = selection.mask(slice(0, 1), slots)[:, :, 0].int()
        starts = torch.arange(slots, device=widths.device, dtype=torch.int32).expand_as(widths)
    else:
        starts, widths = selection.starts[:, :, 0].int(), selection.widths[:, :, 0].int()
        if selection.columns is not None:
            columns = selection.columns[:, :, 0].int()
            starts, widths = torch.cat([starts, columns], -1), torch.cat([widths, (columns >= 0).int()], -1)
    reach = (selection.lengths[:, None, None].int() - starts).clamp(min=0)
    widths = widths.minimum(reach).expand(batch, -1, -1)
    return starts.expand_as(widths).contiguous(), widths


def evicted_attention(q: Tensor, k: Tensor, v: Tensor, layer: EvictedLayer, scaling: float) -> Tensor:
    """As :func:`sparsestudy.eviction.evicted_attention`, its twin, whose arguments and result it shares."""
    keys, values = (part[None, None].expand(len(q), k.shape[1], -1, -1) for part in layer.flat)
    most = layer.longest + k.shape[2]
    return split_attention(q, keys, values, layer.first, layer.counts, most, scaling, new=(k, v))
