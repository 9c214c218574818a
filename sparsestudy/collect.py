"""From the records of an evaluation to the dataset of its shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsestudy import dataset as ds
from sparsestudy.architecture import Architecture
from sparsestudy.backends import names
from sparsestudy.errors import StudyError
from sparsestudy.labels import method_labels, model_labels
from sparsestudy.prices import Request, prices
from sparsestudy.schema import BATCHES, FINISH, GENERATED, REPLY_BYTES, STATUS
from sparsestudy.seeds import short_hash

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.batch import Case
    from sparsestudy.evaluate import Work
    from sparsestudy.settings import Setting

DENSITIES = ("attended_density", "kernel_density", "model_density", "byte_density")


def collect(work: Work, records: list[list[dict[str, Any]]], model: Any) -> xr.Dataset:
    """The dataset of a shard, without the provenance that :func:`sparsestudy.dataset.stamp` adds.

    Args:
        work: the shard's prompts and plan.
        records: for each task the batches, each a mapping from setting to what its rows did.
        model: the model that ran, for its sizes, device and dtype.
    """
    arch = _architecture(model.config)
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
                batches = [batch[plan.setting.key] for batch in records[t]]
                if any("skipped_memory" in batch for batch in batches):
                    data["status"].values[cell] = STATUS.index("skipped_memory")
                    continue
                _fill_cell(data, cell, batches)
                if arch is not None:
                    requests = _requests(plan.setting, work.cases[t], batches)
                    for name, found in prices(arch, plan.setting.method, requests).items():
                        data[name].values[cell] = found
    run = work.shard.run
    data["backend"].values[0, :, 0] = names(run.backend, model, [spec.build() for spec in run.methods])
    data["dtype"].values[0, 0] = str(model.dtype).removeprefix("torch.")
    data["device"].values[0, 0] = device_name(model)
    return data


def _architecture(config: Any) -> Architecture | None:
    """The sizes of the model; None for a family whose cost is not known, which can be scored all the same."""
    try:
        return Architecture.of(config)
    except StudyError:
        return None


def device_name(model: Any) -> str:
    """The GPU's name, or the processor's architecture."""
    import platform

    import torch

    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return f"CPU {platform.machine()}"


def _fill_cell(data: xr.Dataset, cell: tuple[int, ...], batches: list[dict[str, Any]]) -> None:
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


def _requests(setting: Setting, cases: list[Case], batches: list[dict[str, Any]]) -> list[Request]:
    """The samples of a cell as their cost goes."""
    found = []
    for case, row in zip(cases, _rows(batches), strict=True):
        tokens = len(case.encoded.ids)
        prefilled = case.encoded.tail if setting.tail == "decode" and setting.phase == "decode" else tokens
        read = row.get("byte_density", 1.0)
        found.append(
            Request(prefilled, tokens - prefilled, row["output_tokens"], row["attended_density"], read)
        )
    return found


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
            document = case.sample.document
            data["document"].values[0, 0, t, i] = (
                document if len(document.encode()) <= REPLY_BYTES else short_hash(document)
            )
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
        "generated": GENERATED,
        "batch": BATCHES,
    }
