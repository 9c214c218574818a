"""The units of the token-level oracle: the best single keys of every query, with nothing forced."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Chosen, Context, Measure, Method
from sparsestudy.methods.budget import per_row_budget, reachable
from sparsestudy.methods.probabilities import probabilities, step
from sparsestudy.methods.top import keep_top
from sparsestudy.selection import RowSelection


@dataclass(frozen=True)
class Tokens(Method):
    """Each query of each head attends the keys to which dense attention gives most.

    The finest choice at a budget, the same at every length, so that methods with different units can be held
    against one bound. Used by `oracle`; not a method by itself.

    Args:
        budget: keys per query.
        phase: "prefill" or "decode".

    Rows are chosen when their mask is asked for, a chunk at a time, so nothing n x n is stored.
    """

    name: ClassVar[str] = "tokens"
    BUDGET: ClassVar[tuple[str, ...]] = ("budget",)
    scope: Literal["head"] = field(default="head", init=False)

    budget: int = 1024
    phase: Literal["prefill", "decode"] = field(default="prefill", kw_only=True)

    def __post_init__(self) -> None:
        """Check the budget."""
        if self.budget < 1:
            raise StudyError(f"oracle needs a budget of at least 1, not {self.budget}.")

    @property
    def row_by_row(self) -> bool:
        """See :attr:`Method.row_by_row`; a decode step has one row."""
        return self.phase == "prefill"

    @classmethod
    def from_json(cls, setting: str) -> Tokens:
        """What :meth:`Beside.beside` stored."""
        return cls(**json.loads(setting))

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.prefill`."""
        if self.phase != "prefill":
            return None

        def rows(queries: slice, keys: int) -> Tensor:
            position = torch.arange(queries.start, queries.stop, device=q.device)
            shares = probabilities(q[:, :, queries], k[:, :, :keys], position[None], context.scaling)
            future = torch.arange(keys, device=q.device) > position[:, None]
            return keep_top(shares.masked_fill(future, float("-inf")), self.budget)

        full = context.lengths.clamp(max=self.budget)
        pairs = full * (full + 1) // 2 + (context.lengths - full) * self.budget
        return RowSelection(
            rows=rows,
            pairs=pairs[:, None].expand(-1, q.shape[1]),
            query_block=1,
            first_query=torch.zeros_like(context.lengths),
            lengths=context.lengths,
        )

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.decode`."""
        if self.phase != "decode":
            return None
        shares = step(q, k, context.offsets, context.lengths, context.scaling)
        token = torch.arange(shares.shape[-1], device=q.device)
        later = (token >= context.lengths[:, None])[:, None]
        kept = keep_top(shares.masked_fill(later, float("-inf")), self.budget)
        return RowSelection.of_step(kept, context.lengths)

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Tokens:
        """Closed form: see :meth:`Method.at_sparsity`."""
        if sparsity <= 0:
            return replace(self, budget=2 * length)
        if self.phase == "prefill":
            budget, lowest = per_row_budget(sparsity, length), reachable(1, length)
        else:
            budget, lowest = round((1 - sparsity) * length), 1 / length
        if budget < 1:
            raise Unreachable(
                f"oracle cannot reach sparsity {sparsity:.3f} at {length} tokens: one key a query already "
                f"makes density {lowest:.4f}.",
                lowest,
            )
        return replace(self, budget=budget)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.budget >= length
