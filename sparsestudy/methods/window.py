"""Attention sinks and a local window: the control that looks at no content."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Context, Method, Role
from sparsestudy.methods.budget import per_row_budget, reachable
from sparsestudy.selection import Selection


@dataclass(frozen=True)
class Window(Method):
    """Each query attends the first tokens and the latest ones.

    Idea: what attention can do without choosing; a method that is no better has selected nothing.

    Args:
        sinks: first tokens that every query attends.
        local: latest tokens that every query attends, itself included.
        phase: "prefill" masks the prompt's queries, "decode" those of the generated tokens.

    Source: Xiao et al., StreamingLLM (arXiv 2309.17453), as a mask.

    Deviations: positions are the true ones; the original re-numbers the kept tokens, which only matters
    beyond the trained context.
    """

    name: ClassVar[str] = "window"
    role: ClassVar[Role] = "control"

    sinks: int = 4
    local: int = 1020
    phase: Literal["prefill", "decode"] = field(default="prefill", kw_only=True)

    def __post_init__(self) -> None:
        """Check the budget."""
        if self.sinks < 0 or self.local < 1:
            raise StudyError(
                f"window needs sinks >= 0 and local >= 1, not sinks={self.sinks}, local={self.local}."
            )

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
        return Selection(starts[:, None], widths[:, None], 1, first, lengths)

    def at_sparsity(self, sparsity: float, length: int) -> Window:
        """Closed form: see :meth:`Method.at_sparsity`."""
        if sparsity <= 0:
            return replace(self, local=2 * length)
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
