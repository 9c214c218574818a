"""Oracle selection: the control that knows the attention it is about to leave out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsestudy.methods.base import Chosen, Context, Method, Role, Scores
from sparsestudy.methods.beside import TOKENS, Beside
from sparsestudy.methods.tokens import Tokens
from sparsestudy.selection import RowSelection
from sparsestudy.work import Heads, Work


@dataclass(frozen=True)
class Oracle(Beside):
    """A method's units by the attention that they really get; choosing so costs more than dense attention.

    Idea: what a method could reach with its units and budget if its estimate were perfect. Beside a method
    that evicts it chooses anew at each step which tokens of the prompt a head reads, so it bounds every fixed
    choice from above.

    Args:
        like: the method whose units, scope, forced units and budget are used; "tokens" takes the best single
            keys of every query head with nothing forced, the same at every length.
        budget: that method's hyperparameters, JSON; set by `at_sparsity`.
        phase: that method's phase; "auto" takes it over. With "tokens": "prefill" or "decode".

    Source: a control of this study; the paper has none. Deviations: none. The keys with most attention are
    not always those with the smallest error of the output, so another choice may be better on a task.
    """

    name: ClassVar[str] = "oracle"
    role: ClassVar[Role] = "oracle"

    like: str = TOKENS

    @property
    def method(self) -> Method:
        """See :attr:`Beside.method`."""
        if self.like != TOKENS:
            return super().method
        if self.budget:
            return Tokens.from_json(self.budget)
        return Tokens(phase="decode" if self.phase == "decode" else "prefill")

    @property
    def row_by_row(self) -> bool:
        """See :attr:`Method.row_by_row`."""
        return self.method.row_by_row

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.prefill`."""
        if self.like == TOKENS:
            return self.method.prefill(q, k, context)
        return super().prefill(q, k, context)

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Chosen | None:
        """See :meth:`Method.decode`."""
        if self.like == TOKENS:
            return self.method.decode(q, k, context)
        return super().decode(q, k, context)

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """See :meth:`Method.true_importance`."""
        return self.method.true_importance(q, k, context)

    def choose(self, scores: Scores, context: Context) -> Any:
        """See :meth:`Method.choose`; beside a method that evicts, a selection for one step."""
        method = self.method
        if not method.evicts:
            return method.choose(scores, context)
        token = torch.arange(scores[0].shape[-1], device=scores[0].device)
        kept = method.choose(scores, replace(context, lengths=context.prefilled))
        later = (token >= context.prefilled[:, None]) & (token < context.lengths[:, None])
        return RowSelection.of_step(kept | later[:, None], context.lengths)

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """The attention of every query, which is what choosing needs: see :meth:`Method.selection_cost`."""
        if self.phase != "prefill":
            return Work()
        return Work(2 * heads.query * heads.dim * tokens * (tokens + 1) / 2)

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        """The attention of the step: every key is read, see :meth:`Method.step_cost`."""
        return Work(2 * heads.query * heads.dim * tokens, heads.kv * heads.dim * tokens * heads.element_bytes)
