"""The part of README.md that is computed: the headline figure and what the published data say, in short."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from sparsestudy import pareto_figures, paths, report, style, summary_blocks, summary_words
from sparsestudy.errors import StudyError
from sparsestudy.summary_blocks import Summary
from sparsestudy.view import Run

PICTURE = "book/_static/headline.svg"
BEGIN, END = "<!-- findings: written by `make readme` from {} -->", "<!-- end of findings -->"
_WIDTH = 120
_BLOCK = re.compile(
    f"{re.escape(BEGIN).replace(re.escape('{}'), '[^>]*')}.*?{re.escape(END)}", flags=re.DOTALL
)


def sources(runs: list[Run]) -> str:
    """The datasets that the figure and the findings come from, each with its hash."""
    return ", ".join(f"data {run.data.attrs['experiment']}/{run.name} {run.hash}" for run in runs)


def picture(runs: list[Run], found: Summary) -> bytes:
    """The headline figure on white, with the datasets in its metadata.

    Raises:
        StudyError: no published run holds what it shows.
    """
    if found.headline is None:
        raise StudyError("There is no published run to draw; `make plan` says what is missing.")
    drawn = pareto_figures.headline(found.headline.rows, found.headline.lines)
    return style.svg(drawn.figure, ground="white", about=sources(runs))


def block(runs: list[Run], found: Summary) -> str:
    """The text between the markers, markers included.

    Raises:
        StudyError: no published run holds what the figure shows.
    """
    if found.headline is None:
        raise StudyError("There is no published run to draw; `make plan` says what is missing.")
    drawn = pareto_figures.headline(found.headline.rows, found.headline.lines)
    answer = f"**Smaller dense or larger sparse?** {found.answer} {found.saved}".rstrip()
    counts = (summary_words.counts(found.verdicts), summary_words.scope(found.verdicts))
    parts = [
        f"![{drawn.alt}]({PICTURE})",
        _wrapped(answer),
        _wrapped(found.cheaper),
        _wrapped(" ".join(filter(None, counts))),
        "\n".join(_wrapped(sentence, "- ") for sentence in summary_words.decided(found.verdicts)),
    ]
    return "\n\n".join([BEGIN.format(sources(runs)), *filter(None, parts), END])


def _wrapped(text: str, bullet: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def written(text: str, runs: list[Run], found: Summary) -> str:
    """README.md with the part that is computed made again.

    Raises:
        StudyError: the markers are not there once, or there is nothing to write.
    """
    new = block(runs, found)
    replaced, count = _BLOCK.subn(lambda _: new, text)
    if count != 1:
        raise StudyError(
            f"README.md must hold one pair of the lines '{BEGIN.format('...')}' and '{END}', between which "
            f"the findings go; it holds {count}."
        )
    return replaced


def write() -> list[Path]:
    """Write figure and findings from the published runs, and return the files.

    They are tracked files: this is called when the published data change, never by a build.

    Raises:
        StudyError: there is no published run, or README.md has no place for the findings.
    """
    runs = report.sparse()
    found = summary_blocks.measured(runs)
    drawing = picture(runs, found)
    text, image = paths.ROOT / "README.md", paths.ROOT / PICTURE
    if not text.is_file():
        raise StudyError(f"There is no {paths.shown(text)}; run this in a checkout of sparsestudy.")
    new = written(text.read_text(encoding="utf-8"), runs, found)
    paths.write_bytes(image, drawing)
    paths.write_text(text, new)
    return [text, image]
