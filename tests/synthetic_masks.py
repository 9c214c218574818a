"""Datasets of plausible masks, for tests of the page that draws them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from sparsestudy import dataset as ds
from sparsestudy import schema
from sparsestudy.mask_parameters import MaskParameters
from sparsestudy.mask_schema import MASKS
from sparsestudy.methods import METHODS
from sparsestudy.models import REGISTRY
from sparsestudy.shards import ShardOf

EVICT = ("snapkv", "ada_snapkv")
CELLS = 16
DEFAULTS: dict[str, Any] = {
    "run": "drawn",
    "published": True,
    "methods": [*(name for name in METHODS if name != "dense"), {"name": "random", "like": "quest"}],
    "sparsities": [500, 900],
    "lengths": [512, 1024],
    "layers": [0, 1],
    "heads": [0, 3],
    "cells": CELLS,
}


def write_masks(**changes: Any) -> list[ShardOf[MaskParameters]]:
    """Save the shards of :data:`DEFAULTS` with changes where they belong."""
    shards = MaskParameters.parse(DEFAULTS | changes).shards()
    for shard in shards:
        ds.save(synthetic_masks(shard), shard.path)
    return shards


def synthetic_masks(shard: ShardOf[MaskParameters], current: bool = False) -> xr.Dataset:
    """One valid shard: uniform choices of the asked density, 900 out of reach at the shortest length."""
    run = shard.run
    coordinates = synthetic_coordinates(shard)
    names, decode = coordinates["method_name"], [phase == "decode" for phase in coordinates["method_phase"]]
    data = ds.blank(
        {
            **coordinates,
            "evidence": [0],
            "drawn_layer": run.layers,
            "drawn_head": run.heads,
            "row": list(range(CELLS)),
            "column": list(range(CELLS)),
        },
        MASKS,
    )
    rng = np.random.default_rng(shard.length)
    size = shard.length // CELLS
    for m, name in enumerate(names):
        pairs = np.tril(np.full((CELLS, CELLS), size * size))
        if decode[m]:
            pairs[:] = 0
            pairs[: 1 if name in EVICT else CELLS // 2] = size
        data["pairs"].values[m, 0] = pairs
        data["row_size"].values[m, 0] = 1 if decode[m] else size
        data["column_size"].values[m, 0] = size
        data["steps"].values[m, 0] = CELLS // 2 if decode[m] else 0
        for s, sparsity in enumerate(run.sparsities):
            _fill(data, (0, m, s, 0), sparsity, pairs, rng, name, sparsity >= 900 and shard.length < 600)
    for key, value in {"prompt_tokens": shard.length, "tail_start": shard.length - 30}.items():
        data[key].values[0, 0] = value
    data["evidence_start"].values[0, 0, 0], data["evidence_stop"].values[0, 0, 0] = 100, 112
    texts = {"task_name": "needle", "prompt_id": "0", "dtype": "float32", "device": "cpu", "commit": "0" * 40}
    for key, text in {**texts, "versions": "{}", "backend": "torch", "key": "{}"}.items():
        data[key][:] = text
    data.attrs = ds.attributes(shard)
    return ds.stamp(data, shard) if current else data


def synthetic_coordinates(shard: ShardOf[Any]) -> dict[str, Any]:
    """The labels of a shard, with two layers of four heads; no method and no weights are looked at."""
    run, entry = shard.run, REGISTRY[shard.model]
    names = [spec.name for spec in run.methods]
    likes = [str(spec.fields.get("like", "")) for spec in run.methods]
    roles = {"dense": "dense", "window": "control", "random": "control", "oracle": "oracle"}
    decode = [name in (*EVICT, "quest") or like == "quest" for name, like in zip(names, likes, strict=True)]
    return {
        "model": [shard.model],
        "model_weights_sha256": ["0" * 64],
        "model_parameters": [int(entry.parameters)],
        "model_context": [entry.context],
        "model_licence": [entry.licence],
        "model_source": ["synthetic"],
        "model_architecture": [entry.architecture],
        "method": [spec.label for spec in run.methods],
        "method_name": names,
        "method_phase": ["decode" if late else "prefill" for late in decode],
        "method_tail": ["dense" if late else "none" for late in decode],
        "method_role": [roles.get(name, "method") for name in names],
        "method_scope": ["head" for _ in names],
        "method_like": likes,
        "method_fields": [json.dumps(spec.fields) for spec in run.methods],
        "sparsity": run.sparsities,
        "length": [shard.length],
        "layer": [0, 1],
        "head": [0, 1, 2, 3],
    }


def _fill(
    data: xr.Dataset,
    cell: tuple[int, ...],
    sparsity: int,
    pairs: Any,
    rng: Any,
    name: str,
    out_of_reach: bool,
) -> None:
    if out_of_reach:
        data["status"].values[cell] = schema.UNREACHABLE
        data["lowest_density"].values[cell] = 0.2
        return
    density = np.clip(rng.normal(1 - sparsity / 1000, 0.03, (2, 4)), 0.01, 1)
    drawn = density[:, [0, 3]][..., None, None] * np.ones(pairs.shape)
    data["status"].values[cell] = schema.OK
    data["head_density"].values[cell] = density
    data["share"].values[cell] = np.where(pairs > 0, drawn, np.nan)
    data["hyperparameters"].values[cell] = json.dumps({"name": name, "budget_size": sparsity, "local": 4})
