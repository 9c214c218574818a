"""Batches of training text, as ids; batch number i depends on the seed, the schedule and i alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sparsestudy.errors import StudyError
from sparsestudy.ladder.drill import ASKED, LISTED, PAIRS, VARIABLES, drilled
from sparsestudy.ladder.mixture import NAMES, reply, variants
from sparsestudy.ladder.schedule import MANY, Schedule
from sparsestudy.ladder.tokenizer import Twin, identity
from sparsestudy.ladder.vocabulary import EOS, PAD
from sparsestudy.seeds import seed_of
from sparsestudy.tasks.base import Task

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
class Batches:
    """All batches of a training, as a data set that a loader can index.

    Args:
        schedule: the lengths.
        seed: of the training.
        tasks: names of the tasks, equally often.
        shrink: a batch has this many times fewer tokens, and there are as many more; for tests.
    """

    schedule: Schedule
    seed: int
    tasks: tuple[str, ...] = NAMES
    shrink: int = 1

    def __len__(self) -> int:
        return self.schedule.ends[-1] * self.shrink

    @property
    def total(self) -> int:
        """Tokens of all batches."""
        ends = [0, *self.schedule.ends]
        stages = zip(self.schedule.stages, pairwise(ends), strict=True)
        return sum((stop - start) * self.schedule.tokens(stage.length) for stage, (start, stop) in stages)

    def tokens(self, number: int) -> int:
        """Tokens of a batch, padding included."""
        stages = self.schedule.stages
        return self.schedule.tokens(stages[self.schedule.stage(number // self.shrink)].length) // self.shrink

    def __getitem__(self, number: int) -> Batch:
        """Build a batch."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        rng = random.Random(seed_of("ladder", self.seed, number))
        *earlier, (length, _, drills) = self.schedule.stages[: self.schedule.stage(number // self.shrink) + 1]
        # What has nothing but drills does not come again.
        shorter = [stage.length for stage in earlier if stage.drills < 1]
        if shorter and rng.random() >= CURRENT:
            length = rng.choice(shorter)
        drawn = []
        for index in range(number * MANY, number * MANY + self.tokens(number) // length):
            drill = rng.random() < drills
            drawn.append((self._drill if drill else self._row)(rng, length, index))
        return _packed(drawn, length, np.random.default_rng(seed_of("learned", self.seed, number)))

    def _row(self, rng: random.Random, length: int, index: int) -> Row:
        """A sample of one of the tasks; where it does not fit, one of a shorter variant or task."""
        known = variants(rng.choice(self.tasks))
        drawn = rng.choices(known, [variant.weight for variant, _ in known])[0]
        spare = rng.randrange(length // 8) if length >= VARIED else 0
        for variant, task in (drawn, known[0], *(variants(name)[0] for name in self.tasks)):
            try:
                parts = encoded(task, length - variant.room - spare, index, self.seed)
            except StudyError:  # it has more facts than so short a text holds
                continue
            return parts._replace(label=variant.label)
        raise StudyError(f"No task fits {length} tokens; begin with longer texts.")

    def _drill(self, rng: random.Random, length: int, index: int) -> Row:
        """A drill of one of the tasks, or pairs while texts are short; pairs where it does not fit."""
        pairs = [PAIRS, VARIABLES] if "vt" in self.tasks else [PAIRS]
        asked = [name for name in self.tasks if name in ASKED]
        name = rng.choice([*pairs, *asked] if length <= LISTED else asked or pairs)
        try:
            found = drilled(twin(), name, length, index, self.seed)
        except StudyError:
            name = rng.choice(pairs)
            found = drilled(twin(), name, length, index, self.seed)
        return Row(f"drill {name}", found.ids, found.replies, (), found.plain)


class Row(NamedTuple):
    """A sample in ids.

    Args:
        label: see :class:`Batch`.
        ids: its tokens, replies included.
        replies: where they stand, as ``(start, stop)``.
        free: ids whose order in the reply does not count.
        plain: whether the rest is text that can be learned.
    """

    label: str
    ids: list[int]
    replies: tuple[tuple[int, int], ...]
    free: tuple[int, ...]
    plain: bool = True


@cache
def twin() -> Twin:
    """One for each process: it remembers words."""
    return Twin()


def encoded(task: Task, length: int, index: int, seed: int) -> Row:
    """A training sample: prompt, reply with the end token, and the ids of a set.

    Raises:
        StudyError: the task does not fit the length.
    """
    sample = task.sample(twin(), length, index, seed, "train")
    prompt = twin().ids(sample.prompt, begin=True)
    ids = [*prompt, *twin().ids(reply(task, sample)), identity(EOS)]
    free = tuple(twin().ids(" ".join(sample.answer))) if task.name == "cwe" else ()
    return Row(task.name, ids, ((len(prompt), len(ids)),), free)


def _packed(drawn: Sequence[Row], length: int, rng: np.random.Generator) -> Batch:
    """Rows side by side; a position belongs to the learned ones if the token after it is learned."""
    ids = np.full((len(drawn), length), identity(PAD), np.int32)
    answer = np.zeros(ids.shape, bool)
    text = np.zeros(ids.shape, bool)
    for i, row in enumerate(drawn):
        ids[i, : len(row.ids)] = row.ids
        text[i, : len(row.ids) - 1] = row.plain
        for start, stop in row.replies:
            answer[i, start - 1 : stop - 1] = True
    text &= ~answer & (rng.random(ids.shape, np.float32) < LEARNED)
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
