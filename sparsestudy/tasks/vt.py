"""Variable tracking: find every variable that holds a number, through copies of copies."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from string import ascii_uppercase
from typing import ClassVar, Literal

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Draw, Measures, SyntheticTask
from sparsestudy.tasks.filling import Frame
from sparsestudy.tasks.parsing import guessed_iou
from sparsestudy.tasks.pools import POOLS, fillers, inserted, spans
from sparsestudy.tasks.presets import by_preset
from sparsestudy.tasks.prompt import Parts, Sample
from sparsestudy.tasks.sets import WordSetTask, leading_entries

INTRODUCTION = (
    "Read the text. It sets variables to numbers, or to other variables, whose number they then hold."
)
REPEATED = "The road is long. The hill is steep. The river is wide. On we walk. Then home we turn."
SET = re.compile(r"Variable ([A-Z]+) = (\d+|[A-Z]+)\.")
ASKED = re.compile(r"Which variables hold (\d+)\?")
# Words of a reply in capitals that are no names.
NO_NAMES = frozenset({"VAR", "AND", "THE", "ARE", "VARS", "VARIABLE", "VARIABLES", "HOLD", "THEN"})


@dataclass(frozen=True)
class VariableTracking(WordSetTask, SyntheticTask):
    """Chains of variables: the first is set to a number, each other to the one before it.

    Args:
        chains: chains in the text, each with a number of its own; one is asked for.
        hops: copies in a chain, so a chain has one variable more.
        letters: letters of a variable's name.
        ordered: whether a chain's sentences stand in the order of its copies; else a copy may come first.
        haystack: what fills the text: varied sentences ("sentences"), or one passage again and again
            ("repeated", the reference's).

    Score: intersection over union of the named variables and those of the chain.

    Source: RULER (arXiv 2404.06654) as in sparse-frontier (commit 31d86c1); sentences are our own.

    Deviations: varied sentences are there beside the repeated passage, whose keys are nearly the same
    everywhere; names are read from lists with commas and from prose (the reference keeps the commas, so that
    a name before one is a miss), and no reply without an answer block is scored in the preset "paper" (the
    reference scores its explanation).
    """

    name: ClassVar[str] = "vt"
    measures: ClassVar[Measures] = Measures("low", "high", "synthetic")

    chains: int = by_preset(direct=2, paper=8)
    hops: int = by_preset(direct=2, paper=4)
    letters: int = by_preset(direct=3, paper=5)
    ordered: bool = by_preset(direct=True, paper=False)
    haystack: Literal["sentences", "repeated"] = by_preset(direct="sentences", paper="repeated")

    def __post_init__(self) -> None:
        """Check that there are names enough."""
        super().__post_init__()
        names = self.chains * (self.hops + 1)
        if self.chains < 1 or self.hops < 0 or not 2 <= self.letters <= 9:
            raise StudyError(
                f"vt needs chains >= 1, hops >= 0 and 2 to 9 letters, not chains={self.chains}, "
                f"hops={self.hops}, letters={self.letters}."
            )
        if 2 * names > 26**self.letters:
            raise StudyError(
                f"vt needs {names} names, more than half of those with {self.letters} letters; ask for "
                "longer names."
            )

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return self.hops == 0

    @property
    def answer_tokens(self) -> int:
        """Each name with a separator, and a word in between."""
        return (self.hops + 1) * (self.letters + 4) + 8

    def compose(self, frame: Frame, draw: Draw) -> Parts:
        """See :meth:`Task.compose`."""
        rng = draw.rng
        names = _names(rng, self.letters)
        numbers = [str(number) for number in rng.sample(range(10000, 100000), self.chains)]
        chains = [[next(names) for _ in range(self.hops + 1)] for _ in numbers]
        facts, places = [], []
        for number, chain in zip(numbers, chains, strict=True):
            sources = [number, *chain[:-1]]
            facts += [f"Variable {name} = {source}." for name, source in zip(chain, sources, strict=True)]
            own = [rng.random() for _ in chain]
            places += sorted(own) if self.ordered else own
        pieces: Iterator[str] = (
            repeat(REPEATED) if self.haystack == "repeated" else fillers(rng, POOLS[self.pool])
        )

        def make(texts: list[str], short: list[str]) -> Parts:
            sentences = inserted(facts, places, texts + short)
            return self._parts(sentences, facts[: self.hops + 1], numbers[0], chains[0])

        return frame.fill(make, pieces)

    def _parts(self, sentences: list[str], wanted: list[str], number: str, chain: list[str]) -> Parts:
        asked = f"Which variables hold {number}?"
        if self.preset == "paper":
            form = "Inside the answer tags write the names of the variables alone, separated by commas."
        else:
            asked, form = f"Question: {asked}", "Answer with their names."
        return Parts(
            introduction=INTRODUCTION,
            context=" ".join(sentences),
            question=asked,
            form=form,
            prefix=f"The variables that hold {number} are",
            evidence=spans(sentences, wanted),
            answer=tuple(chain),
            chance=guessed_iou(len(chain), self.chains * len(chain)),
            blind=guessed_iou(len(chain), len(ascii_uppercase) ** self.letters),
        )

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """Names in capitals; in a bare list small letters count too."""
        text = leading_entries(text) if self.preset == "direct" else text
        shape = rf"\b[A-Z]{{{self.letters}}}\b"
        names = [name for name in re.findall(shape, text) if name not in NO_NAMES]
        if not names:
            parts = [part.upper() for part in re.findall(r"\w+", text)]
            rest = [part for part in parts if part not in NO_NAMES]
            names = rest if all(re.fullmatch(shape, part) for part in rest) else []
        return tuple(dict.fromkeys(names)) or None

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        asked = ASKED.search(prompt)
        if asked is None:
            raise StudyError("The prompt holds no question about variables.")
        source = dict(SET.findall(prompt))
        held = [asked.group(1)]
        # Names are added at the end while the list is read, until no copy of any is left.
        for holder in held:
            held += [name for name, value in source.items() if value == holder]
        return ", ".join(held[1:])


def _names(rng: random.Random, letters: int) -> Iterator[str]:
    """Distinct names."""
    seen = set(NO_NAMES)
    while True:
        name = "".join(rng.choices(ascii_uppercase, k=letters))
        if name not in seen:
            seen.add(name)
            yield name
