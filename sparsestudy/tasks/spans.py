"""Base of the tasks about documents whose answer is a few words."""

from __future__ import annotations

from dataclasses import dataclass

from sparsestudy.tasks import answers
from sparsestudy.tasks.documents import Pool, Question
from sparsestudy.tasks.prompt import Sample
from sparsestudy.tasks.qa import DocumentTask

# Answers that a blind guess is tried on: their mean is known to about 0.01, in a few milliseconds.
GUESSES = 400


@dataclass(frozen=True)
class SpanTask(DocumentTask):
    """Answers in words, scored by token F1 against the best of the references."""

    @property
    def binary(self) -> bool:
        """See :attr:`Task.binary`."""
        return False

    def ask(self, question: Question) -> tuple[str, str]:
        """See :meth:`DocumentTask.ask`."""
        if self.preset == "direct":
            return f"Question: {question.text}", "Answer with words of the text alone, not with a sentence."
        form = "Inside the answer tags write words of the text alone, as few as answer the question."
        return question.text, form

    def blind(self, question: Question, pool: Pool) -> float:
        """Mean score of the answers to other questions of its kind, as often as they are asked for."""
        others = [
            other.answer[0]
            for document in pool.asked
            for other in document.questions
            if other.kind == question.kind and other is not question
        ]
        others = others[:: max(1, len(others) // GUESSES)]
        return sum(self.grade((other,), question.answer) for other in others) / max(len(others), 1)

    def read(self, text: str, sample: Sample) -> tuple[str, ...] | None:
        """The answer; of one without explanation its first sentence, whatever follows."""
        found = answers.span(answers.first_answer(text) if self.preset == "direct" else text)
        return None if found is None else (found,)

    def grade(self, found: tuple[str, ...], gold: tuple[str, ...]) -> float:
        """Token F1 against the best of the references."""
        return max(answers.token_f1(found[0], reference) for reference in gold)

    def answered(self, reply: str) -> bool:
        """Whether a reply's first sentence is complete."""
        return answers.ended(reply)
