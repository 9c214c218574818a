"""The forward pass of a Llama in training: the same numbers as transformers', in fewer and fixed shapes.

All rows of a batch lie behind each other, so that everything but attention sees ``(tokens, dim)`` with the
same number of tokens at every length of text. Compiled once, it is never compiled again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsestudy.ladder.rungs import THETA


class Forward:
    """Hidden states of a ``LlamaForCausalLM``, whose parameters it uses where they lie.

    Args:
        model: with rotary embeddings of base `THETA` and no biases.
        compiled: whether to compile; pays on a GPU.
    """

    def __init__(self, model: Any, compiled: bool) -> None:
        self.model, self.config = model, model.config
        self._before: Callable[..., tuple[Tensor, Tensor, Tensor]] = _before
        self._after: Callable[..., Tensor] = _after
        if compiled:
            self._before = torch.compile(_before, fullgraph=True, dynamic=False)
            self._after = torch.compile(_after, fullgraph=True, dynamic=False)
        self._tables: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, ids: Tensor) -> Tensor:
        """Hidden states after the last norm, ``(rows * length, dim)``, for ids ``(rows, length)``."""
        rows, length = ids.shape
        core, eps, dim = self.model.model, self.config.rms_norm_eps, self.config.head_dim
        cos, sin = self._rotary(rows, length, ids.device)
        x = core.embed_tokens(ids.flatten())
        for layer in core.layers:
            own, mlp = layer.self_attn, layer.mlp
            weights = (own.q_proj.weight, own.k_proj.weight, own.v_proj.weight)
            flat = self._before(x, layer.input_layernorm.weight, *weights, cos, sin, eps)
            q, k, v = (part.view(rows, length, -1, dim).transpose(1, 2) for part in flat)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = self._after(
                x,
                attended.transpose(1, 2).reshape(rows * length, -1),
                own.o_proj.weight,
                layer.post_attention_layernorm.weight,
                mlp.gate_proj.weight,
                mlp.up_proj.weight,
                mlp.down_proj.weight,
                eps,
            )
        return F.rms_norm(x, x.shape[-1:], core.norm.weight, eps)

    def logits(self, hidden: Tensor, places: Tensor) -> Tensor:
        """Logits in fp32 at some flat positions, ``(places, vocabulary)``."""
        return F.linear(hidden[places], self.model.lm_head.weight).float()

    def _rotary(self, rows: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines, ``(rows * length, 1, head dim)``."""
        if (rows, length) not in self._tables:
            dim = self.config.head_dim
            rates = THETA ** -(torch.arange(0, dim, 2, device=device) / dim)
            angles = torch.outer(torch.arange(length, device=device), rates).repeat(1, 2)
            whole = angles.repeat(rows, 1)[:, None]
            self._tables[rows, length] = (whole.cos(), whole.sin())
        return self._tables[rows, length]


def _before(
    x: Tensor, norm: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, ``(tokens, heads, head dim)``."""
    y = F.rms_norm(x, x.shape[-1:], norm, eps)
    dim = cos.shape[-1]
    q, k, v = (F.linear(y, w).view(len(x), -1, dim) for w in (wq, wk, wv))
    return _turned(q, cos, sin), _turned(k, cos, sin), v


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the halves of each head."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _after(
    x: Tensor, attended: Tensor, wo: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float
) -> Tensor:
    """The residual stream behind attention and MLP, ``(tokens, dim)``."""
    x = x + F.linear(attended, wo)
    y = F.rms_norm(x, x.shape[-1:], norm, eps)
    return x + F.linear(F.silu(F.linear(y, gate)) * F.linear(y, up), down)
