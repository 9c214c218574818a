"""More samples for a dataset that is there: its samples are taken over, and only the others are computed.

A dataset is extended where nothing differs but the number of samples, and it was made on the same device
with the same number format, backend and software; anything else makes all of it again. What is taken over
stands in for one more batch, before the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsestudy import provenance
from sparsestudy.backends import names
from sparsestudy.collect import DENSITIES, device_name
from sparsestudy.dataset import open_shard
from sparsestudy.experiments import experiment
from sparsestudy.schema import FINISH, SKIPPED_MEMORY
from sparsestudy.seeds import short_hash
from sparsestudy.staleness import recorded, shard_key

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.evaluate import Work
    from sparsestudy.trace import Step


@dataclass(frozen=True)
class Known:
    """The first samples of a shard, as an earlier dataset holds them.

    Args:
        samples: how many.
        records: for each task setting key -> what its rows did, as :func:`sparsestudy.batch.run_batch` tells.
    """

    samples: int = 0
    records: tuple[dict[str, Any], ...] = ()


NOTHING = Known()
_SECONDS = ("prefill_seconds", "decode_seconds", "selection_seconds")


def taken_over(work: Work, model: Any) -> Known:
    """The samples that the dataset of a shard holds; none where it cannot be extended.

    Args:
        work: a shard's work with every budget set.
        model: the model that will run.

    Raises:
        StudyError: the file cannot be read.
    """
    if not work.shard.path.exists():
        return NOTHING
    data = open_shard(work.shard.path)
    if not (_same_run(data, work) and _same_place(data, work, model) and _same_cells(data, work)):
        return NOTHING
    return Known(data.sizes["sample"], tuple(_record(data, work, t) for t in range(len(work.tasks))))


def _same_run(data: xr.Dataset, work: Work) -> bool:
    """Whether a dataset holds the first samples of a shard, made with the code of today."""
    run = work.shard.run
    stored, current = json.loads(str(data["key"].values[0, 0])), shard_key(work.shard, recorded(data))
    made, now = json.loads(data.attrs["parameters"]), run.plain()
    decisive = [name for name in experiment(run.experiment).decisive if name != "samples"]
    return bool(
        {**stored, "parameters": ""} == {**current, "parameters": ""}
        and all(made[name] == now[name] for name in decisive)
        and data.sizes["sample"] < run.samples
    )


def _same_place(data: xr.Dataset, work: Work, model: Any) -> bool:
    """Whether a dataset was made where the rest will be made."""
    run = work.shard.run
    backends = names(run.backend, model, [spec.build() for spec in run.methods])
    return bool(
        data["device"].item() == device_name(model)
        and data["dtype"].item() == str(model.dtype).removeprefix("torch.")
        and data["versions"].item() == provenance.versions()
        and data["backend"].values[0, :, 0].tolist() == list(backends)
    )


def _same_cells(data: xr.Dataset, work: Work) -> bool:
    """Whether prompts and budgets are those of a dataset."""
    prompts = [[short_hash(case.sample.prompt) for case in cases] for cases in work.cases]
    known = data["prompt_id"].values[0, 0]
    return all(known[t].tolist() == ids[: known.shape[1]] for t, ids in enumerate(prompts)) and all(
        data["hyperparameters"].values[0, m, s, 0] == plan.hyperparameters
        for (m, s), plan in work.cells.items()
    )


def _record(data: xr.Dataset, work: Work, t: int) -> dict[str, Any]:
    """What the rows of a dataset did on one task."""
    record: dict[str, Any] = {}
    for m, s in work.cells:
        setting = work.plan(m, s, t).setting
        if setting is not None and setting.key not in record:
            step: Step = "prefill" if setting.phase == "prefill" else "decode"
            record[setting.key] = _rows(data, (0, m, s, 0, t), step)
    return record


def _rows(data: xr.Dataset, cell: tuple[int, ...], step: Step) -> dict[str, Any]:
    if data["status"].values[cell] == SKIPPED_MEMORY:
        return {"skipped_memory": True}
    rows, heads = data.sizes["sample"], data["head_density"].values[cell]
    kept = ["score", "parsed", "output_tokens", "reply", *DENSITIES]
    if step == "prefill":
        kept.remove("byte_density")
    notes = str(data["notes"].values[cell])
    return {
        **{name: data[name].values[cell].tolist() for name in kept},
        "finish": [FINISH[i] for i in data["finish"].values[cell]],
        **{name: float(data[name].values[cell]) * rows for name in _SECONDS},
        "notes": json.loads(notes) if notes else {},
        "head_density": {
            str(layer): row.tolist() for layer, row in enumerate(heads) if np.isfinite(row).all()
        },
    }
