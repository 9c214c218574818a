"""Base of the tasks whose data a user fetches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from sparsestudy import corpora
from sparsestudy.errors import StudyError
from sparsestudy.tasks.documents import Document, Library
from sparsestudy.tasks.qa import DocumentTask


@dataclass(frozen=True)
class FetchedTask(DocumentTask):
    """Questions that people wrote about documents which do not ship with the package.

    Args:
        most_words: words of a document that is asked about, at most; longer ones only distract. All lengths
            ask about the same documents, so it must fit the shortest.
    """

    source: ClassVar[corpora.Source]
    shipped = False

    most_words: int = 400

    def __post_init__(self) -> None:
        """Check the number of words."""
        super().__post_init__()
        if self.most_words < 1:
            raise StudyError(f"{self.name} needs most_words of 1 or more, not {self.most_words}.")

    @classmethod
    def unavailable(cls) -> str:
        """See :meth:`Task.unavailable`."""
        return corpora.missing(cls.source)

    @classmethod
    @abstractmethod
    def documents(cls, data: bytes) -> Iterable[Document]:
        """The documents of a file in its official format; a text that comes twice may come twice.

        Raises:
            ValueError, KeyError, TypeError: it is another format.
        """

    @classmethod
    def check(cls, data: bytes) -> None:
        """Whether a file can be read and asks anything.

        Raises:
            ValueError, KeyError, TypeError: it cannot, or does not.
        """
        if not any(document.questions for document in merged(cls.documents(data))):
            raise ValueError("it holds no question with an answer")

    def library(self) -> Library:
        """See :meth:`DocumentTask.library`; read again when the file has another sha256."""
        return _library(type(self), corpora.recorded(self.source)["sha256"], self.most_words)

    def find(self, prompt: str) -> str:
        """No rule answers what people ask."""
        raise StudyError(f"No rule answers the questions of {self.name}, which people wrote.")


@lru_cache(maxsize=8)
def _library(task: type[FetchedTask], sha256: str, most_words: int) -> Library:
    del sha256
    return Library(
        document if len(document.text.split()) <= most_words else replace(document, questions=())
        for document in merged(task.documents(corpora.read(task.source)))
    )


def merged(documents: Iterable[Document]) -> Iterator[Document]:
    """Each text once, with all questions about it; of questions with the same words the first."""
    found: dict[str, Document] = {}
    asked: dict[tuple[str, str], None] = {}
    for document in documents:
        key = " ".join(document.text.split())
        known = found.setdefault(key, replace(document, questions=()))
        new = []
        for question in document.questions:
            mark = (key, " ".join(question.text.lower().split()))
            if mark not in asked:
                asked[mark] = None
                new.append(question)
        found[key] = replace(known, questions=(*known.questions, *new))
    yield from found.values()
