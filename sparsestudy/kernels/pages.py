"""Pages of a cache: bounds of their keys, and scores by the bounds, on a GPU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents

from sparsestudy.cache import RESERVE, PageBounds
from sparsestudy.kernels.device import overlaps, processors
from sparsestudy.kernels.sizes import cdiv, power
from sparsestudy.kernels.top import held, put_limits

# Pages in a tile of scores: 32 pages of two bounds of 128 bf16 numbers are 16 KB.
BLOCK_P = 32
# Warps a multiprocessor that score pages, and tiles that each program has in flight.
WARPS, STAGES = 16, 3
# Warps of a program, and of one that may look for the limits of the best: it holds 32 scores a thread in 124
# registers, where 8192 scores in 4 warps would take 243.
FEW, MANY = 4, 8
HELD_UNITS = 1 << 13


@triton.jit
def _bound(p_k, p_low, p_high, first, length, page, s_token, dim, P: tl.constexpr, BLOCK_P: tl.constexpr,
           BLOCK_D: tl.constexpr):  # fmt: skip
    """Read the keys of one page and store their minimum and maximum."""
    o_p, o_d = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_D)
    o_t = page * P + o_p
    m_t = (o_p < P) & (o_t < length)
    m_k = m_t[:, None] & (o_d < dim)[None, :]
    # (tokens, dim)
    b_k = tl.load(p_k + (first + o_t)[:, None] * s_token + o_d[None, :], mask=m_k, other=0.0).to(tl.float32)
    b_low = tl.min(tl.where(m_t[:, None], b_k, float("inf")), 0)
    b_high = tl.max(tl.where(m_t[:, None], b_k, float("-inf")), 0)
    tl.store(p_low + o_d, b_low.to(p_low.dtype.element_ty), mask=o_d < dim)
    tl.store(p_high + o_d, b_high.to(p_high.dtype.element_ty), mask=o_d < dim)


@triton.jit(do_not_specialize=["seen", "slots", "held"])
def _bound_pages(
    p_k, p_low, p_high, p_offsets, s_k, s_bounds, seen, slots, held, dim,
    P: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Bounds of one page, counted from the first that holds an unseen token."""
    place, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    first = tl.load(p_offsets + row).to(tl.int64)
    length = slots - first
    page = tl.maximum(seen - first, 0) // P + place
    if (page < held) & (page * P < length):
        o_page = row * s_bounds[0] + head * s_bounds[1] + page * s_bounds[2]
        p_k += row * s_k[0] + head * s_k[1]
        _bound(p_k, p_low + o_page, p_high + o_page, first, length, page, s_k[2], dim, P, BLOCK_P, BLOCK_D)


@triton.jit(do_not_specialize=["pages", "budget"])
def _score_pages(
    p_q, p_k, p_low, p_high, p_lengths, p_offsets, p_scores, p_limits, p_done, s_q, s_k, s_bounds,
    pages, budget, group, share, dim,
    P: tl.constexpr, KEYS: tl.constexpr, SIGNAL: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr,
    LIMITS: tl.constexpr, HELD: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Upper bounds on the scores of a part of the pages, summed over a group of query heads.

    With limits, the program that is the last to be done with a row and chooser also finds what the best have.
    """
    part, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    if SIGNAL:
        gdc_launch_dependents()
    kv = (head // share).to(tl.int64)
    o_m, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    length = tl.load(p_lengths + row).to(tl.int32)
    current = (length - 1) // P
    p_low += row * s_bounds[0] + kv * s_bounds[1]
    p_high += row * s_bounds[0] + kv * s_bounds[1]
    if KEYS > 0 and part == 0:
        # The bounds of the page that the new token falls into; nobody scores it in this step.
        first = tl.load(p_offsets + row).to(tl.int64)
        o_page = current.to(tl.int64) * s_bounds[2]
        p_k += row * s_k[0] + kv * s_k[1]
        _bound(p_k, p_low + o_page, p_high + o_page, first, length, current, s_k[2], dim, P, KEYS, BLOCK_D)
    # (heads, dim): the bounds are linear in the positive and in the negative parts, so heads add up first.
    m_q = (o_m < group)[:, None] & (o_d < dim)[None, :]
    o_q = row * s_q[0] + (head * group + o_m)[:, None] * s_q[1] + o_d[None, :]
    b_q = tl.load(p_q + o_q, mask=m_q, other=0.0).to(tl.float32)
    b_up, b_down = tl.sum(tl.maximum(b_q, 0.0), 0), tl.sum(tl.minimum(b_q, 0.0), 0)
    chooser = row * tl.num_programs(1) + head
    p_scores += chooser * pages
    step = tl.cdiv(tl.cdiv(pages, tl.num_programs(0)), BLOCK_P) * BLOCK_P
    for p in tl.range(part * step, tl.minimum(part * step + step, pages), BLOCK_P, num_stages=STAGES):
        o_p = p + tl.arange(0, BLOCK_P)
        m_p = o_p < current
        m_b = m_p[:, None] if EVEN else m_p[:, None] & (o_d < dim)[None, :]
        o_b = o_p.to(tl.int64)[:, None] * s_bounds[2] + o_d[None, :]
        # (pages, dim)
        b_low = tl.load(p_low + o_b, mask=m_b, other=0.0).to(tl.float32)
        b_high = tl.load(p_high + o_b, mask=m_b, other=0.0).to(tl.float32)
        b_score = tl.sum(b_high * b_up[None, :] + b_low * b_down[None, :], 1)
        tl.store(p_scores + o_p, tl.where(m_p, b_score, float("-inf")), mask=o_p < pages)
    if LIMITS:
        # All stores of this program come before its count, and all of the others' before the last count.
        tl.debug_barrier()
        if tl.atomic_add(p_done + chooser, 1) == tl.num_programs(0) - 1:
            put_limits(p_scores, p_limits + chooser * 2, pages, budget, HELD, BLOCK)
            # For the next step.
            tl.store(p_done + chooser, 0)


def updated_page_bounds(
    keys: Tensor, offsets: Tensor, page_size: int, known: PageBounds | None
) -> PageBounds:
    """As :func:`sparsestudy.cache.updated_page_bounds`, its twin, whose arguments and result it shares."""
    batch, heads, slots, dim = keys.shape
    pages = cdiv(slots, page_size)
    bounds = known if known is not None else PageBounds(keys[:, :, :0], keys[:, :, :0])
    if bounds.minimum.shape[2] < pages:
        extra = (batch, heads, pages + RESERVE // page_size - bounds.minimum.shape[2], dim)
        bounds.minimum = torch.cat([bounds.minimum, keys.new_full(extra, float("inf"))], 2)
        bounds.maximum = torch.cat([bounds.maximum, keys.new_full(extra, float("-inf"))], 2)
    fresh = (slots - bounds.seen + page_size - 2) // page_size + 1 if bounds.seen else pages
    low, high = bounds.minimum, bounds.maximum
    keys = keys if keys.stride(-1) == 1 else keys.contiguous()
    _bound_pages[(fresh, heads, batch)](
        keys, low, high, offsets, keys.stride()[:3], low.stride()[:3], bounds.seen, slots, low.shape[2], dim,
        P=page_size, BLOCK_P=power(page_size), BLOCK_D=power(dim),
        num_warps=1,
    )  # fmt: skip
    bounds.seen = slots
    return bounds


def page_scores(
    q: Tensor,
    bounds: PageBounds,
    lengths: Tensor,
    page_size: int,
    choosers: int,
    fresh: tuple[Tensor, Tensor] | None = None,
    limits: tuple[Tensor, Tensor, int] | None = None,
) -> Tensor:
    """Upper bounds on the scores of each complete page, ``sum_d max(q_d min_d, q_d max_d)``.

    Args:
        q: query ``(batch, heads, 1, dim)``.
        bounds: of the pages ``(batch, kv heads, pages, dim)``.
        lengths: real tokens of each row, the new one included, int ``(batch,)``.
        page_size: tokens per page.
        choosers: the KV heads (scores of a group are summed) or the query heads.
        fresh: the keys ``(batch, kv heads, slots, dim)`` and the padding slots before each row, int
            ``(batch,)``: the bounds of the page of the new token are then brought up to date as well.
        limits: where to store what the best pages of each row and chooser have, int32
            ``(batch, choosers, 2)``, a count that is zero, int32 ``(batch, choosers)``, and how many the
            best are; see :func:`sparsestudy.kernels.top.kept`.

    Returns:
        fp32 ``(batch, choosers, pages)``; -inf for the current page and those that a row does not have.
    """
    batch, heads, _, dim = q.shape
    low, high = bounds.minimum, bounds.maximum
    kv_heads, pages = low.shape[1:3]
    q = q if q.stride(-1) == 1 else q.contiguous()
    keys, offsets = fresh or (low, lengths)
    found, done, budget = limits or (lengths, lengths, 0)
    scores = torch.empty(batch, choosers, pages, dtype=torch.float32, device=q.device)
    group = heads // choosers
    warps = FEW if limits is None else MANY
    parts = WARPS // warps * processors(q.device) // (batch * choosers)
    block_d = power(dim)
    _score_pages[(max(1, min(parts, cdiv(pages, BLOCK_P))), choosers, batch)](
        q, keys, low, high, lengths, offsets, scores, found, done, q.stride()[:2], keys.stride()[:3],
        low.stride()[:3], pages, budget, group, choosers // kv_heads, dim, P=page_size,
        LIMITS=limits is not None, KEYS=0 if fresh is None else power(page_size),
        SIGNAL=overlaps(q.device), EVEN=block_d == dim, STAGES=STAGES,
        BLOCK_M=power(group), BLOCK_P=BLOCK_P, BLOCK_D=block_d, **held(pages, HELD_UNITS),
        num_warps=warps,
    )  # fmt: skip
    return scores
