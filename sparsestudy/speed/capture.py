"""One shape at one length: every part of the speed study that its run asks for, as a dataset."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparsestudy import dataset as ds
from sparsestudy.schema import STATUS
from sparsestudy.speed import decode, models, prefill
from sparsestudy.speed.bench import Bench, Case, Record
from sparsestudy.speed.clock import Ceilings, Clock, ceilings
from sparsestudy.speed.code import own
from sparsestudy.speed.schema import SPEED
from sparsestudy.speed.shapes import SHAPES, Shape

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.shards import ShardOf
    from sparsestudy.speed.parameters import SpeedParameters

FIELDS = [part.name for part in fields(Case)]


def capture(shard: ShardOf[SpeedParameters], device: str, dtype: str) -> xr.Dataset:
    """Time one shape at one length; see :mod:`sparsestudy.speed.schema`.

    A case that fails is kept with its reason and the next one runs.

    Args:
        shard: shape and length.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``bfloat16``.
    """
    run, shape = shard.run, SHAPES[shard.model]
    like = torch.empty(0, device=device, dtype=getattr(torch, dtype))
    clock = Clock(like.device, run.repeats)
    label = f"{shard.model} at {shard.length}, speed"
    bench = Bench(clock, label, shard.length, time.monotonic() + run.seconds)
    most = ceilings(clock, like.dtype)
    code = own(like.device)
    product, copy = (float(np.median(found)) for found in (most.multiply, most.copy))
    if shard.model in run.kernels_of and "prefill" in run.parts:
        seconds = prefill.predicted(run, shape, shard.length, like.device, product)
        with bench.part("kernels of the prefill", seconds):
            prefill.measure(bench, run, shape, shard.length, code, like)
    if shard.model in run.kernels_of and "decode" in run.parts:
        with bench.part("kernels of the decode", decode.predicted(run, shape, shard.length, copy)):
            decode.measure(bench, run, shape, shard.length, code, like)
    if "model" in run.parts:
        with bench.part("whole model", models.predicted(run, shape, shard.length, product)):
            models.measure(bench, run, shape, shard.length, code, like)
    if shard.model in run.kernels_of and "prefill" in run.parts:
        with bench.part("FlexAttention", prefill.predicted_flex(run, like.device)):
            prefill.measure_flex(bench, run, shape, shard.length, like)
    data = _collected(shard, shape, bench.records, most)
    data["dtype"].values[:] = dtype
    data["device"].values[:] = _device_name(like.device)
    data["backend"].values[:] = code.name
    return data


def _device_name(device: torch.device) -> str:
    import platform

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"


def _collected(
    shard: ShardOf[SpeedParameters], shape: Shape, records: dict[Case, Record], most: Ceilings
) -> xr.Dataset:
    cases = list(records)
    data = ds.blank(
        {
            "model": [shard.model],
            "model_weights_sha256": [shape.identity()],
            "model_source": [shape.source],
            "length": [shard.length],
            "case": [case.label for case in cases],
            **{f"case_{name}": [getattr(case, name) for case in cases] for name in FIELDS},
            "repeat": list(range(shard.run.repeats)),
        },
        SPEED,
    )
    for place, record in enumerate(records.values()):
        data["status"].values[0, 0, place] = STATUS.index(record.status)
        data["reason"].values[0, 0, place] = record.reason
        data["seconds"].values[0, 0, place] = _padded(record.seconds, shard.run.repeats)
        for name, value in record.values.items():
            data[name].values[0, 0, place] = value
    for name, found in (("copy_rate", most.copy), ("multiply_rate", most.multiply)):
        data[name].values[0, 0] = _padded(found, shard.run.repeats)
    data["ceiling_size"].values[0, 0] = json.dumps(most.size)
    return data


def _padded(values: list[float], size: int) -> Any:
    return np.array([*values, *[np.nan] * (size - len(values))])
