"""Batches in files: built once by many processes, read by every rung that trains on them at the same time.

Building takes more processor time than a step of the smallest rungs, and all rungs see the same batches.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.ladder.data import Batch, Batches

# Seconds for which a batch that is not there yet is waited for, and between two looks.
PATIENCE, LOOK = 120.0, 0.01
# Batches that a process takes at a time; few, so that they are there in their order.
TOGETHER = 2


def store(batches: Batches, folder: Path, workers: int) -> int:
    """Build all batches, in their order; those that are there already are left alone.

    Args:
        batches: of one schedule and seed.
        folder: for one file a batch.
        workers: processes.

    Returns:
        How many were built.

    Raises:
        StudyError: the folder has other batches.
    """
    _claimed(batches, folder)
    tasks = ((batches, folder, number) for number in range(len(batches)))
    with get_context("fork").Pool(workers) as pool:
        return sum(pool.imap_unordered(_build, tasks, TOGETHER))


@dataclass(frozen=True)
class Stored:
    """The batches of a folder, in their order, each as soon as it is there.

    Args:
        batches: what the folder holds.
        folder: that :func:`store` fills, or has filled.

    Raises:
        StudyError: the folder has other batches, or a batch does not come.
    """

    batches: Batches
    folder: Path

    def __post_init__(self) -> None:
        """Check that these are the batches."""
        _claimed(self.batches, self.folder)

    def __iter__(self) -> Iterator[Batch]:
        for number in range(len(self.batches)):
            file, end = _file(self.folder, number), time.monotonic() + PATIENCE
            while not file.exists():
                if time.monotonic() > end:
                    raise StudyError(
                        f"Batch {number} has not come to {paths.shown(self.folder)} for {PATIENCE:.0f} s; "
                        "build it with 'python -m sparsestudy.ladder batches' and the same schedule and seed."
                    )
                time.sleep(LOOK)
            yield _read(file)


def _claimed(batches: Batches, folder: Path) -> None:
    """Note in the folder what it holds, or check the note."""
    schedule = batches.schedule
    held = {
        "schedule": str(schedule),
        "short": schedule.short,
        "seed": batches.seed,
        "tasks": list(batches.tasks),
        "shrink": batches.shrink,
    }
    note = folder / "batches.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        paths.write_text(note, json.dumps(held, indent=1) + "\n")
    found = json.loads(note.read_text())
    if other := [f"{name} {found[name]}" for name, value in held.items() if found[name] != value]:
        raise StudyError(
            f"{paths.shown(folder)} holds batches with {', '.join(other)}; choose an empty folder or "
            "the same schedule, seed and tasks."
        )


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number // 1000:03d}" / f"{number:06d}.npz"


def _build(task: tuple[Batches, Path, int]) -> bool:
    """Build one, unless it is there."""
    batches, folder, number = task
    file = _file(folder, number)
    if file.exists():
        return False
    batch, held = batches[number], io.BytesIO()
    free = [identity for row in batch.sets for identity in row]
    np.savez(
        held,
        ids=batch.ids.astype(np.int16),
        context=batch.context.astype(np.int32),
        answers=batch.answers.astype(np.int32),
        labels=np.array(batch.labels),
        free=np.array(free, np.int16),
        counts=np.array([len(row) for row in batch.sets], np.int16),
    )
    paths.write_bytes(file, held.getbuffer())
    return True


def _read(file: Path) -> Batch:
    with np.load(file, allow_pickle=False) as held:
        ids, answers = held["ids"].astype(np.int32), held["answers"].astype(np.int64)
        free, stops = held["free"].tolist(), held["counts"].cumsum().tolist()
        starts = [0, *stops[:-1]]
        return Batch(
            ids.shape[1],
            ids,
            held["context"].astype(np.int64),
            answers,
            answers // ids.shape[1],
            tuple(held["labels"].tolist()),
            tuple(tuple(free[a:b]) for a, b in zip(starts, stops, strict=True)),
        )
