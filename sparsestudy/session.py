"""One open ``with`` block: what is known of the running forward pass, and what each layer then does.

Selections and evictions are made on rows that start at their token 0, whatever padding stands before them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsestudy.backends import TORCH, Backend
from sparsestudy.cache import Observed, PageBounds, StudyLayer, updated_page_bounds
from sparsestudy.errors import StudyError
from sparsestudy.eviction import EvictedLayer
from sparsestudy.methods.base import Chosen, Context, Method
from sparsestudy.trace import Step, Trace

# Set on a cache at its first decode step: real tokens of each row that the prefill saw.
PREFILLED = "_sparsestudy_prefilled"


@dataclass
class Session:
    """One open ``with`` block: the method, its trace, and what is known of the running forward pass.

    Args:
        method: what each query attends.
        trace: what is recorded.
        backend: what computes the attention that the method selects.
        step: phase of the running pass.
        padded: whether the prompts are padded.
        lengths: real tokens of each row, int ``(batch,)``.
        first: real tokens of each row before this pass, int ``(batch,)``.
        offsets: padding slots before each row, int ``(batch,)``.
        prefilled: real tokens of each row before the first decode step, int ``(batch,)``.
        available: causal pairs of the pass, int ``(batch, 1)``.
        tokens: input ids of the pass, None where embeddings were given.
        caches: the cache that each layer was called with.
    """

    method: Method
    trace: Trace
    backend: Backend = TORCH
    step: Step = "prefill"
    padded: bool = False
    lengths: Tensor = field(default_factory=lambda: torch.zeros(0))
    first: Tensor = field(default_factory=lambda: torch.zeros(0))
    offsets: Tensor = field(default_factory=lambda: torch.zeros(0))
    prefilled: Tensor = field(default_factory=lambda: torch.zeros(0))
    available: Tensor = field(default_factory=lambda: torch.zeros(0))
    tokens: Tensor | None = None
    caches: dict[int, Any] = field(default_factory=dict)

    def begin(self, past: int, new: int, cache: Any) -> None:
        """Settle what follows from phase and lengths of a pass of `new` slots after `past` cached ones."""
        self.offsets = past + new - self.lengths
        self.first = self.lengths - self.lengths.clamp(max=new)
        self.available = self.within(past + new)
        self.prefilled = self.lengths
        if self.step == "decode":
            self.prefilled = getattr(cache, PREFILLED, self.lengths - new)
            if cache is not None:
                setattr(cache, PREFILLED, self.prefilled)

    def within(self, window: int) -> Tensor:
        """Causal pairs of this pass whose key is one of the query's latest `window`, int ``(batch, 1)``."""

        def pairs(tokens: Tensor) -> Tensor:
            triangle = tokens.clamp(max=window)
            return triangle * (triangle + 1) // 2 + (tokens - triangle) * window

        return (pairs(self.lengths) - pairs(self.first))[:, None]

    def layer(self, place: int) -> Any:
        """A layer's part of the cache, or None."""
        cache = self.caches.get(place)
        return None if cache is None else cache.layers[place]

    def context(self, layer: int, k: Tensor, offsets: Tensor, scaling: float) -> Context:
        """What a method may know of the pass in one layer; `offsets` is 0 for rows that come aligned."""
        stored = self.layer(layer)

        def page_bounds(page_size: int) -> PageBounds:
            if isinstance(stored, StudyLayer):
                stored.offsets = offsets
                return stored.page_bounds(page_size)
            return updated_page_bounds(k, offsets, page_size, None)

        return Context(
            lengths=self.lengths,
            offsets=offsets,
            scaling=scaling,
            layer=layer,
            page_bounds=page_bounds,
            prefilled=self.prefilled,
            question=self.trace.question,
            salt=lambda: salted(self.tokens, self.lengths),
        )


def salted(tokens: Tensor | None, lengths: Tensor) -> Tensor:
    """A number for each row that depends on its tokens in this pass and its length, int64 ``(batch,)``.

    The sum of the token ids, each times its place counted from the end, and the length; padding counts for
    nothing. Two prompts may share it by accident, and then their random draws; nothing else depends on it.

    Args:
        tokens: input ids ``(batch, slots)``, padded on the left; None where embeddings were given.
        lengths: real tokens of each row, int ``(batch,)``.
    """
    if tokens is None:
        return lengths.long()
    place = torch.arange(tokens.shape[1], 0, -1, device=tokens.device)
    real = place <= lengths[:, None]
    return (tokens.long() * real * place).sum(1) + lengths.long()


def sparse_prefill(
    session: Session, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float
) -> Tensor | None:
    """Output ``(batch, heads, tokens, dim)``, computed on rows that start at their token 0; None is dense."""
    if session.method.phase != "prefill":
        session.trace.record("prefill", layer, session.available)
        return None
    shift = session.offsets if session.padded else None
    q, k, v = (_rolled(x, shift) for x in (q, k, v))
    context = session.context(layer, k, torch.zeros_like(session.offsets), scaling)
    with session.trace.choosing("prefill", q.device):
        selection = session.method.prefill(q, k, context)
    _note(session, context)
    if selection is None:
        session.trace.record("prefill", layer, session.available)
        return None
    session.trace.record("prefill", layer, session.available, selection.attended(), selection.computed())
    out = session.backend.selected_attention(q, k, v, selection, scaling)
    return _rolled(out, None if shift is None else -shift)


def after_prefill(session: Session, layer: int, q: Tensor, k: Tensor, scaling: float) -> None:
    """Keep the last queries for an eviction made later, or evict now."""
    stored = session.layer(layer)
    if session.trace.observe and isinstance(stored, StudyLayer):
        # A copy: a view would keep all queries of the prompt in memory.
        stored.seen = Observed(q[:, :, -session.trace.observe :].clone(), scaling)
    if session.method.evicts and session.caches.get(layer) is not None:
        evict(session, layer, q, scaling)


def evict(session: Session, layer: int, q: Tensor, scaling: float) -> None:
    """Evict from one layer of the cache after the prefill.

    Args:
        session: the open block.
        layer: index of the layer.
        q: the last queries of the prompt ``(batch, heads, tokens, dim)``.
        scaling: factor of the scores.

    Raises:
        StudyError: the cache is of a kind that nothing can be evicted from.
    """
    stored = session.layer(layer)
    if not isinstance(stored, StudyLayer) or stored.keys is None:
        raise StudyError(
            f"{session.method.name} cannot evict from a {type(stored).__name__}; pass "
            "past_key_values=StudyCache(model.config), or an empty DynamicCache."
        )
    k = _rolled(stored.keys, session.offsets if session.padded else None)
    context = session.context(layer, k, torch.zeros_like(session.offsets), scaling)
    with session.trace.choosing("decode", k.device):
        kept = session.method.evict(q, k, context)
    _note(session, context)
    if kept is not None:
        session.caches[layer].layers[layer] = EvictedLayer(stored, kept, session.offsets)


def sparse_decode(
    session: Session, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float
) -> Tensor | None:
    """Output ``(batch, heads, 1, dim)`` of one step; None is dense."""
    if session.method.evicts:
        raise StudyError(
            f"{session.method.name} evicts when the prompt is prefilled, and this cache was prefilled "
            "without it; prefill inside the same `with` block, or let sparsestudy.generate.decode evict."
        )
    context = session.context(layer, k, session.offsets, scaling)
    with session.trace.choosing("decode", q.device):
        selection = session.method.decode(q, k, context)
    _note(session, context)
    if selection is None:
        session.trace.record("decode", layer, session.available)
        return None
    metadata = session.method.metadata_read(session.lengths)[:, None]
    read = _union(selection, k.shape[1], k.shape[2]) + metadata
    session.trace.record("decode", layer, session.available, selection.attended(), read=read)
    return session.backend.selected_decode(q, k, v, selection, session.offsets, scaling)


def evicted_decode(session: Session, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Output ``(batch, heads, 1, dim)`` of one step over what an eviction has left and the new tokens."""
    stored = session.layer(layer)
    if not (session.method.evicts or session.method.phase == "none"):
        raise StudyError(
            f"{session.method.name} cannot select in a cache whose tokens were evicted; prefill again for it."
        )
    if session.step != "decode":
        raise StudyError(
            "A cache whose tokens were evicted takes one token a row at a time, as decode steps; prefill a "
            "new one."
        )
    held = stored.counts + k.shape[2]
    session.trace.record("decode", layer, session.available, held, read=held)
    return session.backend.evicted_attention(q, k, v, stored, scaling)


def _note(session: Session, context: Context) -> None:
    for name, values in context.notes.items():
        session.trace.note(name, values)


def _union(selection: Chosen, kv_heads: int, slots: int) -> Tensor:
    """Tokens a step reads for each KV head, the union over its query heads: ``(batch, 1 or kv heads)``."""
    if selection.heads <= kv_heads:
        return selection.attended()
    mask = selection.mask(slice(0, 1), slots)
    union: Tensor = mask.unflatten(1, (kv_heads, -1)).any(2)
    return union.sum((2, 3))


def _rolled(x: Tensor, shift: Tensor | None) -> Tensor:
    """Rows moved left by `shift` tokens ``(batch,)``; the end left empty repeats its last token."""
    if shift is None:
        return x
    token = (torch.arange(x.shape[2], device=x.device) + shift[:, None]).clamp(0, x.shape[2] - 1)
    return x.gather(2, token[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
