"""Datasets made of plausible numbers, for tests of whatever reads datasets."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy import dataset as ds
from sparsestudy import schema
from sparsestudy.models import REGISTRY
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.shards import Shard
from sparsestudy.specs import MethodSpec, TaskSpec

DEFAULTS: dict[str, Any] = {
    "run": "synthetic",
    "methods": [
        "dense",
        "window",
        {"name": "window", "phase": "decode"},
        {"name": "window", "phase": "decode", "tail": "decode"},
        "block_sparse",
        "quest",
        {"name": "quest", "tail": "decode"},
    ],
    "sparsities": [0, 500, 800, 900, 950],
    "lengths": [512, 1024],
    "samples": 100,
}
# Name -> (phase, role, scope, how well it keeps accuracy).
_METHODS = {
    "dense": ("none", "dense", "shared", 1.0),
    "window": ("prefill", "control", "shared", 0.15),
    "block_sparse": ("prefill", "method", "group", 0.75),
    "random": ("prefill", "control", "head", 0.1),
    "oracle": ("prefill", "oracle", "head", 0.97),
    "quest": ("decode", "method", "group", 0.95),
}
_CONTROLS = ("prefill", "control", "head", 0.4)


def parse(parameters: dict[str, Any] | None = None) -> AccuracyParameters:
    """:data:`DEFAULTS` with what differs."""
    return AccuracyParameters.parse(DEFAULTS | (parameters or {}))


def synthetic_run(parameters: dict[str, Any] | None = None, seed: int = 0) -> xr.Dataset:
    """A merged run of several shards.

    Args:
        parameters: what differs from :data:`DEFAULTS`.
        seed: of the numbers.
    """
    shards = parse(parameters).shards()
    return ds.merge([synthetic_shard(shard, seed) for shard in shards], [shard.name for shard in shards])


def write_run(
    parameters: dict[str, Any] | None = None, seed: int = 0, current: bool = False, graded: bool = False
) -> list[Shard]:
    """Save the shards of a synthetic run where they belong under ``paths.ROOT``.

    Args:
        parameters: what differs from :data:`DEFAULTS`.
        seed: of the numbers.
        current: whether to stamp them with the real key and commit, so that they count as fresh.
        graded: whether the first model scores lower than the others (:func:`by_size`).
    """
    shards = parse(parameters).shards()
    for shard in shards:
        made = synthetic_shard(shard, seed, current)
        ds.save(by_size(made) if graded and shard.model == shards[0].model else made, shard.path)
    return shards


def synthetic_shard(shard: Shard, seed: int = 0, current: bool = False) -> xr.Dataset:
    """One valid shard: accuracy falls with sparsity, at a pace that depends on the method."""
    run = shard.run
    data = ds.blank(_coordinates(shard))
    dense_scores = {
        number: _scores(shard, "dense", task, 0.92, run.samples, seed)
        for number, task in enumerate(run.tasks)
    }
    for m, method in enumerate(run.methods):
        for s, sparsity in enumerate(run.sparsities):
            for t, task in enumerate(run.tasks):
                _fill_cell(data, (0, m, s, 0, t), shard, method, sparsity, task, dense_scores[t], seed)
    for t in range(len(run.tasks)):
        _fill_prompts(data, shard, t, seed)
    for name, text in {"dtype": "float32", "device": "cpu", "commit": "0" * 40, "versions": "{}"}.items():
        data[name][:] = text
    data["key"][:] = json.dumps({"parameters": "synthetic"})
    data["backend"][:] = "torch"
    data.attrs = ds.attributes(shard)
    return ds.stamp(data, shard) if current else data


def _coordinates(shard: Shard) -> dict[str, Any]:
    run, entry = shard.run, REGISTRY[shard.model]
    facts = [_METHODS.get(method.name, _CONTROLS) for method in run.methods]
    phases = [_phase(method) for method in run.methods]
    tails = [
        method.tail if phase == "decode" else "none"
        for method, phase in zip(run.methods, phases, strict=True)
    ]
    return {
        "model": [shard.model],
        "model_weights_sha256": ["0" * 64],
        "model_parameters": [int(entry.parameters)],
        "model_context": [entry.context],
        "model_licence": [entry.licence],
        "model_source": ["synthetic"],
        "model_architecture": [entry.architecture],
        "method": [method.label for method in run.methods],
        "method_name": [method.name for method in run.methods],
        "method_phase": phases,
        "method_tail": tails,
        "method_role": [fact[1] for fact in facts],
        "method_scope": [fact[2] for fact in facts],
        "method_like": [str(method.fields.get("like", "")) for method in run.methods],
        "method_fields": [json.dumps(method.fields) for method in run.methods],
        "sparsity": run.sparsities,
        "length": [shard.length],
        "task": [task.label for task in run.tasks],
        "task_name": [task.name for task in run.tasks],
        "task_preset": ["direct" for _ in run.tasks],
        "task_question": ["after" for _ in run.tasks],
        "task_context": [str(task.fields.get("context", "full")) for task in run.tasks],
        "task_fields": [json.dumps(task.fields) for task in run.tasks],
        "task_binary": [int(_queries(task) == 1) for task in run.tasks],
        "sample": list(range(run.samples)),
        "evidence": list(range(max(_queries(task) for task in run.tasks))),
        "layer": [0, 1],
        "head": [0, 1, 2, 3],
        "generated": schema.GENERATED,
        "batch": schema.BATCHES,
    }


def _phase(method: MethodSpec) -> str:
    """The phase that is given, that of the method beside which this stands, or the usual one."""
    like = _METHODS.get(str(method.fields.get("like")), _METHODS.get(method.name, _CONTROLS))
    return str(method.fields.get("phase", like[0]))


def _queries(task: TaskSpec) -> int:
    given = task.fields.get("queries", 1)
    return given if isinstance(given, int) else 1


def _random(*parts: Any) -> np.random.Generator:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _scores(shard: Shard, label: str, task: TaskSpec, chance: float, samples: int, seed: int) -> Any:
    # The difficulty of a sample is shared by all methods, as it is in a real, paired run.
    difficulty = _random(shard.model, shard.length, task.label, seed).random((samples, _queries(task)))
    luck = _random(shard.model, shard.length, task.label, label, seed).random((samples, _queries(task)))
    return ((0.7 * difficulty + 0.3 * luck) < chance).mean(axis=1)


def _fill_cell(
    data: xr.Dataset,
    place: tuple[int, int, int, int, int],
    shard: Shard,
    method: MethodSpec,
    sparsity: int,
    task: TaskSpec,
    dense: Any,
    seed: int,
) -> None:
    samples = shard.run.samples
    _, _, _, strength = _METHODS.get(method.name, _CONTROLS)
    phase = _phase(method)
    density = 1 - sparsity / 1000
    data["hyperparameters"].values[place[:4]] = json.dumps({"name": method.name, "sparsity": sparsity})
    less = task.fields.get("context", "full") != "full"
    if (method.name == "dense" and sparsity > 0) or (method.name != "dense" and less):
        return
    if sparsity >= 950 and shard.length < 1024 and method.name != "dense":
        data["status"].values[place] = schema.UNREACHABLE
        data["lowest_density"].values[place] = 0.08
        return
    falls_back = sparsity == 0 and method.name != "dense"
    data["status"].values[place] = schema.FELL_BACK_DENSE if falls_back else schema.OK
    if sparsity == 0:
        scores, density = dense, 1.0
    else:
        left = max(0.0, 1 - (sparsity / 1000) ** (1 + 8 * strength))
        scores = _scores(shard, method.label, task, 0.92 * left, samples, seed)
    jitter = _random("density", method.label, sparsity, shard.length, seed).normal(0, 0.002, samples)
    attended = np.clip(density + (jitter if sparsity else 0), 0.01, 1)
    data["score"].values[place] = scores
    data["parsed"].values[place] = 1
    data["finish"].values[place] = 0
    data["output_tokens"].values[place] = 8
    data["reply"].values[place] = [f"reply {index}" for index in range(samples)]
    data["attended_density"].values[place] = attended
    data["kernel_density"].values[place] = np.minimum(attended * 1.1, 1)
    data["model_density"].values[place] = attended
    data["head_density"].values[place] = density
    data["selection_seconds"].values[place] = 0.01
    if phase == "decode":
        data["byte_density"].values[place] = np.minimum(attended * 1.3, 1)
    _fill_costs(data, place, phase, float(attended.mean()))
    data["prefill_seconds"].values[place] = 0.5
    data["decode_seconds"].values[place] = 0.1


def _fill_costs(data: xr.Dataset, place: tuple[int, int, int, int, int], phase: str, density: float) -> None:
    """Two operations a weight and token, and as much again where attention is dense in the phase."""
    weights, length = int(data["model_parameters"].values[0]), int(data["length"].values[0])
    before, after = (1 + (density if phase == one else 1.0) for one in ("prefill", "decode"))
    steps = np.array([generated or 8 for generated in schema.GENERATED], float)
    batch = np.array(schema.BATCHES, float)
    data["prefill_flops"].values[place] = 2 * weights * length * before
    data["prefill_bytes"].values[place] = 2 * weights / batch * before
    data["decode_flops"].values[place] = 2 * weights * steps * after
    data["decode_bytes"].values[place] = 2 * weights * steps[:, None] / batch * after
    data["request_flops"].values[place] = 2 * weights * (length * before + steps * after)


def _fill_prompts(data: xr.Dataset, shard: Shard, task: int, seed: int) -> None:
    spec, samples = shard.run.tasks[task], shard.run.samples
    random = _random("prompt", shard.model, shard.length, spec.label, seed)
    tokens = random.integers(int(0.95 * shard.length), shard.length + 1, samples)
    data["prompt_tokens"].values[0, 0, task] = tokens
    data["chance"].values[0, 0, task] = 0.0
    for sample in range(samples):
        text = f"{shard.model} {shard.length} {spec.label} {seed} {sample}"
        data["prompt_id"].values[0, 0, task, sample] = hashlib.sha256(text.encode()).hexdigest()[:16]
        starts = np.sort(random.integers(0, tokens[sample] - 40, _queries(spec)))
        data["evidence_start"].values[0, 0, task, sample, : len(starts)] = starts
        data["evidence_stop"].values[0, 0, task, sample, : len(starts)] = starts + 30


def by_size(data: xr.Dataset) -> xr.Dataset:
    """The same where the first, smallest model misses every fifth prompt, so that its size can be told."""
    missed = data["score"].values[0, ..., ::5]
    missed[np.isfinite(missed)] = 0.0
    return data
