"""How long the texts of a training are, and how many rows are drills: the same for all rungs."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from sparsestudy.errors import StudyError

# Tokens of a batch, and of one while the texts are short, where a schedule says so.
MANY, FEW = 131_072, 32_768


class Stage(NamedTuple):
    """A part of a training: tokens of a row, millions of tokens in all, and the share of rows with drills."""

    length: int
    millions: float
    drills: float = 0.0

    def __str__(self) -> str:
        return f"{self.length}:{self.millions:g}" + (f":{self.drills:g}" if self.drills else "")


@dataclass(frozen=True)
class Schedule:
    """How long the texts are.

    Args:
        stages: in rising order of lengths.
        short: up to this length batches have fewer tokens.

    Raises:
        StudyError: lengths that are out of order or do not divide the tokens of a batch, or a share above 1.
    """

    stages: tuple[Stage, ...]
    short: int = 0

    def __post_init__(self) -> None:
        """Check the lengths and shares."""
        lengths = [stage.length for stage in self.stages]
        if not all(0 <= stage.drills <= 1 for stage in self.stages):
            raise StudyError("The share of rows with drills is from 0 to 1.")
        if not lengths or lengths != sorted(set(lengths)) or any(MANY % length for length in lengths):
            raise StudyError(
                f"A schedule has rising lengths that are powers of two up to {MANY}, not {lengths}."
            )

    @classmethod
    def parse(cls, text: str, short: int = 0) -> Schedule:
        """Read ``128:40:0.5,256:20``: length, millions of tokens, and the share of drills, 0 by default.

        Raises:
            StudyError: it cannot be read.
        """
        try:
            parts = [part.split(":") for part in text.split(",")]
            return cls(tuple(Stage(int(part[0]), *map(float, part[1:])) for part in parts), short)
        except (ValueError, TypeError) as error:
            raise StudyError(
                f"A schedule reads '128:40:0.5,256:20' (length:millions:drills), not '{text}'."
            ) from error

    def __str__(self) -> str:
        return ",".join(map(str, self.stages))

    @cached_property
    def ends(self) -> list[int]:
        """Batches up to the end of each stage."""
        return list(accumulate(max(1, round(m * 1e6 / self.tokens(length))) for length, m, _ in self.stages))

    def stage(self, number: int) -> int:
        """The stage of a batch."""
        return bisect_right(self.ends, number)

    def tokens(self, length: int) -> int:
        """Tokens of a batch in the stage of this length."""
        return FEW if length <= self.short else MANY
