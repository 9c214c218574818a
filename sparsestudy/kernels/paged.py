"""One decode step over the best pages of a cache: scores, choice and attention, on a GPU.

The program that is the last to score a row's pages finds what the best have: the least score among them, and
the last page with just this score. A part of the attention owns one page in so many, picks the best of its
pages by that, and attends them. The choice costs no kernel of its own, and neighbours, which are often chosen
together, fall to different parts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from sparsestudy.cache import PageBounds
from sparsestudy.kernels.device import overlaps, processors
from sparsestudy.kernels.launch import on
from sparsestudy.kernels.pages import page_scores
from sparsestudy.kernels.sizes import cdiv, power
from sparsestudy.kernels.split import (
    LEAST,
    WAVES,
    add_tile,
    added,
    put_part,
    room_for_parts,
    tile,
)
from sparsestudy.kernels.top import kept, keys

# Pages of a part that are picked at a time: 16 a thread.
PICKED = 1 << 11


@triton.jit
def _pick(p_scores, p_limits, p_list, part, parts, pages, current, BLOCK: tl.constexpr):
    """List a part's pages that are among the best, and the current one; gives how many."""
    total = current * 0
    for i in range(0, tl.cdiv(pages - part, parts), BLOCK):
        o_page = part + (i + tl.arange(0, BLOCK)) * parts
        b_key = keys(p_scores, o_page, pages)
        m_page = (o_page == current) | (kept(b_key, o_page, p_limits) & (o_page < current))
        b_place = tl.cumsum(m_page.to(tl.int32), 0)
        tl.store(p_list + total + b_place - 1, o_page, mask=m_page)
        total += tl.max(b_place, 0)
    # What the threads of this program have listed is read by all of them.
    tl.debug_barrier()
    return total


@triton.jit(do_not_specialize=["pages"])
def _attend_best(
    p_q, p_k, p_v, p_scores, p_limits, p_lengths, p_offsets, p_list, p_acc, p_most, p_sum,
    s_q, s_k, s_v, scale, pages, group, share, dim,
    P: tl.constexpr, EVEN: tl.constexpr, EARLY: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The best of one part of the pages of one row and chooser."""
    part, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    parts, heads = tl.num_programs(0), tl.num_programs(1)
    o_m, o_d, o_n = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    m_q = (o_m < group)[:, None] & (o_d < dim)[None, :]
    # (queries, dim)
    o_q = row * s_q[0] + (head * group + o_m)[:, None] * s_q[1] + o_d[None, :]
    b_q = tl.load(p_q + o_q, mask=m_q, other=0.0)
    first = tl.load(p_offsets + row).to(tl.int64)
    length = tl.load(p_lengths + row).to(tl.int32)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    chooser = row * heads + head
    p_list += (chooser * parts + part) * tl.cdiv(pages, parts)
    total = _pick(
        p_scores + chooser * pages,
        p_limits + chooser * 2,
        p_list,
        part,
        parts,
        pages,
        (length - 1) // P,
        BLOCK,
    )
    kv = (head // share).to(tl.int64)
    p_k += row * s_k[0] + kv * s_k[1]
    p_v += row * s_v[0] + kv * s_v[1]
    b_acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_most = tl.full([BLOCK_M], -1e30, tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    for t in range(0, total * P, BLOCK_N):
        o_t = t + o_n
        o_token = (
            tl.load(p_list + o_t // P, mask=o_t < total * P, other=0, cache_modifier=".cg") * P + o_t % P
        )
        m_t = (o_t < total * P) & (o_token < length)
        o_k = o_token + first
        b_acc, b_most, b_sum = add_tile(
            b_q, p_k, p_v, o_k * s_k[2], o_k * s_v[2], m_t, o_d, b_acc, b_most, b_sum, scale, dim, EVEN
        )
    o_part = (chooser * parts + part) * group
    put_part(p_acc, p_most, p_sum, o_part, b_acc, b_most, b_sum, o_m, o_d, group, dim)


def paged_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: PageBounds,
    lengths: Tensor,
    offsets: Tensor,
    budget: int,
    page_size: int,
    choosers: int,
    scaling: float,
) -> Tensor:
    """One decode step: score the pages, choose the best complete ones, attend them and the current page.

    Nothing waits for the device and every shape follows from the arguments' shapes, so that a CUDA graph can
    hold the step while `lengths`, and the caches behind `k`, `v` and `bounds`, go on.

    Args:
        q: query ``(batch, heads, 1, dim)``.
        k: keys ``(batch, kv heads, slots, dim)``, the new one included; row ``b`` has its token 0 in slot
            ``offsets[b]``, and slots after its length are not read.
        v: values, as `k`.
        bounds: of all pages before that of the new token, which is brought up to date here.
        lengths: real tokens of each row, the new one included, int ``(batch,)``.
        offsets: padding slots before each row, int ``(batch,)``.
        budget: complete pages to read.
        page_size: tokens per page.
        choosers: the KV heads (scores of a group are summed) or the query heads.
        scaling: factor of the attention scores.

    Returns:
        ``(batch, heads, 1, dim)`` in the dtype of `q`.
    """
    batch, heads, _, dim = q.shape
    device = q.device
    if bounds.done is None or bounds.done.shape != (batch, choosers):
        bounds.done = torch.zeros(batch, choosers, dtype=torch.int32, device=device)
    # Bounds have room for pages that no slot belongs to yet.
    pages = min(bounds.minimum.shape[2], cdiv(k.shape[2], page_size))
    held = PageBounds(bounds.minimum[:, :, :pages], bounds.maximum[:, :, :pages])
    limits = torch.empty(batch, choosers, 2, dtype=torch.int32, device=device)
    found = limits, bounds.done, min(budget, pages)
    scores = page_scores(q, held, lengths, page_size, choosers, (k, offsets), found)
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    most = min((budget + 1) * page_size, k.shape[2])
    splits = max(1, min(WAVES * processors(device) // (batch * choosers), cdiv(most, LEAST), pages))
    share = cdiv(pages, splits)
    listed = torch.empty(batch, choosers, splits, share, dtype=torch.int32, device=device)
    parts, stats = room_for_parts(q, choosers, splits)
    group, early, block_d = heads // choosers, overlaps(device), max(16, power(dim))
    with on(device):
        _attend_best[(splits, choosers, batch)](
            q, k, v, scores, limits, lengths, offsets, listed, parts, stats[0], stats[1],
            q.stride()[:2], k.stride()[:3], v.stride()[:3], scaling * 1.4426950408889634,
            pages, group, choosers // k.shape[1], dim, P=page_size, EVEN=block_d == dim, EARLY=early,
            BLOCK=min(PICKED, max(32, power(share))), BLOCK_M=max(16, power(group)), BLOCK_D=block_d,
            launch_pdl=early, **tile(q.element_size(), dim),
        )  # fmt: skip
    return added(q, parts, stats)
