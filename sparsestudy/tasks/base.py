"""What a task is: a seeded generator, a scorer and a rule-based solver."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from sparsestudy.seeds import seed_of

Split = Literal["train", "calibration", "eval"]
Question = Literal["before", "after", "both"]


@dataclass(frozen=True)
class Sample:
    """One prompt with its gold answer.

    Args:
        prompt: the whole text the model sees, chat template and answer prefix included.
        special_tokens: whether the tokenizer must add its own (no chat template has put them in).
        context_end: character where the context ends; what follows is the tail (question, prefix).
        evidence: character spans ``(start, stop)`` of what the answer needs.
        answer: the gold values, in the order asked for.
    """

    prompt: str
    special_tokens: bool
    context_end: int
    evidence: tuple[tuple[int, int], ...]
    answer: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """A score in 0..1, and whether the reply could be parsed (if not, the score is 0)."""

    value: float
    parsed: bool


@dataclass(frozen=True)
class Task(ABC):
    """Base class. A subclass is a frozen dataclass whose fields are its parameters.

    Args:
        preset: the form of the prompt: "direct" asks for the answer alone and gives its beginning.
        question: where the question stands relative to the context.
    """

    name: ClassVar[str]

    preset: str = field(default="direct", init=False)
    question: Question = field(default="after", kw_only=True)

    @abstractmethod
    def generate(self, tokenizer: Any, length: int, rng: random.Random) -> Sample:
        """One sample whose prompt has 95 to 100 % of `length` tokens.

        Raises:
            StudyError: the question and what it needs are longer than `length`.
        """

    @abstractmethod
    def score(self, sample: Sample, reply: str) -> Score:
        """Judge a reply, the text that follows the prompt."""

    @abstractmethod
    def solve(self, prompt: str) -> str:
        """The gold reply, found by rule from the prompt alone."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Expected score of a reply that guesses in the right form."""

    @property
    @abstractmethod
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """Tokens after which a reply is cut."""

    def done(self, reply: str) -> bool:
        """Whether a growing reply needs no further token to be scored."""
        return "\n" in reply.lstrip("\n")

    def sample(self, tokenizer: Any, length: int, index: int, seed: int = 0, split: Split = "eval") -> Sample:
        """Sample number `index`: the same for the same tokenizer on every machine."""
        parameters = asdict(self)
        key = seed_of(split, seed, self.name, parameters, self.preset, length, index)
        return self.generate(tokenizer, length, random.Random(key))
