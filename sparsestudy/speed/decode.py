"""Decode steps on random numbers: dense backends, chosen pages, and caches after an eviction."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsestudy.cache import StudyLayer
from sparsestudy.eviction import EvictedLayer
from sparsestudy.methods.base import Method
from sparsestudy.speed import peers
from sparsestudy.speed.bench import Bench, Case
from sparsestudy.speed.clock import graphed
from sparsestudy.speed.code import Code
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.patterns import Inputs, normal
from sparsestudy.speed.shapes import Shape

# Tokens that were decoded after the eviction.
NEW = 32
# Tokens that the first and the last head keep, as a share of the mean, where a layer's heads share a budget.
SPREAD = (0.4, 1.6)

Make = Callable[[], Callable[[], object]]


def measure(bench: Bench, run: SpeedParameters, shape: Shape, length: int, code: Code, like: Tensor) -> None:
    """Time everything in the part ``decode``; arguments as in :func:`sparsestudy.speed.prefill.measure`."""
    for batch in run.batches:
        given = normal(shape, length, 1, batch, like, run.seed)
        same: dict[str, Any] = {"part": "decode", "batch": batch, "method": "dense"}
        dense: dict[str, Make] = {
            name: partial(peers.dense, name, given) for name in peers.BACKENDS[like.device.type]
        }
        if code.dense_decode is not None:
            dense[code.name] = partial(code.dense_decode, given)
        for name, make in dense.items():
            _staged(bench, {**same, "code": name}, {"kernel": make}, partial(_moved, given, 1.0))
        for spec in run.methods:
            base: Method = spec.build()
            if base.phase != "decode":
                continue
            time = _evicting if base.evicts else _paged
            for sparsity in run.sparsities:
                named = {**same, "method": spec.label, "code": code.name, "sparsity": sparsity}
                named["method_name"] = spec.name
                time(bench, named, code, given, base)
        del given, dense
        bench.free()


def _moved(given: Inputs, read: float, attended: float | None = None) -> dict[str, Any]:
    """What a step attends, computes, and reads: keys and values, or as much metadata, as a share of all."""
    attended = read if attended is None else attended
    batch, heads, _, dim = given.q.shape
    whole = 2 * batch * given.k.shape[1] * given.tokens * dim * given.k.element_size()
    return {
        "attended_density": attended,
        "flops": 4.0 * batch * heads * given.tokens * dim * attended,
        "bytes": whole * read,
    }


def _paged(bench: Bench, named: dict[str, Any], code: Code, given: Inputs, base: Method) -> None:
    """A method that chooses pages: the scores alone, and the whole step."""
    made: list[tuple[Method, dict[str, Any]]] = []

    def chosen() -> tuple[Method, dict[str, Any]]:
        if not made:
            method = base.at_sparsity(named["sparsity"] / 1000, given.tokens)
            context = given.context()
            selection = method.decode(given.q, given.k, context)
            assert selection is not None
            attended = float(selection.density().mean())
            metadata = float(method.metadata_read(context.lengths).double().mean()) / given.tokens
            known = _moved(given, attended + metadata, attended)
            known["hyperparameters"] = json.dumps(asdict(method), sort_keys=True)
            made.append((method, known))
        return made[0]

    _staged(
        bench,
        named,
        {
            "selection": lambda: code.page_scores(chosen()[0], given),
            "total": lambda: code.paged(chosen()[0], given),
        },
        lambda: chosen()[1],
    )


def _evicting(bench: Bench, named: dict[str, Any], code: Code, given: Inputs, base: Method) -> None:
    """A cache after an eviction; the heads keep as many tokens as the method would give them."""
    made: list[tuple[EvictedLayer, dict[str, Any]]] = []

    def chosen() -> tuple[EvictedLayer, dict[str, Any]]:
        if not made:
            method = base.at_sparsity(named["sparsity"] / 1000, given.tokens)
            layer = evicted(given, int(getattr(method, "capacity", given.tokens)), hasattr(method, "floor"))
            held = layer.counts.double().mean() + NEW
            known = _moved(given, min(float(held) / given.tokens, 1.0))
            known["hyperparameters"] = json.dumps(asdict(method), sort_keys=True)
            made.append((layer, known))
        return made[0]

    new = given.k[:, :, :NEW].contiguous(), given.v[:, :, :NEW].contiguous()
    _staged(bench, named, {"total": lambda: code.evicted(given, new, chosen()[0])}, lambda: chosen()[1])


def _staged(
    bench: Bench, named: dict[str, Any], stages: dict[str, Make], known: Callable[[], dict[str, Any]]
) -> None:
    """Each stage as it is called, and on a GPU from a CUDA graph; all is made when the first one runs."""
    for stage, make in stages.items():
        for graph in (False, True) if bench.clock.device.type == "cuda" else (False,):
            case = Case(**named, stage=stage, graph=graph)
            bench.attempt(case, partial(_timed, bench, make, known, graph))


def _timed(
    bench: Bench, make: Make, known: Callable[[], dict[str, Any]], graph: bool
) -> tuple[list[float], dict[str, Any]]:
    values, call = known(), make()
    return bench.clock.measure(graphed(call) if graph else call), values


def evicted(given: Inputs, capacity: int, ragged: bool) -> EvictedLayer:
    """A layer from which all but `capacity` random tokens a KV head are evicted.

    Args:
        given: keys and values.
        capacity: tokens a head, on average.
        ragged: whether heads keep different numbers, from :data:`SPREAD`.
    """
    batch, heads, tokens, _ = given.k.shape
    layer = StudyLayer()
    layer.update(given.k, given.v)
    source = torch.Generator(given.k.device).manual_seed(0)
    drawn = torch.rand(batch, heads, tokens, device=given.k.device, generator=source)
    shares = torch.linspace(*SPREAD, heads) if ragged else torch.ones(heads)
    kept = torch.zeros_like(drawn, dtype=torch.bool)
    for head, share in enumerate(shares.tolist()):
        count = min(max(1, round(share * capacity)), tokens)
        best = drawn[:, head].topk(count, -1).indices
        kept[:, head].scatter_(-1, best, True)
    return EvictedLayer(layer, kept, torch.zeros(batch, dtype=torch.long, device=given.k.device))


def predicted(run: SpeedParameters, shape: Shape, length: int, rate: float) -> float:
    """Seconds that the part will take: a few steps a case at a third of the rate of copies."""
    methods = sum(bool(spec.build().phase == "decode") for spec in run.methods)
    cases = 5 + 2 * len(run.sparsities) * methods
    whole = 4.0 * sum(run.batches) * shape.kv_heads * shape.dim * length
    return cases * (len(run.batches) * 0.15 + 6 * whole / (rate / 3))
