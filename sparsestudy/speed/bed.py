"""One whole model under many methods: seconds of a prefill or a decode step, and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from sparsestudy import cost
from sparsestudy.architecture import Architecture
from sparsestudy.errors import StudyError
from sparsestudy.generate import Prefilled, Prompt, evicted, observation, prefill
from sparsestudy.methods import METHODS
from sparsestudy.methods.base import Method
from sparsestudy.patch import sparse_attention
from sparsestudy.speed.bench import Bench, Case
from sparsestudy.speed.clock import FEWEST, PATIENCE
from sparsestudy.speed.code import Code
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.patterns import lifelike
from sparsestudy.speed.peers import BACKENDS
from sparsestudy.speed.prefill import Densities
from sparsestudy.speed.shapes import Shape

# Tokens of the prompt that goes first, so that nothing is compiled while a long one is timed.
WARM_TOKENS = 2048

Result = tuple[list[float], dict[str, Any]]


@contextmanager
def fastest(device: torch.device, decode: bool) -> Iterator[None]:
    """Dense attention by the fastest backend that takes a call.

    A prefill tries cuDNN first, unlike torch; a decode step does not, since cuDNN makes a plan for every new
    length of the cache: a step took 94 ms with it (H200, Qwen2.5-7B, 8k tokens).
    """
    order = list(BACKENDS[device.type])
    if decode:
        order.sort(key="cudnn".__eq__)
    with sdpa_kernel([BACKENDS[device.type][name] for name in order], set_priority=True):
        yield


class Bed:
    """One whole model with one prompt.

    Args:
        bench: takes the cases.
        run: what to time.
        shape: of the model.
        ids: the prompt.
        built: gives the model, which is made at the first call.
        code: the study's own code.
        like: gives device and dtype.
    """

    def __init__(
        self,
        bench: Bench,
        run: SpeedParameters,
        shape: Shape,
        ids: list[int],
        built: Callable[[], Any],
        code: Code,
        like: Tensor,
    ) -> None:
        self.bench, self.run, self.shape, self.ids = bench, run, shape, ids
        self.built, self.code, self.like = built, code, like

    def prefill(self, label: str, base: Method, sparsity: int) -> None:
        """Time the prefill of a method."""

        def found() -> Result:
            method = self._at(base, sparsity)
            self._check(self._once(self.ids[:WARM_TOKENS], method).trace.backend, method)
            runs = [self._measured(method)]
            few = runs[0][0] * self.run.repeats > PATIENCE
            runs += [self._measured(method) for _ in range((FEWEST if few else self.run.repeats) - 1)]
            seconds = [one[0] for one in runs]
            return seconds, runs[-1][1]

        self.bench.attempt(self._case("prefill", label, base, sparsity), found)

    def steps(self, plans: list[tuple[str, Method, int]]) -> None:
        """Time the decode steps of methods after one dense prefill."""
        start: list[Prefilled] = []

        def begun() -> Prefilled:
            if not start:
                prompts = [Prompt(self.ids, len(self.ids))]
                observe = observation([base for _, base, _ in plans], prompts)
                dense = METHODS["dense"]()
                start.append(prefill(self.built(), prompts, dense, "dense", self.run.backend, observe))
            return start[0]

        for label, base, sparsity in plans:

            def found(base: Method = base, sparsity: int = sparsity) -> Result:
                start, method = begun(), self._at(base, sparsity)
                with fastest(self.like.device, decode=True):
                    return self._stepped(start, method)

            self.bench.attempt(self._case("step", label, base, sparsity), found)
            self.bench.free()

    def _case(self, stage: str, label: str, base: Method, sparsity: int) -> Case:
        return Case(
            part="model",
            stage=stage,
            method=label,
            method_name=base.name,
            code="fastest" if sparsity == 0 else self.code.name,
            block=getattr(base, "block_size", getattr(base, "tile", 0)),
            sparsity=sparsity,
        )

    def _at(self, base: Method, sparsity: int) -> Method:
        if sparsity == 0:
            return base
        measured = None
        if base.calibrated:
            inputs = lifelike(self.shape, len(self.ids), self.like, self.run.seed)
            measured = Densities(self.code, inputs).measure
        return base.at_sparsity(sparsity / 1000, len(self.ids), measured)

    def _once(self, ids: list[int], method: Method) -> Prefilled:
        return prefill(self.built(), [Prompt(ids, len(ids))], method, "dense", self.run.backend)

    def _measured(self, method: Method) -> tuple[float, dict[str, Any]]:
        """Seconds of one prefill, and what is known of it."""
        device = self.like.device
        self.bench.free()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        done = self._once(self.ids, method)
        density = float(done.trace.row_density("prefill").mean())
        arch = Architecture.of(self.built().config)
        work = cost.prefill(
            arch,
            len(self.ids),
            density=density,
            selection=method if method.phase == "prefill" else None,
            element_bytes=self.like.element_size(),
        ).total
        return done.seconds, {
            "attended_density": density,
            "flops": work.flops,
            "bytes": work.bytes,
            "choosing_seconds": done.trace.selection_seconds("prefill"),
            "hyperparameters": json.dumps(asdict(method), sort_keys=True),
            **self._peak(),
        }

    def _check(self, backend: str, method: Method) -> None:
        """A case must not pass for one of the kernels where a model ran the torch twins."""
        if method.phase != "none" and backend != self.code.name:
            raise StudyError(
                f"The model ran the backend {backend}, but {self.code.name} was to be timed; set `backend`."
            )

    def _peak(self) -> dict[str, float]:
        if self.like.device.type != "cuda":
            return {}
        return {"peak_bytes": float(torch.cuda.max_memory_allocated())}

    def _stepped(self, start: Prefilled, method: Method) -> Result:
        """Seconds of one step after a prefill, an eviction left out."""
        model, steps = self.built(), self.run.steps
        if self.like.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with sparse_attention(model, method, self.run.backend) as trace, trace.phase("decode"):
            self._check(trace.backend, method)
            cache = evicted(start, method, trace) if method.evicts else start.cache.fork()
            chose = trace.selection_seconds("decode") if method.evicts else 0.0
            mask, token = start.mask, start.logits.argmax(-1)[:, None]

            def some() -> None:
                nonlocal mask, token
                for _ in range(steps):
                    mask = torch.cat([mask, mask.new_ones(1, 1)], 1)
                    out = model(
                        input_ids=token,
                        attention_mask=mask,
                        position_ids=mask.sum(1, keepdim=True) - 1,
                        past_key_values=cache,
                        use_cache=True,
                        logits_to_keep=1,
                    )
                    token = out.logits[:, -1].argmax(-1)[:, None]

            some()
            seconds = [self.bench.clock.once(some) / steps for _ in range(self.run.repeats)]
            taken = (self.run.repeats + 1) * steps
            choosing = (trace.selection_seconds("decode") - chose) / taken
            known = self._known_step(method, trace, choosing)
        return seconds, known

    def _known_step(self, method: Method, trace: Any, choosing: float) -> dict[str, Any]:
        density, read = (float(trace.row_density("decode", kind).mean()) for kind in ("attended", "read"))
        work = cost.decode(
            Architecture.of(self.built().config),
            len(self.ids),
            self.run.steps,
            density=density,
            byte_density=read,
            selection=method if method.phase == "decode" else None,
            element_bytes=self.like.element_size(),
        ).total
        return {
            "attended_density": min(density, 1.0),
            "flops": work.flops / self.run.steps,
            "bytes": work.bytes / self.run.steps,
            "choosing_seconds": choosing,
            "hyperparameters": json.dumps(asdict(method), sort_keys=True),
            **self._peak(),
        }
