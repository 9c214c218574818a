"""Units of work that processes share: some settings of one batch, claimed, computed once and put together.

Everything stands in files beside a shard's checkpoints, so hosts that share the folder share the work, and a
run that was killed goes on. A claim is a lock that the system releases when its process dies: on one host
always, between hosts where the file system passes locks on (NFS does; a lock of a host that is gone lasts
until its lease ends). Where it does not, two hosts may compute the same unit, which wastes their time and
nothing else: both write the same part, whole. Imports no torch.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from sparsestudy import paths
from sparsestudy.shards import Shard

# A unit is at most this part of a batch, in settings and in predicted seconds, if it is more than one
# setting: enough parts that no worker is left with half a batch at the end, and few enough that the dense
# prefill, which every unit repeats, stays a small part of it.
PARTS = 6


@dataclass(frozen=True)
class Unit:
    """Some settings of one batch.

    Args:
        batch: the name of the batch's checkpoint, without its ending.
        task: index of the task.
        start: index of the batch's first sample.
        first: index of the first of the settings of the task.
        stop: index after the last.
        seconds: predicted.
    """

    batch: str
    task: int
    start: int
    first: int
    stop: int
    seconds: float

    @property
    def name(self) -> str:
        """The file name of its part, without its ending."""
        return f"{self.batch}-{self.first:04d}-{self.stop:04d}"


def cut(seconds: Sequence[float]) -> list[tuple[int, int]]:
    """Cut the settings of a batch into units: pairs of first index and index after the last.

    Neighbours stay together, because those of one tail share a dense prefill.

    Args:
        seconds: predicted, of each setting in the order in which they run.
    """
    most, longest = -(-len(seconds) // PARTS), sum(seconds) / PARTS
    cuts, first = [], 0
    for i in range(len(seconds)):
        grown = sum(seconds[first : i + 1])
        if i > first and (i - first >= most or grown > longest):
            cuts.append((first, i))
            first = i
    return [*cuts, (first, len(seconds))]


@contextmanager
def claim(file: Path) -> Iterator[bool]:
    """Hold a file, and tell whether nobody else does; it names host and process for people who look."""
    file.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(file)
    try:
        held.acquire(timeout=0)
    except (Timeout, FileNotFoundError):
        # The folder goes when another process has finished the shard.
        yield False
        return
    try:
        # Without locks in the file system the library keeps its own words in the file.
        if not isinstance(held, SoftFileLock):
            file.write_text(f"{socket.gethostname()} {os.getpid()}\n")
        yield True
    finally:
        held.release()


def stands(file: Path) -> list[int] | None:
    """What tells one version of a file from the next; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]


@dataclass(frozen=True)
class Units:
    """The units of one shard, and where they stand.

    Args:
        shard: model and length, of a run with this shard alone.
        tag: what the names of its checkpoints begin with.
        units: in the order of batches and settings.
        cells: predicted seconds of one cell over all its batches, by kind of cell.
        settings: for each task what its batches run, as the keys of their records.
        before: the dataset before the run (:func:`stands`); another one says that the shard is finished.
    """

    shard: Shard
    tag: str
    units: tuple[Unit, ...]
    cells: Mapping[str, float]
    settings: tuple[tuple[str, ...], ...]
    before: list[int] | None = None

    @cached_property
    def longest_first(self) -> list[Unit]:
        """The units in the order in which they are best done, so that none of the long ones comes last."""
        return sorted(self.units, key=lambda unit: -unit.seconds)

    @property
    def seconds(self) -> float:
        """Predicted for all units."""
        return sum(unit.seconds for unit in self.units)

    def part(self, unit: Unit) -> Path:
        """The records of one unit, until its batch is whole."""
        return folder(self.shard) / f"{unit.name}.json"

    def checkpoint(self, unit: Unit) -> Path:
        """The records of a unit's batch."""
        return self.shard.checkpoints / f"{unit.batch}.json"

    def done(self, unit: Unit) -> bool:
        """Whether nobody needs to compute a unit any more."""
        # In this order: a part goes after its checkpoint is there, and the checkpoint after the dataset.
        return self.part(unit).exists() or self.checkpoint(unit).exists() or self.made()

    def left(self) -> list[Unit]:
        """The units that are not done, longest first."""
        # Two listings instead of a look at each of some thousand files, in the order of done().
        parts, checkpoints = _names(folder(self.shard)), _names(self.shard.checkpoints)
        if self.made():
            return []
        done = parts | checkpoints
        return [u for u in self.longest_first if not done & {self.part(u).name, self.checkpoint(u).name}]

    def complete(self) -> bool:
        """Whether every batch has its checkpoint, or the dataset is there."""
        return {self.checkpoint(unit).name for unit in self.units} <= _names(self.shard.checkpoints) or (
            self.made()
        )

    def made(self) -> bool:
        """Whether the dataset was made since the run began, here or by another host."""
        return stands(self.shard.path) not in (None, self.before)

    def merge(self, of: Unit) -> None:
        """Put the parts of a unit's batch together, if all are there, as if it had never been cut."""
        units = [unit for unit in self.units if unit.batch == of.batch]
        if not all(self.part(unit).exists() for unit in units):
            return
        with claim(folder(self.shard) / f"{of.batch}.merge.lock") as mine:
            if not mine:
                return
            record: dict[str, Any] = {}
            try:
                for unit in units:
                    record |= json.loads(self.part(unit).read_text())
            except FileNotFoundError:
                # Another process was faster, and has let go.
                return
            paths.write_text(self.checkpoint(of), json.dumps(record))
            for unit in units:
                self.part(unit).unlink(missing_ok=True)

    def merge_all(self) -> None:
        """Put together what a process left lying that died before it could."""
        for unit in {unit.batch: unit for unit in self.units}.values():
            if not self.checkpoint(unit).exists():
                self.merge(unit)

    def write(self, file: Path) -> None:
        """Write the plan, for other processes and for a run that goes on after this one."""
        told = {
            "tag": self.tag,
            "units": [asdict(unit) for unit in self.units],
            "cells": dict(self.cells),
            "settings": self.settings,
        }
        paths.write_text(file, json.dumps(told))

    @staticmethod
    def read(file: Path, shard: Shard, before: list[int] | None) -> Units | None:
        """What :meth:`write` wrote; None where there is nothing, or what an earlier version wrote."""
        try:
            told = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        if "settings" not in told:
            return None
        units = tuple(Unit(**unit) for unit in told["units"])
        settings = tuple(tuple(keys) for keys in told["settings"])
        return Units(shard, told["tag"], units, told["cells"], settings, before)


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def folder(shard: Shard) -> Path:
    """Where plans, claims and parts of a shard stand; it goes with the checkpoints."""
    return shard.checkpoints / "units"
