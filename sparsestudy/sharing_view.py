"""What a shared run shows: its plan before it starts, what is predicted, and one line of progress."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sparsestudy.batch_size import batch_size
from sparsestudy.jobs import Todo
from sparsestudy.progress import Display, duration, line
from sparsestudy.runs import title
from sparsestudy.units import Units
from sparsestudy.words import counted


class View:
    """Tells the user of one invocation how far it is.

    Args:
        todo: what it does.
    """

    def __init__(self, todo: Todo) -> None:
        self.todo = todo
        self.display = Display()
        self.started = time.monotonic()
        # Seconds that were predicted for units which earlier runs had done, by shard.
        self.before: dict[int, float] = {}
        self.shown = ""

    def announce(self, gpus: int, threads: int) -> None:
        """The plan, as far as it is known before a model runs."""
        where = counted(gpus, "GPU") if gpus else f"the CPU, threads each: {threads}"
        self.say(f"{counted(len(self.todo.shards), 'dataset')} to make, {self.todo.jobs} workers on {where}")
        for shard in self.todo.shards:
            size = batch_size(shard)
            batches = -(-shard.run.samples // size) * len(shard.run.tasks)
            cells = len(shard.run.methods) * len(shard.run.sparsities)
            self.say(f"  {title(shard)}: {batches} batches of at most {size} prompts, each in {cells} cells")

    def planned(self, units: Units) -> None:
        """The units of a shard, and what one cell and all of them will take."""
        batches = len({unit.batch for unit in units.units})
        cells = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in units.cells.items())
        self.say(
            f"{title(units.shard)}: {len(units.units)} units of work in {batches} batches, "
            f"{len(units.units) - len(units.left())} done; predicted seconds a cell: {cells}; in all at most "
            f"{duration(units.seconds)} of one worker"
        )

    def show(self, units: Mapping[int, Units]) -> None:
        """The progress line: units of the shards that are planned so far, the time left by their seconds."""
        if not units:
            return
        total, done, left = 0, 0, 0.0
        for number, one in units.items():
            missing = one.left()
            seconds = sum(unit.seconds for unit in missing)
            self.before.setdefault(number, one.seconds - seconds)
            total, done, left = total + len(one.units), done + len(one.units) - len(missing), left + seconds
        fresh = sum(one.seconds for one in units.values()) - left - sum(self.before.values())
        # By the pace so far, because predictions are of one worker with the device to itself.
        pace = (time.monotonic() - self.started) / fresh if fresh > 0 else None
        shards = f"{len(units)} of {counted(len(self.todo.shards), 'dataset')}"
        text = line(f"units of work of {shards}", done, total, None if pace is None else pace * left)
        if text != self.shown:
            self.display.update(text)
            self.shown = text

    def passed(self) -> str:
        """How long the invocation has taken."""
        return duration(time.monotonic() - self.started)

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.display.say(text)

    def close(self) -> None:
        """End the progress line."""
        self.display.close()
