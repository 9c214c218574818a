"""One run made by several processes of this machine, and of others that share its folder.

The workers make the batches of all shards, the longest first (:mod:`sparsestudy.worker`); where all batches
of a shard are there, its notebook runs as it always does, finds them and writes the dataset.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.jobs import Todo
from sparsestudy.models import REGISTRY
from sparsestudy.parameters import AccuracyParameters, RunParameters
from sparsestudy.runs import child_environment, end, failure, title, working_folder
from sparsestudy.shards import Shard
from sparsestudy.sharing_view import View
from sparsestudy.units import Units, stands

_POLL_SECONDS = 0.2
_BUSY_SECONDS = 5.0
_LOG_LINES = 12


def refuse(parameters: RunParameters) -> None:
    """Check that a run can be shared.

    Raises:
        StudyError: its experiment has no batches, or its seconds are said to be those of a quiet device.
    """
    name = f"{parameters.experiment}/{parameters.run}"
    if not isinstance(parameters, AccuracyParameters):
        raise StudyError(
            f"Workers share the batches of the experiment accuracy; {name} has none; leave out --workers."
        )
    file = paths.results(True) / "timed.yaml"
    timed = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    if parameters.published and name in (timed or []):
        raise StudyError(
            f"{paths.shown(file)} says that {name} was timed alone on a quiet device, which workers are not; "
            "run it without --workers, or take it out there."
        )


def gpus(device: str) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none for a run on the CPU."""
    if device == "cpu":
        return []
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in given.split(",")][:count] if given else [str(i) for i in range(count)]


def share(shards: Sequence[Shard], workers: int, force: bool = False, in_process: bool = False) -> None:
    """Make the datasets of one run with several processes.

    Args:
        shards: what to make.
        workers: how many processes.
        force: as :func:`sparsestudy.runs.execute`.
        in_process: notebooks run without a kernel, which leaves no executed notebook.

    Raises:
        StudyError: at least one shard could not be made; the others were.
    """
    if not shards:
        return
    with working_folder() as work:
        _Sharing(Todo(work, tuple(shards), force, workers, in_process)).carry_out()


class _Sharing:
    """The invocation: starts workers and notebooks, shows how far they are, and collects what went wrong."""

    def __init__(self, todo: Todo) -> None:
        self.todo = todo
        self.gpus = gpus(todo.shards[0].run.device)
        self.before = [stands(shard.path) for shard in todo.shards]
        self.view = View(todo)
        self.units: dict[int, Units] = {}
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.notebooks: dict[int, subprocess.Popen[bytes]] = {}
        self.notebook_after = 0.0
        # Notebooks that failed beside the workers, perhaps for want of memory: tried again without them.
        self.put_off: set[int] = set()
        self.errors: dict[int, tuple[str, bool]] = {}
        self.ended: set[int] = set()

    def carry_out(self) -> None:
        """Make everything that can be made.

        Raises:
            StudyError: at least one shard could not be made.
        """
        self.view.announce(len(self.gpus), _threads(self.todo.jobs))
        # Those that take longest first: operations grow with both.
        cost = [REGISTRY[shard.model].parameters * shard.length for shard in self.todo.shards]
        order = sorted(range(len(cost)), key=lambda number: -cost[number])
        self.todo.write({"before": self.before, "order": order})
        alone = max(1, len(self.gpus))
        try:
            self._follow(self.todo.jobs, shares=self.todo.jobs > alone)
            if short := list(self.todo.work.glob("*.memory")):
                self.view.say(f"{len(short)} units found too little memory; now one worker a device")
                for mark in short:
                    mark.unlink()
                self._follow(alone, shares=False)
        finally:
            for process in [*self.workers.values(), *self.notebooks.values()]:
                end(process)
            self.view.close()
        self._conclude()

    def _follow(self, workers: int, shares: bool) -> None:
        """Start workers, and look after them and the notebooks until both have ended."""
        for number in range(workers):
            self._start(number, workers, shares)
        while self.workers or self.notebooks or self._complete():
            time.sleep(_POLL_SECONDS)
            self._look()

    def _start(self, number: int, workers: int, shares: bool) -> None:
        threads = {"OMP_NUM_THREADS": str(_threads(workers))}
        self.workers[number] = self._process("--worker", number, str(int(shares)), **threads)

    def _process(self, kind: str, number: int, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process that works on the GPU of its number."""
        command = [sys.executable, "-m", "sparsestudy", "run", kind, str(self.todo.file), str(number), *more]
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[number % len(self.gpus)]
        with (self.todo.work / "output.txt").open("a") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, env=child_environment() | environment)

    def _look(self) -> None:
        self._check_devices()
        for number, process in list(self.workers.items()):
            if process.poll() is not None:
                del self.workers[number]
                if process.returncode:
                    self.view.say(f"worker {number} ended with status {process.returncode}")
        for number in range(len(self.todo.shards)):
            self._look_at(number)
        if time.monotonic() >= self.notebook_after:
            for number in self._complete()[: _notebooks(self.todo.jobs) - len(self.notebooks)]:
                self.notebooks[number] = self._process("--shard", number)
        self.view.show(self.units)

    def _check_devices(self) -> None:
        """Checkpoints of one device are not taken over by another, so all must be alike."""
        files = sorted(self.todo.work.glob("worker*.device.json"))
        names = sorted({json.loads(file.read_text()) for file in files})
        if len(names) > 1:
            raise StudyError(
                f"The GPUs here differ ({', '.join(names)}), and a dataset holds results of one device; name "
                "equal ones in CUDA_VISIBLE_DEVICES."
            )

    def _complete(self) -> list[int]:
        """The shards whose notebook can run: every batch has its checkpoint."""
        busy = self.ended | set(self.notebooks) | (self.put_off if self.workers else set())
        return [n for n, units in self.units.items() if n not in busy and units.complete()]

    def _look_at(self, number: int) -> None:
        """Note what happened to one shard."""
        shard, result = self.todo.shards[number], self.todo.state(number, "result")
        plan = self.todo.state(number, "units")
        if number in self.ended:
            return
        if number not in self.units and plan.exists():
            units = Units.read(Path(json.loads(plan.read_text())), shard, self.before[number])
            if units is not None:
                self.units[number] = units
                self.view.planned(units)
        mine = number in self.notebooks
        if mine:
            if self.notebooks[number].poll() is None:
                return
            del self.notebooks[number]
        if result.exists():
            self._note(number, json.loads(result.read_text()))
        elif number in self.units and self.units[number].made():
            self._end(number, f"finished {paths.shown(shard.path)} elsewhere")
        elif mine:
            self._fail(number, "its notebook's process was ended", False)

    def _note(self, number: int, told: dict[str, Any]) -> None:
        """Take over what a notebook's process or a worker says about a shard."""
        shard = self.todo.shards[number]
        if told["error"] is None:
            # What other processes left there after the notebook had removed it.
            shutil.rmtree(shard.checkpoints, ignore_errors=True)
            self._end(number, f"finished {paths.shown(shard.path)}")
        elif told.get("busy"):
            # Another host is putting the dataset together.
            self.todo.state(number, "result").unlink()
            self.notebook_after = time.monotonic() + _BUSY_SECONDS
        elif not told["known"] and self.workers and number not in self.put_off:
            self.todo.state(number, "result").unlink()
            self.put_off.add(number)
            self.view.say(f"the notebook of {title(shard)} failed beside the workers and waits for their end")
        else:
            self._fail(number, told["error"], told["known"])

    def _fail(self, number: int, error: str, known: bool) -> None:
        self.errors[number] = error, known
        self._end(number, f"failed {title(self.todo.shards[number])}")

    def _end(self, number: int, words: str) -> None:
        self.ended.add(number)
        self.view.say(f"{words} after {self.view.passed()}")

    def _conclude(self) -> None:
        """Raise when a shard failed or was left."""
        told = [failure(self.todo.shards[n], *self.errors[n]) for n in sorted(self.errors)]
        for number in sorted(set(range(len(self.todo.shards))) - self.ended):
            told.append(f"{title(self.todo.shards[number])} was left: all workers have ended.")
        if len(told) > len(self.errors):
            files = sorted(self.todo.shards[0].log.parent.glob("worker-*.log"))
            for file in files[: self.todo.jobs]:
                last = file.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
                told += [f"log {paths.shown(file)}:", *last]
        if told:
            raise StudyError("\n".join(told))
        self.view.say(
            "the seconds in these datasets are those of processes side by side and do not compare: "
            "leave the run out of results/timed.yaml"
        )


def _threads(workers: int) -> int:
    """Threads of each worker; no more than the user allows."""
    fair = max(1, (os.cpu_count() or 1) // workers)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(fair, int(given)) if given.isdecimal() and int(given) else fair


def _notebooks(workers: int) -> int:
    """Notebooks that run at a time beside the workers: each makes all prompts of a dataset once more."""
    return max(1, workers // 4)
