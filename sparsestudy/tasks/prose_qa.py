"""Questions about passages of two novels that ship with the package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from sparsestudy.errors import StudyError
from sparsestudy.tasks import prose_forms
from sparsestudy.tasks.answers import token_f1
from sparsestudy.tasks.base import Measures
from sparsestudy.tasks.documents import Document, Library, Question
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.prose_words import ASKS, NUMBER, PATTERNS, PERSON
from sparsestudy.tasks.spans import SpanTask

ASKED = re.compile(
    r"(?P<says>Who says \"(?P<quote>[^\"]+)\"\?)|(?P<who>Whose|Who) (?P<clue>[^\n?]+)\?|"
    r"(?P<asks>Which [^\n]+?) is missing in \"(?P<before>[^\"]*)___(?P<after>[^\"]*)\"\?"
)
# The names at the beginning of a reply, or the number, or else its first word.
_FIRST = re.compile(
    rf"(?:(?:[Tt]he|[Aa]n?) )?(?:[A-Z][\w'-]*\.?(?: [A-Z][\w'-]*)*|"
    rf"(?:mrs?|dr|miss|sir|lady|colonel|captain|admiral)\b\.? [\w'-]+|{NUMBER}(?![\w-])|[\w'-]+)"
)
MOST_WORDS = 6


@dataclass(frozen=True)
class ProseQA(SpanTask):
    """Who, whose, which name, place, time, number or word: questions that rules make of a passage.

    Two novels by Jane Austen are cut into passages of 60 to 120 words, in whole sentences. A passage is
    asked about if a rule finds a question whose answer stands exactly once in it, shares no word with the
    question and cannot be told from another passage: none has more than half of the question's telling
    words. Each passage asks for one kind of answer in turn, so that the commonest names are a few in a
    hundred of the answers. Three fifths of the passages are for evaluation, one fifth each for training and
    calibration; a prompt holds passages of its own split alone.

    Score: token F1 against the span in the text, as official SQuAD counts it.

    Source: the form of SQuAD as RULER (arXiv 2404.06654) and sparse-frontier (commit 31d86c1) put it among
    other documents; texts from ``sparsestudy/texts``, questions by rules of our own.

    Deviations: rules ask for what a sentence says in nearly its own words, so the task measures finding and
    copying more than understanding; the documents bear no numbers (in the reference the question names the
    number of its document); F1 counts repeated words and drops articles alone (the reference compares sets
    and drops seven more words); without explanation, the answer begins with the sentence up to the gap, and
    the names, the number or the word that it goes on with count, whatever follows.
    """

    name: ClassVar[str] = "prose_qa"
    measures: ClassVar[Measures] = Measures("low", "low", "natural")
    introduction = "Read the passages from novels."

    @property
    def answer_tokens(self) -> int:
        """The longest answer has 26 characters; more room for words around it."""
        return 40

    def library(self) -> Library:
        """See :meth:`DocumentTask.library`."""
        return _library()

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The answer; of one without explanation the names, number or word that it begins with."""
        found = super().read(text, sample)
        if found is None or self.preset == "paper":
            return found
        first = _FIRST.match(found[0])
        return None if first is None else (first[0].removesuffix("'s"),)

    def answered(self, reply: str) -> bool:
        """Whether a reply's first sentence is complete, or it has more words than any answer."""
        return super().answered(reply) or len(reply.split()) > MOST_WORDS

    def guessed(self, question: Question, texts: Sequence[str]) -> float:
        """Mean score of everything in the documents that is of the kind asked for, as often as it stands."""
        total = score = 0.0
        for text in texts:
            for found, count in prose_forms.mentions(text)[question.kind].items():
                total += count
                score += count * token_f1(found, question.answer[0])
        return score / total

    def find(self, prompt: str) -> str:
        """See :meth:`Task.find`."""
        asked = ASKED.search(prompt, max(prompt.rfind("Question: "), prompt.rfind("<question>"), 0))
        if asked is None:
            raise StudyError("The prompt holds no question of prose_qa.")
        if asked["says"]:
            quote = re.escape(asked["quote"])
            form = (
                rf"{quote}[,!?]?\" [a-z]+ (?P<found>{PERSON})(?![a-z'-])|"
                rf"(?:[a-z]+ (?P<after>{PERSON})|(?P<before>{PERSON}) [a-z]+)[,;:] \"{quote}"
            )
        elif asked["who"]:
            owner = "'s?" if asked["who"] == "Whose" else ""
            form = rf"(?P<found>{PERSON}){owner} {re.escape(asked['clue'])}"
        else:
            kind = next(kind for kind, words in ASKS.items() if words == asked["asks"])
            form = (
                rf"{re.escape(asked['before'])}(?P<found>{PATTERNS[kind].pattern}){re.escape(asked['after'])}"
            )
        found = re.search(form, prompt)
        if found is None:
            raise StudyError("No passage of the prompt answers its question.")
        return next(value for value in found.groupdict().values() if value)


@cache
def _library() -> Library:
    """The passages as documents."""
    return Library(
        Document(
            passage.name,
            passage.text,
            tuple(
                Question(one.text, (one.answer,), 0.0, one.kind, f"{one.form} {one.kind}", one.lead)
                for one in passage.asked
            ),
        )
        for passage in prose_forms.library()
    )
