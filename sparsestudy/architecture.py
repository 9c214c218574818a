"""The sizes of a decoder that decide what it costs, read from a config of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.work import Heads

# What a config does not say: norms of the hidden size in a layer, norms of queries and keys, and whether
# queries, keys and values have biases in any case. Source: modeling_<family>.py of transformers.
_FAMILIES = {
    "llama": (2, 0, False),
    "mistral": (2, 0, False),
    "qwen2": (2, 0, True),
    "qwen3": (2, 2, False),
    "gemma3_text": (4, 2, False),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of a decoder with grouped-query attention and a gated MLP.

    Args:
        layers: all layers.
        sliding_layers: those that only ever attend a sliding window, and which no method touches.
        window: keys that a query of a sliding layer attends, itself included; 0 without such layers.
        hidden: numbers per token between layers.
        intermediate: numbers per token inside the MLP.
        query_heads: query heads.
        kv_heads: key and value heads.
        head_dim: numbers per head.
        vocabulary: rows of the embedding.
        tied: whether the output head is the embedding.
        norms: parameters of one layer's norms.
        biases: parameters of one layer's biases.
    """

    layers: int
    sliding_layers: int = 0
    window: int = 0
    hidden: int
    intermediate: int
    query_heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    norms: int
    biases: int

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """Read a config of transformers; of a composite one the language model alone.

        Raises:
            StudyError: another family, another kind of layers, or attention that is not causal.
        """
        text = getattr(config, "text_config", config)
        family = getattr(text, "model_type", type(text).__name__)
        kinds = getattr(text, "layer_types", None) or ()
        known = family in _FAMILIES and set(kinds) <= {"full_attention", "sliding_attention"}
        if not known or getattr(text, "use_bidirectional_attention", False):
            raise StudyError(
                f"The cost of this '{family}' model is not known; pass the config of a causal decoder of "
                f"type {', '.join(_FAMILIES)} whose layers have full or sliding attention."
            )
        norms, head_norms, always_biased = _FAMILIES[family]
        hidden, inner, heads = text.hidden_size, text.intermediate_size, text.num_attention_heads
        kv, dim = text.num_key_value_heads or heads, getattr(text, "head_dim", None) or hidden // heads
        window = getattr(text, "sliding_window", None) or 0
        # Without a list of layer types, a window holds for every layer (Mistral).
        sliding = kinds.count("sliding_attention") if kinds else text.num_hidden_layers * bool(window)
        biased = getattr(text, "attention_bias", False)
        biases = (heads + 2 * kv) * dim * (always_biased or biased) + hidden * biased
        biases += (2 * inner + hidden) * getattr(text, "mlp_bias", False)
        return cls(
            layers=text.num_hidden_layers,
            sliding_layers=sliding,
            window=window if sliding else 0,
            hidden=hidden,
            intermediate=inner,
            query_heads=heads,
            kv_heads=kv,
            head_dim=dim,
            vocabulary=text.vocab_size,
            # The head belongs to the whole of a composite model, so the outer config says whose it is.
            tied=config.tie_word_embeddings,
            norms=norms * hidden + head_norms * dim,
            biases=biases,
        )

    @property
    def full_layers(self) -> int:
        """The layers that a sparse method changes."""
        return self.layers - self.sliding_layers

    @property
    def matrices(self) -> int:
        """Parameters of one layer's matrices: q, k, v, output, and three of the MLP."""
        attention = 2 * (self.query_heads + self.kv_heads) * self.head_dim
        return self.hidden * (attention + 3 * self.intermediate)

    @property
    def parameters(self) -> int:
        """Parameters of the model, embedding and output head included."""
        embeddings = self.hidden * self.vocabulary * (1 if self.tied else 2)
        return embeddings + self.layers * (self.matrices + self.norms + self.biases) + self.hidden

    def heads(self, element_bytes: float = 2) -> Heads:
        """The heads of one layer."""
        return Heads(self.query_heads, self.kv_heads, self.head_dim, element_bytes)
