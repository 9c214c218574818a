"""Base of the tasks about documents with a choice of answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from string import ascii_uppercase

from sparsestudy.tasks.answers import first_answer, letters
from sparsestudy.tasks.documents import Question
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.qa import DocumentTask

_OPTION = re.compile(r"^([A-Z])\. (.+)$", re.MULTILINE)
# Where the question stands before the text, its options are the first that there are.
_BLOCK = re.compile(r"^A\. .+\n(?:[B-Z]\. .+(?:\n|$))+", re.MULTILINE)


def choice(text: str, options: Sequence[str], right: Sequence[int]) -> Question:
    """A question with lettered options.

    Args:
        text: the question.
        options: in order.
        right: places of the right ones, from 0.
    """
    listed = [
        f"{letter}. {' '.join(option.split())}"
        for letter, option in zip(ascii_uppercase, options, strict=False)
    ]
    return Question(
        "\n".join([" ".join(text.split()), *listed]),
        tuple(ascii_uppercase[i] for i in sorted(right)),
        chance=1 / comb(len(options), len(right)),
    )


@dataclass(frozen=True)
class ChoiceTask(DocumentTask):
    """Answers are letters; a reply is right if it names exactly those of the right options."""

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return True

    @property
    def answer_tokens(self) -> int:
        """A few letters; more room for an option that is repeated."""
        return 40

    def ask(self, question: Question) -> tuple[str, str]:
        """See :meth:`DocumentTask.ask`; how many options are right is said where several are."""
        number = len(question.answer)
        what = (
            "the letter of the right answer" if number == 1 else f"the letters of the {number} right answers"
        )
        if self.preset == "direct":
            return f"Question: {question.text}\nAnswer with {what} only.", ""
        return question.text, f"Inside the answer tags write {what} alone."

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The letters that a reply names; None if it names none, or several without choosing."""
        block = _BLOCK.search(sample.prompt, sample.context_end) or _BLOCK.search(sample.prompt)
        options = dict(_OPTION.findall(block[0])) if block else {}
        return letters(first_answer(text) if self.preset == "direct" else text, options)

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """1 for exactly the right letters."""
        return float(set(found) == set(gold))
