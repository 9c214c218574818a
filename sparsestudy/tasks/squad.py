"""SQuAD 2.0: questions that people wrote about paragraphs of Wikipedia."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sparsestudy.corpora import SOURCES
from sparsestudy.tasks.answers import words_of
from sparsestudy.tasks.base import Measures
from sparsestudy.tasks.documents import Document, Question
from sparsestudy.tasks.fetched import FetchedTask
from sparsestudy.tasks.spans import SpanTask


@dataclass(frozen=True)
class Squad(SpanTask, FetchedTask):
    """A span of one paragraph among others; the development set, its unanswerable questions left out.

    Args:
        most_words: see :class:`FetchedTask`.

    Articles, not paragraphs, are divided between the splits. No other paragraph in a prompt holds one of the
    reference answers.

    Score: token F1 against the best of the reference answers, as official SQuAD counts it.

    Source: SQuAD 2.0 (arXiv 1806.03822), as RULER (arXiv 2404.06654) and sparse-frontier (commit 31d86c1) put
    it among other paragraphs. Most models have read it: see the score without context.

    Deviations: the documents bear no numbers (in the reference the question names the number of its document,
    which any model finds); other paragraphs do not hold the answer; F1 counts repeated words and drops
    articles alone (the reference compares sets and drops seven more words); of a reply without explanation
    the first sentence counts.
    """

    name: ClassVar[str] = "squad"
    measures: ClassVar[Measures] = Measures("low", "low", "natural")
    source = SOURCES["squad"]

    @property
    def answer_tokens(self) -> int:
        """Nearly all references are shorter than so many characters."""
        return 64

    @classmethod
    def documents(cls, data: bytes) -> Iterator[Document]:
        """See :meth:`FetchedTask.documents`."""
        for article in json.loads(data)["data"]:
            for number, paragraph in enumerate(article["paragraphs"], 1):
                questions = tuple(
                    Question(
                        asked["question"].strip(),
                        tuple(dict.fromkeys(one["text"] for one in asked["answers"])),
                    )
                    for asked in paragraph["qas"]
                    if asked["answers"] and not asked.get("is_impossible", False)
                )
                title = article["title"]
                yield Document(f"{title} {number}", paragraph["context"].strip(), questions, title)

    def admits(self, other: Document, gold: Document, question: Question) -> bool:
        """See :meth:`DocumentTask.admits`."""
        text = f" {' '.join(words_of(other.text))} "
        return super().admits(other, gold, question) and not any(
            f" {' '.join(words_of(answer))} " in text for answer in question.answer
        )
