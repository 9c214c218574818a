"""What sparse attention did: counts per layer, row and head, kept on the device and read at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

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
            # A step that was dense has one number for all heads, where others have one for each.
            heads = max(values[name].shape[1] for values, _ in self.pending)
            steps = torch.stack(
                [
                    (values[name] if active is None else values[name] * active[:, None]).expand(-1, heads)
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
        question: first token of each row's tail, int ``(batch,)``, for methods whose choice must not see the
            question; set by the driver.
        observe: how many of the last queries of a prompt are kept in the cache for an eviction made later.
        steps: forward passes seen, by phase.
        counts: sums by phase and layer.
    """

    backend: str
    active: Tensor | None = None
    declared: Step | None = None
    question: Tensor | None = None
    observe: int = 0
    steps: dict[Step, int] = field(default_factory=lambda: {"prefill": 0, "decode": 0})
    counts: dict[Step, dict[int, Count]] = field(default_factory=lambda: {"prefill": {}, "decode": {}})
    _seconds: dict[Step, float] = field(default_factory=lambda: {"prefill": 0.0, "decode": 0.0})
    _events: dict[Step, list[tuple[Any, Any]]] = field(default_factory=lambda: {"prefill": [], "decode": []})
    _notes: dict[str, list[Tensor]] = field(default_factory=dict)

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
        attended: Tensor | None = None,
        computed: Tensor | None = None,
        read: Tensor | None = None,
        sparsified: bool = True,
    ) -> None:
        """Count one layer of one forward pass.

        Args:
            step: the phase.
            layer: index of the layer.
            available: pairs that the layer attends when it is dense, int ``(batch, 1)``: causal ones, in a
                sliding-window layer those within the window.
            attended: attended pairs, int ``(batch, heads or 1)``; None is all of them.
            computed: pairs computed, masked-out parts of tiles included; None is the attended ones.
            read: tokens read by each KV head, metadata included, int ``(batch, kv heads or 1)``; None is all.
            sparsified: False for layers that methods leave alone.
        """
        attended = available if attended is None else attended
        values = {
            "available": available,
            "attended": attended,
            "computed": attended if computed is None else computed,
            "read": available if read is None else read,
        }
        self.counts[step].setdefault(layer, Count(sparsified)).add(values, self.active)

    @contextmanager
    def choosing(self, step: Step, device: torch.device) -> Iterator[None]:
        """Time what a method does to choose; on a GPU by events, which do not wait."""
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events[step].append((begin, end))
            return
        start = time.perf_counter()
        yield
        self._seconds[step] += time.perf_counter() - start

    def selection_seconds(self, step: Step) -> float:
        """Seconds that choosing took in a phase, all layers and steps of the batch together."""
        if self._events[step]:
            torch.cuda.synchronize()
        on_device = sum(float(begin.elapsed_time(end)) for begin, end in self._events[step])
        return self._seconds[step] + on_device / 1e3

    def note(self, name: str, values: Tensor) -> None:
        """Keep a number ``(batch, heads)`` that a method noted about a layer."""
        self._notes.setdefault(name, []).append(values)

    def notes(self) -> dict[str, float]:
        """What methods noted, averaged over layers, rows, heads and steps."""
        return {name: float(torch.stack(values).float().mean()) for name, values in self._notes.items()}

    def density(self, step: Step, kind: Kind = "attended") -> Tensor:
        """Density of the sparsified layers by layer and row, heads averaged, float64 ``(layers, batch)``.

        There are 0 layers where every one is a sliding-window layer, or no step of the phase was taken.
        """
        layers = [count.ratio(kind) for _, count in sorted(self.counts[step].items()) if count.sparsified]
        return torch.stack(layers) if layers else torch.zeros(0, self._batch(step), dtype=torch.float64)

    def head_density(self, step: Step, kind: Kind = "attended") -> Tensor:
        """Density by sparsified layer and head, rows averaged, float64 ``(layers, heads or 1)``."""
        layers = [count for _, count in sorted(self.counts[step].items()) if count.sparsified]
        found = [count.by_head(kind).nanmean(0) for count in layers]
        heads = max((len(layer) for layer in found), default=1)
        return torch.stack([layer.expand(heads) for layer in found]) if found else torch.zeros(0, heads)

    def row_density(self, step: Step, kind: Kind = "attended") -> Tensor:
        """Mean over the sparsified layers, float64 ``(batch,)``: the density of each sample.

        NaN for rows without a step, and where no layer is sparsified.
        """
        return self.density(step, kind).mean(0)

    def model_density(self, step: Step) -> Tensor:
        """Pairs attended in all layers / pairs that the model attends when dense, float64 ``(batch,)``.

        In a sliding-window layer both are the causal pairs within the window, so such layers weigh as much as
        they attend: little in a long prompt. NaN for rows without a step.
        """
        counts = self.counts[step].values()
        for count in counts:
            count.settle()
        if not counts:
            return torch.full((self._batch(step),), float("nan"), dtype=torch.float64)
        attended = torch.stack([count.sums["attended"].mean(1) for count in counts]).sum(0)
        return attended / torch.stack([count.sums["available"][:, 0] for count in counts]).sum(0)

    def _batch(self, step: Step) -> int:
        """Rows of the batch, as far as anything is known of them."""
        for count in self.counts[step].values():
            return len(count.ratio("attended"))
        return 0 if self.active is None else len(self.active)
