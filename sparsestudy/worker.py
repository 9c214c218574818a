"""One of several processes that make the batches of a run together (:mod:`sparsestudy.sharing`)."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sparsestudy import evaluate, models, paths
from sparsestudy.batch import Case, run_batch
from sparsestudy.batch_size import batch_size
from sparsestudy.division import Rates, divide, plan_file, setting_of
from sparsestudy.errors import StudyError
from sparsestudy.jobs import Todo, alive_lock, die_with, redirect
from sparsestudy.progress import FILE_VARIABLE, Progress
from sparsestudy.shards import Shard
from sparsestudy.tasks.prompt import encode
from sparsestudy.units import Unit, Units, claim

_POLL_SECONDS = 0.5
# What a full device says where torch's own allocator is not asked: to libraries that load and to kernels.
_NO_ROOM = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def put_off(todo: Todo, number: int, unit: Unit) -> Path:
    """Marks a unit of a shard that found too little memory while others used the device."""
    return todo.work / f"{number}.{unit.name}.memory"


@dataclass
class Worker:
    """Works through the units of the shards of a list, until all are done.

    Args:
        todo: what the invocation does; a shard with a result is finished or has failed.
        before: for each shard its dataset before the run (:func:`sparsestudy.units.stands`).
        order: numbers of the shards, those that take longest first.
        shares: whether other workers use the same device, so that too little memory may be their doing.
    """

    todo: Todo
    before: list[list[int] | None]
    order: list[int]
    shares: bool
    _opened: dict[int, Units] = field(default_factory=dict)
    _loaded: tuple[str, Any, Any] | None = None
    _cases: tuple[tuple[int, int, int], list[Case]] | None = None

    def run(self) -> None:
        """Do what can be done, and wait while others hold what is left: they may die."""
        while [number for number in self.order if not self._through(number)]:
            time.sleep(_POLL_SECONDS)

    def _through(self, number: int) -> bool:
        """Work through one shard; False where others hold what is left of it."""
        result = self.todo.state(number, "result")
        if result.exists():
            return True
        try:
            units = self._open(number)
            return units is not None and self._worked_off(number, units)
        except StudyError as error:
            paths.write_text(result, json.dumps({"error": str(error), "known": True}))
            return True

    def _worked_off(self, number: int, units: Units) -> bool:
        while left := self._left(number, units):
            if not any(self._claimed(number, units, unit) for unit in left):
                break
        units.merge_all()
        return not left

    def _left(self, number: int, units: Units) -> list[Unit]:
        """What is to be done of a shard, longest first, without what is put off."""
        return [unit for unit in units.left() if not put_off(self.todo, number, unit).exists()]

    def _open(self, number: int) -> Units | None:
        """A shard's units; None while another process plans them.

        One worker of an invocation makes all prompts and sets every budget, which takes most of a minute at
        16,384 tokens; the others read what came of it, and make the prompts of their units.
        """
        if number in self._opened:
            return self._opened[number]
        given, told = self.todo.shards[number], self.todo.state(number, "units")
        # The notebook runs a shard as a run of its own, and its checkpoints are named after that.
        shard = Shard(given.parameters, given.model, given.length)
        plan = plan_file(shard, *evaluate.placement(shard.run.device, shard.run.dtype))
        if not told.exists():
            with claim(plan.with_suffix(".lock")) as mine:
                if not mine:
                    return None
                if not told.exists():
                    self._plan(number, shard, plan)
                    paths.write_text(told, json.dumps(str(plan)))
        units = Units.read(plan, shard, self.before[number])
        if units is not None:
            self._opened[number] = units
        return units

    def _plan(self, number: int, shard: Shard, plan: Path) -> None:
        """Write the plan of a shard, if the one that is there is not of these prompts and budgets."""
        model, tokenizer = self._model(shard)
        work = evaluate.settle(evaluate.prepare(shard, tokenizer), model, tokenizer)
        tag = evaluate.checkpoint_tag(work, model)
        units = Units.read(plan, shard, self.before[number])
        if units is None or units.tag != tag:
            divide(work, tag, Rates.of(work, model)).write(plan)
        if model.device.type == "cuda":
            # A calibration keeps the scores of all its prompts.
            torch.cuda.empty_cache()

    def _model(self, shard: Shard) -> tuple[Any, Any]:
        """The model of a shard and its tokenizer; one is held at a time."""
        if self._loaded is None or self._loaded[0] != shard.model:
            self._loaded = None
            place = evaluate.placement(shard.run.device, shard.run.dtype)
            self._loaded = (shard.model, *models.load(shard.model, *place))
        return self._loaded[1:]

    def _claimed(self, number: int, units: Units, unit: Unit) -> bool:
        """Compute a unit, unless another process has it."""
        with claim(units.part(unit).with_suffix(".claim")) as mine:
            # It may have been done between the look and the claim.
            if not mine or units.done(unit):
                return False
            record = self._fitting(number, units, unit)
            if record is None:
                paths.write_text(put_off(self.todo, number, unit), "")
                return True
            paths.write_text(units.part(unit), json.dumps(record))
        units.merge(unit)
        return True

    def _fitting(self, number: int, units: Units, unit: Unit) -> dict[str, Any] | None:
        """The records of a unit; None where the others on the device leave too little memory for it."""
        try:
            record = self._compute(number, units, unit)
        except RuntimeError as error:
            if not (self.shares and any(words in str(error) for words in _NO_ROOM)):
                raise
            return None
        return None if self.shares and any("skipped_memory" in cell for cell in record.values()) else record

    def _compute(self, number: int, units: Units, unit: Unit) -> dict[str, Any]:
        """The records of a unit: setting key -> what its rows did, as a batch's checkpoint holds them."""
        shard = units.shard
        model, tokenizer = self._model(shard)
        task = shard.run.tasks[unit.task].build()
        settings = [setting_of(key) for key in units.settings[unit.task][unit.first : unit.stop]]
        place = (number, unit.task, unit.start)
        if self._cases is None or self._cases[0] != place:
            numbers = range(unit.start, min(unit.start + batch_size(shard), shard.run.samples))
            samples = [task.sample(tokenizer, shard.length, i, shard.run.seed) for i in numbers]
            self._cases = place, [Case(sample, encode(tokenizer, sample)) for sample in samples]
        cases = self._cases[1]
        progress = Progress(len(cases) * len(settings), f"{shard.model} at {shard.length}")
        record = run_batch(settings, task, cases, model, tokenizer, shard.run.backend, progress)
        if self.shares and model.device.type == "cuda":
            # What stays reserved here is missing next door.
            torch.cuda.empty_cache()
        return record


def run_worker(file: Path, number: int, shares: bool) -> int:
    """Be worker ``number`` of the invocation that wrote a todo file; the exit status of the process.

    The invocation has set the devices and threads of this process; everything printed goes to its log.
    """
    todo, _ = Todo.read(file)
    told = json.loads(file.read_text())
    os.environ[FILE_VARIABLE] = str(todo.work / f"worker{number}.progress.json")
    die_with(alive_lock(todo.work))
    redirect(log(todo, number))
    if torch.cuda.is_available() and todo.shards[0].run.device != "cpu":
        paths.write_text(todo.work / f"worker{number}.device.json", json.dumps(torch.cuda.get_device_name()))
    Worker(todo, told["before"], told["order"], shares).run()
    return 0


def log(todo: Todo, number: int) -> Path:
    """What a worker printed."""
    return todo.shards[0].log.with_name(f"worker-{number}.log")
