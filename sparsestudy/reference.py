"""Dense masked attention in fp32: the oracle that every test compares with."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsestudy.selection import RowSelection, Selection


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, selection: Selection | RowSelection | None, scaling: float
) -> Tensor:
    """Softmax attention with every step written out.

    Args:
        q: queries ``(batch, heads, queries, dim)``, the last of the ``keys`` tokens.
        k: keys ``(batch, kv heads, keys, dim)``, rows in real coordinates (token 0 first).
        v: values, as `k`.
        selection: attended keys; None is dense causal.
        scaling: factor of the scores.

    Returns:
        fp32 ``(batch, heads, queries, dim)``. Holds an n x n matrix: for small inputs only.
    """
    groups = q.shape[1] // k.shape[1]
    k = k.float().repeat_interleave(groups, dim=1)
    v = v.float().repeat_interleave(groups, dim=1)
    n, keys = q.shape[2], k.shape[2]
    if selection is None:
        mask = torch.ones(n, keys, dtype=torch.bool, device=q.device).tril(keys - n)
    else:
        mask = selection.mask(slice(0, n), keys)
        mask = mask.repeat_interleave(q.shape[1] // mask.shape[1], dim=1)
    scores = q.float() @ k.transpose(-1, -2) * scaling
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1) @ v
