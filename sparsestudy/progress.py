"""One line of progress: done, total, percent and time left.

A run in a notebook kernel has no terminal; it writes its state to the file named by
``SPARSESTUDY_PROGRESS``, and the process that the user started shows it. Without that variable the
line goes to standard error: rewritten in place on a terminal, otherwise a plain line at most every
ten seconds, so that a log file stays readable.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

FILE_VARIABLE = "SPARSESTUDY_PROGRESS"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def line(label: str, done: int, total: int, left: float | None) -> str:
    """The progress line itself."""
    percent = 100 * done // total if total else 100
    text = f"{label}: {done}/{total} ({percent} %)"
    if done >= total:
        return text + ", done"
    return text if left is None else f"{text}, {duration(left)} left"


class Display:
    """Shows a changing line: in place on a terminal, now and then in a log.

    Args:
        stream: where to write; standard error of the process when not given.
        every: seconds between two lines in a log.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        # Not sys.stderr: a notebook kernel replaces that one by a stream into the notebook.
        self.stream = stream or sys.__stderr__ or sys.stderr
        self.every = every
        self.terminal = self.stream.isatty()
        self._shown_at: float | None = None
        self._open = False

    def update(self, text: str, force: bool = False) -> None:
        """Show ``text`` as the current line; with ``force`` a log gets it at once."""
        now = time.monotonic()
        wait = 0.2 if self.terminal else self.every
        if not force and self._shown_at is not None and now - self._shown_at < wait:
            return
        self._shown_at = now
        self.stream.write(f"\r\x1b[K{text}" if self.terminal else f"{text}\n")
        self._open = self.terminal
        self.stream.flush()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.stream.write(f"\r\x1b[K{text}\n" if self._open else f"{text}\n")
        self._open = False
        self.stream.flush()

    def close(self) -> None:
        """End the current line, so that what follows starts on a new one."""
        if self._open:
            self._open = False
            self.stream.write("\n")
            self.stream.flush()


class Progress:
    """Counts work that is done and tells how long the rest will take.

    Args:
        total: units of work in all.
        label: what is being done, in a few words.
        clock: seconds that only grow; another one may be given for tests.
    """

    def __init__(self, total: int, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self._clock = clock
        self._start = clock()
        self._resumed = 0
        target = os.environ.get(FILE_VARIABLE)
        self._file = Path(target) if target else None
        self._display = None if self._file else Display()
        self._show()

    def resume(self, count: int) -> None:
        """Count work that an earlier run had finished; it does not enter the estimate of time left."""
        self._resumed += count
        self._start = self._clock()
        self.advance(count)

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more units as done and show the line."""
        self.done += count
        self._show()

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at the rate so far; ``None`` before there is a rate."""
        fresh = self.done - self._resumed
        if fresh <= 0:
            return None
        return (self._clock() - self._start) / fresh * (self.total - self.done)

    def _show(self) -> None:
        if self._display is not None:
            self._display.update(line(self.label, self.done, self.total, self.left), self.done >= self.total)
            if self.done >= self.total:
                self._display.close()
            return
        assert self._file is not None
        state = {"label": self.label, "done": self.done, "total": self.total, "left": self.left}
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self._file)
