"""The real notebook with a tiny model: every way to run it gives equal data, killed or not."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny
import xarray as xr
import yaml

from sparsestudy import dataset as ds
from sparsestudy import schema

pytestmark = pytest.mark.slow
LENGTH = 400
PARAMETERS: dict[str, Any] = {
    "models": [tiny.NAME],
    "methods": ["dense", "window", "block_sparse", {"name": "quest", "tail": "decode"}],
    "sparsities": [0, 500],
    "lengths": [LENGTH],
    "samples": 80,
    "batch_tokens": 2 * LENGTH,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


class Checkout:
    """A checkout with one local run, ``mine``, and the commands that make it."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        models = tiny.write_checkout(root, model)
        self.environment = {
            **os.environ,
            "SPARSESTUDY_ROOT": str(root),
            "SPARSESTUDY_MODELS": str(models),
            "SPARSESTUDY_COMMIT": "0" * 40,
            # Threads of a tiny model wait for each other more than they compute.
            "OMP_NUM_THREADS": "1",
        }
        self.file = root / "notebooks" / "params" / "local" / "accuracy" / "mine.yaml"
        self.file.write_text(yaml.safe_dump(PARAMETERS))
        self.path = root / "results" / "local" / "accuracy" / "mine" / f"{tiny.NAME}-{LENGTH}.nc"
        self.checkpoints = root / "results/local/.checkpoints/accuracy/mine" / self.path.stem

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str) -> str:
        process = self.start(*command)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output.decode()
        return output.decode()

    def batches(self) -> int:
        return len(list(self.checkpoints.glob("*.json")))

    def data(self) -> xr.Dataset:
        return ds.open_shard(self.path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, model: Path) -> xr.Dataset:
    checkout = Checkout(tmp_path_factory.mktemp("whole") / "checkout", model)
    checkout.run("sparsestudy", "run", str(checkout.file))
    assert not checkout.checkpoints.exists()
    return checkout.data()


def test_the_reference_run_measured_something(uninterrupted: xr.Dataset) -> None:
    status = uninterrupted["status"].values
    assert (status == schema.OK).sum() == len(PARAMETERS["methods"])
    assert not (status == schema.FAILED).any()


def test_a_scheduled_run_gives_equal_data(uninterrupted: xr.Dataset, tmp_path: Path, model: Path) -> None:
    checkout = Checkout(tmp_path / "checkout", model)
    checkout.run("sparsestudy", "run", "--missing-local")
    assert ds.differences(checkout.data(), uninterrupted) == []


def test_plain_papermill_gives_equal_data(uninterrupted: xr.Dataset, tmp_path: Path, model: Path) -> None:
    checkout = Checkout(tmp_path / "checkout", model)
    notebook = str(checkout.root / "notebooks" / "accuracy.ipynb")
    parameters = yaml.safe_dump(PARAMETERS | {"run": "mine"})
    checkout.run("papermill", notebook, "out.ipynb", "-y", parameters, "--no-progress-bar")
    assert ds.differences(checkout.data(), uninterrupted) == []
    assert (checkout.root / "out.ipynb").is_file()
    # A misspelt parameter stops before anything is loaded, with the same sentence.
    process = checkout.start("papermill", notebook, "out.ipynb", "-p", "sample", "3")
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert b"There is no parameter 'sample'" in output


@pytest.mark.parametrize("how", ["scheduled", "in-process"])
def test_a_run_killed_at_five_random_moments_ends_with_equal_data(
    how: str, uninterrupted: xr.Dataset, tmp_path: Path, model: Path
) -> None:
    checkout = Checkout(tmp_path / "checkout", model)
    command = ["sparsestudy", "run"]
    command += ["--missing-local"] if how == "scheduled" else [str(checkout.file), "--in-process"]
    moments = random.Random(how)
    kept = []
    for _ in range(5):
        before = checkout.batches()
        process = checkout.start(*command)
        # Evaluation has begun when a batch is done; then any moment will do.
        while checkout.batches() == before:
            assert process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        family = psutil.Process(process.pid).children(recursive=True)
        for victim in (process, *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        process.communicate(timeout=60)
        psutil.wait_procs(family, timeout=30)
        assert not checkout.path.exists(), "the run was over before it was killed"
        kept.append(checkout.batches())
    assert kept == sorted(kept)
    assert kept[0] > 0
    checkout.run(*command)
    assert ds.differences(checkout.data(), uninterrupted) == []
    assert not checkout.checkpoints.exists()
