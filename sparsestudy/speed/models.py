"""Whole models with random weights and true shapes: time of prefill and decode step, and peak memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsestudy import cost
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.speed.bed import Bed, fastest
from sparsestudy.speed.bench import Bench
from sparsestudy.speed.clock import FEWEST
from sparsestudy.speed.code import Code
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.shapes import Shape


def build(shape: Shape, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of this shape in evaluation mode, its weights as transformers draws them."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=dtype, attn_implementation="sdpa")
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def measure(bench: Bench, run: SpeedParameters, shape: Shape, length: int, code: Code, like: Tensor) -> None:
    """Time everything in the part ``model``; arguments as in :func:`sparsestudy.speed.prefill.measure`."""
    plans: list[tuple[str, Method, int]] = [("dense", METHODS["dense"](), 0)]
    for spec in run.methods:
        if spec.name in run.end_to_end:
            plans.append((spec.label, spec.build(), run.end_to_end_sparsity))
    model: list[Any] = []

    def built() -> Any:
        if not model:
            model.append(build(shape, like.device, like.dtype))
        return model[0]

    ids = torch.randint(
        shape.vocabulary, (length,), generator=torch.Generator().manual_seed(run.seed)
    ).tolist()
    bed = Bed(bench, run, shape, ids, built, code, like)
    with fastest(like.device, decode=False):
        for label, base, sparsity in plans:
            if base.phase != "decode":
                bed.prefill(label, base, sparsity)
        bed.steps([(label, base, sparsity) for label, base, sparsity in plans if base.phase != "prefill"])


def predicted(run: SpeedParameters, shape: Shape, length: int, rate: float) -> float:
    """Seconds that the part will take: prefills at 0.6 of the rate of products, and steps."""
    weights = (
        shape.layers
        * shape.hidden
        * (2 * (shape.heads + shape.kv_heads) * shape.dim + 3 * shape.intermediate)
    )
    linear = 2.0 * weights * length
    whole = 4.0 * shape.layers * shape.heads * shape.dim * cost.causal_pairs(length)
    sparse = sum(METHODS[name]().phase == "prefill" for name in run.end_to_end)
    one = linear * (1 + sparse) + whole * (1 + sparse * 2 * (1 - run.end_to_end_sparsity / 1000))
    decodes = 1 + len(run.end_to_end) - sparse
    steps = decodes * (run.repeats + 1) * run.steps * 0.05
    return (FEWEST * one + linear + whole) / (0.6 * rate) + steps + 5
