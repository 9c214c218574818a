"""What the samples of a cell cost: the cost model at their own sizes and at the densities that they had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsestudy import cost
from sparsestudy.architecture import Architecture
from sparsestudy.cost import Selector
from sparsestudy.schema import AS_MEASURED, BATCHES, COSTS, GENERATED
from sparsestudy.work import Work

# Weights and cache in 16 bits, whatever a run computed in, so that the costs of all runs compare.
ELEMENT_BYTES = 2


@dataclass(frozen=True)
class Request:
    """One sample, as far as its cost goes.

    Args:
        prefilled: tokens of the prompt that the prefill takes in.
        tail: tokens of the prompt that decode steps take in.
        replied: generated tokens, the end token left out.
        density: attended density in the phase of the method; NaN where the sample took no step of it.
        byte_density: cached bytes read / those that dense steps read; NaN likewise.
    """

    prefilled: int
    tail: int
    replied: int
    density: float = 1.0
    byte_density: float = 1.0

    def steps(self, generated: int) -> int:
        """Decode steps: n tokens take n - 1, as the last token of the prompt gives the first."""
        return self.tail + max((self.replied if generated == AS_MEASURED else generated) - 1, 0)


def prices(
    arch: Architecture, method: Selector, requests: Sequence[Request]
) -> dict[str, NDArray[np.float64]]:
    """Costs of a cell, means over its samples, selection included.

    A method is charged, and its densities hold, in its own phase; the other is dense. The FLOPs of attention
    are those of attended pairs, not of what a tiled kernel computes. A reply of a fixed length is given the
    densities of the measured one, and a sample that took no step those of the others: where a budget does not
    grow with the cache, the cost of a longer reply is an upper bound.

    Args:
        arch: sizes of the model.
        method: with its budget.
        requests: the samples.

    Returns:
        The variables :data:`sparsestudy.schema.COSTS`: FLOPs ``()`` or ``(generated,)``, bytes ``(batch,)``
        or ``(generated, batch)``; NaN in the phase of the method where no sample has a density.
    """
    requests = _filled(requests)
    first = np.array([[_prefill(arch, method, one, batch) for batch in BATCHES] for one in requests])
    later = np.array(
        [[[_decode(arch, method, one, m, batch) for batch in BATCHES] for m in GENERATED] for one in requests]
    )
    before, after = first.mean(0), later.mean(0)  # (batch, 2), (generated, batch, 2): FLOPs and bytes
    flops = before[0, 0], after[:, 0, 0]
    return dict(
        zip(COSTS, (flops[0], before[:, 1], flops[1], after[..., 1], flops[0] + flops[1]), strict=True)
    )


def _filled(requests: Sequence[Request]) -> list[Request]:
    """The samples, the mean of the others where one has no density."""
    known = [one for one in requests if math.isfinite(one.density)]
    density, byte_density = (
        float(np.mean([getattr(one, name) for one in known])) if known else math.nan
        for name in ("density", "byte_density")
    )
    return [
        one if math.isfinite(one.density) else replace(one, density=density, byte_density=byte_density)
        for one in requests
    ]


def _prefill(arch: Architecture, method: Selector, one: Request, batch: int) -> tuple[float, float]:
    density = one.density if method.phase == "prefill" else 1.0
    if math.isnan(density):
        return math.nan, math.nan
    made = cost.prefill(
        arch, one.prefilled, batch=batch, density=density, selection=method, element_bytes=ELEMENT_BYTES
    )
    return _both(made.total)


def _decode(
    arch: Architecture, method: Selector, one: Request, generated: int, batch: int
) -> tuple[float, float]:
    sparse = method.phase == "decode"
    if sparse and math.isnan(one.density):
        return math.nan, math.nan
    made = cost.decode(
        arch,
        one.prefilled,
        one.steps(generated),
        batch=batch,
        density=one.density if sparse else 1.0,
        byte_density=one.byte_density if sparse else 1.0,
        selection=method,
        element_bytes=ELEMENT_BYTES,
    )
    return _both(made.total)


def _both(work: Work) -> tuple[float, float]:
    return work.flops, work.bytes
