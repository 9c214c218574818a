"""One run made by several processes: the same data, each unit once, and no claim outlives its process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparsestudy import dataset, execution, models, paths, sharing
from sparsestudy.division import setting_of
from sparsestudy.errors import StudyError
from sparsestudy.evaluate import evaluate, prepare
from sparsestudy.jobs import Todo
from sparsestudy.mask_parameters import MaskParameters
from sparsestudy.methods import METHODS
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.settings import Setting
from sparsestudy.shards import Shard
from sparsestudy.units import PARTS, Units, claim, cut, folder
from sparsestudy.worker import Worker, put_off

torch.set_num_threads(1)
RUN: dict[str, Any] = {
    "run": "mine",
    "models": [tiny.NAME],
    "lengths": [256, 288],
    "samples": 3,
    "batch_tokens": 600,
    "sparsities": [0, 500],
    "methods": ["dense", "flexprefill", "snapkv", "quest", {"name": "quest", "tail": "decode"}],
    "tasks": ["needle"],
}
SECONDS = {"prefill_seconds", "decode_seconds", "selection_seconds"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One checkout for all tests here, whose runs have names of their own."""
    base = tmp_path_factory.mktemp("workers")
    with pytest.MonkeyPatch.context() as patch:
        registry = tiny.write_checkout(base / "root", tiny.write_model(base / "model"))
        patch.setenv("SPARSESTUDY_MODELS", str(registry))
        patch.setenv("SPARSESTUDY_ROOT", str(base / "root"))
        # The number of threads may decide the last digit of a sum.
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(paths, "ROOT", base / "root")
        yield base / "root"


def shards_of(**changes: Any) -> list[Shard]:
    parameters = AccuracyParameters.parse(RUN | changes)
    file = paths.params_folder("accuracy", False) / f"{parameters.run}.yaml"
    told = {name: value for name, value in (RUN | changes).items() if name != "run"}
    paths.write_text(file, yaml.safe_dump(told))
    return parameters.shards()


@pytest.fixture(scope="module")
def alone(checkout: Path) -> list[Any]:
    """The datasets of the run as one process makes them."""
    shards = shards_of()
    for shard in shards:
        execution.run_here(shard)
    found = [dataset.open_shard(shard.path) for shard in shards]
    for shard in shards:
        shard.path.unlink()
        next((paths.results(False) / "calibration").glob(f"{shard.name}.json")).unlink()
    return found


def start(run: str, *more: str) -> subprocess.Popen[str]:
    file = paths.params_folder("accuracy", False) / f"{run}.yaml"
    command = [sys.executable, "-m", "sparsestudy", "run", str(file), "--workers", "2", *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=paths.ROOT
    )


def wait(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {name: value for name, value in cell.items() if name not in SECONDS}
        for key, cell in record.items()
    }


def worker(tmp_path: Path, shard: Shard) -> Worker:
    return Worker(Todo(tmp_path, (shard,)), [None], [0], shares=False)


def computed(shards: list[Shard]) -> list[Path]:
    """Parts, and batches that are whole."""
    return [
        file
        for shard in shards
        for place in (folder(shard), shard.checkpoints)
        for file in place.glob("*-task*.json")
    ]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_two_processes_make_the_data_of_one_although_one_dies(alone: list[Any], tmp_path: Path) -> None:
    shards = shards_of()
    todo = Todo(tmp_path, tuple(shards))
    # Forks, because to import everything once more takes longer than the whole run.
    start_one = multiprocessing.get_context("fork").Process
    workers = [
        start_one(target=Worker(todo, [None, None], order, shares=True).run) for order in ([0, 1], [1, 0])
    ]
    for process in workers:
        process.start()
    wait(lambda: computed(shards))
    workers[0].kill()
    for process in workers:
        process.join(120)
    assert [process.exitcode for process in workers] == [-9, 0]
    for shard, expected in zip(shards, alone, strict=True):
        assert len(list(shard.checkpoints.glob("*.json"))) == 2
        execution.run_here(shard)
        assert dataset.differences(dataset.open_shard(shard.path), expected) == []
        assert not shard.checkpoints.exists()


@pytest.mark.slow
def test_the_command_starts_workers_and_makes_the_data_of_one_process(alone: list[Any]) -> None:
    shards = shards_of(run="command")
    process = start("command")
    wait(lambda: computed(shards))
    psutil.Process(process.pid).children()[0].kill()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    for shard, expected in zip(shards, alone, strict=True):
        found = dataset.differences(dataset.open_shard(shard.path), expected)
        assert found == ["attribute parameters", "attribute run", "attribute title"]
        assert not shard.checkpoints.exists()
    for told in (
        "2 datasets to make, 2 workers on the CPU, threads each: 1",
        "predicted seconds a cell: dense",
        "worker 0 ended with status -9",
        "do not compare: leave the run out of results/timed.yaml",
    ):
        assert told in output
    assert list(paths.scratch("work").iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_parts_and_leaves_no_process(alone: list[Any]) -> None:
    shards = shards_of(run="killed", samples=8)
    for end, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = set(computed(shards))
        process = start("killed")
        wait(lambda before=before: set(computed(shards)) - before)
        workers = psutil.Process(process.pid).children()
        process.send_signal(end)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == status, output
        assert "Traceback" not in output
        wait(lambda workers=workers: gone(workers), 30)
        assert not any(shard.path.exists() for shard in shards)
    for file in computed(shards):
        record = json.loads(file.read_text())
        for cell in record.values():
            cell["reply"] = ["kept"] * len(cell["reply"])
        file.write_text(json.dumps(record))
    output, _ = (process := start("killed")).communicate(timeout=600)
    assert process.returncode == 0, output
    found = [dataset.open_shard(shard.path) for shard in shards]
    assert any((data["reply"].values == "kept").any() for data in found)
    for data, expected in zip(found, alone, strict=True):
        # Prompts do not depend on how many there are; the last one of `alone` had a batch of its own.
        for name in ("score", "output_tokens", "finish"):
            assert data[name].isel(sample=[0, 1]).equals(expected[name].isel(sample=[0, 1])), name


@pytest.mark.usefixtures("checkout")
def test_parts_become_the_checkpoints_that_one_process_writes(tmp_path: Path) -> None:
    # A prefill keeps as many queries as the evictions of its unit need, which here is fewer than the batch's.
    methods = [*RUN["methods"], {"name": "snapkv", "window": 8}, {"name": "random", "like": "snapkv"}]
    shard = shards_of(run="parts", lengths=[256], tasks=["needle", "vt"], methods=methods)[0]
    model, tokenizer = models.load(tiny.NAME)
    whole = evaluate(prepare(shard, tokenizer), model, tokenizer)
    expected = {file.name: file.read_text() for file in shard.checkpoints.glob("*.json")}
    assert len(expected) == 2 * 2
    for name in expected:
        (shard.checkpoints / name).unlink()
    one = worker(tmp_path, shard)
    one.run()
    assert {file.name for file in shard.checkpoints.glob("*.json")} == set(expected)
    assert not list(folder(shard).glob("*-task*.json")), "parts go when their batch is whole"
    for name, text in expected.items():
        found = json.loads((shard.checkpoints / name).read_text())
        assert list(found) == list(json.loads(text)), "settings keep their order"
        assert repr(without_seconds(found)) == repr(without_seconds(json.loads(text)))
    # They are what evaluate() takes over: it runs no model, and what stands in them comes out.
    for file in shard.checkpoints.glob("*.json"):
        record = json.loads(file.read_text())
        for cell in record.values():
            cell["score"] = [0.25] * len(cell["score"])
        file.write_text(json.dumps(record))
    again = evaluate(prepare(shard, tokenizer), model, tokenizer)
    ran = whole["score"] >= 0
    assert (again["score"].values[ran.values] == 0.25).all()
    assert again["reply"].equals(whole["reply"])


@pytest.mark.usefixtures("checkout")
def test_a_claimed_unit_is_left_to_its_holder_and_a_dead_ones_taken_over(tmp_path: Path) -> None:
    shard = shards_of(run="claims", lengths=[256], samples=1)[0]
    one = worker(tmp_path, shard)
    units = one._open(0)
    assert units is not None
    assert len(units.units) == 5
    longest = units.longest_first[0]
    claimed = units.part(longest).with_suffix(".claim")
    hold = "import sys, time; from pathlib import Path; from sparsestudy.units import claim\n" + (
        "with claim(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(claimed)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert str(holder.pid) in claimed.read_text().split()
    assert not one._through(0)
    assert units.left() == [longest]
    holder.kill()
    holder.wait()
    assert claimed.exists(), "nobody has cleared it away"
    assert one._through(0)
    assert units.complete()
    # A plan is read as it was written, so a run that goes on has the same units.
    plan = Path(json.loads(one.todo.state(0, "units").read_text()))
    again = Units.read(plan, shard, None)
    assert again is not None
    assert (again.units, again.tag, again.settings) == (units.units, units.tag, units.settings)
    earlier = {key: value for key, value in json.loads(plan.read_text()).items() if key != "settings"}
    plan.write_text(json.dumps(earlier))
    assert Units.read(plan, shard, None) is None, "an earlier version's plan is made again"


@pytest.mark.usefixtures("checkout")
def test_too_little_memory_beside_others_puts_a_unit_off(tmp_path: Path) -> None:
    shard = shards_of(run="memory", lengths=[256], samples=1)[0]
    one = worker(tmp_path, shard)
    one.shares = True
    units = one._open(0)
    assert units is not None
    model, _ = one._model(shard)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    hook = model.register_forward_pre_hook(full)
    assert one._through(0), "a unit that is put off is not waited for"
    assert units.left() == units.longest_first, "and nothing is recorded"
    assert all(put_off(one.todo, 0, unit).exists() for unit in units.units)
    for unit in units.units:
        put_off(one.todo, 0, unit).unlink()
    # Alone on the device, too little memory is a result.
    one.shares = False
    assert one._through(0)
    hook.remove()
    record = json.loads(units.checkpoint(units.units[0]).read_text())
    assert all(cell == {"skipped_memory": True} for cell in record.values())


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("words", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "a mistake"])
def test_a_full_device_that_is_no_fault_of_the_unit_puts_it_off(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shards_of(run="full", lengths=[256], samples=1)[0]
    one = worker(tmp_path, shard)
    one.shares = True

    def fail(*_: Any) -> Any:
        raise RuntimeError(words)

    monkeypatch.setattr(one, "_compute", fail)
    if words == "a mistake":
        with pytest.raises(RuntimeError, match=words):
            one.run()
        return
    one.run()
    units = one._open(0)
    assert units is not None
    assert all(put_off(one.todo, 0, unit).exists() for unit in units.units)
    assert units.left() == units.longest_first, "and nothing is recorded"


@pytest.mark.usefixtures("checkout")
def test_a_notebook_that_fails_beside_workers_is_tried_again_without_them(tmp_path: Path) -> None:
    todo = Todo(tmp_path, tuple(shards_of(run="late", lengths=[256], samples=1)))
    one = worker(tmp_path, todo.shards[0])
    one.run()
    sharing_ = sharing._Sharing(todo)
    units = one._open(0)
    assert units is not None
    sharing_.units[0] = units
    failed = {"error": "its job ended with an error", "known": False, "busy": False}
    sharing_.workers[0] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert sharing_._complete() == [0]
    paths.write_text(todo.state(0, "result"), json.dumps(failed))
    sharing_._look_at(0)
    assert sharing_._complete() == [], "it waits"
    assert not sharing_.ended
    sharing_.workers.pop(0).kill()
    assert sharing_._complete() == [0]
    paths.write_text(todo.state(0, "result"), json.dumps(failed))
    sharing_._look_at(0)
    assert sharing_.ended == {0}, "a second failure counts"
    paths.write_text(todo.shards[0].log, "out of memory\n")
    with pytest.raises(StudyError, match="late: tiny at 256 tokens"):
        sharing_._conclude()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_a_batch_is_cut_evenly_and_nothing_is_lost(seconds: list[float]) -> None:
    cuts = cut(seconds)
    assert [i for a, b in cuts for i in range(a, b)] == list(range(len(seconds)))
    assert all(a < b for a, b in cuts)
    for a, b in cuts:
        assert b - a <= -(-len(seconds) // PARTS)
        assert b - a == 1 or sum(seconds[a:b]) <= sum(seconds) / PARTS


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("tail", ["dense", "decode"])
def test_a_setting_is_read_back_from_its_key(name: str, tail: str) -> None:
    given = METHODS[name]()
    for method in (given, given if given.calibrated else given.at_sparsity(0.5, 1024)):
        setting = Setting(method, tail)
        assert setting_of(setting.key) == setting


def test_one_process_holds_a_claim(tmp_path: Path) -> None:
    file = tmp_path / "units" / "one.claim"
    with claim(file) as mine, claim(file) as other:
        assert (mine, other) == (True, False)
    with claim(file) as mine:
        assert mine
        assert file.read_text().split()[1] == str(os.getpid())


def test_runs_that_cannot_be_shared_are_refused(checkout: Path) -> None:
    with pytest.raises(StudyError, match="Workers share the batches of the experiment accuracy; masks/"):
        sharing.refuse(MaskParameters.parse({"models": [tiny.NAME], "run": "m"}))
    paths.write_text(checkout / "results" / "timed.yaml", "[accuracy/public]\n")
    public = AccuracyParameters.parse(RUN | {"run": "public", "published": True})
    with pytest.raises(StudyError, match="accuracy/public was timed alone on a quiet device"):
        sharing.refuse(public)
    sharing.refuse(public.model_copy(update={"run": "another"}))
    process = start("mine", "--scheduler")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--workers shares one run among processes by itself" in output


def test_gpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharing.gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sharing.gpus("auto") == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert len(sharing.gpus("auto")) == torch.cuda.device_count()
