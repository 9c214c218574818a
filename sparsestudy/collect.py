"""From the records of an evaluation to the dataset of its shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsestudy import dataset as ds
from sparsestudy.backends import backend
from sparsestudy.labels import method_labels, model_labels
from sparsestudy.schema import FINISH, STATUS
from sparsestudy.seeds import short_hash

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.evaluate import Work

DENSITIES = ("attended_density", "kernel_density", "model_density", "byte_density")


def collect(work: Work, records: list[list[dict[str, Any]]], model: Any) -> xr.Dataset:
    """The dataset of a shard, without the provenance that :func:`sparsestudy.dataset.stamp` adds.

    Args:
        work: the shard's prompts and plan.
        records: for each task the batches, each a mapping from setting to what its rows did.
        model: the model that ran, for device and dtype.
    """
    data = ds.blank(_coordinates(work, model.config.get_text_config()))
    _prompts(data, work)
    for (m, s), plan in work.cells.items():
        data["hyperparameters"].values[0, m, s, 0] = plan.hyperparameters
        if plan.calibrated_density is not None:
            data["calibrated_density"].values[0, m, s, 0] = plan.calibrated_density
        for t in range(len(work.tasks)):
            cell, plan = (0, m, s, 0, t), work.plan(m, s, t)
            data["status"].values[cell] = STATUS.index(plan.status)
            if plan.lowest_density is not None:
                data["lowest_density"].values[cell] = plan.lowest_density
            if plan.setting is not None:
                _fill_cell(data, cell, [batch[plan.setting.key] for batch in records[t]])
    run = work.shard.run
    for m, spec in enumerate(run.methods):
        data["backend"].values[0, m, 0] = backend(run.backend, model, spec.build()).name
    data["dtype"].values[0, 0] = str(model.dtype).removeprefix("torch.")
    data["device"].values[0, 0] = device_name(model)
    return data


def device_name(model: Any) -> str:
    """The GPU's name, or the processor's architecture."""
    import platform

    import torch

    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return f"CPU {platform.machine()}"


def _fill_cell(data: xr.Dataset, cell: tuple[int, ...], batches: list[dict[str, Any]]) -> None:
    if any("skipped_memory" in batch for batch in batches):
        data["status"].values[cell] = STATUS.index("skipped_memory")
        return
    rows = sum(len(batch["score"]) for batch in batches)
    for name in ("prefill_seconds", "decode_seconds", "selection_seconds"):
        data[name].values[cell] = sum(batch[name] for batch in batches) / rows
    weights = [len(batch["score"]) / rows for batch in batches]
    data["head_density"].values[cell] = sum(
        weight * _by_head(batch["head_density"], data.sizes["layer"], data.sizes["head"])
        for weight, batch in zip(weights, batches, strict=True)
    )
    noted = {name: 0.0 for batch in batches for name in batch["notes"]}
    for name in noted:
        noted[name] = sum(w * batch["notes"][name] for w, batch in zip(weights, batches, strict=True))
    data["notes"].values[cell] = json.dumps(noted, sort_keys=True) if noted else ""
    for i, row in enumerate(_rows(batches)):
        place = (*cell, i)
        for name in ("score", "parsed", "output_tokens", *DENSITIES):
            if name in row:
                data[name].values[place] = row[name]
        data["finish"].values[place] = FINISH.index(row["finish"])
        data["reply"].values[place] = ds.clip_reply(row["reply"])


def _by_head(found: dict[str, list[float]], layers: int, heads: int) -> Any:
    """Densities ``(layers, query heads)``; a choice that heads share stands at each of them."""
    values = np.full((layers, heads), np.nan)
    for layer, densities in found.items():
        values[int(layer)] = np.repeat(densities, heads // len(densities))
    return values


def _rows(batches: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each sample's values, in order."""
    for batch in batches:
        names = [name for name, values in batch.items() if isinstance(values, list)]
        for i in range(len(batch["score"])):
            yield {name: batch[name][i] for name in names}


def _prompts(data: xr.Dataset, work: Work) -> None:
    for t, cases in enumerate(work.cases):
        data["chance"].values[0, 0, t] = np.mean([case.sample.chance for case in cases])
        for i, case in enumerate(cases):
            data["prompt_tokens"].values[0, 0, t, i] = len(case.encoded.ids)
            data["prompt_id"].values[0, 0, t, i] = short_hash(case.sample.prompt)
            for e, (start, stop) in enumerate(case.encoded.evidence):
                data["evidence_start"].values[0, 0, t, i, e] = start
                data["evidence_stop"].values[0, 0, t, i, e] = stop


def _coordinates(work: Work, config: Any) -> dict[str, Any]:
    run, shard = work.shard.run, work.shard
    evidence = max(len(case.encoded.evidence) for cases in work.cases for case in cases)
    return {
        **model_labels(shard.model),
        **method_labels(run),
        "sparsity": run.sparsities,
        "length": [shard.length],
        "task": [spec.label for spec in run.tasks],
        "task_name": [spec.name for spec in run.tasks],
        "task_preset": [task.preset for task in work.tasks],
        "task_question": [task.question for task in work.tasks],
        "task_context": [task.context for task in work.tasks],
        "task_fields": [json.dumps(spec.fields, sort_keys=True) for spec in run.tasks],
        "task_binary": [int(task.binary) for task in work.tasks],
        "sample": list(range(run.samples)),
        "evidence": list(range(max(evidence, 1))),
        "layer": list(range(config.num_hidden_layers)),
        "head": list(range(config.num_attention_heads)),
    }
