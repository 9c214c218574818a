"""Adding a method as CONTRIBUTING.md says, one file and one registry line, from outside of the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import NAME, write_checkout, write_model

from sparsestudy import dataset, models, paths
from sparsestudy.evaluate import evaluate, prepare
from sparsestudy.methods import METHODS
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.schema import STATUS

torch.set_num_threads(1)

TOY = '''\
"""Strided blocks: a method as somebody would add it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsestudy.errors import Unreachable
from sparsestudy.methods.base import Context, Measure, Method, Scores
from sparsestudy.methods.budget import per_row_budget, reachable
from sparsestudy.methods.probabilities import every_row
from sparsestudy.methods.top import indices, keep_top
from sparsestudy.selection import Selection

SIZE = 16


@dataclass(frozen=True)
class Toy(Method):
    """Each block of queries attends itself, then the blocks at multiples of a stride before it.

    Idea: look back in steps, whatever stands there.

    Args:
        blocks: key blocks kept, the diagonal one included.
        stride: blocks in a step.

    Source: Sparse Transformer (arXiv 1904.10509), in blocks. Deviations: a budget beside the stride.
    """

    name: ClassVar[str] = "toy"
    BUDGET: ClassVar[tuple[str, ...]] = ("blocks",)
    phase: Literal["prefill"] = field(default="prefill", init=False)
    scope: Literal["head"] = field(default="head", init=False)

    blocks: int = 64
    stride: int = 3

    def importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """The nearest of the strided blocks first, then the others, ``(batch, heads, blocks, blocks)``."""
        row = torch.arange(-(-q.shape[2] // SIZE), device=q.device)
        back = row[:, None] - row
        score = -(back + len(row) * (back % self.stride > 0)).float()
        return (score.expand(*q.shape[:2], -1, -1),)

    def true_importance(self, q: Tensor, k: Tensor, context: Context) -> Scores:
        """See :meth:`Method.true_importance`."""
        parts = []
        for rows, _ in every_row(q, k, context.lengths, context.scaling):
            padded = pad(rows, (0, -rows.shape[3] % SIZE, 0, -rows.shape[2] % SIZE))
            parts.append(padded.unflatten(3, (-1, SIZE)).sum(4).unflatten(2, (-1, SIZE)).sum(3))
        return (torch.cat(parts, 2),)

    def choose(self, scores: Scores, context: Context) -> Selection:
        """See :meth:`Method.choose`."""
        (score,) = scores
        row = torch.arange(score.shape[-1], device=score.device)
        back = row[:, None] - row
        score = score.masked_fill(back < 0, float("-inf")).masked_fill(back == 0, float("inf"))
        best = indices(keep_top(score, self.blocks))
        return Selection(
            starts=(best.clamp(min=0) * SIZE).int(),
            widths=(best >= 0).int() * SIZE,
            query_block=SIZE,
            first_query=torch.zeros_like(context.lengths),
            lengths=context.lengths,
        )

    def at_sparsity(self, sparsity: float, length: int, measure: Measure | None = None) -> Toy:
        """See :meth:`Method.at_sparsity`."""
        rows = -(-length // SIZE)
        if sparsity <= 0:
            return replace(self, blocks=2 * rows)
        pairs, held = length * (length + 1) / 2, SIZE * SIZE * rows * (rows + 1) / 2
        future = rows * SIZE * (SIZE - 1) / 2
        blocks = per_row_budget(1 - min(((1 - sparsity) * pairs + future) / held, 1), rows)
        if blocks < 1:
            lowest = (reachable(1, rows) * held - future) / pairs
            raise Unreachable(f"toy cannot reach {sparsity:.3f} at {length} tokens.", lowest)
        return replace(self, blocks=blocks)

    def is_dense(self, length: int) -> bool:
        """See :meth:`Method.is_dense`."""
        return self.blocks * SIZE >= length
'''
PLUGIN = """\
from sparsestudy.methods import METHODS

METHODS.register("toy", "toy_module:Toy")
"""


@pytest.fixture
def toy_folder(tmp_path: Path) -> Path:
    """A folder outside of the package with the method's file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "toy_module.py").write_text(TOY)
    (folder / "toy_plugin.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def toy(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The method, registered in this process."""
    monkeypatch.syspath_prepend(str(toy_folder))
    METHODS.register("toy", "toy_module:Toy")
    yield
    METHODS.unregister("toy")
    sys.modules.pop("toy_module", None)


def laws(folder: Path, root: Path, *files: str) -> int:
    """How many tests about the toy passed in some files; all that ran must pass."""
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "toy_plugin",
            "-p",
            "no:cacheprovider",
            "-q",
            "-k",
            "toy",
            *files,
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(root)])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert passed, ran.stdout
    return int(passed[1])


def test_the_laws_of_every_method_pick_it_up(toy_folder: Path, root: Path) -> None:
    """The method itself, and the window, the random draws and the oracle beside it."""
    assert laws(toy_folder, root, "tests/test_methods.py") >= 4 * 25


@pytest.mark.slow
def test_the_laws_of_models_pick_it_up(toy_folder: Path, root: Path) -> None:
    files = [f"tests/test_{name}.py" for name in ("patch", "architectures", "eviction")]
    assert laws(toy_folder, root, *files) >= 45


@pytest.mark.slow
def test_a_law_that_it_breaks_is_reported(toy_folder: Path, root: Path) -> None:
    """Otherwise the count of passed tests would say little."""
    wrong = TOY.replace('.masked_fill(back == 0, float("inf"))', '.masked_fill(back == 0, float("-inf"))')
    assert wrong != TOY
    (toy_folder / "toy_module.py").write_text(wrong)
    with pytest.raises(AssertionError, match=r"test_every_query_attends_itself\[toy-prefill-head"):
        laws(toy_folder, root, "tests/test_methods.py")


@pytest.mark.usefixtures("toy")
def test_it_runs_to_a_dataset_beside_its_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_checkout(tmp_path / "root", write_model(tmp_path / "model"))
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(registry))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    given: dict[str, Any] = {
        "models": [NAME],
        "lengths": [256],
        "samples": 2,
        "sparsities": [0, 500, 800],
        "methods": ["dense", "toy", {"name": "random", "like": "toy"}],
        "tasks": ["needle"],
    }
    shard = AccuracyParameters.parse(given).shards()[0]
    model, tokenizer = models.load(NAME)
    data = dataset.stamp(evaluate(prepare(shard, tokenizer), model, tokenizer), shard)
    dataset.validate(data)
    beside = [name for name in data.method.values if name != "dense"]
    assert len(beside) == 2
    dense = data["reply"].sel({"method": "dense", "sparsity": 0}).values
    for name in beside:
        mine = data.sel({"method": name}).squeeze(["model", "length"])
        assert [STATUS[i] for i in mine["status"].squeeze().values] == ["fell_back_dense", "ok", "ok"]
        assert (data["reply"].sel({"method": name, "sparsity": 0}).values == dense).all()
        for permille in (500, 800):
            at = mine.sel(sparsity=permille)
            assert np.isfinite(at["score"]).all()
            assert np.abs(at["attended_density"] - (1 - permille / 1000)).max() < 1.5 * 16 / 256
