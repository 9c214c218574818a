"""Filling a prompt to a length in tokens: at least 95 %, and exactly where short sentences allow it.

The tokens of the parts of a prompt add up to those of the whole within a few, so the parts are counted once,
the filling is chosen from their counts alone, and the whole is counted to settle it: most prompts need two
counts, that of the parts and that of the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, cycle, islice, pairwise
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.tasks.prompt import Parts, Preset, Question, Sample, counted, render, tokens_in
from sparsestudy.tasks.words import SHORT

# A prompt must have this share of the asked length (the paper's rule).
FILL = 0.95
# Counts of the whole prompt at most; the first settles nearly all.
TRIES = 6
Make = Callable[[list[str], list[str]], Parts]


@dataclass(frozen=True)
class Frame:
    """The form of one prompt: who counts its tokens, how many there may be, and how its parts are put.

    Args:
        tokenizer: counts the tokens.
        length: most tokens allowed.
        preset: see :func:`sparsestudy.tasks.prompt.render`.
        question: the same.
        what: the task, for errors.
    """

    tokenizer: Any
    length: int
    preset: Preset
    question: Question
    what: str

    def render(self, parts: Parts) -> Sample:
        """The prompt of these parts."""
        return render(self.tokenizer, parts, self.preset, self.question)

    def tokens(self, parts: Parts) -> int:
        """Tokens of the whole prompt of these parts."""
        return tokens_in(self.tokenizer, self.render(parts))

    def needed(self, parts: Parts, beside: str, instead: str) -> int:
        """Tokens of a prompt without filling.

        Args:
            parts: of that prompt.
            beside: what it holds beside the question, for the error.
            instead: what may be asked for instead of a longer length.

        Raises:
            StudyError: they are more than the length.
        """
        bare = self.tokens(parts)
        if bare > self.length:
            raise StudyError(
                f"{self.what} needs at least {bare} tokens with this model's tokenizer for its question and "
                f"{beside}, more than the length {self.length}; ask for a longer length or {instead}."
            )
        return bare

    def sizes(self, texts: Sequence[str], joint: str = " ") -> list[int]:
        """Tokens that each text adds behind a sentence."""
        # Some tokenizers mark the beginning of a text, or merge a full stop with the line breaks after it.
        before = "."
        distinct = list(dict.fromkeys(texts))
        first, *counts = counted(self.tokenizer, [before, *(before + joint + text for text in distinct)])
        known = {text: count - first for text, count in zip(distinct, counts, strict=True)}
        return [known[text] for text in texts]

    def fill(
        self, make: Make, pieces: Iterable[str], padding: Sequence[str] = SHORT, joint: str = " "
    ) -> Parts:
        """The longest prompt that fits.

        Args:
            make: the parts with a list of pieces, which is a beginning of `pieces`, and a list of short
                texts; longer for more of either.
            pieces: the filling, in order; taken one by one as far as needed, so it may be endless.
            padding: short texts that close the gap behind the last piece, each as often as needed.
            joint: what stands before a piece and before a short text.

        Returns:
            The parts with the most pieces (one fewer where only this leaves no gap) and short texts.

        Raises:
            StudyError: not even the prompt without filling fits, or the pieces run out below 95 %.
        """
        bare = self.needed(make([], []), "facts", "fewer facts")
        room, slack = self.length - bare, 0
        texts, ends = self._taken(pieces, room, joint)
        coins = _Coins.of(list(padding), self.sizes(padding, joint))
        best, most = make([], []), bare
        for _ in range(TRIES):
            count, short, planned = _chosen(ends, coins, room - slack)
            parts = make(texts[:count], short)
            total = self.tokens(parts)
            if most < total <= self.length:
                best, most = parts, total
            missed = total - bare - planned
            if total == self.length or missed == slack:
                break
            slack = missed
        if most < FILL * self.length:
            raise StudyError(
                f"{self.what} cannot fill {self.length} tokens; ask for a shorter length or for more facts."
            )
        return best

    def _taken(self, pieces: Iterable[str], room: int, joint: str) -> tuple[list[str], list[int]]:
        """Pieces until the room is used up, and the tokens of each beginning of them."""
        source = iter(pieces)
        texts: list[str] = []
        sizes: list[int] = []
        total, chunk = 0, 16
        while total <= room:
            more = list(islice(source, chunk))
            if not more:
                break
            texts += more
            sizes += self.sizes(more, joint)
            total = sum(sizes)
            chunk = max(4, (room - total) * len(sizes) // max(total, 1) + 2)
        return texts, list(accumulate(sizes))


@dataclass(frozen=True)
class _Coins:
    """Short texts as coins: which sums of tokens they can make, with the fewest texts.

    Args:
        texts: for each size in tokens the texts that have it.
    """

    texts: dict[int, list[str]]

    @classmethod
    def of(cls, texts: list[str], sizes: list[int]) -> _Coins:
        """The short texts by their sizes."""
        found: dict[int, list[str]] = {}
        for text, size in zip(texts, sizes, strict=True):
            if size > 0:
                found.setdefault(size, []).append(text)
        return cls(found)

    def reach(self, room: int) -> int:
        """The largest sum that fits."""
        if not self.texts:
            return 0
        fewest = _fewest(tuple(sorted(self.texts)), room)
        return max(total for total, last in enumerate(fewest) if last is not None)

    def change(self, total: int) -> list[str]:
        """The texts for a sum that can be made; those of one size take turns."""
        fewest = _fewest(tuple(sorted(self.texts)), total)
        turns = {size: cycle(texts) for size, texts in self.texts.items()}
        chosen = []
        while total:
            size = fewest[total]
            assert size, "only sums that can be made are changed"
            chosen.append(next(turns[size]))
            total -= size
        return chosen


@lru_cache(maxsize=4096)
def _fewest(sizes: tuple[int, ...], room: int) -> list[int | None]:
    """For each sum up to `room` the last of the fewest coins that make it; None if none do, 0 for 0."""
    number: list[int | None] = [0] + [None] * room
    last: list[int | None] = [0] + [None] * room
    for total in range(1, room + 1):
        for size in sizes:
            before = number[total - size] if size <= total else None
            here = number[total]
            if before is not None and (here is None or before + 1 < here):
                number[total], last[total] = before + 1, size
    return last


def _chosen(ends: list[int], coins: _Coins, goal: int) -> tuple[int, list[str], int]:
    """How many pieces, which short texts, and their tokens; one piece gives way if that closes the gap."""
    most = bisect_right(ends, goal)
    # Short texts close a gap of about a piece; they do not take the place of a filling that has run out.
    limit = 2 * max((b - a for a, b in pairwise([0, *ends])), default=goal)
    plans = []
    for count in (most, most - 1)[: 1 + (most > 0)]:
        size = ends[count - 1] if count else 0
        short = coins.reach(min(max(goal - size, 0), limit))
        plans.append((goal - size - short, most - count, count, short))
    gap, _, count, short = min(plans)
    return count, coins.change(short), goal - gap
