"""Datasets of plausible speed, for tests of what is read from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from sparsestudy import dataset as ds
from sparsestudy.schema import STATUS
from sparsestudy.shards import ShardOf
from sparsestudy.speed.bench import Case
from sparsestudy.speed.capture import FIELDS
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.schema import SPEED

DEFAULTS: dict[str, Any] = {
    "run": "h200",
    "published": True,
    "models": ["qwen2.5-7b", "tiny"],
    "kernels_of": ["qwen2.5-7b"],
    "methods": [{"name": "block_sparse", "block_size": 128}, "vertical_slash", "quest", "snapkv"],
    "sparsities": [500, 950],
    "lengths": [8192, 131072],
    "blocks": [128, 64],
    "batches": [1, 16],
}
BACKENDS = {"cudnn": 1.0, "flash": 1.7}
DENSE_SECONDS = 1e-11
"""Of one pair in the fastest dense attention."""


def write_speed(**changes: Any) -> list[ShardOf[SpeedParameters]]:
    """Save the shards of :data:`DEFAULTS` with changes where they belong."""
    shards = SpeedParameters.parse(DEFAULTS | changes).shards()
    for shard in shards:
        ds.save(synthetic_speed(shard), shard.path)
    return shards


def cases(run: SpeedParameters, model: str) -> dict[Case, float]:
    """Every case of a shard, and how many times as fast as the fastest dense one it is; 0 is a failure."""
    found: dict[Case, float] = {}
    if model in run.kernels_of:
        for code, slower in BACKENDS.items():
            found[Case(part="prefill", stage="kernel", method="dense", code=code)] = 1 / slower
        for sparsity in run.sparsities:
            for block in run.blocks:
                same: dict[str, Any] = {"part": "prefill", "block": block, "sparsity": sparsity}
                kept = 1 - sparsity / 1000
                found[Case(**same, stage="kernel", method="pattern", code="triton")] = 0.95 / kept
                found[Case(**same, stage="kernel", method="pattern", code="flex")] = 0.7 / kept * (block > 64)
            for spec in run.methods[:2]:
                for stage, speed in (("selection", 4.0), ("kernel", 0.9 / kept), ("total", 0.6 / kept)):
                    named = {"method": spec.label, "method_name": spec.name, "code": "triton"}
                    size = {"block": 128, "sparsity": sparsity}
                    found[Case(part="prefill", stage=stage, **named, **size)] = speed
        for batch in run.batches:
            for graph in (False, True):
                same = {"part": "decode", "batch": batch, "graph": graph}
                found[Case(**same, stage="kernel", method="dense", code="cudnn")] = 1.0
                for spec in run.methods[2:]:
                    for sparsity in run.sparsities:
                        named = {"method": spec.label, "method_name": spec.name, "code": "triton"}
                        gain = 0.5 * batch if spec.name == "quest" else 5.0 * batch
                        found[Case(**same, stage="total", **named, sparsity=sparsity)] = gain
    for stage, name in (("prefill", "block_sparse"), ("step", "quest")):
        found[Case(part="model", stage=stage, method="dense", method_name="dense", code="fastest")] = 1.0
        sparse = {"method": name, "method_name": name, "code": "triton", "sparsity": 900}
        found[Case(part="model", stage=stage, **sparse)] = 2.0
    return found


def synthetic_speed(shard: ShardOf[SpeedParameters]) -> xr.Dataset:
    """One valid shard; at the shortest length choosing is so slow that no method gains."""
    run, known = shard.run, cases(shard.run, shard.model)
    data = ds.blank(
        {
            "model": [shard.model],
            "model_weights_sha256": ["0" * 64],
            "model_source": ["synthetic"],
            "length": [shard.length],
            "case": [case.label for case in known],
            **{f"case_{name}": [getattr(case, name) for case in known] for name in FIELDS},
            "repeat": list(range(run.repeats)),
        },
        SPEED,
    )
    rng = np.random.default_rng(shard.length)
    dense = DENSE_SECONDS * shard.length**2
    for place, (case, gain) in enumerate(known.items()):
        at = (0, 0, place)
        if gain == 0:
            data["status"].values[at] = STATUS.index("failed")
            data["reason"].values[at] = "RuntimeError: no such kernel"
            continue
        if shard.length < 10000 and case.stage == "total" and case.part == "prefill":
            gain = 0.3
        data["status"].values[at] = STATUS.index("ok")
        data["seconds"].values[at] = dense / gain * rng.uniform(0.999, 1.001, run.repeats)
        data["attended_density"].values[at] = 1 - case.sparsity / 1000
        data["flops"].values[at] = 1e4 * shard.length**2 * (1 - case.sparsity / 1000)
        data["bytes"].values[at] = 1e6 * shard.length
        if case.part == "model":
            data["choosing_seconds"].values[at] = 0.1 * dense / gain
            data["peak_bytes"].values[at] = 2e10
    data["copy_rate"].values[:] = 4e12
    data["multiply_rate"].values[:] = 7e14
    texts = {"ceiling_size": "{}", "dtype": "bfloat16", "device": "GPU", "commit": "0" * 40, "versions": "{}"}
    for key, text in {**texts, "backend": "triton", "key": "{}"}.items():
        data[key][:] = text
    data.attrs = ds.attributes(shard)
    return data
