"""From a task's parts to the prompt a model sees, to a length in tokens, and to token positions."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Question, Sample

# A prompt must have this share of the asked length (the paper's rule).
FILL = 0.95


@dataclass(frozen=True)
class Parts:
    """The text of a prompt before the chat template.

    Args:
        introduction: what the reader is asked to do.
        context: the long text.
        question: the question.
        prefix: the beginning of the answer, put into the model's mouth.
        evidence: character spans in `context`.
        answer: the gold values.
    """

    introduction: str
    context: str
    question: str
    prefix: str
    evidence: tuple[tuple[int, int], ...]
    answer: tuple[str, ...]


def build(tokenizer: Any, parts: Parts, position: Question) -> Sample:
    """Put the parts in order and through the tokenizer's chat template, if it has one."""
    head = f"{parts.introduction}\n\n"
    if position != "after":
        head += f"{parts.question}\n\n"
    text = head + parts.context
    tail = "" if position == "before" else f"\n\n{parts.question}"
    if getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": text + tail}]
        whole = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        start = whole.find(text)
        if start < 0:
            raise StudyError(
                "The model's chat template changes the text of a message; this task cannot use it."
            )
        prompt, special = whole + parts.prefix, False
    else:
        start, special = 0, True
        prompt = f"{text}{tail}\n\n{parts.prefix}"
    shift = start + len(head)
    return Sample(
        prompt=prompt,
        special_tokens=special,
        context_end=start + len(text),
        evidence=tuple((shift + a, shift + b) for a, b in parts.evidence),
        answer=parts.answer,
    )


def tokens_in(tokenizer: Any, sample: Sample) -> int:
    """Length of the prompt in tokens."""
    return len(tokenizer(sample.prompt, add_special_tokens=sample.special_tokens)["input_ids"])


def fill(
    tokenizer: Any, length: int, make: Callable[[int, int], Sample], pieces: Sequence[str], what: str
) -> Sample:
    """The longest prompt that fits a length.

    Args:
        tokenizer: counts the tokens.
        length: most tokens allowed.
        make: the sample with so many of the pieces and so many short sentences; longer for more.
        pieces: the filling, in order.
        what: the task, for the error.

    Returns:
        The sample with the most pieces, then the most short sentences; at least 95 % of `length`.

    Raises:
        StudyError: not even the sample without filling fits, or the pieces run out.
    """

    def tokens(count: int, extra: int = 0) -> int:
        return tokens_in(tokenizer, make(count, extra))

    bare = tokens(0)
    if bare > length:
        raise StudyError(
            f"{what} needs at least {bare} tokens with this model's tokenizer for its question and facts, "
            f"more than the length {length}; ask for a longer length or fewer facts."
        )
    # The tokens of the pieces add up to within a few; counting the whole prompt then settles it. Each such
    # count of a 4k prompt takes 10 ms, so a blind binary search would take most of a study's preparation.
    sizes = [len(ids) for ids in tokenizer([f" {p}" for p in pieces], add_special_tokens=False)["input_ids"]]
    count = bisect.bisect_right(list(itertools.accumulate(sizes)), length - bare)
    while count > 0 and tokens(count) > length:
        count -= 1
    while count < len(pieces) and tokens(count + 1) <= length:
        count += 1
    extra = 0
    while extra < len(pieces) and tokens(count, extra + 1) <= length:
        extra += 1
    best = make(count, extra)
    if tokens_in(tokenizer, best) < FILL * length:
        raise StudyError(f"{what} cannot fill {length} tokens; ask for a shorter length or longer values.")
    return best


@dataclass(frozen=True)
class Encoded:
    """A prompt in tokens.

    Args:
        ids: token ids.
        tail: index of the first token after the context.
        evidence: token spans ``(start, stop)``, one for each span of the sample.
    """

    ids: list[int]
    tail: int
    evidence: tuple[tuple[int, int], ...]


def encode(tokenizer: Any, sample: Sample) -> Encoded:
    """Tokenize, with the places of tail and evidence; a token across an edge belongs to the earlier side."""
    coded = tokenizer(sample.prompt, add_special_tokens=sample.special_tokens, return_offsets_mapping=True)
    spans = coded["offset_mapping"]
    tail = next((i for i, (a, b) in enumerate(spans) if a >= sample.context_end and b > a), len(spans))
    evidence = []
    for start, stop in sample.evidence:
        inside = [i for i, (a, b) in enumerate(spans) if a < stop and b > start]
        evidence.append((inside[0], inside[-1] + 1))
    return Encoded(list(coded["input_ids"]), tail, tuple(evidence))
