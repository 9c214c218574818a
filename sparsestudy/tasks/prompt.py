"""From a task's parts to the prompt a model sees, to those with less context, and to token positions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from sparsestudy.errors import StudyError

Preset = Literal["direct", "paper"]
Question = Literal["before", "after", "both"]
Context = Literal["full", "none", "evidence"]

# Pieces of evidence that are kept apart; a list of words may have thousands.
PIECES = 128
PLACES = {
    "before": "The question stands before the text.",
    "after": "The question stands after the text.",
    "both": "The question stands before the text and once more after it.",
}
TWO_PARTS = (
    "Reply in two parts. Begin with an explanation of a few sentences: which passages of the text matter, "
    "and what they say. Then write down the answer. Put the explanation between <explanation> and "
    "</explanation>, and the answer, with nothing else, between <answer> and </answer>."
)


@dataclass(frozen=True)
class Parts:
    """The text of a prompt before it is put in order and through a chat template.

    Args:
        introduction: what the reader is asked to do with the text.
        context: the long text.
        question: the question.
        form: what the answer must look like.
        prefix: with the preset "direct" the beginning of the answer, put into the model's mouth.
        evidence: character spans ``(start, stop)`` in `context` of what the answer needs, in rising order:
            whole sentences, lines, chapters or documents.
        answer: the gold values.
        chance: expected score of a reply that guesses in the right form.
        joint: what stands between two pieces of evidence when they are all there is.
        blind: the same without the context, from which a guess may copy; None where that changes nothing.
        document: see :class:`Sample`.
    """

    introduction: str
    context: str
    question: str
    form: str
    prefix: str
    evidence: tuple[tuple[int, int], ...]
    answer: tuple[str, ...]
    chance: float
    joint: str = " "
    blind: float | None = None
    document: str = ""


@dataclass(frozen=True)
class Sample:
    """One prompt with its gold answer.

    Args:
        prompt: the whole text the model sees, chat template and answer prefix included.
        special_tokens: whether the tokenizer must add its own (no chat template has put them in).
        context_end: character where the context ends; what follows is the tail (question, prefix).
        evidence: character spans ``(start, stop)`` of what the answer needs.
        answer: the gold values, in the order asked for.
        chance: expected score of a reply that guesses in the right form.
        document: the document that the question is about; samples that share one are not independent.
            Empty where every sample has a text of its own.
    """

    prompt: str
    special_tokens: bool
    context_end: int
    evidence: tuple[tuple[int, int], ...]
    answer: tuple[str, ...]
    chance: float = 0.0
    document: str = ""


def reduced(parts: Parts, context: Context) -> Parts:
    """The same parts with the whole context, with its evidence alone, or with none."""
    if context == "full":
        return parts
    if context == "none":
        blind = parts.chance if parts.blind is None else parts.blind
        return replace(parts, introduction="", context="", evidence=(), chance=blind)
    pieces = [parts.context[start:stop] for start, stop in parts.evidence]
    spans, at = [], 0
    for piece in pieces:
        spans.append((at, at + len(piece)))
        at += len(piece) + len(parts.joint)
    return replace(parts, context=parts.joint.join(pieces), evidence=tuple(spans))


def render(tokenizer: Any, parts: Parts, preset: Preset, position: Question) -> Sample:
    """Put the parts in order and through the tokenizer's chat template, if it has one.

    Raises:
        StudyError: the chat template changes the text of a message.
    """
    head, tail = (_direct if preset == "direct" else _paper)(parts, position)
    message, prefix = head + parts.context + tail, parts.prefix if preset == "direct" else ""
    if getattr(tokenizer, "chat_template", None):
        turns = [{"role": "user", "content": message}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        start = whole.find(message)
        if start < 0:
            raise StudyError(
                "The model's chat template changes the text of a message; this task cannot use it."
            )
        prompt, special = whole + prefix, False
    else:
        prompt, start, special = f"{message}\n\n{prefix}".rstrip(), 0, True
    shift = start + len(head)
    return Sample(
        prompt=prompt,
        special_tokens=special,
        context_end=shift + len(parts.context),
        evidence=tuple((shift + a, shift + b) for a, b in parts.evidence),
        answer=parts.answer,
        chance=parts.chance,
        document=parts.document,
    )


def _direct(parts: Parts, position: Question) -> tuple[str, str]:
    """What stands before and after the context when the answer alone is asked for."""
    question = f"{parts.question} {parts.form}".strip()
    if not parts.context:
        return "", question
    head = f"{parts.introduction}\n\n"
    if position != "after":
        head += f"{question}\n\n"
    return head, "" if position == "before" else f"\n\n{question}"


def _paper(parts: Parts, position: Question) -> tuple[str, str]:
    """What stands before and after the context when an explanation comes first."""
    question = f"<question>\n{parts.question}\n</question>\n\n"
    rules = f"{TWO_PARTS}\n\n{parts.form}"
    if not parts.context:
        return "", question + rules
    head = f"{parts.introduction} {PLACES[position]}\n\n"
    if position != "after":
        head += question
    again = "" if position == "before" else question
    return f"{head}<context>\n", f"\n</context>\n\n{again}{rules}"


def tokens_in(tokenizer: Any, sample: Sample) -> int:
    """Length of the prompt in tokens."""
    return counted(tokenizer, [sample.prompt], sample.special_tokens)[0]


def counted(tokenizer: Any, texts: list[str], special_tokens: bool = False) -> list[int]:
    """Lengths of texts in tokens, without the cost of handing the tokens over (a third of it)."""
    coded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=special_tokens)
    return [len(one) for one in coded]


@dataclass(frozen=True)
class Encoded:
    """A prompt in tokens.

    Args:
        ids: token ids.
        tail: index of the first token after the context.
        evidence: token spans ``(start, stop)``, one for each span of the sample; of more than
            :data:`PIECES` the nearest are one.
    """

    ids: list[int]
    tail: int
    evidence: tuple[tuple[int, int], ...]


def encode(tokenizer: Any, sample: Sample) -> Encoded:
    """Tokenize, with the places of tail and evidence; a token across an edge belongs to the earlier side."""
    coded = tokenizer(sample.prompt, add_special_tokens=sample.special_tokens, return_offsets_mapping=True)
    # Special tokens have an empty span at 0, wherever they stand; a token that holds text starts a new place.
    places = [(a, b, i) for i, (a, b) in enumerate(coded["offset_mapping"]) if b > a]
    starts, stops = [a for a, _, _ in places], [b for _, b, _ in places]
    first = bisect_left(starts, sample.context_end)
    tail = places[first][2] if first < len(places) else len(coded["input_ids"])
    evidence = []
    for start, stop in sample.evidence:
        inside = places[bisect_right(stops, start) : bisect_left(starts, stop)]
        evidence.append((inside[0][2], inside[-1][2] + 1))
    return Encoded(list(coded["input_ids"]), tail, joined(evidence))


def joined(evidence: list[tuple[int, int]], most: int = PIECES) -> tuple[tuple[int, int], ...]:
    """At most so many spans, in rising order: those with the smallest gaps between them become one."""
    gaps = [after[0] - before[1] for before, after in pairwise(evidence)]
    narrow = sorted(range(len(gaps)), key=lambda i: gaps[i])[: max(len(evidence) - most, 0)]
    edges = [-1, *sorted(set(range(len(gaps))) - set(narrow)), len(evidence) - 1]
    return tuple((evidence[a + 1][0], evidence[b][1]) for a, b in pairwise(edges) if b > a)
