"""What a task is: a seeded generator, a scorer and a rule-based solver."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, Field, dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from sparsestudy.errors import StudyError
from sparsestudy.seeds import seed_of
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.parsing import answer_block, spoken
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Context, Parts, Preset, Question, Sample, reduced

Split = Literal["train", "calibration", "eval"]
PoolName = Literal["full", "ladder"]
# The paper's limit for replies that explain themselves.
PAPER_TOKENS = 1024


@dataclass(frozen=True)
class Score:
    """A score in 0..1, and whether the reply could be parsed (if not, the score is 0)."""

    value: float
    parsed: bool


@dataclass(frozen=True)
class Measures:
    """What a task measures, in the paper's terms.

    Args:
        scope: how much of the context is needed.
        dispersion: how hard it is to find out which part is needed.
        text: whether people wrote the context, templates make it read like a text, or it is neither.
    """

    scope: Literal["low", "high"]
    dispersion: Literal["low", "high"]
    text: Literal["natural", "semi-synthetic", "synthetic"]


@dataclass(frozen=True)
class Draw:
    """Which sample is drawn.

    Args:
        rng: decides everything random; the same for the variants with less context.
        split: tasks on finite data give each split data of its own.
        seed: of the study.
        index: number of the sample.
    """

    rng: random.Random
    split: Split
    seed: int
    index: int


@dataclass(frozen=True)
class Task(ABC):
    """Base class. A subclass is a frozen dataclass whose fields are its parameters.

    Args:
        preset: "direct" asks for the answer alone, gives its beginning and is easier; "paper" asks for a
            short explanation and an answer in tags, with the paper's parameters. It decides the defaults of
            the other fields and the form of the prompt.
        question: where the question stands relative to the context.
        context: "full"; "none" for the question alone; "evidence" for what the answer needs and nothing
            else. The variants of a sample are made from one draw, so they are paired.
    """

    name: ClassVar[str]
    measures: ClassVar[Measures]
    # Whether its text is in the package, so that every machine has the same; else a user fetches it.
    shipped: ClassVar[bool] = True

    _: KW_ONLY
    preset: Preset = "direct"
    question: Question = by_preset(direct="after", paper="both")
    context: Context = "full"

    def __post_init__(self) -> None:
        """Fill in what the preset decides, and check the choices; a subclass then checks what else it must.

        Raises:
            StudyError: a field holds none of its choices.
        """
        self._choose("preset", Preset)
        for one in fields(self):
            if getattr(self, one.name) is None:
                object.__setattr__(self, one.name, self._default(one))
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                self._choose(name, hint)

    def _choose(self, name: str, hint: Any) -> None:
        value, allowed = getattr(self, name), get_args(hint)
        if value not in allowed:
            choices = ", ".join(f"'{choice}'" for choice in allowed)
            raise StudyError(f"The field '{name}' of {self.name} is one of {choices}, not '{value}'.")

    def _default(self, one: Field[Any]) -> Any:
        return one.metadata.get(self.preset, one.default)

    def given(self) -> dict[str, Any]:
        """The parameters that differ from their defaults under this preset, preset and context apart."""
        known = {one.name: one for one in fields(self) if one.name not in ("preset", "context")}
        values = {name: getattr(self, name) for name in known}
        return {name: value for name, value in values.items() if value != self._default(known[name])}

    @classmethod
    def unavailable(cls) -> str:
        """Why no sample can be drawn on this machine, in one sentence; empty when samples can."""
        return ""

    @abstractmethod
    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """The parts of one prompt with its full context, of 95 to 100 % of the frame's length.

        Raises:
            StudyError: the question and what it needs are longer than the length.
        """

    @abstractmethod
    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The values in an answer (what follows the prompt, or stands in the tags); None if unreadable."""

    @abstractmethod
    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """The score in 0..1 of the values that were read."""

    @abstractmethod
    def find(self, prompt: str) -> str:
        """The gold answer in the asked form, found by rule in the prompt alone."""

    @property
    @abstractmethod
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""

    @property
    @abstractmethod
    def answer_tokens(self) -> int:
        """Most tokens of an answer without explanation, with any tokenizer (a character is at most one)."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens after which a reply is cut."""
        return self.answer_tokens if self.preset == "direct" else PAPER_TOKENS

    def score(self, sample: Sample, reply: str) -> Score:
        """Judge a reply, the text that follows the prompt; one that cannot be parsed scores 0.

        Of several answer blocks the last complete one counts (the reference takes the first, which may be
        an echo of the prompt's own). Marks and lines before the first word of an answer count for nothing.
        """
        text = spoken(reply) if self.preset == "direct" else answer_block(reply)
        found = None if text is None else self.read(text, sample)
        return Score(0.0, False) if found is None else Score(self.grade(found, sample.answer), True)

    def done(self, reply: str) -> bool:
        """Whether a growing reply needs no further token to be scored; one that explains ends by itself.

        No reply is done before it has said a word: models begin with a colon and a new line, too.
        """
        begun = spoken(reply)
        return self.preset == "direct" and begun != "" and self.answered(begun)

    def answered(self, reply: str) -> bool:
        """Whether a growing answer without explanation is complete: after a line, if not overridden.

        Args:
            reply: from its first word on.
        """
        return "\n" in reply

    def solve(self, prompt: str) -> str:
        """The gold reply, found by rule from the prompt alone."""
        found = self.find(prompt)
        if self.preset == "direct":
            return f" {found}"
        return f"<explanation>\nFound by rule.\n</explanation>\n<answer>\n{found}\n</answer>"

    def sample(self, tokenizer: Any, length: int, index: int, seed: int = 0, split: Split = "eval") -> Sample:
        """Sample number `index`: the same for the same tokenizer on every machine.

        Raises:
            StudyError: as :meth:`compose`.
        """
        given = self.given()
        key = seed_of(split, seed, self.name, given, self.preset, length, index)
        words = ", ".join(f"{name} {value}" for name, value in sorted(given.items()))
        what = f"{self.name} ({words})" if words else self.name
        frame = Frame(tokenizer, length, self.preset, self.question, what)
        parts = self.compose(frame, Draw(random.Random(key), split, seed, index))
        return frame.render(reduced(parts, self.context))


@dataclass(frozen=True)
class SyntheticTask(Task):
    """Base class of the tasks whose text is made of words of ours.

    Args:
        pool: "full" word lists, or "ladder": few words in the same sentences, for models with a closed
            vocabulary.
    """

    _: KW_ONLY
    pool: PoolName = "full"
