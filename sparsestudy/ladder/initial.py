"""Initial weights: matrices of the natural scale, and a first layer that looks at the tokens just before.

A lookup by a key needs the key's tokens at the place of its value, so heads that look back a fixed small
distance come first, and the heads that compare keys can be learned only then. From random weights a head sees
all tokens alike, what stands just before is lost among them, and it pays at once to copy any value of the
text; this is where trainings without such heads stayed. The architecture is a Llama's as before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sparsestudy.ladder.rungs import THETA, Rung

# Rotating pairs with the highest frequencies, which tell neighbors apart.
PAIRS = 6
# Size of what all embeddings have in common, beside what each has of its own; and what is left of the random
# part of the first layer's queries and keys.
COMMON, KEPT = 1.0, 0.3


def initial(rung: Rung, seed: int) -> Any:
    """The untrained model; matrices that write into the residual stream begin smaller, by the depth."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(rung.config())
    core = model.model
    with torch.no_grad():
        core.embed_tokens.weight.normal_(0, rung.embedding or rung.hidden**-0.5)
        for layer in core.layers:
            for name, weight in layer.named_parameters():
                if weight.dim() > 1:
                    writes = name.startswith(("self_attn.o_proj", "mlp.down_proj"))
                    scale = rung.deviation or weight.shape[1] ** -0.5
                    weight.normal_(0, scale / (math.sqrt(2 * rung.layers) if writes else 1))
        if rung.local:
            _look_back(core.embed_tokens.weight, core.layers[0].self_attn, rung)
    return model.train()


def _look_back(embeddings: Tensor, attention: Any, rung: Rung) -> None:
    """Turn the heads of a layer to the token before, to the second before, and so on.

    All embeddings get one direction in common. Along it, queries and keys are the same for every token, so
    that their product depends on the distance alone: with rotary embeddings it is largest where the turn of
    the query undoes the distance.
    """
    common = torch.nn.functional.normalize(torch.randn(rung.hidden), dim=0)
    embeddings += COMMON * embeddings.norm(dim=1).mean() * common
    # How long the common part is behind the norm, and so how long a query is to be for a score of `local`.
    length = math.sqrt(rung.hidden) * COMMON / math.hypot(1, COMMON)
    size = math.sqrt(rung.local * math.sqrt(rung.head_dim) / PAIRS) / length
    rates = THETA ** -(torch.arange(0, rung.head_dim, 2) / rung.head_dim)
    high = (torch.arange(rung.head_dim // 2) < PAIRS) * size
    queries = attention.q_proj.weight.view(rung.heads, rung.head_dim, -1)
    keys = attention.k_proj.weight.view(rung.heads // 2, rung.head_dim, -1)
    for weights in (queries, keys):
        weights *= KEPT
    keys += torch.outer(torch.cat([high, 0 * high]), common)
    for back, head in enumerate(queries, 1):
        turned = torch.cat([high * torch.cos(back * rates), -high * torch.sin(back * rates)])
        head += torch.outer(turned, common)
