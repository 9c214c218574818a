"""One batch of a task's samples under every setting: prefilled densely once, decoded many times, scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sparsestudy.generate import Prefilled, Prompt, decode, densities, head_densities, observation, prefill
from sparsestudy.progress import Progress
from sparsestudy.settings import DENSE, Setting
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import Encoded, Sample
from sparsestudy.trace import Step


@dataclass(frozen=True)
class Case:
    """One sample of a task, in text and in tokens."""

    sample: Sample
    encoded: Encoded


def run_batch(
    settings: Sequence[Setting],
    task: Task,
    cases: Sequence[Case],
    model: Any,
    tokenizer: Any,
    backend: str,
    progress: Progress,
) -> dict[str, Any]:
    """One batch under every setting: setting key -> what its rows did."""
    prompts = [Prompt(case.encoded.ids, case.encoded.tail) for case in cases]
    shared: dict[str, Prefilled] = {}
    observe = observation([setting.method for setting in settings], prompts)
    record = {}
    for setting in settings:
        try:
            record[setting.key] = _run(
                setting, task, cases, prompts, shared, observe, model, tokenizer, backend
            )
        except torch.OutOfMemoryError:
            # The cell is marked, the others go on: at this length a method may need more than another.
            shared.clear()
            torch.cuda.empty_cache()
            record[setting.key] = {"skipped_memory": True}
        progress.advance(len(cases))
    return record


def _run(
    setting: Setting,
    task: Task,
    cases: Sequence[Case],
    prompts: Sequence[Prompt],
    shared: dict[str, Prefilled],
    observe: int,
    model: Any,
    tokenizer: Any,
    backend: str,
) -> dict[str, Any]:
    """One batch under one setting; dense prefills are taken from, or added to, `shared`."""
    sparse_prefill = setting.phase == "prefill"
    if sparse_prefill:
        start = prefill(model, prompts, setting.method, "dense", backend)
    else:
        if setting.tail not in shared:
            shared[setting.tail] = prefill(model, prompts, DENSE.method, setting.tail, backend, observe)
        start = shared[setting.tail]
    replies = decode(
        model,
        start,
        DENSE.method if sparse_prefill else setting.method,
        task.max_new_tokens,
        _end_tokens(model, tokenizer),
        lambda ids: task.done(tokenizer.decode(ids, skip_special_tokens=True)),
        backend,
    )
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in replies.ids]
    scores = [task.score(case.sample, text) for case, text in zip(cases, texts, strict=True)]
    trace = start.trace if sparse_prefill else replies.trace
    step: Step = "prefill" if sparse_prefill else "decode"
    return {
        "score": [score.value for score in scores],
        "parsed": [score.parsed for score in scores],
        "finish": replies.finish,
        "output_tokens": [len(ids) for ids in replies.ids],
        "reply": texts,
        "prefill_seconds": start.seconds,
        "decode_seconds": replies.seconds,
        "selection_seconds": trace.selection_seconds(step),
        "backend": trace.backend,
        "notes": trace.notes(),
        "head_density": head_densities(trace, step),
        **densities(trace, step),
    }


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the model's own and the tokenizer's."""
    own = model.generation_config.eos_token_id
    ids = own if isinstance(own, list) else [own]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
