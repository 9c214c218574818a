"""What a method is: hyperparameters, and up to two choices, dense unless overridden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from sparsestudy.cache import PageBounds
from sparsestudy.selection import Selection

Phase = Literal["none", "prefill", "decode"]
Role = Literal["dense", "control", "method"]
Scope = Literal["shared", "group", "head"]


@dataclass(frozen=True)
class Context:
    """What a method may know about the step besides queries and keys.

    Args:
        lengths: real tokens of each row, the current ones included, int ``(batch,)``.
        offsets: padding slots before each row's token 0, int ``(batch,)``; 0 in prefill, where the rows
            come aligned.
        scaling: factor of the attention scores.
        layer: index of the layer.
        page_bounds: page size -> bounds of the keys' pages (decode).
    """

    lengths: Tensor
    offsets: Tensor
    scaling: float
    layer: int
    page_bounds: Callable[[int], PageBounds]


@dataclass(frozen=True)
class Method:
    """Base class. A subclass is a frozen dataclass whose fields are its hyperparameters.

    Args:
        phase: the phase in which the method is sparse; a subclass fixes it, or offers it as a field.
        scope: who chooses on its own: each query head ("head"), each KV head ("group") or nobody ("shared").
    """

    name: ClassVar[str]
    role: ClassVar[Role] = "method"

    phase: Phase = field(default="none", init=False)
    scope: Scope = field(default="shared", init=False)

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Selection | None:
        """Choose for all queries of a prompt.

        Args:
            q: queries ``(batch, heads, tokens, dim)``, rotated, token 0 of every row first.
            k: keys ``(batch, kv heads, tokens, dim)``.
            context: lengths and the rest.

        Returns:
            The attended keys, or None for dense.
        """
        return None

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Selection | None:
        """Choose for one new token a row.

        Args:
            q: query ``(batch, heads, 1, dim)``.
            k: all keys ``(batch, kv heads, slots, dim)``, left-padded by ``context.offsets``.
            context: lengths, page bounds and the rest.

        Returns:
            The attended keys, or None for dense.
        """
        return None

    def metadata_read(self, lengths: Tensor) -> Tensor:
        """Metadata read per step and KV head, in units of one token's key and value, int ``(batch,)``."""
        return lengths * 0

    def at_sparsity(self, sparsity: float, length: int) -> Method:
        """This method with the budget that gives a sparsity at a length.

        Args:
            sparsity: target share of causal pairs left out, 0 <= sparsity < 1.
            length: prompt length in tokens.

        Returns:
            A copy with its budget set.

        Raises:
            Unreachable: forced units alone exceed the target; carries the lowest density.
        """
        return self

    def is_dense(self, length: int) -> bool:
        """Whether the method attends everything at every length up to `length` tokens."""
        return True
