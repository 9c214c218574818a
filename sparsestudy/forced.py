"""What a model expects next, at every place of a given text, under a sparse attention method.

Nothing is generated: the text is given, so that two methods are compared at the same places of the same text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsestudy.generate import Prefilled, evicted
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
from sparsestudy.trace import Trace

# Places whose probabilities are held at a time: 128 rows of 49k words are 25 MB.
CHUNK = 128


@torch.no_grad()
def prompt_logits(model: Any, tokens: Tensor, method: Method, backend: str = "auto") -> tuple[Tensor, Trace]:
    """Logits at every place of some texts that are read as prompts.

    Args:
        model: a causal language model.
        tokens: ids ``(batch, tokens)``, no padding.
        method: attention of the prefill.
        backend: see :func:`sparsestudy.patch.sparse_attention`.

    Returns:
        Logits ``(batch, tokens, vocabulary)`` and the trace.
    """
    with sparse_attention(model, method, backend) as trace, trace.phase("prefill"):
        trace.question = torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits, trace


@torch.no_grad()
def step_logits(
    model: Any, prefilled: Prefilled, tokens: Tensor, method: Method, backend: str = "auto"
) -> tuple[Tensor, Trace]:
    """Logits after each token of a continuation that is fed as decode steps.

    Args:
        model: the model that prefilled the batch.
        prefilled: the texts before the continuation, which stay as they are.
        tokens: ids of the continuation ``(batch, steps)``.
        method: attention of the steps; one that evicts does so before the first.
        backend: see :func:`sparsestudy.patch.sparse_attention`.

    Returns:
        Logits ``(batch, steps, vocabulary)`` and the trace.
    """
    mask, found = prefilled.mask, []
    with sparse_attention(model, method, backend) as trace, trace.phase("decode"):
        cache = evicted(prefilled, method, trace) if method.evicts else prefilled.cache.fork()
        for token in tokens.T:
            mask = torch.cat([mask, mask.new_ones(len(token), 1)], dim=1)
            position = mask.sum(1, keepdim=True) - 1
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            found.append(out.logits[:, -1])
    return torch.stack(found, dim=1), trace


@torch.no_grad()
def distances(dense: Tensor, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the next token, and how far the prediction is from that of dense attention.

    Args:
        dense: logits of dense attention ``(batch, places, vocabulary)``.
        logits: those of another method.
        targets: the next tokens ``(batch, places)``.

    Returns:
        Loss, and Kullback-Leibler divergence of the prediction from the dense one, in nats; both float64
        ``(batch, places)``.
    """
    losses, divergences = [], []
    for start in range(0, logits.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        here = torch.log_softmax(logits[:, part].float(), -1)
        there = torch.log_softmax(dense[:, part].float(), -1)
        losses.append(-here.gather(-1, targets[:, part, None])[..., 0].double())
        divergences.append((there.exp() * (there - here)).sum(-1, dtype=torch.float64).clamp(min=0))
    return torch.cat(losses, 1), torch.cat(divergences, 1)
