"""A shard's evaluation: prompts, batches, replies, scores, and the dataset they make.

Every batch is fixed by the indices of its samples, is prefilled once for all settings that prefill densely,
and is written as a checkpoint when it is done, so a run that was killed goes on at the batch it was in.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsestudy import paths, provenance
from sparsestudy.backends import names
from sparsestudy.batch import Case, run_batch
from sparsestudy.batch_size import batch_size
from sparsestudy.calibration import Calibration
from sparsestudy.collect import collect, device_name
from sparsestudy.errors import StudyError
from sparsestudy.extension import NOTHING, Known, taken_over
from sparsestudy.progress import Progress
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE, NOT_RUN, CellPlan, Setting, plan_cells
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import encode

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.shards import Shard


@dataclass(frozen=True)
class Work:
    """Everything about a shard that is settled before a model runs.

    Args:
        shard: model and length.
        tasks: the tasks, in the run's order.
        cases: for each task its samples.
        cells: for each (method index, sparsity index) what to run on full contexts; empty until
            :func:`settle`.
        known: the first samples, where an earlier dataset holds them.
    """

    shard: Shard
    tasks: list[Task]
    cases: list[list[Case]]
    cells: dict[tuple[int, int], CellPlan] = field(default_factory=dict)
    known: Known = NOTHING

    def plan(self, m: int, s: int, t: int) -> CellPlan:
        """What to run for a method, a sparsity and a task.

        A prompt with less context than the length is run densely and under no other method: budgets are set
        for the length, and what is asked there is what the model knows, not what sparsity costs.
        """
        dense = self.shard.run.methods[m].name == DENSE.method.name
        return self.cells[m, s] if dense or self.tasks[t].context == "full" else NOT_RUN

    def settings(self, t: int) -> list[Setting]:
        """The distinct settings to run on a task, dense first."""
        plans = [self.plan(m, s, t) for m, s in self.cells]
        found = {plan.setting for plan in plans if plan.setting is not None}
        return sorted(found, key=lambda setting: (setting != DENSE, setting.phase, setting.tail, setting.key))


def prepare(shard: Shard, tokenizer: Any) -> Work:
    """Generate a shard's prompts; needs the tokenizer, not the weights.

    Raises:
        StudyError: a length that is too short for a task, or a field that a method does not have.
    """
    tasks: list[Task] = [spec.build() for spec in shard.run.tasks]
    cases = []
    for task in tasks:
        samples = [task.sample(tokenizer, shard.length, i, shard.run.seed) for i in range(shard.run.samples)]
        cases.append([Case(sample, encode(tokenizer, sample)) for sample in samples])
    return Work(shard, tasks, cases)


def settle(work: Work, model: Any, tokenizer: Any) -> Work:
    """The same work with every budget set, and with what an earlier dataset of fewer samples holds.

    Budgets without a closed form are calibrated with the model.

    Args:
        work: from :func:`prepare`.
        model: the shard's model, on its device.
        tokenizer: the model's tokenizer.
    """
    shard = work.shard
    methods = [spec.build() for spec in shard.run.methods]
    # A backend that cannot run one of them stops here, before anything is computed.
    names(shard.run.backend, model, methods)
    calibration = Calibration(shard, model, tokenizer, methods)
    margin = max(task.max_new_tokens for task in work.tasks)
    settled = replace(work, cells=plan_cells(shard, margin, calibration.at))
    return replace(settled, known=taken_over(settled, model))


def placement(device: str, dtype: str) -> tuple[str, str]:
    """The device and dtype that "auto" stands for here: bfloat16 on a GPU, float32 on a CPU.

    Raises:
        StudyError: "cuda" without a GPU.
    """
    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise StudyError(
            "The device 'cuda' was asked for, but torch sees no GPU here; use device: auto or cpu."
        )
    device = device if device != "auto" else ("cuda" if gpu else "cpu")
    return device, dtype if dtype != "auto" else ("bfloat16" if device == "cuda" else "float32")


def evaluate(work: Work, model: Any, tokenizer: Any) -> xr.Dataset:
    """Run a shard and return its dataset; see :mod:`sparsestudy.dataset` for the schema.

    Args:
        work: from :func:`prepare`.
        model: the shard's model, on its device.
        tokenizer: the model's tokenizer.
    """
    work = settle(work, model, tokenizer)
    run, shard = work.shard.run, work.shard
    size = batch_size(shard)
    starts = range(work.known.samples, run.samples, size)
    tag = checkpoint_tag(work, model)
    settings = [work.settings(t) for t in range(len(work.tasks))]
    left = run.samples - work.known.samples
    progress = Progress(left * sum(map(len, settings)), f"{shard.model} at {shard.length}")
    records = [[record] for record in work.known.records] or [[] for _ in work.tasks]
    for t, task in enumerate(work.tasks):
        for start in starts:
            cases = work.cases[t][start : start + size]
            file = shard.checkpoints / f"{tag}-task{t}-{start:05d}.json"
            record = _resumed(file)
            if record is None:
                record = run_batch(settings[t], task, cases, model, tokenizer, run.backend, progress)
                paths.write_text(file, json.dumps(record))
            else:
                progress.resume(len(cases) * len(settings[t]))
            records[t].append(record)
    return collect(work, records, model)


def finished(shard: Shard) -> None:
    """Remove the checkpoints of a shard whose dataset is saved."""
    shutil.rmtree(shard.checkpoints, ignore_errors=True)


def checkpoint_tag(work: Work, model: Any) -> str:
    """What the names of a shard's checkpoints begin with: a hash of what they depend on.

    Batches of other prompts or budgets, of another device, number format or software are not taken over.
    """
    prompts = [short_hash(case.sample.prompt) for cases in work.cases for case in cases]
    settings = [setting.key for t in range(len(work.tasks)) for setting in work.settings(t)]
    place = [device_name(model), str(model.dtype), provenance.versions()]
    return short_hash(json.dumps([work.shard.run.plain(), place, prompts + settings]))


def _resumed(file: Path) -> dict[str, Any] | None:
    """A finished batch, or None; files appear whole or not at all, so what is there can be read."""
    if not file.exists():
        return None
    record: dict[str, Any] = json.loads(file.read_text())
    return record
