"""QuALITY: questions about long articles and stories, with four options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sparsestudy.corpora import SOURCES
from sparsestudy.tasks.base import Measures
from sparsestudy.tasks.choices import ChoiceTask, choice
from sparsestudy.tasks.documents import Document
from sparsestudy.tasks.fetched import FetchedTask


@dataclass(frozen=True)
class Quality(ChoiceTask, FetchedTask):
    """One of four options about one long text among others; the development set.

    Args:
        most_words: see :class:`FetchedTask`; 4,500 words are about 6,000 tokens, so that a prompt of 8k holds
            the text, its question and something else.

    Score: 1 for the right letter alone, else 0.

    Source: QuALITY 1.0.1 (arXiv 2112.08608) as sparse-frontier (commit 31d86c1) puts it among other texts.

    Deviations: the documents bear no numbers; a letter is read from a sentence, in brackets or beside its
    option's words (the reference keeps every A to D of the reply, so that "Answer: B" is AB); all prompts say
    that one option is right.
    """

    name: ClassVar[str] = "quality"
    measures: ClassVar[Measures] = Measures("low", "low", "natural")
    source = SOURCES["quality"]

    most_words: int = 4500

    @classmethod
    def documents(cls, data: bytes) -> Iterator[Document]:
        """See :meth:`FetchedTask.documents`; the two lines of an article become one document."""
        for line in data.decode().splitlines():
            if line.strip():
                entry = json.loads(line)
                questions = tuple(
                    choice(asked["question"], asked["options"], [int(asked["gold_label"]) - 1])
                    for asked in entry["questions"]
                    if "gold_label" in asked
                )
                yield Document(str(entry["article_id"]), entry["article"].strip(), questions)
