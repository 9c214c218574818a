"""Pictures of what methods chose: exact counts, every method, and parameters that are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernels import INTERPRETED
from tiny import NAME, write_checkout, write_model

from sparsestudy import dataset, models, paths
from sparsestudy.errors import StudyError
from sparsestudy.mask_parameters import MaskParameters
from sparsestudy.masks import capture
from sparsestudy.methods import METHODS
from sparsestudy.schema import OK, STATUS, UNREACHABLE
from sparsestudy.tasks.prompt import encode

torch.set_num_threads(1)
BESIDE = [{"name": "random", "like": "snapkv"}, {"name": "oracle", "like": "quest", "tail": "decode"}]
# Blocks of 128 are too large for so short a prompt.
ORIGINAL = {"name": "flexprefill_original", "block_size": 16}
ONE_EACH = [*(name for name in METHODS if name != ORIGINAL["name"]), ORIGINAL]
RUN: dict[str, Any] = {
    "models": [NAME],
    "lengths": [256],
    "sparsities": [0, 500, 990],
    "methods": [
        *ONE_EACH,
        {"name": "quest", "tail": "decode"},
        {"name": "snapkv", "tail": "decode"},
        *BESIDE,
    ],
    "layers": [0, 1],
    "heads": [0, 3],
    "cells": 16,
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    return write_checkout(folder / "root", write_model(folder / "model"))


@pytest.fixture(autouse=True)
def checkout(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(registry))
    monkeypatch.setattr(paths, "ROOT", registry.parent)


def run(**changes: Any) -> Any:
    """The dataset of the one shard of :data:`RUN` with changes."""
    shard = MaskParameters.parse(RUN | changes).shards()[0]
    return dataset.stamp(capture(shard, *models.load(NAME)), shard)


@pytest.fixture(scope="module")
def data(registry: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESTUDY_MODELS", str(registry))
        patch.setattr(paths, "ROOT", registry.parent)
        return run()


def test_every_method_has_a_picture_of_every_drawn_head(data: Any) -> None:
    dataset.validate(data)
    at = data.isel(model=0, length=0)
    assert set(at["method_name"].values) == set(METHODS)
    for m, name in enumerate(at["method"].values):
        for s, sparsity in enumerate(at["sparsity"].values):
            status = STATUS[int(at["status"].values[m, s])]
            drawn = np.isfinite(at["share"].values[m, s])
            assert (status in ("ok", "fell_back_dense")) == bool(drawn.any())
            if drawn.any():
                assert (drawn == (at["pairs"].values[m] > 0)).all(), name
            if sparsity == 500 and name != "dense":
                assert status == "ok", name


def test_the_mean_of_a_picture_is_the_stored_density(data: Any) -> None:
    at = data.isel(model=0, length=0)
    for m, name in enumerate(at["method"].values):
        for s in np.flatnonzero(at["status"].values[m] == OK):
            pairs = at["pairs"].values[m].clip(min=0)
            attended = np.nansum(at["share"].values[m, s] * pairs, axis=(2, 3))
            available = pairs.sum()
            if name.startswith(("snapkv", "ada_snapkv", "random-like_snapkv")):
                # one row: what is kept; every step then attends that and the new tokens
                steps = np.arange(1, int(at["steps"].values[m]) + 1)
                attended = attended * len(steps) + steps.sum()
                available = available * len(steps) + steps.sum()
            stored = at["head_density"].values[m, s][np.ix_([0, 1], [0, 3])]
            np.testing.assert_allclose(attended / available, stored, rtol=1e-5, err_msg=str(name))


def test_the_pairs_are_those_of_a_causal_mask(data: Any) -> None:
    at = data.isel(model=0, length=0)
    tokens = int(at["prompt_tokens"])
    first = list(at["method"].values).index("block_sparse")
    size = int(at["row_size"].values[first])
    triangle = np.zeros((16 * size, 16 * size), dtype=int)
    triangle[:tokens, :tokens] = np.tri(tokens)
    counted = triangle.reshape(16, size, 16, size).sum((1, 3))
    assert (at["pairs"].values[first] == counted).all()


def test_what_cannot_be_reached_says_how_low_it_gets(data: Any) -> None:
    at = data.isel(model=0, length=0).sel({"method": "block_sparse", "sparsity": 990})
    assert int(at["status"]) == UNREACHABLE
    assert 0.01 < float(at["lowest_density"]) < 1


def test_the_prompt_is_described(data: Any) -> None:
    shard = MaskParameters.parse(RUN).shards()[0]
    tokenizer = models.load(NAME)[1]
    coded = encode(tokenizer, shard.run.task.build().sample(tokenizer, 256, 0, 0))
    at = data.isel(model=0, length=0)
    assert int(at["prompt_tokens"]) == len(coded.ids)
    spans = zip(at["evidence_start"].values, at["evidence_stop"].values, strict=True)
    assert [(int(start), int(stop)) for start, stop in spans] == list(coded.evidence)
    fields = json.loads(str(at["hyperparameters"].sel({"method": "block_sparse", "sparsity": 500}).item()))
    assert fields["top_blocks"] >= 3


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRETED, reason="kernels cannot run on this CPU")
def test_what_computed_is_stored() -> None:
    found = run(methods=["dense", "quest", "snapkv"], sparsities=[0, 500], backend="triton")
    assert found["backend"].squeeze().values.tolist() == ["torch", "triton", "triton"]
    assert set(run(methods=["dense", "quest"], sparsities=[0])["backend"].values.ravel()) == {"torch"}


def test_a_rerun_is_equal_and_survives_the_disk(data: Any, tmp_path: Path) -> None:
    few = ["block_sparse", "flexprefill", "snapkv", {"name": "random", "like": "snapkv"}]
    once, again = run(methods=few), run(methods=few)
    assert dataset.differences(once, again) == []
    place = tmp_path / "masks" / "notebook" / f"{NAME}-256.nc"
    dataset.save(data, place)
    assert dataset.equal(dataset.open_run(place.parent), data)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layers": []}, ["'layers' is empty"]),
        ({"layers": [0, 0]}, ["names 0 twice"]),
        ({"heads": [-1]}, ["'heads'", "from 0"]),
        ({"cells": 100}, ["'cells'", "8 to 64"]),
        ({"tasks": ["needle"]}, ["no parameter 'tasks'", "task"]),
        ({"task": "nedle"}, ["nedle", "Did you mean 'needle'"]),
    ],
)
def test_a_wrong_parameter_is_one_sentence(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        MaskParameters.parse(given)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_layer_that_the_model_lacks_is_one_sentence() -> None:
    with pytest.raises(StudyError, match="no layer 7 in tiny; choose among 0 to 1"):
        run(layers=[7], methods=["window"])
