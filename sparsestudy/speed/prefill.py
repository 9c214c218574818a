"""Prefill on random numbers: dense backends, kernels over random blocks, and methods with their choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsestudy.cost import causal_pairs
from sparsestudy.methods.base import Method
from sparsestudy.selection import Selection
from sparsestudy.specs import MethodSpec
from sparsestudy.speed import peers
from sparsestudy.speed.bench import Bench, Case
from sparsestudy.speed.clock import FEWEST, graphed
from sparsestudy.speed.code import Code
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.patterns import Inputs, blocks, lifelike, normal
from sparsestudy.speed.shapes import Shape

# Heads on which a budget without a closed form is found; all are drawn alike.
CALIBRATION_HEADS = 4

Result = tuple[list[float], dict[str, Any]]


def measure(bench: Bench, run: SpeedParameters, shape: Shape, length: int, code: Code, like: Tensor) -> None:
    """Time everything in the part ``prefill``.

    Args:
        bench: takes the cases.
        run: what to time.
        shape: whose attention.
        length: tokens.
        code: the study's own code.
        like: gives device and dtype.
    """
    given = normal(shape, length, length, 1, like, run.seed)
    for name in peers.BACKENDS[like.device.type]:
        for graph in graphs(like):
            case = Case(part="prefill", stage="kernel", method="dense", code=name, graph=graph)
            bench.attempt(case, _dense(bench, case, given, shape))
            bench.free()
    for size in run.blocks:
        for sparsity in run.sparsities:
            for graph in graphs(like):
                case = _pattern_case(code.name, size, sparsity, graph)
                bench.attempt(case, _over_pattern(bench, given, shape, case, run.seed, code.attending))
                bench.free()
    del given
    bench.free()
    real = lifelike(shape, length, like, run.seed)
    for spec in run.methods:
        if spec.build().phase == "prefill":
            _method(bench, run, code, real, shape, spec)


def _attention(shape: Shape, tokens: int, density: float, element_bytes: int) -> dict[str, float]:
    """Density, operations, and least bytes: queries, keys and values read once, the output written."""
    moved = 2 * (shape.heads + shape.kv_heads) * tokens * shape.dim * element_bytes
    flops = 4 * shape.heads * shape.dim * causal_pairs(tokens) * density
    return {"attended_density": density, "flops": flops, "bytes": float(moved)}


def _dense(bench: Bench, case: Case, given: Inputs, shape: Shape) -> Callable[[], Result]:
    def found() -> Result:
        call = peers.dense(case.code, given)
        seconds = bench.clock.measure(graphed(call) if case.graph else call)
        return seconds, _attention(shape, given.tokens, 1.0, given.q.element_size())

    return found


def measure_flex(bench: Bench, run: SpeedParameters, shape: Shape, length: int, like: Tensor) -> None:
    """Time FlexAttention over the same random blocks; compiling takes longer than what it computes."""
    given = normal(shape, length, length, 1, like, run.seed)
    for size in sorted(run.blocks, reverse=True):
        for sparsity in run.sparsities:
            case = _pattern_case("flex", size, sparsity)
            if like.device.type != "cuda":
                bench.leave_out(case, "FlexAttention is compiled for a GPU")
            elif size not in peers.FLEX_BLOCKS or length % size:
                bench.leave_out(case, "FlexAttention has no kernel for such blocks")
            else:
                bench.attempt(case, _over_pattern(bench, given, shape, case, run.seed, peers.flex))


def graphs(like: Tensor) -> tuple[bool, ...]:
    """Whether to time calls, and on a GPU graphs too, which show the device without the host's launches."""
    return (False, True) if like.device.type == "cuda" else (False,)


def _pattern_case(code: str, size: int, sparsity: int, graph: bool = False) -> Case:
    return Case(
        part="prefill",
        stage="kernel",
        method="pattern",
        code=code,
        block=size,
        sparsity=sparsity,
        graph=graph,
    )


def _over_pattern(
    bench: Bench,
    given: Inputs,
    shape: Shape,
    case: Case,
    seed: int,
    attending: Callable[[Inputs, Selection], Callable[[], Any]],
) -> Callable[[], Result]:
    """What a kernel takes over the random pattern of a case."""

    def found() -> Result:
        chosen = blocks(shape, given.tokens, case.block, case.sparsity / 1000, given.q.device, seed)
        density = float(chosen.density().mean())
        call = attending(given, chosen)
        seconds = bench.clock.measure(graphed(call) if case.graph else call)
        return seconds, _attention(shape, given.tokens, density, given.q.element_size())

    return found


@dataclass
class Chosen:
    """A method at one sparsity, and what it chooses; made when it is first asked for.

    Args:
        code: the study's own code.
        given: queries, keys and values.
        make: gives the method with its budget.
        held: the method and its choice.
    """

    code: Code
    given: Inputs
    make: Callable[[], Method]
    held: list[tuple[Method, Any]] = field(default_factory=list)

    def get(self) -> tuple[Method, Any]:
        """The method and its choice."""
        if not self.held:
            method = self.make()
            self.held.append((method, self.code.choose(method, self.given)))
        return self.held[0]

    def call(self, stage: str) -> Callable[[], Any]:
        """What a stage does: choose, attend what was chosen, or both."""
        (method, selection), code, given = self.get(), self.code, self.given
        if stage == "selection":
            return lambda: code.choose(method, given)
        if stage == "kernel":
            return code.attending(given, selection)
        return lambda: code.attending(given, code.choose(method, given))()


def _method(
    bench: Bench, run: SpeedParameters, code: Code, given: Inputs, shape: Shape, spec: MethodSpec
) -> None:
    """A method at every sparsity: its choice, its attention, and both together."""
    base: Method = spec.build()
    measured = Densities(code, given).measure
    size = getattr(base, "block_size", getattr(base, "tile", 0))
    for sparsity in run.sparsities:
        at = Chosen(code, given, partial(base.at_sparsity, sparsity / 1000, given.tokens, measured))
        for stage in ("selection", "kernel", "total"):
            case = Case(
                part="prefill",
                stage=stage,
                method=spec.label,
                method_name=spec.name,
                code=code.name,
                block=size,
                sparsity=sparsity,
            )
            bench.attempt(case, partial(_staged, bench, at, stage, shape))
        bench.free()


def _staged(bench: Bench, at: Chosen, stage: str, shape: Shape) -> Result:
    method, selection = at.get()
    seconds = bench.clock.measure(at.call(stage))
    density = float(selection.density().mean())
    known: dict[str, Any] = dict(_attention(shape, at.given.tokens, density, at.given.q.element_size()))
    return seconds, known | {"hyperparameters": json.dumps(asdict(method), sort_keys=True)}


class Densities:
    """Measured densities of variants of a method, for budgets without a closed form.

    Args:
        code: computes the scores.
        given: queries and keys that all variants see.
    """

    def __init__(self, code: Code, given: Inputs) -> None:
        self._code, self._given = code, given
        self._scores: dict[Method, tuple[Tensor, ...]] = {}
        self._found: dict[Method, float] = {}

    def measure(self, method: Method) -> float:
        """Mean attended density over some heads; each variant is measured once."""
        if method not in self._found:
            if method.scorer not in self._scores:
                scores = self._code.importance(method.scorer, self._given)
                self._scores[method.scorer] = tuple(part[:, :CALIBRATION_HEADS].clone() for part in scores)
            chosen: Selection = method.choose(self._scores[method.scorer], self._given.context())
            self._found[method] = float(chosen.density().mean())
        return self._found[method]


def predicted(run: SpeedParameters, shape: Shape, length: int, device: torch.device, rate: float) -> float:
    """Seconds that the part will take, in operations at the rate of products, and choosing.

    Dense attention came to 0.7 of that rate on a GPU, efficient attention to a fifth of it; blocks of 16 to a
    sixth of what blocks of 128 give. Plain torch on a CPU came to a tenth.
    """
    whole = 4 * shape.heads * shape.dim * causal_pairs(length) / rate
    calls, kept = FEWEST + 1, sum(1 - s / 1000 for s in run.sparsities)
    methods = sum(bool(spec.build().phase == "prefill") for spec in run.methods)
    if device.type != "cuda":
        return 10 * whole * calls * (2 + kept * (len(run.blocks) + 3 * methods)) + 5
    patterns = sum(max(1.5, 128 / size) for size in run.blocks)
    return whole * calls * (9 + kept * (patterns + 4 * methods)) + 4 * methods


def predicted_flex(run: SpeedParameters, device: torch.device) -> float:
    """Seconds that FlexAttention will take: about 15 for each block size that it is compiled for."""
    return 15.0 * sum(size in peers.FLEX_BLOCKS for size in run.blocks) * (device.type == "cuda")
