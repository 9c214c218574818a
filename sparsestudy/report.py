"""What the pages of the report are made with: open runs, show figures and tables, write numbers into text.

A page holds text and a few short cells. Its cells call these functions; its text takes every number
from them by the ``glue`` role.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparsestudy import __version__, assets, findings, runfiles, tables, words
from sparsestudy.errors import StudyError
from sparsestudy.freshness import freshness
from sparsestudy.opening import run_folders
from sparsestudy.view import Run

if TYPE_CHECKING:
    import pandas as pd

    from sparsestudy.figures import Picture

EXPERIMENT = "accuracy"
SHIPPED = "shipped with the study"
"""What a dataset names as the source of a model whose weights lie in ``models/``."""
PLACE = ("model", "length")
MANY = 20
"""Sentences above which a list is folded up: beside it stand a figure and a table."""
DEMANDS = ("demands",)
"""Published runs on accuracy over what a task demands: many variants of a few tasks, so that pages which
summarise tasks leave them out, and one section is about them alone."""


def published(experiment: str = EXPERIMENT) -> list[Run]:
    """The published runs, which results are read from."""
    return [Run.read(folder) for folder in run_folders(experiment).values()]


def studies() -> list[Run]:
    """The published runs on accuracy in which each variant of a task stands for itself."""
    return [run for run in published() if run.name not in DEMANDS]


def sparse() -> list[Run]:
    """Those studies that say what sparse attention costs: all but those of dense attention alone."""
    return [run for run in studies() if run.sparse]


def demands() -> list[Run]:
    """The published runs over what a task demands."""
    return [run for run in published() if run.name in DEMANDS]


def local(experiment: str = EXPERIMENT) -> list[Run]:
    """The smoke run and the user's own runs; a folder that cannot be read becomes a box on the page."""
    try:
        return found_locally(experiment)
    except StudyError as error:
        box("warning", "The local runs cannot be shown", str(error))
        return []


def found_locally(experiment: str = EXPERIMENT) -> list[Run]:
    """The smoke runs, then the user's own runs by name.

    Raises:
        StudyError: a file cannot be read or is foreign.
    """
    folders = run_folders(experiment, published=False)
    names = sorted(folders, key=lambda name: (name not in runfiles.SMOKE, name))
    return [Run.read(folders[name]) for name in names]


def markdown(text: str) -> None:
    """Show Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def bullets(sentences: list[str]) -> None:
    """Show sentences as a list, a long one folded up, or nothing."""
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    if len(sentences) > MANY:
        box("note dropdown", f"In words: {len(sentences)} sentences", listed)
    elif sentences:
        markdown(listed)


def describe(parts: dict[str, str]) -> None:
    """Show what a method or task is, from the sections of `sparsestudy.definitions.definition`."""
    markdown(f"{parts['summary']} {_capital(parts.get('Idea', ''))}")
    for section in ("Score", "Source", "Deviations"):
        text = parts.get(section, "").removeprefix("none.").strip()
        if text:
            markdown(f"*{section}.* {_capital(text)}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def box(kind: str, title: str, text: str) -> None:
    """Show a visible box; ``kind`` is note, tip, warning or important."""
    markdown(f":::{{admonition}} {title}\n:class: {kind}\n{text}\n:::")


def html(text: str) -> None:
    """Show HTML."""
    from IPython.display import HTML, display

    display(HTML(text))


def glue(**values: str) -> None:
    """Give texts to the page under their names, for ``{glue:md}`` roles."""
    from IPython.display import Markdown
    from myst_nb import glue as keep

    for name, text in values.items():
        keep(name.replace("_", "-"), Markdown(text), display=False)


def constants() -> None:
    """Give the page the numbers that define its intervals and tests."""
    from sparsestudy import stats

    glue(
        confidence=words.percent(stats.CONFIDENCE),
        margin=f"{tables.MARGIN:g}",
        power=words.percent(stats.POWER),
        resamples=f"{stats.RESAMPLES:,}",
    )


def show(make: Callable[..., Picture], run: Run, *arguments: Any, **options: Any) -> None:
    """Show a figure of a run with its caption and downloads.

    Args:
        make: a function of `sparsestudy.figures`.
        run: whose summary it is drawn from.
        arguments: further arguments of ``make``, which also name the files.
        options: keyword arguments of ``make``.
    """
    extra = [str(value) for values in options.values() for value in values]
    name = assets.slug(make.__name__, run.name, *map(str, arguments), *extra)
    html(assets.figure(make, name, run.summary, *arguments, **options))


def show_table(
    frame: pd.DataFrame,
    caption: str,
    data: pd.DataFrame | None = None,
    name: str = "",
    prose: bool = False,
) -> None:
    """Show a table; with ``data``, offer that as CSV and netCDF under ``name``.

    Args:
        frame: what to show.
        caption: what it holds.
        data: what to offer.
        name: of the files.
        prose: whether its values are sentences, which break into lines and are shown in full height.
    """
    links = assets.data_links(data, assets.slug("table", name), caption) if data is not None else None
    html(assets.table(frame, caption, links, tall=len(frame) > 14 and not prose, prose=prose))


def state(runs: list[Run]) -> None:
    """Show boxes: no published run, one of earlier code, prompts beyond the training, model organisms."""
    if not runs:
        box(
            "warning",
            "No published run",
            "`results/` holds no published run, so there is nothing to show here. `make plan` says what is "
            "missing, and `git restore results` brings back what came with the checkout.",
        )
    for run in runs:
        title, text = freshness(run)
        if text:
            box("warning", title, text)
        if beyond := _beyond(run):
            box(
                "warning",
                f"Extrapolation in run `{run.name}`",
                f"Prompts of {beyond} are longer than what the model was trained on. They show what happens "
                "there, and enter no comparison of costs, no tolerance and no verdict.",
            )
    if organisms := _organisms(runs):
        verb = "was" if len(organisms) == 1 else "were"
        box(
            "note",
            "Model organisms",
            f"{words.listed(f'`{name}`' for name in organisms)} {verb} trained for this study, on texts from "
            "the very generators that ask them. They show what sparse attention does when nothing but size "
            "and length changes; they know no language, and are no forecast for a model that does.",
        )


def _beyond(run: Run) -> str:
    """The lengths at which models of a run were asked beyond their context, with these, or nothing."""
    data = run.data
    if "model_context" not in data.coords or "prompt_tokens" not in data:
        return ""
    asked = (data["prompt_tokens"] > 0).any([dim for dim in data["prompt_tokens"].dims if dim not in PLACE])
    beyond = asked & (data["length"] > data["model_context"])
    found = []
    for length in data["length"].values.tolist():
        models = data["model"].values[beyond.sel(length=length).transpose("model").values]
        if len(models):
            found.append(f"{words.tokens(length)} ({words.listed(f'`{name}`' for name in models)})")
    return words.listed(found) if found else ""


def _organisms(runs: list[Run]) -> list[str]:
    """The models of some runs that ship with the study, each once."""
    found = [
        str(name)
        for run in runs
        if "model_source" in run.data.coords
        for name, source in zip(run.data["model"].values, run.data["model_source"].values, strict=True)
        if source == SHIPPED
    ]
    return list(dict.fromkeys(found))


def scope(runs: list[Run]) -> str:
    """What the runs cover, in one sentence."""
    return findings.scope({run.name: run.table for run in runs})


def subject_title(run: Run, model: str, rows: pd.DataFrame) -> None:
    """Name what the following figures are about."""
    markdown(f"**{rows['subject'].iloc[0]}** with `{model}` (run `{run.name}`)")


def cite(title: str, runs: list[Run]) -> None:
    """Show how to cite the page, with the hash of every dataset that its numbers come from."""
    data = [f"dataset *{run.data.attrs['experiment']}/{run.name}*, hash `{run.hash}`" for run in runs]
    markdown(
        f"> The sparsestudy authors. *sparsestudy: sparse attention at equal compute*, version "
        f"{__version__}, page “{title}”{'; ' if data else ''}{'; '.join(data)}."
    )
    if data:
        markdown(
            "The hash is that of the data, timings apart: whoever holds a dataset with the same hash holds "
            "the same numbers."
        )
