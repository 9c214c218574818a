"""A shard's evaluation: prompts, batches, replies, scores, and the dataset they make.

Every batch is fixed by the indices of its samples, is prefilled once for all settings that prefill densely,
and is written as a checkpoint when it is done, so a run that was killed goes on at the batch it was in.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsestudy import paths, provenance
from sparsestudy.backends import names
from sparsestudy.calibration import Calibration
from sparsestudy.collect import collect, device_name
from sparsestudy.errors import StudyError
from sparsestudy.generate import Prefilled, Prompt, decode, densities, head_densities, observation, prefill
from sparsestudy.progress import Progress
from sparsestudy.seeds import short_hash
from sparsestudy.settings import DENSE, NOT_RUN, CellPlan, Setting, plan_cells
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import Encoded, Sample, encode
from sparsestudy.trace import Step

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.shards import Shard


@dataclass(frozen=True)
class Case:
    """One sample of a task, in text and in tokens."""

    sample: Sample
    encoded: Encoded


@dataclass(frozen=True)
class Work:
    """Everything about a shard that is settled before a model runs.

    Args:
        shard: model and length.
        tasks: the tasks, in the run's order.
        cases: for each task its samples.
        cells: for each (method index, sparsity index) what to run on full contexts; empty until
            :func:`settle`.
    """

    shard: Shard
    tasks: list[Task]
    cases: list[list[Case]]
    cells: dict[tuple[int, int], CellPlan] = field(default_factory=dict)

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
    """The same work with every budget set; those without a closed form are calibrated with the model.

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
    return replace(work, cells=plan_cells(shard, margin, calibration.at))


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
    size = max(1, run.batch_tokens // shard.length)
    starts = range(0, run.samples, size)
    # Batches of another device, number format or software are not taken over.
    place = [device_name(model), str(model.dtype), provenance.versions()]
    tag = short_hash(json.dumps([run.plain(), place, _identity(work)]))
    settings = [work.settings(t) for t in range(len(work.tasks))]
    progress = Progress(run.samples * sum(map(len, settings)), f"{shard.model} at {shard.length}")
    records: list[list[dict[str, Any]]] = [[] for _ in work.tasks]
    for t, task in enumerate(work.tasks):
        for start in starts:
            cases = work.cases[t][start : start + size]
            file = shard.checkpoints / f"{tag}-task{t}-{start:05d}.json"
            record = _resumed(file)
            if record is None:
                record = _batch(settings[t], task, cases, model, tokenizer, run.backend, progress)
                paths.write_text(file, json.dumps(record))
            else:
                progress.resume(len(cases) * len(settings[t]))
            records[t].append(record)
    return collect(work, records, model)


def finished(shard: Shard) -> None:
    """Remove the checkpoints of a shard whose dataset is saved."""
    shutil.rmtree(shard.checkpoints, ignore_errors=True)


def _identity(work: Work) -> list[str]:
    """What the checkpoints of a shard depend on beside its parameters: prompts and budgets."""
    prompts = [short_hash(case.sample.prompt) for cases in work.cases for case in cases]
    settings = [setting.key for t in range(len(work.tasks)) for setting in work.settings(t)]
    return prompts + settings


def _resumed(file: Path) -> dict[str, Any] | None:
    """A finished batch, or None; files appear whole or not at all, so what is there can be read."""
    if not file.exists():
        return None
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def _batch(
    settings: Sequence[Setting],
    task: Task,
    cases: Sequence[Case],
    model: Any,
    tokenizer: Any,
    backend: str,
    progress: Progress,
) -> dict[str, Any]:
    """One batch under every setting: setting key -> what its rows did."""
    prompts = [Prompt(case.encoded.ids, case.encoded.tail) for case in cases]
    shared: dict[str, Prefilled] = {}
    observe = observation([setting.method for setting in settings], prompts)
    record = {}
    for setting in settings:
        try:
            record[setting.key] = _run(
                setting, task, cases, prompts, shared, observe, model, tokenizer, backend
            )
        except torch.OutOfMemoryError:
            # The cell is marked, the others go on: at this length a method may need more than another.
            shared.clear()
            torch.cuda.empty_cache()
            record[setting.key] = {"skipped_memory": True}
        progress.advance(len(cases))
    return record


def _run(
    setting: Setting,
    task: Task,
    cases: Sequence[Case],
    prompts: Sequence[Prompt],
    shared: dict[str, Prefilled],
    observe: int,
    model: Any,
    tokenizer: Any,
    backend: str,
) -> dict[str, Any]:
    """One batch under one setting; dense prefills are taken from, or added to, `shared`."""
    sparse_prefill = setting.phase == "prefill"
    if sparse_prefill:
        start = prefill(model, prompts, setting.method, "dense", backend)
    else:
        if setting.tail not in shared:
            shared[setting.tail] = prefill(model, prompts, DENSE.method, setting.tail, backend, observe)
        start = shared[setting.tail]
    replies = decode(
        model,
        start,
        DENSE.method if sparse_prefill else setting.method,
        task.max_new_tokens,
        _end_tokens(model, tokenizer),
        lambda ids: task.done(tokenizer.decode(ids, skip_special_tokens=True)),
        backend,
    )
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in replies.ids]
    scores = [task.score(case.sample, text) for case, text in zip(cases, texts, strict=True)]
    trace = start.trace if sparse_prefill else replies.trace
    step: Step = "prefill" if sparse_prefill else "decode"
    return {
        "score": [score.value for score in scores],
        "parsed": [score.parsed for score in scores],
        "finish": replies.finish,
        "output_tokens": [len(ids) for ids in replies.ids],
        "reply": texts,
        "prefill_seconds": start.seconds,
        "decode_seconds": replies.seconds,
        "selection_seconds": trace.selection_seconds(step),
        "backend": trace.backend,
        "notes": trace.notes(),
        "head_density": head_densities(trace, step),
        **densities(trace, step),
    }


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the model's own and the tokenizer's."""
    own = model.generation_config.eos_token_id
    ids = own if isinstance(own, list) else [own]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
