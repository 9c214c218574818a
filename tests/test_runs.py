"""Running: in this process, in kernels and under the scheduler, with a notebook that is quick."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import tiny
import yaml
from synthetic import DEFAULTS, parse, synthetic_shard

from sparsestudy import dataset as ds
from sparsestudy import execution, paths, runfiles, scrub
from sparsestudy.errors import StudyError
from sparsestudy.shards import Shard

TESTS = Path(__file__).resolve().parent
# The real notebook's parameter cell, then cells that need no model.
QUICK = [
    "from sparsestudy.parameters import AccuracyParameters\n"
    "parameters = AccuracyParameters.from_namespace(globals())",
    "import time\nfrom synthetic import synthetic_shard\nfrom sparsestudy import dataset, paths",
    "for shard in parameters.shards():\n"
    "    if parameters.seed == 13:\n"
    "        raise ValueError('an error that\\nnobody foresaw')\n"
    "    if parameters.seed == 14:\n"
    "        parameters.parse({'lenghts': [1]})\n"
    "    if parameters.seed == 15:\n"
    "        time.sleep(600)\n"
    "    if parameters.seed != 16:\n"
    "        dataset.save(synthetic_shard(shard, current=True), shard.path)",
    "print(paths.ROOT, shard.name)",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    """A checkout whose notebook makes synthetic data."""
    root = tmp_path / "checkout"
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(tiny.write_checkout(root, model)))
    file = root / "notebooks" / "accuracy.ipynb"
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells = cells + [nbformat.v4.new_code_cell(source) for source in QUICK]
    nbformat.write(notebook, file)
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("SPARSESTUDY_ROOT", str(root))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))
    return root


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sparsestudy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=paths.ROOT,
    )


def run(*arguments: str) -> tuple[int, str]:
    process = command(*arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def write_file(run_name: str, published: bool = False, **changes: Any) -> list[Shard]:
    given = DEFAULTS | {"models": [tiny.NAME], "samples": 3} | changes
    del given["run"]
    paths.write_text(paths.params_folder("accuracy", published) / f"{run_name}.yaml", yaml.safe_dump(given))
    return parse({**given, "run": run_name, "published": published}).shards()


def same(shard: Shard) -> bool:
    return ds.equal(ds.open_shard(shard.path), synthetic_shard(shard, current=True))


def test_the_notebooks_cells_run_in_this_process(checkout: Path) -> None:
    shards = write_file("mine")
    file = str(paths.params_folder("accuracy", False) / "mine.yaml")
    status, output = run("run", file)
    assert status == 0, output
    assert all(same(shard) for shard in shards)
    assert "(2 of 2)" in output
    assert not any(shard.executed.exists() for shard in shards)
    # Only what was deleted is made again.
    before = shards[0].path.stat().st_mtime_ns
    shards[1].path.unlink()
    status, output = run("run", file)
    assert status == 0, output
    assert same(shards[1])
    assert shards[0].path.stat().st_mtime_ns == before
    assert f"{shards[0].name}.nc is fresh" in output


def test_the_scheduler_makes_what_is_missing_and_tells_little(checkout: Path) -> None:
    good, bad = write_file("mine", lengths=[512]), write_file("bad", lengths=[512], seed=14)
    status, output = run("run", "--missing-local")
    assert status == 2
    assert same(good[0])
    assert json.loads(good[0].executed.read_text())["metadata"]["papermill"]["exception"] is None
    assert not bad[0].path.exists()
    lines = output.strip().splitlines()
    assert sum(line.startswith("running accuracy/") for line in lines) == 2
    assert sum(line.startswith("finished results/local/accuracy/mine/") for line in lines) == 1
    assert lines[-1].startswith("error: accuracy/bad: ")
    assert "There is no parameter 'lenghts'" in lines[-1]
    assert "Traceback" not in output
    assert len(lines) <= 8
    # Nothing of the invocation is left but logs.
    assert list(paths.scratch("work").iterdir()) == []
    assert bad[0].log.is_file()
    assert bad[0].log.with_suffix(".failed.ipynb").is_file()


def test_nothing_to_do_starts_nothing(checkout: Path) -> None:
    for shard in write_file("mine"):
        ds.save(synthetic_shard(shard, current=True), shard.path)
    status, output = run("run", "--missing-local")
    assert (status, output) == (0, "")


def test_what_a_smoke_run_no_longer_asks_for_goes_and_a_users_data_stay(checkout: Path) -> None:
    kept = []
    for name in ("smoke", "mine"):
        for shard in write_file(name, lengths=[512, 640]):
            ds.save(synthetic_shard(shard, current=True), shard.path)
            kept.append(shard.path)
        write_file(name, lengths=[512])
    gone = kept.pop(1)
    status, output = run("run", "--missing-local")
    assert status == 0
    assert output.strip().endswith(f"removed {paths.shown(gone)}, which the smoke run no longer asks for")
    assert not gone.exists()
    assert all(path.exists() for path in kept)


@pytest.mark.slow
def test_the_smoke_runs_can_be_made_alone(checkout: Path) -> None:
    made = [write_file(name, lengths=[512])[0] for name in runfiles.SMOKE]
    left = write_file("mine", lengths=[512])[0]
    status, output = run("run", "--missing-local", "--smoke", "--jobs", "2")
    assert status == 0, output
    assert all(same(shard) for shard in made)
    assert not left.path.exists()


def test_a_missing_published_dataset_is_never_made_by_itself(checkout: Path) -> None:
    shards = write_file("public", published=True)
    status, output = run("run", "--missing-local")
    assert status == 0
    assert "git restore results/accuracy/public" in output
    assert "make results EXPERIMENT=accuracy NAME=public" in output
    assert not any(shard.path.exists() for shard in shards)


def test_a_cell_that_writes_nothing_is_found_out(checkout: Path) -> None:
    shard = write_file("mine", lengths=[512], seed=16)[0]
    with pytest.raises(StudyError, match=r"came to its end, but .* is missing"):
        execution.run_here(shard)


def test_errors_in_this_process_show_the_cells_lines(checkout: Path) -> None:
    shard = write_file("mine", lengths=[512], seed=13)[0]
    with pytest.raises(ValueError, match="nobody foresaw") as raised:
        execution.run_here(shard)
    assert any("raise ValueError" in str(entry) for entry in raised.traceback)


def test_weights_that_cannot_be_had_skip_the_run_with_a_note(
    checkout: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(checkout))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    shards = write_file("mine", models=["smollm2-135m-q4_1"])
    status, output = run("run", "--missing-local")
    assert status == 0, output
    note = shards[0].path.parent / "SKIPPED.txt"
    assert note.read_text().strip() in output
    assert not any(shard.path.exists() for shard in shards)
    # What the user asks for fails instead.
    status, output = run("run", str(paths.params_folder("accuracy", False) / "mine.yaml"))
    assert status == 2
    assert note.read_text().strip() in output


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _wait(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["invocation", "snakemake", "interrupt"])
def test_no_process_outlives_its_run(checkout: Path, victim: str) -> None:
    shards = write_file("mine", lengths=[512], seed=15)
    process = command("run", "--missing-local")

    def kernel() -> bool:
        return any("ipykernel_launcher" in " ".join(p.cmdline()) for p in _descendants(process.pid))

    _wait(kernel)
    family = _descendants(process.pid)
    if victim == "interrupt":
        process.send_signal(signal.SIGINT)
    elif victim == "invocation":
        process.kill()
    else:
        next(p for p in family if "snakemake" in p.cmdline()).kill()
    _wait(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family), 30)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == {"invocation": -signal.SIGKILL, "snakemake": 2, "interrupt": 130}[victim]
    assert "Traceback" not in output
    # Nothing is locked, and the working folder of the dead one goes with the next run.
    write_file("mine", lengths=[512], seed=0)
    status, output = run("run", "--missing-local")
    assert status == 0, output
    assert shards[0].path.exists()
    assert list(paths.scratch("work").iterdir()) == []


@pytest.mark.slow
def test_an_unforeseen_error_shows_the_end_of_the_log(checkout: Path) -> None:
    write_file("mine", lengths=[512], seed=13)
    status, output = run("run", "--missing-local")
    assert status == 2
    assert "a cell of the notebook failed with ValueError: an error that" in output
    assert "log: results/local/.logs/accuracy/mine/" in output
    # Neither does an error outside the cells go unexplained.
    (checkout / "notebooks" / "accuracy.ipynb").write_text("{")
    status, output = run("run", "--missing-local")
    assert status == 2
    assert "ended with an error that is not one of the study's" in output
    assert "Error" in output.splitlines()[-1]


@pytest.mark.slow
def test_two_runs_at_once_do_not_write_one_dataset(checkout: Path) -> None:
    shard = write_file("mine", lengths=[512], seed=15)[0]
    first = command("run", "--missing-local")
    _wait(lambda: any("ipykernel_launcher" in " ".join(p.cmdline()) for p in _descendants(first.pid)))
    status, output = run("run", str(paths.params_folder("accuracy", False) / "mine.yaml"))
    assert status == 2
    assert f"Another run is making {paths.shown(shard.path)}" in output
    first.kill()
    first.communicate(timeout=30)


@pytest.mark.slow
def test_a_published_run_comes_with_its_scrubbed_notebook(checkout: Path) -> None:
    shards = write_file("public", published=True)
    file = str(paths.params_folder("accuracy", True) / "public.yaml")
    texts = []
    for arguments in ((), ("--scheduler", "--jobs", "2", "--force")):
        status, output = run("run", file, *arguments)
        assert status == 0, output
        assert all(same(shard) for shard in shards)
        texts.append([shard.executed.read_text() for shard in shards])
    assert texts[0] == texts[1]
    for text, shard in zip(texts[0], shards, strict=True):
        assert f'". {shard.name}' in text
        assert str(paths.ROOT) not in text
        assert "papermill" not in text
        assert "start_time" not in text
        nbformat.validate(nbformat.reads(text, as_version=4))


def test_scrubbing_removes_machines_and_keeps_outputs(checkout: Path) -> None:
    picture = "iVBORw0KGgo/tmp/root" + "A" * 40
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"papermill": {"start_time": "2020"}, "kernelspec": {"name": "x", "display_name": "x"}},
        "cells": [
            {
                "cell_type": "code",
                "id": "a1",
                "execution_count": 1,
                "metadata": {
                    "tags": ["parameters"],
                    "papermill": {"duration": 3},
                    "execution": {"iopub": "t"},
                },
                "source": [],
                "outputs": [
                    {
                        "output_type": "stream",
                        "name": "stdout",
                        "text": [f"{paths.ROOT}/a {Path.home()}/b 0.83\n"],
                    },
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {
                            "image/png": picture,
                            "text/plain": f"{sys.prefix}/lib /tmp/ipykernel_7/1.py:3",
                        },
                    },
                ],
            }
        ],
    }
    text = scrub.scrubbed(json.dumps(notebook))
    outputs = json.loads(text)["cells"][0]["outputs"]
    assert outputs[0]["text"] == ["./a ~/b 0.83\n"]
    assert outputs[1]["data"]["image/png"] == picture
    assert "<environment>/lib <temporary>:3" in outputs[1]["data"]["text/plain"]
    for word in ("papermill", "2020", "iopub", "duration"):
        assert word not in text
    assert scrub.scrubbed(text) == text
    notebook["cells"][0]["source"] = ["x" * scrub.LARGEST]
    with pytest.raises(StudyError, match="at most 200 KB"):
        scrub.scrubbed(json.dumps(notebook))


def test_notebooks_are_plain_python_without_outputs(root: Path) -> None:
    """What run_here needs: no magics; and what git wants: no outputs."""
    for file in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        for cell in notebook.cells:
            if cell.cell_type == "code":
                compile(cell.source, file.name, "exec")
                assert not cell.outputs
                assert cell.execution_count is None


def test_the_parameter_cell_names_every_parameter_once_a_line(root: Path) -> None:
    notebook = nbformat.read(root / "notebooks" / "accuracy.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    names = [line.partition(":")[0] for line in cell.source.splitlines() if line and not line.startswith("#")]
    assert names == list(parse().plain())
