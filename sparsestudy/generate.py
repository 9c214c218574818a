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

from sparsestudy.cache import StudyCache
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
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
        cache: keys and values of the prefilled tokens; decoding works on forks.
        logits: of each row's last prefilled token, ``(batch, vocabulary)``.
        mask: which slots are real, int ``(batch, slots)``.
        rest: for each row the prompt tokens that are not prefilled.
        trace: of the prefill.
        seconds: wall time.
    """

    cache: StudyCache
    logits: Tensor
    mask: Tensor
    rest: list[list[int]]
    trace: Trace
    seconds: float


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
    model: Any, prompts: Sequence[Prompt], method: Method, tail: str, backend: str = "auto"
) -> Prefilled:
    """Run the prompts through the model once.

    Args:
        model: a causal language model.
        prompts: the batch.
        method: attention during the prefill; methods that are sparse in decode run dense here.
        tail: "dense" prefills whole prompts, "decode" their contexts.
        backend: see :func:`sparsestudy.patch.sparse_attention`.
    """
    fed = [p.ids if tail == "dense" else p.ids[: p.tail] for p in prompts]
    rest = [p.ids[len(ids) :] for p, ids in zip(prompts, fed, strict=True)]
    longest = max(len(ids) for ids in fed)
    device = model.device
    # The value of a padding token is never attended; 0 exists in every vocabulary.
    tokens = torch.tensor([[0] * (longest - len(ids)) + ids for ids in fed], device=device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in fed], device=device)
    cache = StudyCache(model.config)
    with sparse_attention(model, method, backend) as trace, trace.phase("prefill"):
        start = _now(device)
        logits = _forward(model, tokens, mask, cache)
        seconds = _now(device) - start
    return Prefilled(cache, logits, mask, rest, trace, seconds)


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
    cache, mask, logits = prefilled.cache.fork(), prefilled.mask, prefilled.logits
    rows = range(len(prefilled.rest))
    rest = [list(tokens) for tokens in prefilled.rest]
    ids: list[list[int]] = [[] for _ in rows]
    finish: list[Literal["stop", "length"] | None] = [None for _ in rows]
    device = mask.device
    with sparse_attention(model, method, backend) as trace, trace.phase("decode"):
        start = _now(device)
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


def _now(device: torch.device) -> float:
    """Wall clock, after the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
