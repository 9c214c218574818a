"""One prefill, many decodes: greedy generation for a batch of prompts under one method.

Rows of a batch are left-padded. With ``tail="decode"`` only the context is prefilled; the tail of the prompt
(question, answer prefix) is fed token by token as decode steps. Tails differ in length, so a row starts to
generate as soon as its own tail is used up, while others are still reading: every row sees exactly what it
would see alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sparsestudy.cache import StudyCache, StudyLayer
from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
from sparsestudy.session import Session, evict
from sparsestudy.trace import Step, Trace


@dataclass(frozen=True)
class Prompt:
    """A prompt in tokens: `ids`, of which those from `tail` on are question and answer prefix."""

    ids: list[int]
    tail: int


@dataclass(frozen=True)
class Prefilled:
    """A batch after its prefill, ready to be decoded any number of times.

    Args:
        cache: keys and values of the prefilled tokens, and the last queries where they were asked for;
            decoding works on forks.
        logits: of each row's last prefilled token, ``(batch, vocabulary)``.
        mask: which slots are real, int ``(batch, slots)``.
        rest: for each row the prompt tokens that are not prefilled.
        trace: of the prefill.
        seconds: wall time.
        tokens: what was prefilled, ``(batch, slots)``.
    """

    cache: StudyCache
    logits: Tensor
    mask: Tensor
    rest: list[list[int]]
    trace: Trace
    seconds: float
    tokens: Tensor


@dataclass(frozen=True)
class Replies:
    """What a batch answered.

    Args:
        ids: generated tokens of each row, the end token left out.
        finish: for each row "stop" (end token, or nothing more is needed) or "length" (cut).
        trace: of the decode steps.
        seconds: wall time.
    """

    ids: list[list[int]]
    finish: list[Literal["stop", "length"]]
    trace: Trace
    seconds: float


@torch.no_grad()
def prefill(
    model: Any,
    prompts: Sequence[Prompt],
    method: Method,
    tail: str,
    backend: str = "auto",
    observe: int = 0,
) -> Prefilled:
    """Run the prompts through the model once.

    Args:
        model: a causal language model.
        prompts: the batch.
        method: attention during the prefill; methods that are sparse in decode run dense here.
        tail: "dense" prefills whole prompts, "decode" their contexts.
        backend: see :func:`sparsestudy.patch.sparse_attention`.
        observe: how many of the last queries to keep for evictions (:func:`observation`).
    """
    fed = [p.ids if tail == "dense" else p.ids[: p.tail] for p in prompts]
    rest = [p.ids[len(ids) :] for p, ids in zip(prompts, fed, strict=True)]
    longest = max(len(ids) for ids in fed)
    device = model.device
    # The value of a padding token is never attended; 0 exists in every vocabulary.
    tokens = torch.tensor([[0] * (longest - len(ids)) + ids for ids in fed], device=device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in fed], device=device)
    cache = StudyCache(model.config)
    # A tail that is not prefilled is no question in view.
    question = [min(p.tail, len(ids)) for p, ids in zip(prompts, fed, strict=True)]
    with sparse_attention(model, method, backend) as trace, trace.phase("prefill"):
        trace.question, trace.observe = torch.tensor(question, device=device), observe
        start = _now(device)
        logits = _forward(model, tokens, mask, cache)
        seconds = _now(device) - start
    return Prefilled(cache, logits, mask, rest, trace, seconds, tokens)


def observation(methods: Sequence[Method], prompts: Sequence[Prompt]) -> int:
    """How many of a prompt's last queries the evictions of some methods look at.

    A method that must not see the question looks at the queries before it, which lie behind the tail.
    """
    tail = max(len(p.ids) - p.tail for p in prompts)
    return max((m.observed + (0 if m.question_aware else tail) for m in methods if m.evicts), default=0)


@torch.no_grad()
def decode(
    model: Any,
    prefilled: Prefilled,
    method: Method,
    limit: int,
    end: frozenset[int],
    done: Callable[[list[int]], bool],
    backend: str = "auto",
) -> Replies:
    """Generate greedily from a prefilled batch, which stays as it is.

    Args:
        model: the model that prefilled it.
        prefilled: the batch.
        method: attention of the decode steps.
        limit: most tokens of a reply.
        end: token ids that end a reply.
        done: whether the tokens of a reply suffice.
        backend: see :func:`sparsestudy.patch.sparse_attention`.
    """
    mask, logits = prefilled.mask, prefilled.logits
    rows = range(len(prefilled.rest))
    rest = [list(tokens) for tokens in prefilled.rest]
    ids: list[list[int]] = [[] for _ in rows]
    finish: list[Literal["stop", "length"] | None] = [None for _ in rows]
    device = mask.device
    with sparse_attention(model, method, backend) as trace, trace.phase("decode"):
        trace.active = torch.ones(len(rest), dtype=torch.bool, device=device)
        start = _now(device)
        cache = evicted(prefilled, method, trace) if method.evicts else prefilled.cache.fork()
        while True:
            best = logits.argmax(-1).tolist()
            fed = []
            for row in rows:
                if rest[row]:
                    fed.append(rest[row].pop(0))
                    continue
                if finish[row] is None:
                    if best[row] in end:
                        finish[row] = "stop"
                    else:
                        ids[row].append(best[row])
                        finish[row] = (
                            "stop" if done(ids[row]) else "length" if len(ids[row]) >= limit else None
                        )
                fed.append(best[row])
            if all(finish):
                break
            trace.active = torch.tensor([state is None for state in finish], device=device)
            mask = torch.cat([mask, mask.new_ones(len(fed), 1)], dim=1)
            logits = _forward(model, torch.tensor(fed, device=device)[:, None], mask, cache)
        seconds = _now(device) - start
    return Replies(ids, [state or "length" for state in finish], trace, seconds)


def evicted(prefilled: Prefilled, method: Method, trace: Trace) -> StudyCache:
    """A fork of a prefilled cache from which a method has evicted; only what stays is copied.

    Args:
        prefilled: the batch, prefilled with enough queries kept (:func:`observation`).
        method: the method, which evicts.
        trace: that times the choice.

    Raises:
        StudyError: too few queries were kept.
    """
    lengths = prefilled.mask.sum(1)
    session = Session(method, trace, step="prefill", padded=bool((lengths < prefilled.mask.shape[1]).any()))
    session.lengths = session.prefilled = lengths
    session.offsets = prefilled.mask.shape[1] - lengths
    session.tokens = prefilled.tokens
    trace.question = prefilled.trace.question
    needed = method.observed
    if trace.question is not None and not method.question_aware:
        needed += int((lengths - trace.question).max())
    twin = prefilled.cache.shallow()
    for place, layer in enumerate(twin.layers):
        if not isinstance(layer, StudyLayer):
            continue
        held = 0 if layer.seen is None else layer.seen.queries.shape[2]
        if layer.seen is None or held < min(needed, prefilled.mask.shape[1]):
            raise StudyError(
                f"{method.name} looks at the last {needed} queries of the prompts, of which this prefill "
                f"kept {held}; prefill with observe=observation([method], prompts)."
            )
        session.caches[place] = twin
        evict(session, place, layer.seen.queries, layer.seen.scaling)
    return twin


def _forward(model: Any, tokens: Tensor, mask: Tensor, cache: StudyCache) -> Tensor:
    """Logits of the last token of each row, ``(batch, vocabulary)``."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    out = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    last: Tensor = out.logits[:, -1]
    return last


def densities(trace: Trace, step: Step) -> dict[str, list[float]]:
    """Densities of each row, by variable of the dataset; NaN where a row took no step."""
    found = {
        "attended_density": trace.row_density(step),
        "kernel_density": trace.row_density(step, "computed"),
        "model_density": trace.model_density(step),
    }
    if step == "decode":
        found["byte_density"] = trace.row_density(step, "read")
    return {name: values.tolist() for name, values in found.items()}


def head_densities(trace: Trace, step: Step) -> dict[int, list[float]]:
    """Attended density by sparsified layer, rows averaged; layer -> its heads, or groups, or 1 for all."""
    layers = [layer for layer, count in sorted(trace.counts[step].items()) if count.sparsified]
    return dict(zip(layers, trace.head_density(step).tolist(), strict=True))


def _now(device: torch.device) -> float:
    """Wall clock, after the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
