"""TOEFL-QA: questions about spoken lectures and conversations, with four options."""

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
class Toefl(ChoiceTask, FetchedTask):
    """The right options about one transcript among others.

    Args:
        most_words: see :class:`FetchedTask`.

    Score: 1 for exactly the right letters, else 0.

    Source: TOEFL-QA (Tseng et al., Interspeech 2016), as sparse-frontier (commit 31d86c1) puts it among other
    texts. It states no licence: users fetch it themselves, and nobody passes it on.

    Deviations: from the files of the dataset's authors, of all three of their splits; the documents bear no
    numbers; letters are read from a sentence, in brackets or beside an option's words (the reference keeps
    every A to D of the reply); a question with several right options says how many.
    """

    name: ClassVar[str] = "toefl"
    measures: ClassVar[Measures] = Measures("low", "low", "natural")
    source = SOURCES["toefl"]

    most_words: int = 1100

    @classmethod
    def documents(cls, data: bytes) -> Iterator[Document]:
        """See :meth:`FetchedTask.documents`; a file has one question, so transcripts come often."""
        for name, text in sorted(json.loads(data).items()):
            lines: dict[str, list[str]] = {"SENTENCE": [], "QUESTION": [], "OPTION": []}
            for line in text.splitlines():
                kind, _, rest = line.strip().partition(" ")
                if kind:
                    lines[kind].append(rest.strip())
            marks = [option.rpartition(" ") for option in lines["OPTION"]]
            right = [i for i, (_, _, mark) in enumerate(marks) if mark == "1"]
            if not lines["SENTENCE"] or len(lines["QUESTION"]) != 1 or not right:
                raise ValueError(f"{name} has no transcript, not one question, or no right option")
            question = choice(lines["QUESTION"][0], [words for words, _, _ in marks], right)
            # "data/dev/tpo_26-conversation_1_2" asks about the transcript tpo_26-conversation_1.
            transcript = name.rpartition("/")[2].rpartition("_")[0]
            yield Document(transcript, " ".join(lines["SENTENCE"]), (question,))
