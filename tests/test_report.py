"""The report: its pages run in every state of the data, and the built pages are complete and offline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from pages import BOOK, code_cells
from pages import PAGES as SOURCES
from synthetic import write_run
from synthetic_concentration import write_concentration
from synthetic_fidelity import write_fidelity
from synthetic_masks import write_masks
from synthetic_speed import write_speed

from sparsestudy import (
    assets,
    examples,
    fidelity_blocks,
    fidelity_tables,
    fidelity_words,
    ingredients,
    listings,
    mask_blocks,
    mask_tables,
    mask_words,
    parameters,
    paths,
    report,
    runfiles,
    site,
    task_blocks,
    task_prompts,
    task_tables,
    words,
)
from sparsestudy import dataset as ds
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.specs import Cells
from sparsestudy.commands.run import SKIPPED
from sparsestudy.definitions import definition
from sparsestudy.errors import StudyError
from sparsestudy.freshness import freshness
from sparsestudy.methods import METHODS
from sparsestudy.tasks import TASKS
from sparsestudy.view import Run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page.stem for page in SOURCES]
STUDY: dict[str, Any] = {
    "run": "study",
    "published": True,
    "lengths": [512],
    "sparsities": [0, 900],
    "samples": 60,
}
HEAVY = (
    "torch",
    "transformers",
    "papermill",
    "snakemake",
    "safetensors",
    "huggingface_hub",
    "tokenizers",
    "gguf",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout that the package looks into, with the book in it."""
    shutil.copytree(BOOK, tmp_path / "book", ignore=shutil.ignore_patterns("_build", "_generated"))
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


class Shown:
    """What the cells of a page displayed: Markdown and HTML, and the texts that were glued."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.glued: dict[str, str] = {}

    def __call__(self, *objects: Any, metadata: dict[str, Any] | None = None, **options: Any) -> None:
        for item in objects:
            # glue sends a mapping from type to content, whose types carry a prefix
            text = (
                next(str(item[k]) for k in sorted(item) if k.endswith(("text/markdown", "text/plain")))
                if isinstance(item, dict)
                else str(item.data)
            )
            if metadata and "scrapbook" in metadata:
                self.glued[metadata["scrapbook"]["name"]] = text
            else:
                self.texts.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


@pytest.fixture
def run_page(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs all cells of a page in this process and returns what they showed."""
    import IPython.display
    import myst_nb.ext.glue

    def run(page: str) -> Shown:
        shown = Shown()
        monkeypatch.setattr(IPython.display, "display", shown)
        monkeypatch.setattr(myst_nb.ext.glue, "ipy_display", shown)
        namespace: dict[str, Any] = {}
        for cell in code_cells(checkout / "book" / f"{page}.md"):
            exec(compile(cell, page, "exec"), namespace)
        return shown

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_pages_run_without_any_data(run_page: Any, page: str) -> None:
    shown = run_page(page)
    plain = (
        "pareto",
        "length",
        "tolerance",
        "tasks",
        "methods",
        "fidelity",
        "speed",
        "decide",
        "compare",
        "environment",
    )
    if page in ("index", "accuracy", *plain):
        assert "No published run" in shown.text
        assert "git restore" in shown.text
    if page == "compare":
        assert "No smoke run on this machine yet" in shown.text
    if page == "your-runs":
        assert "No runs of your own yet" in shown.text


@pytest.mark.parametrize("page", PAGES)
def test_pages_run_with_published_and_local_data(run_page: Any, page: str) -> None:
    write_run(STUDY)
    write_run({**STUDY, "run": "smoke", "published": False, "samples": 4})
    write_run({**STUDY, "run": "mine", "published": False, "lengths": [1024], "methods": ["quest"]})
    write_masks()
    write_fidelity()
    write_concentration()
    write_speed()
    shown = run_page(page)
    text = shown.text + "".join(shown.glued.values())
    if page in ("index", "accuracy"):
        assert "n = 60" in text
        assert "mine" not in text
        assert report.published()[0].hash in text
    if page == "index":
        assert text.count('id="figure-headline-study"') == 1
        assert "a frontier over sizes" in text
        assert "None of 13 claims is measured yet." in text
        assert "Whether such a law holds is **not measured**" in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "pareto":
        assert "a frontier over sizes" in text
        assert "not measured" in text
        assert text.count('id="figure-pareto-') == 2
        assert report.published()[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "length":
        assert text.count('id="figure-length-') == 2
        assert text.count('aria-label="What is tolerated at a margin') == 1
        assert "tolerances at three lengths at least" in text
        assert text.count('id="figure-concentration-looked"') == 1
        assert "A smaller share of the keys suffices in longer text" in text
        assert report.published("concentration")[0].hash in text
        assert report.published()[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "tolerance":
        assert "no published run varies what a task demands" in text
        assert text.count('id="figure-tasks-study"') == 1
        assert "beside it" in text
        assert report.published()[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "methods":
        assert "one prompt of the task needle" in mask_blocks.scene(report.published("masks"))
        assert text.count('id="figure-mask-') == len(METHODS)  # dense has none, random two
        assert text.count('id="figure-spread-') == 1
        assert "unreachable: at most 80" in text
        assert report.published("masks")[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "fidelity":
        told = fidelity_blocks.scene(report.published("fidelity"))
        assert "3 passages of 512 to 1,024 tokens from *Persuasion*" in told
        for figure in ("kl", "excess", "recall", "position", "layer"):
            assert text.count(f'id="figure-fidelity-{figure}-') == 1
        assert "unreachable: at most 80" in text
        assert "the mean divergence is smallest under" in text
        assert report.published("fidelity")[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "speed":
        for figure in ("roofline", "efficiency", "time", "split"):
            assert text.count(f'id="figure-speed-{figure}-') == 1
        assert "9 of 32 are met" in text
        assert "RuntimeError: no such kernel" in text
        assert "not measured" in text
        assert report.published("speed")[0].hash in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    if page == "speed-log":
        assert "Warp-specialised kernel" in text
    if page == "compare":
        assert "smoke" in text
        assert "the same" in text
        assert 'id="figure-beside-smoke"' in text
    if page == "your-runs":
        assert "Run `mine`" in text
        assert "smoke" not in text
    if page == "environment":
        for run in ("study", "smoke", "mine"):
            assert f"Run `{run}`" in text
        for file in re.findall(r'href="(runs/[^"]+)"', text):
            assert (assets.generated() / file).is_file()


SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m"]
SWEEP: dict[str, Any] = {
    **STUDY,
    "run": "sweep",
    "models": SIZES,
    "lengths": [512, 1024],
    "sparsities": [0, 500, 900],
    "samples": 100,
    "methods": ["dense", "window", "block_sparse"],
}


def test_the_page_on_cost_compares_models_of_several_sizes(run_page: Any) -> None:
    write_run(SWEEP, graded=True)
    shown = run_page("pareto")
    text = shown.text + "".join(shown.glued.values())
    assert "a frontier over sizes" not in text
    assert "frontier of all configurations" in text
    assert 'id="figure-gains-sweep"' in text
    assert "no equal-cost point" in text
    assert "There is no published dataset accuracy/ladder" in text
    assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))


def test_the_summary_opens_with_the_frontiers_once_there_are_several_sizes(run_page: Any) -> None:
    write_run(STUDY)
    write_run({**SWEEP, "run": "ladder"}, graded=True)
    shown = run_page("index")
    text = shown.text + "".join(shown.glued.values())
    assert 'id="figure-headline-ladder"' in text
    assert "large marks are dense models" in text
    assert "a frontier over sizes" not in text
    assert f"accuracy/ladder, hash {report.published()[0].hash}" in text
    for model in SIZES:
        assert model in text


def _grid(models: int, tasks: int) -> dict[str, Any]:
    """A run over some models and tasks."""
    names = ["gemma-3-270m", "smollm2-135m", "gemma-3-270m-q4_k_m", "smollm2-135m-q4_1"][:models]
    found = ["needle", "vt", "cwe", "story_retrieval", "story_multihop"][:tasks]
    return {**STUDY, "run": "grid", "models": names, "tasks": found}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["accuracy"])
def test_a_page_grows_with_models_and_tasks_but_not_with_their_product(
    run_page: Any, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[tuple[int, int], tuple[int, int]] = {}
    for models, tasks in ((2, 2), (4, 2), (2, 5), (4, 5)):
        for folder in ("accuracy", "local/accuracy"):
            shutil.rmtree(paths.ROOT / "results" / folder, ignore_errors=True)
        write_run({**_grid(models, tasks), "published": page == "accuracy"})
        text = run_page(page).text
        drawn[models, tasks] = text.count("<figure"), text.count("<tr")
        for model in _grid(models, tasks)["models"]:
            file = assets.generated() / "data" / f"{assets.slug('table', 'grid', model)}.csv"
            lines = file.read_text(encoding="utf-8").splitlines()
            assert len(lines) == 1 + 13 * tasks, "every cell of every model is there to download"
            assert f"{model} CSV" in text
        assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    figures, rows = ({key: value[i] for key, value in drawn.items()} for i in (0, 1))
    assert len(set(figures.values())) == 1
    assert rows[4, 2] == rows[2, 2]
    assert rows[4, 5] == rows[2, 5] <= 2.5 * rows[2, 2]


def test_pages_say_that_models_which_ship_are_model_organisms(checkout: Path, monkeypatch: Any) -> None:
    from IPython import display

    shown = Shown()
    monkeypatch.setattr(display, "display", shown)
    write_run(STUDY)
    report.state(report.published())
    assert "organisms" not in shown.text
    run = report.published()[0]
    report.state([Run("study", run.data.assign_coords(model_source=("model", [report.SHIPPED])), "")])
    assert "Model organisms" in shown.text
    assert "`smollm2-135m-q4_1` was trained for this study" in shown.text


def test_prompts_beyond_the_trained_length_are_named_and_decide_nothing(
    checkout: Path, monkeypatch: Any
) -> None:
    from IPython import display

    shown = Shown()
    monkeypatch.setattr(display, "display", shown)
    write_run(STUDY)
    report.state(report.published())
    assert "Extrapolation" not in shown.text
    data = report.published()[0].data
    longest = int(data["length"].max())
    short = Run("study", data.assign_coords(model_context=("model", [longest - 1])), "")
    report.state([short])
    assert "Extrapolation in run `study`" in shown.text
    assert f"Prompts of {words.tokens(longest)} (`smollm2-135m-q4_1`)" in shown.text
    with pytest.raises(StudyError, match="holds none of the cells"):
        Evidence.of(short.data.sel(length=[longest]), Cells(), "any")


def test_what_a_demand_costs_is_shown_on_one_page_alone(run_page: Any) -> None:
    varied = [{"name": "vt", "hops": hops} for hops in (1, 2)]
    write_run(STUDY)
    write_run({**STUDY, "run": "demands", "tasks": varied, "lengths": [1024], "samples": 100})
    shown = run_page("tolerance")
    text = shown.text + "".join(shown.glued.values())
    assert 'id="figure-demands-demands"' in text
    assert "**vt: hops**: dense attention scores" in text
    assert "no published run varies" not in text
    assert all(run.hash in text for run in report.published())
    assert all(len(alt) > 80 for alt in re.findall(r'alt="([^"]*)"', text))
    other = run_page("tasks")
    assert "demands" not in other.text


def test_every_method_has_a_section_on_its_page() -> None:
    text = (BOOK / "methods.md").read_text(encoding="utf-8")
    for name in METHODS:
        assert f'mask_blocks.defined("{name}")' in text
        assert f'mask_blocks.chosen(runs, "{name}")' in text
        parts = definition(name)
        assert parts["summary"].endswith(".")
        assert {"Idea", "Source"} <= set(parts)


def test_every_task_is_shown_with_a_prompt_whose_evidence_is_marked(run_page: Any) -> None:
    text = run_page("tasks").text
    assert "every task is not measured" in task_blocks.scope([])
    for name in TASKS:
        assert f">{name.replace('_', ' ')}</h3>" in text
        if not TASKS[name].shipped:
            assert f"sparsestudy data fetch {name}" in text
            continue
        one = task_prompts.shown(TASKS[name])
        shown = task_prompts.marked(one.sample)
        assert shown in text
        assert unescape(re.sub("</?mark>", "", shown)) == one.sample.prompt
        spans = [one.sample.prompt[start:stop] for start, stop in one.sample.evidence]
        assert [unescape(part) for part in re.findall("<mark>(.*?)</mark>", shown, re.DOTALL)] == spans
        assert spans
        assert one.solved == 1
        assert one.blind <= one.chance
    assert text.count("not measured; no published run holds this task") == len(TASKS)


TASK_RUN: dict[str, Any] = {
    **STUDY,
    "run": "tasks",
    "methods": ["dense"],
    "sparsities": [0],
    "lengths": [512, 1024],
    "tasks": ["needle", *({"name": "needle", "context": context} for context in ("none", "evidence")), "vt"],
}


def test_scores_of_tasks_are_shown_as_they_were_measured(run_page: Any) -> None:
    write_run(STUDY)
    write_run(TASK_RUN)
    text = run_page("tasks").text
    table = Run("tasks", ds.open_study("accuracy")["tasks"]).table
    for row in table.to_dict("records"):
        assert f"{words.interval(row)}, n = 60" in text
    assert "not measured; no published run holds this task" in text
    told = task_blocks.scope(report.published())
    assert told.endswith("Not measured without context or with the evidence alone: vt.")
    assert task_tables.NOT_MEASURED in text
    assert [run.name for run in report.sparse()] == ["study"], (
        "dense attention alone says nothing of sparsity"
    )


def test_a_task_that_makes_no_prompt_here_says_why(run_page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Any, *args: Any) -> None:
        raise StudyError("Its texts must be fetched first.")

    monkeypatch.setattr(TASKS["vt"], "compose", absent)
    task_prompts.shown.cache_clear()
    text = run_page("tasks").text
    task_prompts.shown.cache_clear()
    assert text.count("No prompt can be shown here.* Its texts must be fetched first.") == 1


def test_a_changed_mask_changes_the_words_about_it(checkout: Path) -> None:
    write_masks(lengths=[1024], methods=["block_sparse"])
    data = report.published("masks")[0].data.load()
    drawn = mask_tables.drawing(data, "smollm2-135m-q4_1", "block_sparse")
    assert drawn is not None
    before = mask_words.picture_caption(drawn), mask_words.picture_alt(drawn)
    data["share"].values[:, :, -1] = np.where(np.isfinite(data["share"].values[:, :, -1]), 1.0, np.nan)
    after = mask_words.picture_caption(drawn), mask_words.picture_alt(drawn)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert "100" in after[1]


def test_changed_fidelity_changes_the_words_about_it(checkout: Path) -> None:
    write_fidelity()
    data = report.published("fidelity")[0].data.load()
    written = []
    for _ in range(2):
        rows = fidelity_tables.settings(data)
        told = [fidelity_words.curves_caption(rows, measure) for measure in fidelity_tables.MEASURES]
        written.append([*told, *fidelity_words.findings(rows)])
        worst = data.sel({"method": "snapkv"})
        for name in ("kl", "loss"):
            worst[name].values[:] += 9
        worst["recall"].values[:] /= 9
    before, after = written
    assert all(old != new for old, new in zip(before[:3], after[:3], strict=True))
    assert "largest under snapkv" in " ".join(after)
    assert "largest under snapkv" not in " ".join(before)


@pytest.mark.parametrize("name", runfiles.SMOKE)
def test_a_skipped_smoke_run_says_why(run_page: Any, name: str) -> None:
    write_run(STUDY)
    folder = paths.run_folder("accuracy", name, False)
    folder.mkdir(parents=True)
    (folder / SKIPPED).write_text("The weights cannot be had: no network.\n", encoding="utf-8")
    shown = run_page("compare")
    assert f"The run `{name}` was skipped on this machine" in shown.text
    assert "The weights cannot be had: no network." in shown.text


def test_an_unreadable_local_file_is_a_box_and_a_published_one_an_error(run_page: Any) -> None:
    write_run(STUDY)
    folder = paths.run_folder("accuracy", "mine", False)
    folder.mkdir(parents=True)
    (folder / "smollm2-135m-q4_1-512.nc").write_bytes(b"not netcdf")
    assert "cannot be read as netCDF" in run_page("your-runs").text
    broken = next(paths.run_folder("accuracy", "study", True).glob("*.nc"))
    broken.write_bytes(b"not netcdf")
    with pytest.raises(StudyError, match=r"results/accuracy/study/.*cannot be read"):
        run_page("accuracy")


def test_a_run_made_with_other_code_says_so(checkout: Path) -> None:
    write_run(STUDY)
    title, text = freshness(report.published()[0])
    assert title == "Run `study` was made with earlier code"
    assert "1 dataset of 1 differ" in text
    assert "changed" in text or "lacks" in text
    assert text.count("the code of") <= 1, "all changes of code are told together"
    assert "`000000000000`" in text


def test_a_run_with_a_missing_file_is_incomplete(checkout: Path) -> None:
    for shard in write_run({**STUDY, "lengths": [512, 1024]}, current=True)[1:]:
        shard.path.unlink()
    run = report.published()[0]
    run.data.attrs["parameters"] = run.data.attrs["parameters"].replace("[512]", "[512, 1024]")
    title, text = freshness(run)
    assert title == "Run `study` is incomplete"
    assert text == "Datasets that are missing: `smollm2-135m-q4_1-1024`."


def test_figures_come_with_every_file_that_they_link(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown = Shown()
    monkeypatch.setattr(IPython.display, "display", shown)
    from sparsestudy import figures

    write_run(STUDY)
    run = report.published()[0]
    model, task, _ = next(run.subjects())
    report.show(figures.accuracy, run, model, task)
    links = re.findall(r'(?:href|src|srcset)="([^"]+)"', shown.text)
    assert {Path(link).suffix for link in links} == {".svg", ".png", ".pdf", ".csv", ".nc"}
    for link in links:
        assert (assets.generated() / link).stat().st_size > 500
    alts = re.findall(r'alt="([^"]*)"', shown.text)
    assert len(alts) == 2
    assert all(len(alt) > 80 for alt in alts)
    netcdf = next(link for link in links if link.endswith(".nc"))
    with xr.open_dataset(assets.generated() / netcdf, engine="netcdf4") as data:
        assert data.sizes["row"] == len(run.table)
        assert all({"long_name", "units"} <= set(data[name].attrs) for name in data.data_vars)


def test_examples_are_possible_runs_that_nobody_published(checkout: Path) -> None:
    write_run({**STUDY, "lengths": [512, 1024]})
    asked = examples.build(report.published())
    for name in ("length", "sparsities", "model", "file", "papermill"):
        text = asked[name]
        flow = re.search(r"""PARAMS="(\{.*\})"|-y '(\{.*\})'""", text)
        body = (flow[1] or flow[2]) if flow else re.search(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[1]
        made = parameters.AccuracyParameters.parse(yaml.safe_load(body))
        assert 0 in made.sparsities
        if name == "length":
            assert not {512, 1024} & set(made.lengths)
        if name == "model":
            assert made.models != parameters.AccuracyParameters().models
    table, _ = examples.parameters()
    assert set(table["parameter"]) == set(parameters.AccuracyParameters.model_fields) - {"run", "published"}


def test_where_weights_come_from_is_shown_with_their_licence(checkout: Path) -> None:
    write_run(STUDY)
    (run,) = report.published()
    shown, _ = listings.provenance(run.data, {})
    assert set(shown["weights"]) == {f"synthetic, Apache-2.0, sha256 {'0' * 12}…"}


def test_versions_of_shards_that_differ_are_both_named(checkout: Path) -> None:
    write_run({**STUDY, "lengths": [512, 1024]})
    data = report.published()[0].data.load()
    data["versions"] = data["versions"].astype(object)
    data["versions"].values[0, 0] = json.dumps({"torch": "1"})
    data["versions"].values[0, 1] = json.dumps({"torch": "2"})
    assert listings.versions(data) == "torch 1 or 2"


def test_the_pages_import_nothing_heavy() -> None:
    names = [
        name
        for page in PAGES
        for name in re.findall(
            r"^from sparsestudy import (.*)$",
            (BOOK / f"{page}.md").read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    ]
    code = f"import sys\nfrom sparsestudy import {', '.join(sorted(set(', '.join(names).split(', '))))}\n"
    code += f"assert not set(sys.modules) & set({HEAVY!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_kernels_keep_bytecode_with_the_build_where_none_is_wanted_beside_the_sources(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert "PYTHONPYCACHEPREFIX" not in site.environment()
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = site.environment()
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert Path(found["PYTHONPYCACHEPREFIX"]).is_relative_to(checkout / "book" / "_build")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/elsewhere")
    assert site.environment()["PYTHONPYCACHEPREFIX"] == "/elsewhere"


def test_vendored_mathjax_is_whole_and_carries_its_licence() -> None:
    folder = BOOK / "_extra" / "mathjax"
    assert "3.2.2" in (folder / "tex-chtml.js").read_text(encoding="utf-8")
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert len(list((folder / "output/chtml/fonts/woff-v2").glob("*.woff"))) == 23


def test_without_a_book_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparsestudy.__main__ import main

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert main(["report"]) == 2
    assert "There is no book in" in capsys.readouterr().err


def _built(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build in an environment where the heavy packages cannot be imported."""
    blocker = checkout / "blocker"
    blocker.mkdir(exist_ok=True)
    (blocker / "sitecustomize.py").write_text(
        "import sys\nclass Blocked:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {HEAVY!r}:\n            raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Blocked())\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(blocker), str(ROOT)]))
    return site.build()


@pytest.mark.slow
def test_the_report_builds_without_torch_and_stays_small(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(
        {**STUDY, "lengths": [512, 1024], "tasks": ["needle", {"name": "needle", "needles": 4, "queries": 4}]}
    )
    write_run({**STUDY, "run": "smoke", "published": False, "samples": 4})
    write_masks()
    assert site.finished() is None
    index = _built(checkout, monkeypatch)
    html = index.parent
    assert site.finished() == index
    assert site.size(html) < 25e6
    assert not list(html.rglob("*.map"))
    for page in PAGES:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert not re.findall(
            r'(?:src|href)="(https?:)?//(?!arxiv\.org|doi\.org)[^"]*\.(?:js|css|woff2?)"', text
        )
        for link in re.findall(r'(?:src|href|srcset)="([^"#:?]+)"', text):
            assert (html / link).exists(), f"{page}: {link}"
        assert str(checkout) not in text
    (html / "pareto.html").touch()
    assert site.finished() is None


@pytest.mark.parametrize(
    "file",
    [
        "book/index.md",
        "book/_static/icon.svg",
        "notebooks/accuracy.ipynb",
        "results/README.md",
        "models.local.yaml",
    ],
)
def test_a_report_is_made_again_where_what_it_is_made_of_changed(checkout: Path, file: str) -> None:
    path = checkout / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.read_text(encoding="utf-8") if path.exists() else "{}", encoding="utf-8")
    before = ingredients.digest()
    os.utime(path, (1, 1))
    for ignored in ("book/_build/built.txt", "results/local/.logs/run.txt", "results/derived/cells.nc"):
        (checkout / ignored).parent.mkdir(parents=True, exist_ok=True)
        (checkout / ignored).write_text("changed", encoding="utf-8")
    assert ingredients.digest() == before
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert ingredients.digest() != before


@pytest.mark.slow
def test_a_failing_cell_stops_the_build_and_keeps_the_last_report(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _built(checkout, monkeypatch)
    before = index.read_bytes()
    assert b"No published run" in before
    page = checkout / "book" / "rerun.md"
    page.write_text(
        page.read_text(encoding="utf-8").replace("ask = ", "ask = no_such_name or "), encoding="utf-8"
    )
    with pytest.raises(StudyError, match="no_such_name"):
        site.build()
    assert index.read_bytes() == before
    assert [path.name for path in index.parents[1].glob(".work-*")] == []


@pytest.mark.slow
def test_a_broken_link_stops_the_build(checkout: Path) -> None:
    page = checkout / "book" / "rerun.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[](no-such-page.md)\n", encoding="utf-8")
    with pytest.raises(StudyError, match="no-such-page"):
        site.build()
