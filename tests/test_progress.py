"""The progress line: what it says, where it goes, and how often."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sparsestudy import progress
from sparsestudy.progress import Display, Progress, duration, line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_line_tells_done_total_percent_and_time_left() -> None:
    assert line("here", 3, 12, 65.0) == "here: 3/12 (25 %), 1 min 05 s left"
    assert line("here", 0, 12, None) == "here: 0/12 (0 %)"
    assert line("here", 12, 12, 0.0) == "here: 12/12 (100 %), done"
    assert line("here", 0, 0, None) == "here: 0/0 (100 %), done"


def test_time_left_follows_the_rate_and_ignores_resumed_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(progress.FILE_VARIABLE, str(file))
    clock = Clock()
    shown = Progress(100, "here", clock)
    assert shown.left is None
    shown.resume(50)
    assert shown.left is None
    clock.now += 10
    shown.advance(10)
    assert shown.left == pytest.approx(40)
    assert json.loads(file.read_text()) == {"label": "here", "done": 60, "total": 100, "left": 40.0}
    assert list(tmp_path.iterdir()) == [file]


def test_a_log_gets_plain_lines_and_not_too_many() -> None:
    stream = io.StringIO()
    display = Display(stream, every=3600)
    for step in range(50):
        display.update(f"step {step}")
    display.update("last", force=True)
    display.say("stays")
    display.close()
    assert stream.getvalue() == "step 0\nlast\nstays\n"


def test_a_terminal_gets_one_line_rewritten() -> None:
    stream = Terminal()
    display = Display(stream)
    display.update("one")
    display.update("two", force=True)
    display.say("stays")
    display.update("three", force=True)
    display.close()
    display.close()
    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Kstays\n\r\x1b[Kthree\n"
