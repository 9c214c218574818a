"""Tiny random models of every architecture that the study names, and prompts for them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from shapes import measure, variants

from sparsestudy.errors import Unreachable
from sparsestudy.generate import Prompt, Replies, decode, observation, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method

VOCABULARY = 97
NO_END: frozenset[int] = frozenset()
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attn_implementation": "sdpa",
    # Larger than usual initial weights, so that attention is far from uniform and a mistake shows.
    "initializer_range": 0.2,
}
_GEMMA = {
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "sliding_window": 32,
    "head_dim": 16,
    "query_pre_attn_scalar": 8,
    # Tied ones make a random model repeat its last token, whatever it attends.
    "tie_word_embeddings": False,
}
# Name -> (config class, model class, what differs).
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 16}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"sliding_window": None}),
    "mistral_sliding": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 32}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model, the same every time."""
    config, model, more = ARCHITECTURES[name]
    torch.manual_seed(0)
    return getattr(transformers, model)(getattr(transformers, config)(**_SIZES | more)).to(dtype).eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    return torch.randint(1, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def padded(*rows: list[int]) -> dict[str, torch.Tensor]:
    """Rows padded on the left."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


# Constants that fit prompts of some 100 tokens.
_SMALL = {"tile": 16, "block_size": 16, "window": 16, "local": 8, "min_budget": 8, "page_size": 4}


def small(method: Method) -> Method:
    """The method, or the method that a control stands beside, with constants for short prompts."""
    if hasattr(method, "beside"):
        return method.beside(small(method.method))
    fields = {f.name for f in dataclasses.fields(method) if f.init}
    changes = {name: value for name, value in _SMALL.items() if name in fields}
    if "page_size" in changes:
        changes["token_budget"] = 16
    return dataclasses.replace(method, **changes)


def budgeted(method: Method, sparsity: float, tokens: int) -> Method:
    """The method with small constants at a sparsity, or at its smallest budget where that is out of reach."""
    ready = small(method)
    density = measure(tokens)
    for target in (sparsity, sparsity / 2, sparsity / 4, 0.02):
        try:
            return ready.at_sparsity(target, tokens, density)
        except Unreachable:
            continue
    raise AssertionError(f"{method} cannot leave out anything at {tokens} tokens: {json.dumps(str(ready))}")


def chosen() -> list[Method]:
    """Every method, and every control beside one method of each kind: prefill, eviction, decode."""
    methods = variants("method")
    kinds = {(method.phase, method.evicts): method.name for method in reversed(methods)}
    controls = variants("control", "oracle")
    return methods + [c for c in controls if getattr(c, "like", None) in kinds.values()]


def watched(method: Method) -> tuple[Method, list[tuple[int, torch.Tensor, torch.Tensor, Any]]]:
    """The method as it is, and a list that gathers layer, queries, keys and answer of its hooks."""
    seen: list[tuple[int, torch.Tensor, torch.Tensor, Any]] = []

    class Watched(type(method)):  # type: ignore[misc]  # the class is only known at run time
        def _kept(self, q: Any, k: Any, context: Any, answer: Any) -> Any:
            if answer is not None:
                seen.append((context.layer, q, k, answer))
            return answer

        def prefill(self, q: Any, k: Any, context: Any) -> Any:
            return self._kept(q, k, context, super().prefill(q, k, context))

        def evict(self, q: Any, k: Any, context: Any) -> Any:
            return self._kept(q, k, context, super().evict(q, k, context))

        def decode(self, q: Any, k: Any, context: Any) -> Any:
            return self._kept(q, k, context, super().decode(q, k, context))

    given = [field.name for field in dataclasses.fields(method) if field.init]
    return Watched(**{name: getattr(method, name) for name in given}), seen


def generated(model: Any, rows: Sequence[list[int]], limit: int = 6, **more: Any) -> list[list[int]]:
    """What `model.generate` continues left-padded rows with, greedily."""
    batch = padded(*rows)
    out = model.generate(
        **batch, max_new_tokens=limit, do_sample=False, eos_token_id=None, pad_token_id=0, **more
    )
    return out[:, batch["input_ids"].shape[1] :].tolist()


def reply(
    model: Any,
    rows: Sequence[list[int]],
    method: Method,
    tail: str,
    limit: int = 6,
    cut: int | list[int] = 9,
    backend: str = "auto",
) -> Replies:
    """What the study's driver generates, the last `cut` tokens of each prompt being its tail."""
    cuts = [cut] * len(rows) if isinstance(cut, int) else cut
    prompts = [Prompt(row, len(row) - c) for row, c in zip(rows, cuts, strict=True)]
    dense = METHODS["dense"]()
    first, rest = (method, dense) if method.phase == "prefill" else (dense, method)
    started = prefill(model, prompts, first, tail, backend, observation([rest], prompts))
    return decode(model, started, rest, limit, NO_END, lambda ids: False, backend)
