"""Which rungs can be compared at equal cost: the density at which a rung costs what the one below costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sparsestudy.architecture import Architecture
from sparsestudy.cost import decode, prefill
from sparsestudy.ladder.rungs import RUNGS, Rung

LENGTHS = (1024, 2048, 4096, 8192, 16384)
# Tokens of a reply in the decode columns, and samples that share a reading of the weights.
STEPS, BATCH = 256, 64


@dataclass(frozen=True)
class Pair:
    """Two neighboring rungs at a length.

    Args:
        smaller: the one that stays dense.
        larger: the one that is made sparse.
        length: tokens of the prompt.
        prefill: density of the larger one's attention at which a prefill takes as many FLOPs as the smaller
            one's; negative where its dense parts alone take more.
        decode: the same for the bytes that decode steps read.
    """

    smaller: Rung
    larger: Rung
    length: int
    prefill: float
    decode: float


def pairs() -> Iterator[Pair]:
    """Every pair of neighbors at every length; selection is not counted, since it differs by method."""
    for smaller, larger in pairwise(RUNGS.values()):
        small, large = smaller.architecture, larger.architecture
        for length in LENGTHS:
            densities = (
                _density(work(small, length, 1), work(large, length, 0), work(large, length, 1))
                for work in (_prefill_flops, _decode_bytes)
            )
            yield Pair(smaller, larger, length, *densities)


def _density(goal: float, without: float, dense: float) -> float:
    """Costs are linear in the density."""
    return (goal - without) / (dense - without)


def _prefill_flops(arch: Architecture, length: int, density: float) -> float:
    return prefill(arch, length, density=density).total.flops


def _decode_bytes(arch: Architecture, length: int, density: float) -> float:
    return decode(arch, length, STEPS, batch=BATCH, density=density, byte_density=density).total.bytes


def show() -> str:
    """The shapes, and the equal-cost densities, as text."""
    lines = ["rung          parameters  layers  hidden  inner  heads  kv  attention share of a prefill at 4k"]
    for rung in RUNGS.values():
        arch = rung.architecture
        cost = prefill(arch, 4096)
        lines.append(
            f"{rung.name:12}  {arch.parameters:10,}  {rung.layers:6}  {rung.hidden:6}  {rung.inner:5}  "
            f"{rung.heads:5}  {rung.heads // 2:2}  {cost.attention.flops / cost.total.flops:.2f}"
        )
    total = sum(rung.architecture.parameters for rung in RUNGS.values())
    lines += [
        f"{'together':12}  {total:10,}  = {2 * total / 2**20:.1f} MiB in bf16",
        "",
        "Density of the larger rung's attention at which it costs what the dense smaller one costs: prefill",
        f"(FLOPs) / decode (bytes of {STEPS} steps at batch {BATCH}); negative: no such density.",
        "",
        f"{'pair':28}" + "".join(f"{length:>15,}" for length in LENGTHS),
    ]
    found = list(pairs())
    for smaller, larger in pairwise(RUNGS.values()):
        own = [pair for pair in found if pair.larger == larger]
        cells = "".join(f"{pair.prefill:8.2f} /{pair.decode:5.2f}" for pair in own)
        lines.append(f"{larger.name + ' as ' + smaller.name:28}{cells}")
    return "\n".join(lines)
