"""Parts of pages that say what there is, or why there is nothing, and then show it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sparsestudy import (
    assets,
    comparison_words,
    figures,
    findings,
    listings,
    paths,
    report,
    runfiles,
    tables,
    words,
)
from sparsestudy.commands.run import SKIPPED
from sparsestudy.compare import beside, matched
from sparsestudy.errors import StudyError
from sparsestudy.freshness import State, freshness, run_file, states
from sparsestudy.report import box, html, markdown, show_table
from sparsestudy.view import Run

if TYPE_CHECKING:
    import pandas as pd

REMEDY = "`make book` makes what is missing on this machine; `make doctor` says what this machine lacks."


def skipped() -> dict[str, str]:
    """Local runs whose weights could not be had: run name to the sentence that says why."""
    notes = sorted(paths.results(False).glob(f"*/*/{SKIPPED}"))
    return {note.parent.name: note.read_text(encoding="utf-8").strip() for note in notes}


def smoke_state(mine: list[Run]) -> None:
    """Boxes where a smoke run was skipped or made with earlier code, or where there is none."""
    left_out = {name: why for name, why in skipped().items() if name in runfiles.SMOKE}
    smoke = [run for run in mine if run.name in runfiles.SMOKE]
    for name, why in left_out.items():
        box("warning", f"The run `{name}` was skipped on this machine", why)
    if not smoke and not left_out:
        text = f"This report was built from the data that came with the checkout. {REMEDY}"
        box("note", "No smoke run on this machine yet", text)
    for run in smoke:
        title, text = freshness(run)
        if text:
            box("note", title, f"{text} {REMEDY}")


def compare(run: Run, published: list[Run]) -> None:
    """One local run beside the published ones: sentence, figure and table."""
    table = beside(run, published)
    places = words.listed(sorted({str(value) for value in run.data["device"].values.ravel() if value}))
    counts = words.samples_of(run.table)
    markdown(f"**Run `{run.name}`**, this machine ({places}), {counts}. {comparison_words.verdicts(table)}")
    if len(matched(table)):
        html(assets.figure(figures.beside, assets.slug("beside", run.name), table))
        show_table(*listings.comparison(table), data=table, name=f"beside-{run.name}")


def losses(run: Run, model: str, task: str, rows: pd.DataFrame) -> None:
    """What sparsity costs against dense attention: sentences, differences and where losses begin."""
    report.subject_title(run, model, rows)
    report.bullets([findings.dense(rows), *findings.outcomes(rows), findings.overall(rows)])
    if len(tables.compared(rows)):
        report.show(figures.difference, run, model, task)
        show_table(*listings.tolerance(rows))


def controls(run: Run, model: str, task: str, rows: pd.DataFrame) -> None:
    """Each method beside its controls, where the run has any: sentences, and the figure."""
    report.subject_title(run, model, rows)
    if len(tables.with_controls(rows)):
        report.show(figures.controls, run, model, task)
    report.bullets(findings.beyond_control(rows))


def own(runs: list[Run]) -> list[Run]:
    """The user's own runs: all local ones but the smoke runs."""
    return [run for run in runs if run.name not in runfiles.SMOKE]


def own_state(runs: list[Run]) -> None:
    """Boxes for runs that were skipped, and a friendly one where there is none."""
    for name, why in skipped().items():
        if name not in runfiles.SMOKE:
            box("warning", f"Run `{name}` was skipped", why)
    if not runs:
        text = "Make your first one with the examples in [](rerun.md), then `make book`: it will appear here."
        box("tip", "No runs of your own yet", text)


def introduce(run: Run) -> None:
    """Name a run and say what it was asked for."""
    asked = json.loads(run.data.attrs["parameters"])
    told = ", ".join(
        f"{name} {json.dumps(asked[name])}" for name in ("lengths", "sparsities", "samples", "seed")
    )
    markdown(f"**Run `{run.name}`**: `{told}`. {freshness(run)[1]}")


def local_state(runs: list[Run]) -> None:
    """A line where there is no local dataset."""
    if not runs:
        markdown(f"There are none yet. {REMEDY}")


def provenance(run: Run) -> None:
    """Where a run comes from: hash, files, states, versions, notebooks and downloads."""
    markdown(f"**Run `{run.name}`**, hash `{run.hash}`, licence {run.data.attrs['licence']}")
    show_table(*listings.provenance(run.data, _states(run)))
    links = _files(run)
    if links:
        html(f'<p class="study-caption">{assets.downloads(links)}</p>')
    versions = listings.versions(run.data)
    if versions:
        markdown(f"Made with {versions}.")


def _states(run: Run) -> dict[tuple[str, int], State]:
    """The state of every file of a run that a run file asks for."""
    if not run_file(run).exists():
        return {}
    try:
        return {(one.model, one.length): one for one in states(run)}
    except StudyError as error:
        box("warning", f"Whether run `{run.name}` is fresh cannot be told", str(error))
        return {}


def _files(run: Run) -> list[tuple[str, str]]:
    """The run's dataset files and executed notebooks, copied beside the pages."""
    experiment, published = str(run.data.attrs["experiment"]), bool(run.data.attrs["published"])
    folder = paths.run_folder(experiment, run.name, published)
    kinds = {".nc": "data", ".ipynb": "executed notebook"}
    place = f"runs/{'published' if published else 'local'}/{experiment}/{run.name}"
    links = []
    files = [file for file in folder.iterdir() if file.suffix in kinds]
    # model, then length as a number, then the data before the notebook
    for file in sorted(files, key=lambda file: (*_model_and_length(file.stem), file.suffix != ".nc")):
        paths.write_bytes(assets.generated() / place / file.name, file.read_bytes())
        links.append((f"{file.stem} ({kinds[file.suffix]})", f"{place}/{file.name}"))
    return links


def _model_and_length(stem: str) -> tuple[str, int]:
    model, _, length = stem.rpartition("-")
    return model, int(length) if length.isdigit() else 0
