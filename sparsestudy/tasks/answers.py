"""Scores of answers to questions about documents: token F1, and letters of a multiple choice."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping

from sparsestudy.tasks.parsing import bare

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)
_LABEL = re.compile(r"^(?:the )?(?:correct )?answers?(?: is| are)?\s*[:=]\s*", re.IGNORECASE)
_BESIDE = re.compile(r"\b(?:and|or|options?|choices?|letters?)\b", re.IGNORECASE)
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
    """Whether a growing reply, from its first word on, has come to the end of a sentence or line."""
    return "\n" in reply or _ENDED.search(reply) is not None


def span(text: str) -> str | None:
    """An answer in words, without what stands around it; None if no word is left."""
    found = bare(_LABEL.sub("", bare(" ".join(text.split()))))
    return found if words_of(found) else None


def letters(text: str, options: Mapping[str, str]) -> tuple[str, ...] | None:
    """The options that an answer names, each once and in order.

    In this order count: letters and nothing else ("B", "(b)", "A, D", "AD"); the words of one option; letters
    behind "answer", "option" or "choice", before "is" or "are", or at the beginnings of lines; the only
    capital that stands alone, an article aside.

    Args:
        text: of the answer.
        options: their words by letter; empty for four unknown ones.

    Returns:
        The letters; None if there are none, or several of which none is chosen.
    """
    known = "".join(options) or "ABCD"
    text = _LABEL.sub("", bare(text))
    rest = re.findall(r"[^\W_]+", _BESIDE.sub(" ", text))
    if rest and all(re.fullmatch(f"[{known}]+|[{known.lower()}]", word) for word in rest):
        return tuple(sorted(set("".join(rest).upper())))
    for letter, words in options.items():
        if words_of(re.sub(rf"^\W*{letter}\W+", "", text)) == words_of(words) != []:
            return (letter,)
    one = rf"(?<!\w)[{known}](?![\w'])"
    several = rf"{one}(?:\W+(?:(?:and|or)\W+)?{one})*"
    chosen = (
        re.findall(rf"\b(?:answers?|options?|choices?|letters?)\b(?:\s+(?:is|are))?\W*({several})", text)[-1:]
        or re.findall(rf"^\W*({several})\s+(?:is|are)\b", text)
        or re.findall(rf"^\W*({one})[.):\]*]", text, flags=re.MULTILINE)
    )
    # "A" before a word in lower case may be an article.
    named = chosen or re.findall(rf"(?!A\s+(?!and\b|or\b)[a-z]){one}", text)
    found = sorted(set(re.findall(one, " ".join(named))))
    return tuple(found) if found and (chosen or len(found) == 1) else None
