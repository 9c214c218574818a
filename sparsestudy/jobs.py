"""One job: a process of its own that makes one shard, reports in files and dies with whoever wanted it."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sparsestudy import paths
from sparsestudy.errors import Busy, StudyError
from sparsestudy.execution import run_here, run_in_kernel
from sparsestudy.experiments import experiment
from sparsestudy.plan import inspect
from sparsestudy.progress import FILE_VARIABLE
from sparsestudy.shards import Shard

# Snakemake sets these to the rule's threads, and its cache is kept out of the user's; a job gets back what
# the user had set, so that a scheduled run computes with as many threads, and so the same numbers, as one
# without a scheduler.
RESTORED = (
    "XDG_CACHE_HOME",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_WATCH_SECONDS = 0.5


def alive_lock(work: Path) -> Path:
    """Held as long as the invocation with this working folder lives; its jobs end when they find it free."""
    return work.with_suffix(".lock")


@dataclass(frozen=True)
class Todo:
    """What one invocation has to do, shared with its jobs through ``todo.json`` in its working folder.

    Args:
        work: the working folder.
        shards: what to make, in order; a job is named by its number.
        force: whether to make fresh ones again.
        jobs: how many at a time.
        in_process: whether notebooks run without a kernel, which leaves no executed notebook.
    """

    work: Path
    shards: tuple[Shard, ...]
    force: bool = False
    jobs: int = 1
    in_process: bool = False

    @property
    def file(self) -> Path:
        """The file that tells the jobs."""
        return self.work / "todo.json"

    def state(self, number: int, kind: str) -> Path:
        """Where a job reports: ``started``, ``progress`` or ``result``."""
        return self.work / f"{number}.{kind}.json"

    def write(self, more: dict[str, Any]) -> None:
        """Write the file that tells the jobs, with what the scheduler needs besides."""
        shards = [
            {
                "experiment": shard.run.experiment,
                "parameters": shard.run.plain(),
                "model": shard.model,
                "length": shard.length,
            }
            for shard in self.shards
        ]
        environment = {name: os.environ.get(name) for name in RESTORED}
        if self.jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.jobs))
        told = {
            "shards": shards,
            "force": self.force,
            "jobs": self.jobs,
            "in_process": self.in_process,
            "environment": environment,
        }
        paths.write_text(self.file, json.dumps(told | more, indent=1))

    @staticmethod
    def read(file: Path) -> tuple[Todo, dict[str, str | None]]:
        """What :meth:`write` wrote, and the environment for the jobs."""
        told = json.loads(file.read_text())
        shards = tuple(
            Shard(
                experiment(item["experiment"]).parameters.parse(item["parameters"]),
                item["model"],
                item["length"],
            )
            for item in told["shards"]
        )
        todo = Todo(file.parent, shards, told["force"], told["jobs"], told["in_process"])
        return todo, told["environment"]


def run_job(file: Path, number: int) -> int:
    """Make shard ``number`` of a todo file; the exit status of the job's process.

    Everything that it prints goes to the shard's log.
    """
    todo, environment = Todo.read(file)
    shard = todo.shards[number]
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    os.environ[FILE_VARIABLE] = str(todo.state(number, "progress"))
    scratch = todo.work / f"{number}.files"
    scratch.mkdir(exist_ok=True)
    die_with(alive_lock(todo.work))
    paths.write_text(todo.state(number, "started"), "{}")
    redirect(shard.log)
    error: str | None = "its job ended with an error that is not one of the study's"
    known = busy = False
    try:
        if todo.force or inspect(shard).state != "fresh":
            if todo.in_process:
                run_here(shard)
            else:
                run_in_kernel(shard, scratch)
        error, known = None, True
    except StudyError as problem:
        error, known, busy = str(problem), True, isinstance(problem, Busy)
        traceback.print_exc()
    finally:
        # Any other error leaves its traceback in the log.
        paths.write_text(
            todo.state(number, "result"), json.dumps({"error": error, "known": known, "busy": busy})
        )
    return 0 if error is None else 2


def redirect(log: Path) -> None:
    """Send what this process and its children print into a file, for good."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def die_with(lock: Path) -> None:
    """End this process, at once and whatever it does, when its parent or the invocation is gone.

    The kernel ends by itself when this process does.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not _is_free(lock):
            time.sleep(_WATCH_SECONDS)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    probe = FileLock(lock)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return False
    probe.release()
    return True
