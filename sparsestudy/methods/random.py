"""Random selection: the control that spends a method's budget without looking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sparsestudy.methods.base import Context, Role, Scores
from sparsestudy.methods.beside import Beside
from sparsestudy.methods.noise import noise
from sparsestudy.work import Heads, Work


@dataclass(frozen=True)
class Random(Beside):
    """A method's units at random: forced ones stay, others are drawn anew for each prompt, layer and step.

    Idea: what the budget and the forced units alone achieve; a method that is no better has selected nothing.

    Args:
        like: the method whose units, scope, forced units and budget are used.
        seed: of the draws.
        budget: that method's hyperparameters, JSON; set by `at_sparsity`.
        phase: that method's phase; "auto" takes it over.

    Source: a control of this study; the paper has none. Deviations: none.
    """

    name: ClassVar[str] = "random"
    role: ClassVar[Role] = "control"

    seed: int = 0

    @property
    def evicts(self) -> bool:
        """See :attr:`Method.evicts`."""
        return self.method.evicts

    @property
    def observed(self) -> int:
        """See :attr:`Method.observed`; one query is enough to know the shapes."""
        return min(self.method.observed, 1)

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """Uniform noise in the shapes of the method's scores."""
        salt = context.salt()
        return tuple(
            noise(tuple(score.shape), salt + place, self.seed, context.layer)
            for place, score in enumerate(self.method.importance(q, k, context))
        )

    def choose(self, scores: Scores, context: Context) -> Any:
        """See :meth:`Method.choose`."""
        return self.method.choose(scores, context)

    def selection_cost(self, heads: Heads, tokens: int) -> Work:
        """That of the method: the draws stand where its scores do."""
        return self.method.selection_cost(heads, tokens)

    def step_cost(self, heads: Heads, tokens: int) -> Work:
        """See :meth:`selection_cost`."""
        return self.method.step_cost(heads, tokens)
