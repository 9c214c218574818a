"""A short real prompt of each task, made here and now, with its evidence marked."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cache

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import Task
from sparsestudy.tasks.prompt import Sample

WORD = re.compile(r"\w+|[^\w\s]")
# Words and signs of a prompt to show: the first that a task can fill.
LENGTHS = (160, 320, 640, 1280, 2560)
SOLVED = 20


class Words:
    """Counts words and signs where a model's tokenizer counts tokens, so no model is needed for a prompt."""

    chat_template = None

    @property
    def backend_tokenizer(self) -> Words:
        """What counts many texts at once: the same."""
        return self

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool = False) -> list[list[str]]:
        """The words and signs of each text; there are no special ones."""
        del add_special_tokens
        return [WORD.findall(text) for text in texts]


@dataclass(frozen=True)
class Shown:
    """A task with a prompt, and how well its rule-based solver does on prompts of that length.

    Args:
        task: with the defaults of the preset "direct".
        sample: the prompt.
        words: its words and signs.
        solved: mean score of the solver.
        chance: mean score of guessing in the right form.
        blind: the same without the context.
        n: prompts behind these means.
    """

    task: Task
    sample: Sample
    words: int
    solved: float
    chance: float
    blind: float
    n: int


@cache
def shown(kind: type[Task]) -> Shown:
    """A prompt of a task.

    Raises:
        StudyError: no prompt can be made here, such as of a task whose texts must be fetched first.
    """
    task = kind()
    length = _length(task)
    samples = [task.sample(Words(), length, index) for index in range(SOLVED)]
    alone = [kind(context="none").sample(Words(), length, index) for index in range(SOLVED)]
    scores = [task.score(sample, task.solve(sample.prompt)).value for sample in samples]
    return Shown(
        task=task,
        sample=samples[0],
        words=len(WORD.findall(samples[0].prompt)),
        solved=sum(scores) / SOLVED,
        chance=sum(sample.chance for sample in samples) / SOLVED,
        blind=sum(sample.chance for sample in alone) / SOLVED,
        n=SOLVED,
    )


def _length(task: Task) -> int:
    """The first of the lengths that samples of a task fill."""
    for length in LENGTHS[:-1]:
        try:
            for index in range(SOLVED):
                task.sample(Words(), length, index)
        except StudyError:
            continue
        return length
    return LENGTHS[-1]


def marked(sample: Sample) -> str:
    """The prompt as HTML, the evidence in ``<mark>``."""
    parts, at = [], 0
    for start, stop in sample.evidence:
        parts += [
            html.escape(sample.prompt[at:start]),
            f"<mark>{html.escape(sample.prompt[start:stop])}</mark>",
        ]
        at = stop
    return "".join([*parts, html.escape(sample.prompt[at:])])


def figure(name: str, sample: Sample, caption: str) -> str:
    """A prompt as HTML with its caption, in a box that scrolls by itself where it is long."""
    return (
        f'<figure class="study-prompt">\n<pre role="region" tabindex="0" aria-label="Prompt of {name}">'
        f"{marked(sample)}</pre>\n"
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>"
    )
