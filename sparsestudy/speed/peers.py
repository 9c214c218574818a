"""What the kernels are held against: torch's dense backends, and FlexAttention over the same blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from sparsestudy.selection import Selection
from sparsestudy.speed.patterns import Inputs

# The fastest of a prefill first.
BACKENDS = {
    "cuda": {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    },
    "cpu": {"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH},
}
# Blocks that FlexAttention's kernels take; smaller ones they refuse.
FLEX_BLOCKS = (64, 128)


def dense(backend: str, given: Inputs) -> Callable[[], Tensor]:
    """Causal attention, or that of the last query, by one of torch's backends.

    Efficient attention knows no grouped heads: its keys and values are repeated here, before the timing.
    """
    kind = BACKENDS[given.q.device.type][backend]
    k, v, grouped = given.k, given.v, backend != "efficient"
    if not grouped:
        k, v = (x.repeat_interleave(given.q.shape[1] // x.shape[1], 1) for x in (k, v))
    causal = given.q.shape[2] > 1

    def call() -> Tensor:
        with sdpa_kernel(kind):
            return scaled_dot_product_attention(
                given.q, k, v, is_causal=causal, scale=given.scaling, enable_gqa=grouped
            )

    return call


def flex(given: Inputs, selection: Selection) -> Callable[[], Any]:
    """FlexAttention over aligned blocks.

    Args:
        given: queries, keys and values.
        selection: blocks of 64 or 128 tokens that divide the length.
    """
    from torch.nn.attention.flex_attention import flex_attention

    mask, size = block_mask(selection, given.tokens), selection.query_block
    # Its tiles of queries are 128 rows where it is not told otherwise, and must fit into a block.
    options: Any = None if size >= 128 else {"BLOCK_M": size, "BLOCK_N": size}
    attend = torch.compile(flex_attention, dynamic=False)
    return lambda: attend(
        given.q,
        given.k,
        given.v,
        block_mask=mask,
        scale=given.scaling,
        enable_gqa=True,
        kernel_options=options,
    )


def block_mask(selection: Selection, tokens: int) -> Any:
    """FlexAttention's own form of aligned blocks: the diagonal ones masked, the others whole."""
    from torch.nn.attention.flex_attention import BlockMask

    size, heads, device = selection.query_block, selection.heads, selection.starts.device
    count = tokens // size
    block = torch.arange(count, device=device)
    whole = (selection.widths > 0) & (selection.starts // size != block[:, None])
    places = torch.where(whole, selection.starts // size, count).sort(-1).values.clamp(max=count - 1)
    places = pad(places, (0, count - places.shape[-1])).int().contiguous()
    diagonal = torch.zeros(1, heads, count, count, dtype=torch.int32, device=device)
    diagonal[..., 0] = block
    return BlockMask.from_kv_blocks(
        torch.ones(1, heads, count, dtype=torch.int32, device=device),
        diagonal,
        whole.sum(-1).int(),
        places,
        BLOCK_SIZE=size,
        mask_mod=_causal,
        seq_lengths=(tokens, tokens),
        compute_q_blocks=False,
    )


def _causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key
