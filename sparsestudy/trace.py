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
Kind = Literal["attended", "computed", "read"]
# Steps kept before they are added up: adding at every step would cost as many launches as the model itself.
PENDING = 64


@dataclass
class Count:
    """Sums of one layer in one phase.

    Each kind is counted in (query, key) pairs, int ``(batch, heads)`` or ``(batch, 1)`` a step; steps of rows
    that are not active do not count.
    """

    sparsified: bool = True
    pending: list[tuple[dict[str, Tensor], Tensor | None]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: dict[str, Tensor], active: Tensor | None) -> None:
        """Add one step; `active` is bool ``(batch,)``, None for all rows."""
        self.pending.append((values, active))
        if len(self.pending) >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Add up what is pending."""
        if not self.pending:
            return
        for name in self.pending[0][0]:
            steps = torch.stack(
                [
                    values[name] if active is None else values[name] * active[:, None]
                    for values, active in self.pending
                ]
            )
            total = steps.sum(0, dtype=torch.float64)
            self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.pending.clear()

    def ratio(self, kind: Kind) -> Tensor:
        """Share of the available pairs, heads averaged, float64 ``(batch,)``; NaN for rows without a step."""
        self.settle()
        return self.sums[kind].mean(1) / self.sums["available"][:, 0]

    def by_head(self, kind: Kind) -> Tensor:
        """Share of the available pairs of each head, float64 ``(batch, heads or 1)``."""
        self.settle()
        return self.sums[kind] / self.sums["available"]


@dataclass
class Trace:
    """Yielded by ``sparse_attention``: what was attended, and the place where a driver declares the phase.

    Attributes:
        backend: the backend that computes the attention.
        active: rows whose steps are counted, bool ``(batch,)``; None counts all.
        steps: forward passes seen, by phase.
        counts: sums by phase and layer.
    """

    backend: str
    active: Tensor | None = None
    declared: Step | None = None
    steps: dict[Step, int] = field(default_factory=lambda: {"prefill": 0, "decode": 0})
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
        self,
        step: Step,
        layer: int,
        available: Tensor,
        selection: Selection | None,
        read: Tensor | None = None,
        sparsified: bool = True,
    ) -> None:
        """Count one layer of one forward pass.

        Args:
            step: the phase.
            layer: index of the layer.
            available: causal pairs, int ``(batch, 1)``.
            selection: what was attended; None is dense.
            read: tokens read by each KV head, metadata included, int ``(batch, kv heads or 1)``; None is all.
            sparsified: False for layers that methods leave alone.
        """
        attended = available if selection is None else selection.attended()
        computed = attended if selection is None or selection.query_block == 1 else selection.computed()
        values = {
            "available": available,
            "attended": attended,
            "computed": computed,
            "read": available if read is None else read,
        }
        self.counts[step].setdefault(layer, Count(sparsified)).add(values, self.active)

    def density(self, step: Step, kind: Kind = "attended") -> Tensor:
        """Density of the sparsified layers by layer and row, heads averaged, float64 ``(layers, batch)``."""
        layers = [count for _, count in sorted(self.counts[step].items()) if count.sparsified]
        return torch.stack([count.ratio(kind) for count in layers])

    def row_density(self, step: Step, kind: Kind = "attended") -> Tensor:
        """Mean over the sparsified layers, float64 ``(batch,)``: the density of each sample."""
        return self.density(step, kind).mean(0)

    def model_density(self, step: Step) -> Tensor:
        """Attended density over all layers, sliding-window ones included, float64 ``(batch,)``."""
        return torch.stack([count.ratio("attended") for count in self.counts[step].values()]).mean(0)
