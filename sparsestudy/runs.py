"""Carry out a list of shards: under the scheduler, one kernel after another, or in this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.execution import run_here
from sparsestudy.jobs import Todo, alive_lock
from sparsestudy.progress import Display, duration, line
from sparsestudy.shards import Shard

Mode = Literal["scheduler", "kernel", "in-process"]
_POLL_SECONDS = 0.2
_LOG_LINES = 12


def execute(shards: Sequence[Shard], mode: Mode = "scheduler", force: bool = False, jobs: int = 1) -> None:
    """Make the datasets of some shards; those that are fresh already are left as they are.

    Args:
        shards: what to make.
        mode: ``scheduler`` (Snakemake), ``kernel`` (one kernel after another) or ``in-process``.
        force: make fresh ones again, too.
        jobs: how many at a time, under the scheduler.

    Raises:
        StudyError: at least one shard could not be made; the others were.
    """
    if not shards:
        return
    if mode == "in-process":
        _execute_here(shards, force)
        return
    with working_folder() as work:
        todo = Todo(work, tuple(shards), force, jobs)
        todo.write(
            {
                "count": len(shards),
                "threads": max(1, (os.cpu_count() or 1) // jobs),
                "python": sys.executable,
                "todo": str(todo.file),
            }
        )
        watcher = _Watcher(todo)
        if mode == "scheduler":
            watcher.follow(_snakemake(todo))
        else:
            for number in range(len(shards)):
                watcher.follow(
                    [sys.executable, "-m", "sparsestudy", "run", "--shard", str(todo.file), str(number)]
                )
        watcher.conclude()


def require_run_extra(mode: Mode = "scheduler") -> None:
    """Check that this environment can run the study and not only show it.

    Args:
        mode: how it is run: without a kernel there is no papermill, and only the scheduler is Snakemake.

    Raises:
        StudyError: the packages of the extra ``run`` are not installed.
    """
    from importlib.util import find_spec

    besides = {"in-process": [], "kernel": ["papermill"], "scheduler": ["papermill", "snakemake"]}
    needed = ["torch", "transformers", *besides[mode]]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise StudyError(
            f"Running the study needs {', '.join(missing)}, not installed here; `make book` installs it, or "
            "`pip install -e .[run]`."
        )


def _execute_here(shards: Sequence[Shard], force: bool) -> None:
    from sparsestudy.plan import inspect

    display = Display()
    for number, shard in enumerate(shards, start=1):
        if force or inspect(shard).state != "fresh":
            start = time.monotonic()
            display.say(f"running {title(shard)} ({number} of {len(shards)})")
            run_here(shard)
            display.say(f"finished {paths.shown(shard.path)} in {duration(time.monotonic() - start)}")


def title(shard: Shard) -> str:
    """A shard as messages name it."""
    return f"{shard.run.experiment}/{shard.run.run}: {shard.model} at {shard.length} tokens"


@contextmanager
def working_folder() -> Iterator[Path]:
    """A fresh folder for one invocation, held by a lock while it lives; those of dead ones are removed."""
    base = paths.scratch("work")
    base.mkdir(parents=True, exist_ok=True)
    for old in base.glob("*/"):
        lock = FileLock(alive_lock(old))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _remove(old, lock)
    work = base / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    lock = FileLock(alive_lock(work))
    # First the lock, then the folder: whoever sees the folder without a held lock may remove it.
    lock.acquire()
    try:
        work.mkdir()
        yield work
    finally:
        _remove(work, lock)


def _remove(work: Path, lock: FileLock) -> None:
    shutil.rmtree(work, ignore_errors=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _snakemake(todo: Todo) -> list[str]:
    return [
        sys.executable,
        *("-m", "snakemake"),
        *("--snakefile", str(paths.ROOT / "notebooks" / "Snakefile")),
        *("--directory", str(todo.work)),
        *("--configfile", str(todo.file)),
        *("--cores", str(os.cpu_count() or 1)),
        *("--jobs", str(todo.jobs)),
        "--keep-going",
        *("--quiet", "all"),
        "--nocolor",
    ]


class _Watcher:
    """Shows what the jobs of one invocation do, and collects how they ended."""

    def __init__(self, todo: Todo) -> None:
        self.todo = todo
        self.display = Display()
        self.started: dict[int, float] = {}
        self.errors: dict[int, tuple[str, bool]] = {}
        self.finished: set[int] = set()

    def follow(self, command: list[str]) -> None:
        """Start a process and show its jobs' progress until it ends."""
        environment = child_environment() | {"XDG_CACHE_HOME": str(self.todo.work / "cache")}
        output = self.todo.work / "output.txt"
        with output.open("a") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                self._look()
        finally:
            end(process)
            self._look()
            self.display.close()
        unfinished = len(self.started) < len(self.todo.shards) and not self.errors
        if process.returncode and (unfinished or set(self.started) - self.finished):
            last = output.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
            raise StudyError(
                "\n".join([f"The runs stopped before their end (status {process.returncode}).", *last])
            )

    def conclude(self) -> None:
        """Raise when a shard failed."""
        if self.errors:
            told = [failure(self.todo.shards[number], *self.errors[number]) for number in sorted(self.errors)]
            raise StudyError("\n".join(told))

    def _look(self) -> None:
        total = len(self.todo.shards)
        for number, shard in enumerate(self.todo.shards):
            if number not in self.started and self.todo.state(number, "started").exists():
                self.started[number] = time.monotonic()
                self.display.say(f"running {title(shard)} ({len(self.started)} of {total})")
            if number in self.started and number not in self.finished:
                self._look_at(number, shard)

    def _look_at(self, number: int, shard: Shard) -> None:
        result = self.todo.state(number, "result")
        if result.exists():
            self.finished.add(number)
            told = json.loads(result.read_text())
            took = duration(time.monotonic() - self.started[number])
            if told["error"] is None:
                self.display.say(f"finished {paths.shown(shard.path)} in {took}")
                return
            self.display.say(f"failed {title(shard)} after {took}")
            self.errors[number] = (told["error"], told["known"])
            return
        progress = self.todo.state(number, "progress")
        if progress.exists():
            state = json.loads(progress.read_text())
            self.display.update(line(state["label"], state["done"], state["total"], state["left"]))


def failure(shard: Shard, error: str, known: bool) -> str:
    """One sentence, and for an error that is no StudyError the end of the log."""
    text = f"{title(shard)} failed: {error}"
    if known and not error.startswith("a cell of the notebook failed"):
        return text
    last = shard.log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
    return "\n".join([f"{text} (log: {paths.shown(shard.log)})", *last])


def child_environment() -> dict[str, str]:
    """The environment of a process that imports this package and works in this checkout."""
    package = str(Path(__file__).resolve().parent.parent)
    return os.environ | {
        "SPARSESTUDY_ROOT": str(paths.ROOT),
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and insist; its jobs notice by themselves."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
