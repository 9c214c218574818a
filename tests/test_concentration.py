"""Concentration of attention: exact counts, padding, agreement with all pairs at once, the dataset."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import context, tensors
from tiny import NAME, ROOT, write_checkout, write_model

from sparsestudy import dataset, execution, models, paths
from sparsestudy.concentrated import KeyCounter, effective_keys, keys_for
from sparsestudy.concentration import capture
from sparsestudy.concentration_parameters import ConcentrationParameters
from sparsestudy.concentration_schema import MASSES, REGIONS
from sparsestudy.errors import StudyError
from sparsestudy.seeds import short_hash
from sparsestudy.tasks.prompt import encode

torch.set_num_threads(1)
SHARES = tuple(mass / 1000 for mass in MASSES)
LENGTH, QUERIES = 256, 8
RUN: dict[str, Any] = {
    "models": [NAME],
    "lengths": [LENGTH],
    "tasks": ["needle", {"name": "needle", "question": "both"}, "cwe"],
    "samples": 3,
    "queries": QUERIES,
    "batch_tokens": 2 * LENGTH,
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concentration")
    return write_checkout(folder / "root", write_model(folder / "model"))


@pytest.fixture(scope="module", autouse=True)
def checkout(registry: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESTUDY_MODELS", str(registry))
        patch.setattr(paths, "ROOT", registry.parent)
        yield


def run(**changes: Any) -> Any:
    """The dataset of the one shard of :data:`RUN` with changes."""
    shard = ConcentrationParameters.parse(RUN | changes).shards()[0]
    return dataset.stamp(capture(shard, *models.load(NAME)), shard)


@pytest.fixture(scope="module")
def data(checkout: None) -> Any:
    return run()


@pytest.mark.parametrize("keys", [1, 2, 7, 20, 1000, 8192])
def test_attention_spread_evenly_needs_exactly_its_share_of_the_keys(keys: int) -> None:
    weights = torch.softmax(torch.zeros(2, 3, keys), -1)
    expected = torch.tensor([-(-mass * keys // 1000) for mass in MASSES])
    assert (keys_for(weights, SHARES) == expected).all()
    torch.testing.assert_close(
        effective_keys(weights), torch.full((2, 3), float(keys)).double(), rtol=1e-5, atol=0
    )


def test_attention_on_one_key_needs_one() -> None:
    weights = torch.eye(50)
    assert (keys_for(weights, SHARES) == 1).all()
    assert (effective_keys(weights) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_fewer_keys_hold_the_share_and_order_and_zeros_do_not_matter(seed: int) -> None:
    torch.manual_seed(seed)
    weights = torch.softmax(3 * torch.randn(4, 60), -1)
    counts = keys_for(weights, SHARES)
    ranked = weights.double().sort(-1, descending=True).values
    for row, found in zip(ranked, counts, strict=True):
        for count, mass in zip(found.tolist(), SHARES, strict=True):
            assert row[:count].sum() >= mass - 1e-6
            assert row[: count - 1].sum() < mass
    shuffled = torch.nn.functional.pad(weights[:, torch.randperm(60)], (0, 9))
    assert (keys_for(shuffled, SHARES) == counts).all()
    torch.testing.assert_close(effective_keys(shuffled), effective_keys(weights))
    assert ((effective_keys(weights) >= 1) & (effective_keys(weights) <= 60)).all()


def counted(q: Any, k: Any, lengths: list[int], question: list[int]) -> KeyCounter:
    """What a counter finds in one layer."""
    counter = KeyCounter(SHARES, QUERIES)
    counter.prefill(q, k, replace(context(lengths, k), question=torch.tensor(question)))
    return counter


def naive(q: Any, k: Any, tail: int) -> Any:
    """Means over the queries of both regions from all pairs of one row, ``(regions, heads, masses + 1)``."""
    tokens = q.shape[1]
    keys = k.repeat_interleave(q.shape[0] // k.shape[0], 0).double()
    scores = q.double() @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~torch.ones(tokens, tokens, dtype=torch.bool).tril(), float("-inf"))
    weights = scores.softmax(-1)
    ranked = weights.sort(-1, descending=True).values.cumsum(-1)
    counts = [(ranked < mass).sum(-1) + 1 for mass in SHARES]
    effective = torch.exp(-(weights * weights.clamp(min=1e-300).log()).sum(-1))
    every = torch.stack([*(count.double() for count in counts), effective], -1)
    spaced = [tail * turn // QUERIES - 1 for turn in range(1, QUERIES + 1)]
    return torch.stack([every[:, tail:].mean(1), every[:, spaced].mean(1)])


def test_counts_are_those_of_all_pairs_at_once_and_padding_counts_for_nothing() -> None:
    tokens, lengths, tails = 200, [200, 137], [90, 120]
    q, k, _ = tensors(tokens, batch=2)
    counter = counted(q, k, lengths, tails)
    for row, (length, tail) in enumerate(zip(lengths, tails, strict=True)):
        expected = naive(q[row, :, :length], k[row, :, :length], tail)
        torch.testing.assert_close(counter.found[0][row], expected, rtol=1e-4, atol=0.2)
        alone = counted(q[row : row + 1, :, :length], k[row : row + 1, :, :length], [length], [tail])
        torch.testing.assert_close(alone.found[0][0], counter.found[0][row], rtol=1e-5, atol=1e-5)
    assert counter.counted["queries"].tolist() == [[110, QUERIES], [17, QUERIES]]
    assert counter.counted["available"][1, 0] == pytest.approx((121 + 137) / 2)
    assert counter.counted["available"][0, 1] == pytest.approx(np.mean([90 * i // 8 for i in range(1, 9)]))


def test_a_prompt_without_a_question_has_no_count_for_it() -> None:
    q, k, _ = tensors(40)
    counter = counted(q, k, [40], [40])
    assert counter.found[0][0, REGIONS.index("question")].isnan().all()
    assert not counter.found[0][0, REGIONS.index("context")].isnan().any()


def test_the_dataset_holds_every_sample_layer_and_head(data: Any) -> None:
    dataset.validate(data)
    assert dict(data.sizes) == {
        "model": 1,
        "length": 1,
        "task": 3,
        "sample": 3,
        "region": 2,
        "layer": 2,
        "head": 4,
        "mass": len(MASSES),
    }
    keys, available = data["keys"].values, data["available_keys"].values[..., None, None, None]
    assert np.isfinite(keys).all()
    assert ((keys >= 1) & (keys <= available + 1e-3)).all()
    assert (np.diff(keys, axis=-1) >= 0).all()
    effective = data["effective_keys"].values
    assert ((effective >= 1) & (effective <= available[..., 0] + 1e-2)).all()


def test_the_prompts_are_those_of_the_task_and_the_question_is_its_tail(data: Any) -> None:
    tokenizer = models.load(NAME)[1]
    shard = ConcentrationParameters.parse(RUN).shards()[0]
    for t, spec in enumerate(shard.run.tasks):
        sample = spec.build().sample(tokenizer, LENGTH, 1, 0)
        coded = encode(tokenizer, sample)
        at = data.isel(model=0, length=0, task=t, sample=1)
        assert str(at["prompt_id"].values) == short_hash(sample.prompt)
        assert int(at["prompt_tokens"]) == len(coded.ids)
        assert at["queries"].values.tolist() == [len(coded.ids) - coded.tail, QUERIES]


def test_a_rerun_is_equal_survives_the_disk_and_depends_on_no_batch(data: Any, tmp_path: Path) -> None:
    assert dataset.differences(run(), data) == []
    place = tmp_path / "concentration" / "notebook" / f"{NAME}-{LENGTH}.nc"
    dataset.save(data, place)
    assert dataset.equal(dataset.open_run(place.parent), data)
    alone = run(batch_tokens=1)
    np.testing.assert_allclose(alone["effective_keys"], data["effective_keys"], rtol=1e-4)
    np.testing.assert_allclose(alone["keys"], data["keys"], rtol=0.01, atol=0.5)


def test_the_parameter_cell_names_every_parameter_once_a_line() -> None:
    notebook = json.loads((ROOT / "notebooks" / "concentration.ipynb").read_text(encoding="utf-8"))
    source = next(cell["source"] for cell in notebook["cells"] if cell["metadata"].get("tags"))
    names = [line.partition(":")[0] for line in "".join(source).splitlines()]
    assert names == list(ConcentrationParameters.parse({}).plain())


def test_the_notebook_makes_the_dataset(checkout: None, registry: Path, data: Any) -> None:
    shutil.copy(ROOT / "notebooks" / "concentration.ipynb", registry.parent / "notebooks")
    shard = ConcentrationParameters.parse(RUN | {"run": "mine"}).shards()[0]
    execution.run_here(shard)
    made = dataset.open_shard(shard.path)
    np.testing.assert_array_equal(made["keys"], data["keys"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ["dense", "quest"]}, ["dense attention alone", "leave 'methods'"]),
        ({"sparsities": [0, 500]}, ["dense attention alone", "'sparsities'"]),
        ({"queries": 65}, ["'queries'", "1 to 64"]),
        ({"samples": 0}, ["'samples'", "at least 1"]),
        ({"tasks": []}, ["'tasks' is empty"]),
        ({"texts": 3}, ["no parameter 'texts'"]),
    ],
)
def test_a_wrong_parameter_is_one_sentence(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        ConcentrationParameters.parse(RUN | given)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
