"""What sparse attention did: counts per layer, row and head, kept on the device and read at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sparsestudy.selection import Selection

Step = Literal["prefill", "decode"]


@dataclass
class Count:
    """Running sums of one layer in one phase, float64 ``(batch, heads)`` or ``(batch, 1)``."""

    attended: Tensor | None = None
    computed: Tensor | None = None
    available: Tensor | None = None
    read: Tensor | None = None
    sparsified: bool = True

    def add(self, attended: Tensor, computed: Tensor, available: Tensor, read: Tensor) -> None:
        """Add one step."""
        for name, value in (
            ("attended", attended),
            ("computed", computed),
            ("available", available),
            ("read", read),
        ):
            known = getattr(self, name)
            setattr(self, name, value.double() if known is None else known + value)


@dataclass
class Trace:
    """Yielded by ``sparse_attention``: what was attended, and the place where a driver declares the phase.

    Attributes:
        backend: the backend that computes the attention.
        active: rows whose steps are counted, bool ``(batch,)``; None counts all.
        steps: forward passes seen, by phase.
    """

    backend: str
    active: Tensor | None = None
    steps: dict[Step, int] = field(default_factory=lambda: {"prefill": 0, "decode": 0})
    declared: Step | None = None
    counts: dict[Step, dict[int, Count]] = field(default_factory=lambda: {"prefill": {}, "decode": {}})

    @contextmanager
    def phase(self, step: Step) -> Iterator[None]:
        """Declare the phase of the forward passes inside; without it the cache's length decides."""
        before, self.declared = self.declared, step
        try:
            yield
        finally:
            self.declared = before

    def record(
        self, step: Step, layer: int, selection: Selection | None, causal: Tensor, metadata: Tensor,
        union: Tensor | None, sparsified: bool = True,
    ) -> None:
        """Count one layer of one forward pass.

        Args:
            step: the phase.
            layer: index of the layer.
            selection: what was attended; None is dense.
            causal: causal pairs of each row, int ``(batch,)``.
            metadata: metadata read, in tokens, int ``(batch,)``.
            union: tokens read by each KV head, int ``(batch, kv heads)``; None is `causal`.
            sparsified: False for layers that methods leave alone.
        """
        available = causal[:, None]
        attended = available if selection is None else selection.attended()
        computed = available if selection is None else selection.computed()
        read = (available if union is None else union) + (0 if selection is None else metadata[:, None])
        values = [attended, computed, available, read]
        if self.active is not None:
            values = [v * self.active[:, None] for v in values]
        count = self.counts[step].setdefault(layer, Count())
        count.sparsified = sparsified
        count.add(*values)

    def density(self, step: Step, kind: Literal["attended", "computed", "read"] = "attended") -> Tensor:
        """Density of the sparsified layers by layer and row, heads averaged, float64 ``(layers, batch)``.

        NaN where a row took no step.
        """
        layers = [c for _, c in sorted(self.counts[step].items()) if c.sparsified]
        return torch.stack([_ratio(c, kind) for c in layers])

    def row_density(self, step: Step, kind: Literal["attended", "computed", "read"] = "attended") -> Tensor:
        """Mean over the sparsified layers, float64 ``(batch,)``: the attended density of each sample."""
        return self.density(step, kind).mean(0)

    def model_density(self, step: Step) -> Tensor:
        """Attended density over all layers, sliding-window ones included, float64 ``(batch,)``."""
        return torch.stack([_ratio(c, "attended") for c in self.counts[step].values()]).mean(0)


def _ratio(count: Count, kind: str) -> Tensor:
    part, whole = getattr(count, kind), count.available
    assert part is not None and whole is not None
    return part.mean(1) / whole[:, 0]
