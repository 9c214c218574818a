"""Batches of training text, as ids; batch number i depends on the seed, the schedule and i alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from sparsestudy.errors import StudyError
from sparsestudy.ladder.mixture import NAMES, reply, variants
from sparsestudy.ladder.tokenizer import Twin, identity
from sparsestudy.ladder.vocabulary import EOS, PAD
from sparsestudy.seeds import seed_of
from sparsestudy.tasks.base import Task

# Tokens of a batch, whatever its length: every step has the same shapes outside attention.
TOKENS = 131_072
# Share of the batches at the length that the schedule has reached; the others are shorter.
CURRENT = 0.7
# Share of the context's positions whose next token is learned.
LEARNED = 0.25
# Below this length every token is needed; from it on samples are up to an eighth shorter than their row.
VARIED = 256


@dataclass(frozen=True)
class Batch:
    """Rows of one length.

    Args:
        length: tokens of a row, padding included.
        ids: int32 ``(rows, length)``.
        context: flat positions, in rising order, whose next token is learned as text.
        answers: flat positions whose next token belongs to a reply, in rising order.
        rows: for each of `answers` its row.
        labels: for each row its task, and the fields in which its variant differs from the defaults.
        sets: for each row the ids that may stand in any order in its reply; empty where the order counts.
    """

    length: int
    ids: Any
    context: Any
    answers: Any
    rows: Any
    labels: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Schedule:
    """How long the texts are: ``(length, millions of tokens)`` in rising order of lengths.

    Raises:
        StudyError: a length that does not divide the tokens of a batch, or is out of order.
    """

    stages: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Check the lengths."""
        lengths = [length for length, _ in self.stages]
        if not lengths or lengths != sorted(set(lengths)) or any(TOKENS % length for length in lengths):
            raise StudyError(
                f"A schedule has rising lengths that are powers of two up to {TOKENS}, not {lengths}."
            )

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read ``128:40,256:20``."""
        try:
            pairs = [part.split(":") for part in text.split(",")]
            return cls(tuple((int(length), float(millions)) for length, millions in pairs))
        except ValueError as error:
            raise StudyError(f"A schedule reads '128:40,256:20' (length:millions), not '{text}'.") from error

    def __str__(self) -> str:
        return ",".join(f"{length}:{millions:g}" for length, millions in self.stages)

    @property
    def ends(self) -> list[int]:
        """Batches at the end of each stage."""
        return [round(total * 1e6 / TOKENS) for total in accumulate(millions for _, millions in self.stages)]

    def length(self, number: int, rng: random.Random) -> int:
        """The length of a batch: mostly the current one, else a shorter one."""
        stage = next((i for i, end in enumerate(self.ends) if number < end), len(self.stages) - 1)
        if stage and rng.random() >= CURRENT:
            stage = rng.randrange(stage)
        return self.stages[stage][0]


@dataclass(frozen=True)
class Batches:
    """All batches of a training, as a data set that a loader can index.

    Args:
        schedule: the lengths.
        seed: of the training.
        tasks: names of the tasks, equally often.
        tokens: of a batch.
    """

    schedule: Schedule
    seed: int
    tasks: tuple[str, ...] = NAMES
    tokens: int = TOKENS

    def __len__(self) -> int:
        return self.schedule.ends[-1] * TOKENS // self.tokens

    def __getitem__(self, number: int) -> Batch:
        """Build a batch."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        rng = random.Random(seed_of("ladder", self.seed, number))
        length = self.schedule.length(number * self.tokens // TOKENS, rng)
        rows = self.tokens // length
        drawn = [self._row(rng, length, number * TOKENS + row) for row in range(rows)]
        return _packed(drawn, length, np.random.default_rng(seed_of("learned", self.seed, number)))

    def _row(self, rng: random.Random, length: int, index: int) -> Row:
        known = variants(rng.choice(self.tasks))
        drawn = rng.choices(known, [variant.weight for variant, _ in known])[0]
        spare = rng.randrange(length // 8) if length >= VARIED else 0
        for variant, task in (drawn, known[0]):
            try:
                parts = encoded(task, length - variant.room - spare, index, self.seed)
            except StudyError:  # a variant with more facts than a short text holds
                continue
            return Row(variant.label, *parts)
        raise StudyError(f"{known[0][0].name} does not fit {length} tokens; begin with longer texts.")


@dataclass(frozen=True)
class Row:
    """A sample in ids; `free` are those whose order in the answer does not count."""

    label: str
    prompt: list[int]
    answer: list[int]
    free: tuple[int, ...]


@cache
def twin() -> Twin:
    """One for each process: it remembers words."""
    return Twin()


def encoded(task: Task, length: int, index: int, seed: int) -> tuple[list[int], list[int], tuple[int, ...]]:
    """A training sample: prompt, reply with the end token, and the ids of a set.

    Raises:
        StudyError: the task does not fit the length.
    """
    sample = task.sample(twin(), length, index, seed, "train")
    answer = [*twin().ids(reply(task, sample)), identity(EOS)]
    free = tuple(twin().ids(" ".join(sample.answer))) if task.name == "cwe" else ()
    return twin().ids(sample.prompt, begin=True), answer, free


def _packed(drawn: Sequence[Row], length: int, rng: np.random.Generator) -> Batch:
    """Rows side by side; a position belongs to the learned ones if the token after it is learned."""
    ids = np.full((len(drawn), length), identity(PAD), np.int32)
    answer = np.zeros(ids.shape, bool)
    text = np.zeros(ids.shape, bool)
    for i, row in enumerate(drawn):
        start, stop = len(row.prompt), len(row.prompt) + len(row.answer)
        ids[i, :stop] = row.prompt + row.answer
        text[i, : start - 1] = True
        answer[i, start - 1 : stop - 1] = True
    text &= rng.random(ids.shape, np.float32) < LEARNED
    answers = np.flatnonzero(answer)
    return Batch(
        length,
        ids,
        np.flatnonzero(text),
        answers,
        answers // length,
        tuple(row.label for row in drawn),
        tuple(row.free for row in drawn),
    )
