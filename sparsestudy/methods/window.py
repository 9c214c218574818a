"""Attention sinks and a local window: the control that looks at no content."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Measure, Method, Phase, Role
from sparsestudy.methods.budget import per_row_budget, reachable
from sparsestudy.selection import Selection


@dataclass(frozen=True)
class Window(Method):
    """Each query attends the first tokens and the latest ones.

    Idea: what attention can do without choosing; a method that is no better has selected nothing.

    Args:
        sinks: first tokens that every query attends.
        local: latest tokens that every query attends, itself included.
        phase: "prefill" masks the prompt's queries, "decode" those of the generated tokens; "auto" is the
            phase of the method that it stands beside, else "prefill".
        like: a registered method; `at_sparsity` then gives the density that this method has, where it can
            reach it.

    Source: Xiao et al., StreamingLLM (arXiv 2309.17453), as a mask.

    Deviations: positions are the true ones; the original re-numbers the kept tokens, which only matters
    beyond the trained context.
    """

    name: ClassVar[str] = "window"
    role: ClassVar[Role] = "control"

    sinks: int = 4
    local: int = 1020
    phase: Phase | Literal["auto"] = field(default="auto", kw_only=True)  # type: ignore[assignment]  # resolved
    like: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        """Check the budget and settle the phase."""
        phase = self._beside.phase if self._beside else "prefill"
        if self.phase not in ("auto", phase) and self._beside:
            raise StudyError(
                f"window beside {self.like} works in the {phase} phase, not in '{self.phase}'; leave one "
                "of the two out."
            )
        if self.phase == "auto":
            object.__setattr__(self, "phase", phase)
        if self.sinks < 0 or self.local < 1:
            raise StudyError(
                f"window needs sinks >= 0 and local >= 1, not sinks={self.sinks}, local={self.local}."
            )

    @property
    def _beside(self) -> Method | None:
        """The method that this stands beside, with its default fields."""
        from sparsestudy.methods import METHODS

        return METHODS[self.like]() if self.like else None

    @property
    def calibrated(self) -> bool:
        """Whether the density to match must be measured."""
        return self._beside is not None and self._beside.calibrated

    @property
    def scorer(self) -> Method:
        """See :attr:`Method.scorer`: that of the method whose density is matched."""
        return self._beside.scorer if self._beside is not None else self

    def prefill(self, q: Tensor, k: Tensor, context: Context) -> Selection | None:
        """See :meth:`Method.prefill`."""
        if self.phase != "prefill":
            return None
        query = torch.arange(q.shape[2], device=q.device)[None]
        return self._ranges(query, context.lengths, torch.zeros_like(context.lengths))

    def decode(self, q: Tensor, k: Tensor, context: Context) -> Selection | None:
        """See :meth:`Method.decode`."""
        if self.phase != "decode":
            return None
        last = context.lengths - 1
        return self._ranges(last[:, None], context.lengths, last)

    def _ranges(self, query: Tensor, lengths: Tensor, first: Tensor) -> Selection:
        """Sinks and window of each query position ``(batch, queries)``, disjoint."""
        local = (query - self.local + 1).clamp(min=self.sinks)
        starts = torch.stack([torch.zeros_like(local), local], dim=-1)
        widths = torch.stack([(query + 1).clamp(max=self.sinks), (query + 1 - local).clamp(min=0)], dim=-1)
        return Selection(
            starts=starts[:, None], widths=widths[:, None], query_block=1, first_query=first, lengths=lengths
        )

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Window:
        """Closed form: see :meth:`Method.at_sparsity`."""
        if sparsity <= 0:
            return replace(self, local=2 * length)
        if self._beside is not None:
            chosen = self._beside.at_sparsity(sparsity, length, measure)
            if self.calibrated and measure is not None:
                sparsity = 1 - measure(chosen)
        least = self.sinks + 1
        if self.phase == "prefill":
            budget = per_row_budget(sparsity, length)
            lowest = reachable(least, length)
        else:
            budget = round((1 - sparsity) * length)
            lowest = min(1.0, least / length)
        if budget < least:
            raise Unreachable(
                f"window cannot reach sparsity {sparsity:.3f} at {length} tokens: its {self.sinks} sinks and "
                f"the token itself already make density {lowest:.4f}.",
                lowest,
            )
        return replace(self, local=budget - self.sinks)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.sinks + self.local >= length
