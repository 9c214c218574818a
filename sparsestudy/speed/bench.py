"""The bench of one shard: cases tried one after another, each kept with what came out or why nothing did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.progress import Display, duration
from sparsestudy.speed.clock import Clock

# What torch raises where a backend cannot do a case: no kernel for it (SDPA), a failed compile, a graph that
# cannot be captured. Running out of memory is told apart from these.
REFUSALS: tuple[type[Exception], ...] = (StudyError, RuntimeError, NotImplementedError)
REASON_CHARACTERS = 240
# The torch twins are written for small sizes: at 32k tokens they take minutes.
MOST_TOKENS_OF_TWINS = 16384


def refusals() -> tuple[type[Exception], ...]:
    """The errors that a case may end with: torch's, and where there is Triton, those of its compiler."""
    if find_spec("triton") is None:
        return REFUSALS
    from triton.errors import TritonError

    return (*REFUSALS, TritonError)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is timed.

    Args:
        part: ``prefill``, ``decode`` (kernels) or ``model`` (whole ones).
        stage: what of it: ``kernel``, ``selection`` or ``total`` of both; of a model ``prefill`` or ``step``.
        method: label of a method, ``dense``, or ``pattern``.
        method_name: name of the method, where there is one.
        code: who computes.
        block: queries that choose together; 0 is none.
        sparsity: nominal, permille.
        batch: rows.
        graph: whether a CUDA graph is replayed.
    """

    part: str
    stage: str
    method: str
    code: str
    method_name: str = ""
    block: int = 0
    sparsity: int = 0
    batch: int = 1
    graph: bool = False

    @property
    def label(self) -> str:
        """Every field in a row, such as ``prefill/kernel/pattern/triton/b128/s900/x1``."""
        parts = [self.part, self.stage, self.method, self.code, f"b{self.block}", f"s{self.sparsity}"]
        return "/".join([*parts, f"x{self.batch}", *(["graph"] if self.graph else [])])


@dataclass
class Record:
    """What came of a case.

    Attributes:
        status: one of the schema's.
        reason: why nothing came, else empty.
        seconds: of one call, one number a repeat.
        values: other numbers by variable.
    """

    status: str
    reason: str = ""
    seconds: list[float] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """Cases of one shard.

    Args:
        clock: how they are timed.
        label: what to call it.
        tokens: length that is timed.
        deadline: on the monotonic clock; cases after it are not run.
        records: by case.
    """

    clock: Clock
    label: str
    tokens: int
    deadline: float
    records: dict[Case, Record] = field(default_factory=dict)

    def attempt(self, case: Case, found: Callable[[], tuple[list[float], dict[str, Any]]]) -> None:
        """Keep what a function finds, seconds and other values, or why it found nothing."""
        if time.monotonic() > self.deadline:
            self.leave_out(case, "the time that the run may take was used up")
            return
        if case.code == "torch" and self.tokens > MOST_TOKENS_OF_TWINS:
            self.leave_out(case, "the kernels do not run here, and plain torch is not timed at such lengths")
            return
        try:
            seconds, values = found()
        except torch.OutOfMemoryError as error:
            self.records[case] = Record("skipped_memory", first_line(error))
            # The traceback holds the tensors of the failed call.
            error.__traceback__ = None
            self.free()
        except Unreachable as error:
            self.records[case] = Record("unreachable", first_line(error))
        except refusals() as error:
            self.records[case] = Record("failed", first_line(error))
            error.__traceback__ = None
            self.free()
        else:
            self.records[case] = Record("ok", "", seconds, values)

    def leave_out(self, case: Case, reason: str) -> None:
        """Keep a case that is not run."""
        self.records[case] = Record("not_run", reason)

    def free(self) -> None:
        """Give memory that nothing holds back to the device."""
        if self.clock.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def part(self, name: str, predicted: float) -> Iterator[None]:
        """Say what a part is predicted to take, and what it took."""
        display, start = Display(), time.monotonic()
        display.say(f"{self.label}, {name}: predicted {duration(predicted)}")
        before = len(self.records)
        yield
        new = list(self.records.values())[before:]
        told = ", ".join(
            f"{sum(record.status == status for record in new)} {status}"
            for status in dict.fromkeys(record.status for record in new)
        )
        display.say(f"{self.label}, {name}: took {duration(time.monotonic() - start)} ({told})")
        self.free()


def first_line(error: Exception) -> str:
    """Kind and first line of an error, cut to a readable length; the study's own are sentences already."""
    lines = str(error).strip().splitlines()
    kind = "" if isinstance(error, StudyError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0] if lines else 'no message'}"[:REASON_CHARACTERS]
