"""Datasets of plausible concentration, for tests of the page that shows it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy import dataset as ds
from sparsestudy import schema
from sparsestudy.concentration_parameters import ConcentrationParameters
from sparsestudy.concentration_schema import CONCENTRATION, MASSES, REGIONS
from sparsestudy.models import REGISTRY
from sparsestudy.shards import ShardOf

DEFAULTS: dict[str, Any] = {
    "run": "looked",
    "published": True,
    "lengths": [512, 1024, 2048],
    "tasks": ["needle", "cwe"],
    "samples": 6,
}


def write_concentration(beta: float = 0.7, **changes: Any) -> list[ShardOf[ConcentrationParameters]]:
    """Save the shards of :data:`DEFAULTS` with changes where they belong."""
    shards = ConcentrationParameters.parse(DEFAULTS | changes).shards()
    for shard in shards:
        ds.save(synthetic_concentration(shard, beta), shard.path)
    return shards


def synthetic_concentration(shard: ShardOf[ConcentrationParameters], beta: float) -> xr.Dataset:
    """One valid shard whose keys grow with the length to the beta, two layers of three heads."""
    run, entry = shard.run, REGISTRY[shard.model]
    data = ds.blank(
        {
            "model": [shard.model],
            "model_weights_sha256": ["0" * 64],
            "model_parameters": [int(entry.parameters)],
            "model_context": [entry.context],
            "model_licence": [entry.licence],
            "model_source": ["synthetic"],
            "model_architecture": [entry.architecture],
            "length": [shard.length],
            "task": [spec.label for spec in run.tasks],
            "task_name": [spec.name for spec in run.tasks],
            "task_preset": ["direct" for _ in run.tasks],
            "task_fields": [json.dumps(spec.fields) for spec in run.tasks],
            "sample": list(range(run.samples)),
            "region": list(REGIONS),
            "layer": [0, 1],
            "head": [0, 1, 2],
            "mass": list(MASSES),
        },
        CONCENTRATION,
    )
    rng = np.random.default_rng(shard.length)
    noise = rng.lognormal(0, 0.05, data["effective_keys"].shape)
    keys = 2 * shard.length**beta * noise
    data["effective_keys"].values[:] = 0.4 * keys
    data["keys"].values[:] = keys[..., None] * np.array(MASSES) / 2000
    data["available_keys"].values[:] = 4 * shard.length
    data["queries"].values[:] = 20
    data["status"].values[:] = schema.OK
    data["prompt_tokens"].values[:] = shard.length
    data["tail_start"].values[:] = shard.length - 20
    for t in range(len(run.tasks)):
        data["prompt_id"].values[0, 0, t] = [f"{shard.length}-{t}-{i}" for i in range(run.samples)]
    texts = {"dtype": "float32", "device": "cpu", "commit": "0" * 40, "versions": "{}", "backend": "torch"}
    for key, text in {**texts, "key": "{}"}.items():
        data[key][:] = text
    data.attrs = ds.attributes(shard)
    return data
