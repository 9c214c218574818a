"""Datasets of plausible fidelity, for tests of the page that shows it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from synthetic_masks import synthetic_coordinates

from sparsestudy import dataset as ds
from sparsestudy import schema
from sparsestudy.fidelity_parameters import FidelityParameters
from sparsestudy.fidelity_schema import FIDELITY
from sparsestudy.methods import METHODS
from sparsestudy.recall import bin_edges
from sparsestudy.shards import ShardOf

DEFAULTS: dict[str, Any] = {
    "run": "read",
    "published": True,
    "methods": [
        *(name for name in METHODS if name != "dense"),
        {"name": "random", "like": "quest"},
        {"name": "oracle", "like": "quest"},
    ],
    "sparsities": [500, 900],
    "lengths": [512, 1024],
    "texts": 3,
    "steps": 16,
    "bins": 4,
}


def write_fidelity(**changes: Any) -> list[ShardOf[FidelityParameters]]:
    """Save the shards of :data:`DEFAULTS` with changes where they belong."""
    shards = FidelityParameters.parse(DEFAULTS | changes).shards()
    for shard in shards:
        ds.save(synthetic_fidelity(shard), shard.path)
    return shards


def synthetic_fidelity(shard: ShardOf[FidelityParameters]) -> xr.Dataset:
    """One valid shard: divergence grows with sparsity, 900 is out of reach at the shortest length."""
    run = shard.run
    coordinates = synthetic_coordinates(shard)
    data = ds.blank(
        {
            **coordinates,
            "method_tail": [
                "dense" if phase == "decode" else "none" for phase in coordinates["method_phase"]
            ],
            "sample": list(range(run.texts)),
            "bin": list(range(run.bins)),
        },
        FIDELITY,
    )
    rng = np.random.default_rng(shard.length)
    shape = (run.texts, run.bins)
    for m, phase in enumerate(coordinates["method_phase"]):
        first, count = (shard.length, run.steps) if phase == "decode" else (0, shard.length)
        edges = first + np.array(bin_edges(count, run.bins))
        data["bin_start"].values[m, 0], data["bin_stop"].values[m, 0] = edges[:-1], edges[1:]
        dense = data["dense_loss"].values[0, m, 0] = rng.normal(3.5, 0.1, shape)
        for s, sparsity in enumerate(run.sparsities):
            cell = (0, m, s, 0)
            if sparsity >= 900 and shard.length < 600:
                data["status"].values[cell] = schema.UNREACHABLE
                data["lowest_density"].values[cell] = 0.2
                continue
            kl = rng.gamma(4, sparsity / 1e5, shape) * (1 + m)
            data["status"].values[cell] = schema.OK
            data["kl"].values[cell], data["loss"].values[cell] = kl, dense + kl
            data["recall"].values[cell] = 1 / (1 + kl)
            data["attended_density"].values[cell] = 1 - sparsity / 1000
            data["head_density"].values[cell] = 1 - sparsity / 1000
            data["head_recall"].values[cell] = rng.uniform(0.3, 1, (2, 4))
            data["hyperparameters"].values[cell] = json.dumps({"budget_size": sparsity})
    texts = {"text_title": "Persuasion", "text_id": "0", "dtype": "float32", "device": "cpu"}
    for key, text in {**texts, "commit": "0" * 40, "versions": "{}", "backend": "torch", "key": "{}"}.items():
        data[key][:] = text
    data.attrs = ds.attributes(shard)
    return data
