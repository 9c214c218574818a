"""Controls that stand beside a method: its units, forced units, scope, phase and budget, other scores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from sparsestudy.errors import StudyError
from sparsestudy.methods.base import Measure, Method, Phase, Scope

TOKENS = "tokens"
"""What an oracle stands beside when its units are single tokens: no method, the finest choice there is."""


@dataclass(frozen=True)
class Beside(Method):
    """Base of the controls that follow another method.

    Args:
        like: the registered method to stand beside.
        budget: that method's hyperparameters, JSON; set by `at_sparsity`.
        phase: that method's phase; "auto" takes it over.
    """

    like: str = "block_sparse"
    budget: str = field(default="", kw_only=True)
    phase: Phase | Literal["auto"] = field(default="auto", kw_only=True)  # type: ignore[assignment]  # resolved
    scope: Scope = field(default="shared", init=False)

    def __post_init__(self) -> None:
        """Take over phase and scope."""
        method = self.method
        if method.role != "method":
            raise StudyError(f"{self.name} stands beside a method that selects, not beside '{self.like}'.")
        if self.phase not in ("auto", method.phase):
            raise StudyError(
                f"{self.name} beside {self.like} works in the {method.phase} phase, not in '{self.phase}'; "
                "leave the phase out."
            )
        object.__setattr__(self, "phase", method.phase)
        object.__setattr__(self, "scope", method.scope)

    @property
    def method(self) -> Method:
        """The method that this stands beside, with its budget.

        Raises:
            StudyError: there is no such method.
        """
        from sparsestudy.methods import METHODS

        given: dict[str, Any] = json.loads(self.budget or "{}")
        return METHODS[self.like](**given)

    def beside(self, method: Method) -> Beside:
        """This control with the budget of a variant of its method."""
        given = {f.name for f in fields(method) if f.init}
        budget = {name: value for name, value in asdict(method).items() if name in given}
        return replace(self, budget=json.dumps(budget, sort_keys=True))

    @property
    def scorer(self) -> Method:
        """See :attr:`Method.scorer`."""
        return self.beside(self.method.scorer)

    @property
    def calibrated(self) -> bool:
        """Other scores cluster otherwise, so a calibrated method's control is calibrated on its own."""
        return self.method.calibrated

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Method:
        """See :meth:`Method.at_sparsity`; measured densities are those of the control itself."""
        own = None if measure is None else lambda variant: measure(self.beside(variant))
        return self.beside(self.method.at_sparsity(sparsity, length, own))

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.method.is_dense(length)
