"""Scores of answers to questions about documents: token F1, and letters of a multiple choice."""

from __future__ import annotations

import re
import string
from collections import Counter

from sparsestudy.tasks.parsing import bare

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)
_LABEL = re.compile(r"^(?:the )?(?:correct )?answers?(?: is| are)?\s*[:=]\s*", re.IGNORECASE)
# A full stop after a word of four letters ends a sentence; one after "Mr", "St" or "U.S" may not.
_ENDED = re.compile(r"(?<=\w{4})[.!?]\s")


def words_of(text: str) -> list[str]:
    """The words of an answer as official SQuAD counts them: lower case, no ASCII punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def token_f1(found: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words, each as often as it stands (SQuAD 2.0).

    Without words on either side the score is 1 for two empty answers and 0 otherwise.
    """
    one, other = words_of(found), words_of(gold)
    if not one or not other:
        return float(one == other)
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other))


def first_answer(text: str) -> str:
    """The first sentence of the first line that holds anything."""
    line = next((line for line in text.splitlines() if bare(line)), "")
    return _ENDED.split(line.strip() + " ")[0]


def ended(reply: str) -> bool:
    """Whether a growing reply has come to the end of its first sentence or line."""
    begun = reply.lstrip("\n ")
    return "\n" in begun or _ENDED.search(begun) is not None


def span(text: str) -> str | None:
    """An answer in words, without what stands around it; None if no word is left."""
    found = bare(_LABEL.sub("", bare(" ".join(text.split()))))
    return found if words_of(found) else None
