"""The shapes of models whose speed is measured; their weights are random. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a decoder, as its published config gives them.

    Args:
        family: transformers' name of the architecture.
        layers: decoder layers.
        hidden: numbers per token between layers.
        intermediate: numbers per token inside the MLP.
        heads: query heads.
        kv_heads: key and value heads.
        dim: numbers per head.
        vocabulary: rows of the embedding.
        tied: whether the output head is the embedding.
        theta: base of the rotary frequencies.
        context: trained context in tokens.
        source: whose sizes these are.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    dim: int
    vocabulary: int
    tied: bool
    theta: float
    context: int
    source: str

    def identity(self) -> str:
        """A hash of the sizes, in the place of the weights' sha256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def config(self) -> Any:
        """The config of transformers; needs torch."""
        from transformers import AutoConfig

        return AutoConfig.for_model(
            self.family,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.dim,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
            max_position_embeddings=self.context,
            rope_theta=self.theta,
        )


SHAPES: dict[str, Shape] = {
    "tiny": Shape(
        family="llama",
        layers=2,
        hidden=256,
        intermediate=512,
        heads=4,
        kv_heads=2,
        dim=64,
        vocabulary=1024,
        tied=True,
        theta=1e4,
        context=131072,
        source="two layers for a CPU, nobody's model",
    ),
    "smollm2-135m": Shape(
        family="llama",
        layers=30,
        hidden=576,
        intermediate=1536,
        heads=9,
        kv_heads=3,
        dim=64,
        vocabulary=49152,
        tied=True,
        theta=1e5,
        context=8192,
        source="config.json of HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "qwen2.5-7b": Shape(
        family="qwen2",
        layers=28,
        hidden=3584,
        intermediate=18944,
        heads=28,
        kv_heads=4,
        dim=128,
        vocabulary=152064,
        tied=False,
        theta=1e6,
        context=131072,
        source="config.json of Qwen/Qwen2.5-7B-Instruct, whose context is extended by YaRN",
    ),
    "llama-3.1-8b": Shape(
        family="llama",
        layers=32,
        hidden=4096,
        intermediate=14336,
        heads=32,
        kv_heads=8,
        dim=128,
        vocabulary=128256,
        tied=False,
        theta=5e5,
        context=131072,
        source="config.json of meta-llama/Llama-3.1-8B",
    ),
}
