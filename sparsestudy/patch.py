"""Sparse attention in a transformers model, for as long as a ``with`` block lasts.

Uses transformers' public attention and mask interfaces: one name is registered with each at the first use
(there is no public way to take it back; nothing else in the process changes), and everything set on the
model is restored on exit, also after an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsestudy.attention import selected_attention, selected_decode
from sparsestudy.cache import PageBounds, StudyLayer, updated_page_bounds
from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Context, Method
from sparsestudy.selection import Selection
from sparsestudy.trace import Step, Trace

NAME = "sparsestudy"
BACKENDS = ("auto", "torch")
# Set on every attention module while a `with` block is open.
SLOT = "_sparsestudy_session"


@dataclass
class Session:
    """One open ``with`` block: the method, its trace, and what is known of the running forward pass."""

    method: Method
    trace: Trace
    step: Step = "prefill"
    padded: bool = False
    lengths: Tensor = field(default_factory=lambda: torch.zeros(0))
    offsets: Tensor = field(default_factory=lambda: torch.zeros(0))
    available: Tensor = field(default_factory=lambda: torch.zeros(0))
    caches: dict[int, Any] = field(default_factory=dict)


@contextmanager
def sparse_attention(model: Any, method: Method, backend: str = "auto") -> Iterator[Trace]:
    """Run a model with a sparse attention method.

    ``model.generate()`` and plain forward passes work inside. A driver that runs its own loop declares what
    it is doing with ``trace.phase("prefill")`` and ``trace.phase("decode")``; without that, a forward pass
    on an empty cache is the prefill and later ones of a single token are decode steps.

    Args:
        model: a causal language model of transformers.
        method: what each query attends.
        backend: "auto" or "torch".

    Yields:
        The trace: achieved densities per layer and row.

    Raises:
        StudyError: unknown backend, a prompt padded on the right, a chunked prefill under a method that is
            sparse in prefill, or a model whose attention has a softcap.
    """
    if backend not in BACKENDS:
        raise StudyError(f"There is no backend '{backend}' here; choose one of {', '.join(BACKENDS)}.")
    _register()
    session = Session(method, Trace(backend="torch"))
    modules = attention_modules(model)
    before = [getattr(module, SLOT, None) for module in modules]
    implementation = model.config._attn_implementation
    hooks = [model.base_model.register_forward_pre_hook(_begin(session), with_kwargs=True)]
    hooks += [module.register_forward_pre_hook(_note_cache(session), with_kwargs=True) for module in modules]
    try:
        for module in modules:
            setattr(module, SLOT, session)
        model.set_attn_implementation(NAME)
        yield session.trace
    finally:
        for hook in hooks:
            hook.remove()
        for module, earlier in zip(modules, before, strict=True):
            if earlier is None:
                module.__dict__.pop(SLOT, None)
            else:
                setattr(module, SLOT, earlier)
        model.set_attn_implementation(implementation)


def attention_modules(model: Any) -> list[Any]:
    """The attention modules of a decoder, in layer order.

    Raises:
        StudyError: the model has none that go through transformers' attention interface.
    """
    modules = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "q_proj")]
    if not modules:
        raise StudyError(
            f"{type(model).__name__} has no attention layers of the usual form; sparse attention runs on "
            "decoders such as Llama, Qwen2, Qwen3, Mistral and Gemma 3."
        )
    return modules


def _register() -> None:
    """Give transformers our name, for attention *and* masks (without the second, padding is ignored)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if NAME not in AttentionInterface():
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)


def _begin(session: Session) -> Any:
    """The hook that learns phase, lengths and padding before each forward pass."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = (
            kwargs.get("input_ids") if kwargs.get("input_ids") is not None else kwargs.get("inputs_embeds")
        )
        if tokens is None:
            tokens = args[0]
        batch, new = tokens.shape[:2]
        cache = kwargs.get("past_key_values")
        past = 0 if cache is None else cache.get_seq_length()
        session.step = _phase(session, past, new)
        session.trace.steps[session.step] += 1
        mask = kwargs.get("attention_mask")
        if mask is None:
            session.lengths = torch.full((batch,), past + new, device=tokens.device)
            session.padded = False
        else:
            if mask.ndim != 2:
                raise StudyError("Sparse attention takes a 2-D attention_mask (batch, tokens).")
            if session.step == "prefill":
                session.padded = _is_padded(mask)
            session.lengths = mask.sum(1)
        session.offsets = past + new - session.lengths
        # Causal pairs of this pass: the triangle up to each row's length, less what came before.
        before = session.lengths - session.lengths.clamp(max=new)
        total = session.lengths * (session.lengths + 1) - before * (before + 1)
        session.available = (total // 2)[:, None]

    return hook


def _is_padded(mask: Tensor) -> bool:
    """Whether a prompt's mask ``(batch, tokens)`` holds padding, which must stand on the left."""
    padded = not bool(mask.all())
    if padded and not bool(mask[:, -1].all()):
        raise StudyError("Prompts must be padded on the left; set tokenizer.padding_side = 'left'.")
    return padded


def _phase(session: Session, past: int, new: int) -> Step:
    """The declared phase, or what the cache's length says."""
    step = session.trace.declared or ("prefill" if past == 0 or new > 1 else "decode")
    if step == "prefill" and past and session.method.phase == "prefill":
        raise StudyError(
            f"{session.method.name} chooses for a whole prompt at once and cannot prefill in chunks; pass "
            "the prompt in one forward pass."
        )
    if step == "decode" and new > 1:
        raise StudyError(f"A decode step takes one token a row, not {new}.")
    return step


def _note_cache(session: Session) -> Any:
    """The hook that shows each layer its cache."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        session.caches[module.layer_idx] = (
            None if cache is None else cache.layers[module.layer_idx : module.layer_idx + 1]
        )

    return hook


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls in every layer: ``query (batch, heads, tokens, dim)``, keys unrepeated."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if kwargs.get("softcap") is not None:
        raise StudyError(
            f"{type(module).__name__} caps its attention scores, which sparse attention does not support."
        )
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    session: Session | None = getattr(module, SLOT, None)

    def dense() -> tuple[Tensor, Tensor | None]:
        out: tuple[Tensor, Tensor | None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return out

    if session is None:  # another model that shares this one's config object: leave it as it was
        return dense()
    if kwargs.get("sliding_window") is not None:
        _record(session, module.layer_idx, key.shape[1], key.shape[2], None, sparsified=False)
        return dense()
    choose = _prefill if session.step == "prefill" else _decode
    selection, out = choose(session, module.layer_idx, query, key, value, scaling)
    _record(session, module.layer_idx, key.shape[1], key.shape[2], selection)
    return dense() if out is None else (out.transpose(1, 2).contiguous(), None)


def _prefill(
    session: Session, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float
) -> tuple[Selection | None, Tensor | None]:
    """Selection and output ``(batch, heads, tokens, dim)``, computed on rows that start at their token 0."""
    if session.method.phase != "prefill":
        return None, None
    shift = session.offsets if session.padded else None
    q, k, v = (_rolled(x, shift) for x in (q, k, v))
    selection = session.method.prefill(
        q, k, _context(session, layer, k, torch.zeros_like(session.offsets), scaling)
    )
    if selection is None:
        return None, None
    out = selected_attention(q, k, v, selection, scaling)
    return selection, _rolled(out, None if shift is None else -shift)


def _decode(
    session: Session, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float
) -> tuple[Selection | None, Tensor | None]:
    """Selection and output ``(batch, heads, 1, dim)`` of one step."""
    selection = session.method.decode(q, k, _context(session, layer, k, session.offsets, scaling))
    if selection is None:
        return None, None
    return selection, selected_decode(q, k, v, selection, session.offsets, scaling)


def _context(session: Session, layer: int, k: Tensor, offsets: Tensor, scaling: float) -> Context:
    holder = session.caches.get(layer)
    stored = holder[0] if holder else None

    def page_bounds(page_size: int) -> PageBounds:
        if isinstance(stored, StudyLayer):
            stored.offsets = offsets
            return stored.page_bounds(page_size)
        return updated_page_bounds(k, offsets, page_size, None)

    return Context(session.lengths, offsets, scaling, layer, page_bounds)


def _record(
    session: Session,
    layer: int,
    kv_heads: int,
    slots: int,
    selection: Selection | None,
    sparsified: bool = True,
) -> None:
    read = None
    if selection is not None and session.step == "decode":
        metadata = session.method.metadata_read(session.lengths)[:, None]
        read = _union(selection, kv_heads, slots) + metadata
    session.trace.record(session.step, layer, session.available, selection, read, sparsified)


def _union(selection: Selection, kv_heads: int, slots: int) -> Tensor:
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
