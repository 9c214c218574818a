"""The rungs: Llama models of five sizes, and a sixth, far smaller one for tests on a CPU.

Steps in size are at most a factor of 2, and attention is made wide on purpose: the query heads together are
wider than both the MLP and the residual stream. So attention is most of what a prompt of 4k costs, and a
larger rung can be made as cheap as the next smaller one by leaving out attention alone (:mod:`.table`).

Heads have 64 numbers: a tile of 64 fills the tensor cores' inner dimension in one step of the kernels, and
rotary embeddings of 32 pairs tell 16k positions apart. Two query heads share a key-value head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sparsestudy.architecture import Architecture
from sparsestudy.errors import StudyError
from sparsestudy.ladder.vocabulary import BOS, EOS, PAD, words

THETA = 500_000.0
CONTEXT = 16_384
# What decides how a rung is trained, and not what it is.
TRAINING = ("rate", "deviation", "embedding", "local", "slow", "first")


@dataclass(frozen=True)
class Rung:
    """One size.

    Args:
        name: of the model.
        layers: decoder layers.
        hidden: numbers per token between layers.
        inner: numbers per token inside the MLP.
        heads: query heads; half as many key-value heads.
        rate: highest learning rate.
        head_dim: numbers per head.
        deviation: standard deviation of the initial matrices; by default 1 / sqrt(inputs).
        embedding: the same of the embeddings; by default 1 / sqrt(hidden).
        local: score with which the first layer looks at the tokens just before in the beginning, or 0.
        slow: learning rate of the embeddings, as a share of the others'.
        first: that of the queries and keys of the first layer.
    """

    name: str
    layers: int
    hidden: int
    inner: int
    heads: int
    rate: float
    head_dim: int = 64
    deviation: float = 0.0
    embedding: float = 0.0
    local: float = 12.0
    slow: float = 0.1
    first: float = 0.0

    def config(self, **changes: Any) -> Any:
        """The ``LlamaConfig`` of this rung."""
        from transformers import LlamaConfig

        ids = {word: i for i, word in enumerate(words()[:4])}
        return LlamaConfig(
            vocab_size=len(words()),
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads // 2,
            head_dim=self.head_dim,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": THETA},
            tie_word_embeddings=True,
            pad_token_id=ids[PAD],
            bos_token_id=ids[BOS],
            eos_token_id=ids[EOS],
            **changes,
        )

    @property
    def architecture(self) -> Architecture:
        """The sizes that decide what it costs."""
        return Architecture(
            layers=self.layers,
            hidden=self.hidden,
            intermediate=self.inner,
            query_heads=self.heads,
            kv_heads=self.heads // 2,
            head_dim=self.head_dim,
            vocabulary=len(words()),
            tied=True,
            norms=2 * self.hidden,
            biases=0,
        )


NANO = Rung("nano", layers=2, hidden=64, inner=64, heads=4, rate=4e-3, head_dim=32)
RUNGS = {
    rung.name: rung
    for rung in (
        Rung("ladder-0.4m", layers=4, hidden=96, inner=96, heads=2, rate=3e-3),
        Rung("ladder-0.8m", layers=4, hidden=128, inner=128, heads=4, rate=3e-3),
        Rung("ladder-1.5m", layers=6, hidden=160, inner=192, heads=4, rate=2.5e-3),
        Rung("ladder-3m", layers=8, hidden=192, inner=208, heads=6, rate=2e-3),
        Rung("ladder-6m", layers=8, hidden=256, inner=400, heads=8, rate=1.5e-3),
    )
}


def rung(name: str) -> Rung:
    """A rung by its name.

    Raises:
        StudyError: there is none.
    """
    known = {**RUNGS, NANO.name: NANO}
    if name not in known:
        raise StudyError(f"There is no rung '{name}'; choose one of {', '.join(known)}.")
    return known[name]


def changed(shape: Rung, text: str) -> Rung:
    """A rung with another training: ``rate=0.002,local=0``.

    Raises:
        StudyError: it cannot be read, or names something else.
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    try:
        values: dict[str, Any] = {name: float(value) for name, _, value in parts}
    except ValueError as error:
        raise StudyError(f"What is set reads 'rate=0.002,local=0', not '{text}'.") from error
    if unknown := sorted(set(values) - set(TRAINING)):
        raise StudyError(f"What can be set is {', '.join(TRAINING)}, not {', '.join(unknown)}.")
    return replace(shape, **values)
