"""Sparse attention in a transformers model, for as long as a ``with`` block lasts.

Uses transformers' public attention and mask interfaces: one name is registered with each at the first use
(there is no public way to take it back; nothing else in the process changes), and everything set on the
model is restored on exit, also after an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicLayer

from sparsestudy.backends import backend as chosen_backend
from sparsestudy.cache import StudyLayer
from sparsestudy.errors import StudyError
from sparsestudy.eviction import EvictedLayer
from sparsestudy.methods.base import Method
from sparsestudy.session import Session, after_prefill, evicted_decode, sparse_decode, sparse_prefill
from sparsestudy.trace import Step, Trace

NAME = "sparsestudy"
# Set on every attention module while a `with` block is open.
SLOT = "_sparsestudy_session"


@contextmanager
def sparse_attention(model: Any, method: Method, backend: str = "auto") -> Iterator[Trace]:
    """Run a model with a sparse attention method.

    ``model.generate()`` and plain forward passes work inside. A driver that runs its own loop declares what
    it is doing with ``trace.phase("prefill")`` and ``trace.phase("decode")``; without that, a forward pass
    on an empty cache is the prefill and later ones of a single token are decode steps, also the last chunk
    of a prompt if it holds one token.

    Args:
        model: a causal language model of transformers.
        method: what each query attends.
        backend: "auto", "torch" or "triton": see :func:`sparsestudy.backends.backend`. Triton's kernels know
            no gradients.

    Yields:
        The trace: achieved densities per layer and row.

    Raises:
        StudyError: a backend that is unknown or cannot run here, batches of different sizes in one block, a
            model spread over several devices, a prompt padded on the right, a chunked prefill under a method
            that chooses for a whole prompt, a cache of a fixed size or one that nothing can be evicted from,
            or a model whose attention has a softcap.
    """
    devices = {str(device) for device in (getattr(model, "hf_device_map", None) or {}).values()}
    if len(devices) > 1:
        raise StudyError(
            f"{type(model).__name__} is spread over {', '.join(sorted(devices))}; sparse attention runs on a "
            "model that is whole on one device, so load it with device_map=None or onto one device."
        )
    modules = attention_modules(model)
    computing = chosen_backend(backend, model, method)
    _register()
    session = Session(method, Trace(backend=computing.name), computing)
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
        if len(session.lengths) not in (0, batch):
            raise StudyError(
                f"One `with sparse_attention` counts one batch, and this pass has {batch} rows where earlier "
                f"ones had {len(session.lengths)}; open one for each batch."
            )
        cache = kwargs.get("past_key_values")
        if getattr(cache, "is_compileable", False):
            raise StudyError(
                f"Sparse attention takes no {type(cache).__name__} of a fixed size; pass "
                "past_key_values=StudyCache(model.config) or a DynamicCache."
            )
        past = 0 if cache is None else cache.get_seq_length()
        session.step = _phase(session, past, new)
        session.trace.steps[session.step] += 1
        session.tokens = None if tokens.is_floating_point() else tokens
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
        session.begin(past, new, cache)

    return hook


def _is_padded(mask: Tensor) -> bool:
    """Whether a prompt's mask ``(batch, tokens)`` holds padding, which must stand on the left."""
    padded = not bool(mask.all())
    # In a chunk of a prompt a row may be padding alone so far.
    if padded and bool((mask[:, 1:].bool() < mask[:, :-1].bool()).any()):
        raise StudyError("Prompts must be padded on the left; set tokenizer.padding_side = 'left'.")
    return padded


def _phase(session: Session, past: int, new: int) -> Step:
    """The declared phase, or what the cache's length says."""
    step = session.trace.declared or ("prefill" if past == 0 or new > 1 else "decode")
    if step == "prefill" and past and (session.method.phase == "prefill" or session.method.evicts):
        raise StudyError(
            f"{session.method.name} chooses for a whole prompt at once and cannot prefill in chunks; pass "
            "the prompt in one forward pass."
        )
    if step == "decode" and new > 1:
        raise StudyError(f"A decode step takes one token a row, not {new}.")
    return step


def _note_cache(session: Session) -> Any:
    """The hook that shows each layer its cache, and gives an empty one layers that can evict."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache, place = kwargs.get("past_key_values"), module.layer_idx
        session.caches[place] = cache
        if cache is None or session.step != "prefill" or not session.method.evicts:
            return
        if place == len(cache.layers) and getattr(cache, "layer_class_to_replicate", None) is DynamicLayer:
            cache.layers.append(StudyLayer())
        elif type(cache.layers[place]) is DynamicLayer and not cache.layers[place].is_initialized:
            cache.layers[place] = StudyLayer()

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
    layer: int = module.layer_idx
    window: int | None = kwargs.get("sliding_window")
    if window is not None:
        session.trace.record(session.step, layer, session.within(window), sparsified=False)
        return dense()
    if isinstance(session.layer(layer), EvictedLayer):
        out: Tensor | None = evicted_decode(session, layer, query, key, value, scaling)
    elif session.step == "prefill":
        out = sparse_prefill(session, layer, query, key, value, scaling)
    else:
        out = sparse_decode(session, layer, query, key, value, scaling)
    result = dense() if out is None else (out.transpose(1, 2).contiguous(), None)
    if session.step == "prefill":
        after_prefill(session, layer, query, key, scaling)
    return result
