"""The training curve: answer accuracy of every task and length, as lines of JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from sparsestudy.ladder.data import Batch


def exact(batch: Batch, best: Any) -> Any:
    """Which rows have the right token at every place of their reply, given the tokens before it.

    Args:
        batch: the batch.
        best: the likeliest token at each of its `answers`.

    Returns:
        bool ``(rows,)``. Where the order does not count, any member of the set is right.
    """
    wanted = np.take(batch.ids.reshape(-1), batch.answers + 1)
    right = best == wanted
    for row in {int(batch.rows[i]) for i in np.flatnonzero(~right)}:
        free = set(batch.sets[row])
        for i in np.flatnonzero((batch.rows == row) & ~right) if free else ():
            right[i] = int(wanted[i]) in free and int(best[i]) in free
    missed = np.zeros(len(batch.ids), bool)
    missed[batch.rows[~right]] = True
    return ~missed


class Curve:
    """Counts what was right since the last line, and writes lines.

    Args:
        path: appended to, line by line, so that what was reached is there after a kill.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._counts: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, batch: Batch, best: Any) -> None:
        """Count the rows of a batch by length and variant."""
        for name, right in zip(batch.labels, exact(batch, best).tolist(), strict=True):
            count = self._counts[batch.length, name]
            count[0] += right
            count[1] += 1

    def write(self, **fields: Any) -> dict[str, Any]:
        """One line: the fields, and ``{length: {variant: accuracy}}`` since the last one."""
        accuracy: dict[str, dict[str, float]] = {}
        for (length, name), (right, count) in sorted(self._counts.items()):
            accuracy.setdefault(str(length), {})[name] = round(right / count, 3)
        self._counts.clear()
        line = {**fields, "accuracy": accuracy}
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return line


def thinned(lines: list[dict[str, Any]], labels: Collection[str]) -> list[dict[str, Any]]:
    """The lines of a curve with the accuracy of some variants alone."""
    found = []
    for line in lines:
        parts = {
            length: {label: value for label, value in cells.items() if label in labels}
            for length, cells in line["accuracy"].items()
        }
        found.append({**line, "accuracy": parts})
    return found
