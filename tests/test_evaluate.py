"""A shard's evaluation with a real, tiny model: what is run, shared, resumed and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernels import INTERPRETED
from tiny import NAME, write_checkout, write_model

from sparsestudy import cost, dataset, models, paths
from sparsestudy.architecture import Architecture
from sparsestudy.batch_size import batch_size
from sparsestudy.errors import StudyError
from sparsestudy.evaluate import evaluate, placement, prepare, settle
from sparsestudy.methods import METHODS
from sparsestudy.methods.quest import Quest
from sparsestudy.parameters import AccuracyParameters
from sparsestudy.schema import BATCHES, COSTS, GENERATED, STATUS, TIMINGS

torch.set_num_threads(1)
RUN: dict[str, Any] = {
    "models": [NAME],
    "lengths": [256],
    "samples": 3,
    "batch_tokens": 512,
    "sparsities": [0, 250, 500, 990],
    "methods": ["dense", "window", "block_sparse", "quest", {"name": "quest", "tail": "decode"}],
    "tasks": ["needle", {"name": "needle", "needles": 2, "queries": 2, "value_length": 2}],
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    registry = write_checkout(tmp_path / "root", write_model(tmp_path / "model"))
    monkeypatch.setenv("SPARSESTUDY_MODELS", str(registry))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    return tmp_path / "root"


def run(**changes: Any) -> Any:
    """The dataset of the one shard of :data:`RUN` with changes."""
    shard = AccuracyParameters.parse(RUN | changes).shards()[0]
    model, tokenizer = models.load(NAME)
    return dataset.stamp(evaluate(prepare(shard, tokenizer), model, tokenizer), shard)


def statuses(data: Any, method: str) -> list[str]:
    """Status of each sparsity, which must not depend on the task."""
    found = data["status"].sel({"method": method}).squeeze(["model", "length"]).values
    assert (found == found[:, :1]).all()
    return [STATUS[i] for i in found[:, 0]]


@pytest.mark.usefixtures("checkout")
def test_a_shard_is_complete_and_valid() -> None:
    data = run()
    dataset.validate(data)
    assert statuses(data, "dense") == ["ok", "not_run", "not_run", "not_run"]
    assert statuses(data, "window") == ["fell_back_dense", "ok", "ok", "unreachable"]
    assert statuses(data, "block_sparse") == ["fell_back_dense", "ok", "ok", "unreachable"]
    lowest = data["lowest_density"].sel({"method": "block_sparse", "sparsity": 990}).values
    assert ((lowest > 0.01) & (lowest < 1)).all()
    dense = data["reply"].sel({"method": "dense", "sparsity": 0})
    for method in data.method.values:
        assert (data["reply"].sel({"method": method, "sparsity": 0}).values == dense.values).all()
    density = data["attended_density"].sel({"method": "quest", "sparsity": 500})
    assert np.abs(density - 0.5).max() < 0.1
    assert (data["prompt_tokens"] >= 0.95 * 256).all()
    assert (data["prompt_tokens"] <= 256).all()
    assert len(set(data["prompt_id"].values.ravel())) == 2 * RUN["samples"]
    assert data["task_binary"].values.tolist() == [1, 0]


@pytest.mark.usefixtures("checkout")
def test_dense_prefills_are_shared_and_equal_settings_run_once() -> None:
    shard = AccuracyParameters.parse(RUN | {"tasks": ["needle"], "sparsities": [0, 250, 500]}).shards()[0]
    model, tokenizer = models.load(NAME)
    work = settle(prepare(shard, tokenizer), model, tokenizer)
    prefills = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            prefills.append(kwargs["input_ids"].shape[0])

    model.register_forward_pre_hook(count, with_kwargs=True)
    evaluate(work, model, tokenizer)
    # Batches of 2 and 1. Each: one dense prefill, one of the contexts alone (tail="decode"), and one for
    # each of the two prefill methods at two sparsities.
    assert sorted(prefills) == sorted([2, 1] * (2 + 4))
    assert len(work.settings(0)) == 1 + 4 + 4


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(("tokens", "length", "prompts"), [(512, 256, 2), (767, 256, 2), (1, 256, 1)])
def test_a_batch_holds_as_many_prompts_as_fit(tokens: int, length: int, prompts: int) -> None:
    given = RUN | {"batch_tokens": tokens, "lengths": [length]}
    assert batch_size(AccuracyParameters.parse(given).shards()[0]) == prompts


def test_one_module_alone_counts_the_prompts_of_a_batch(root: Path) -> None:
    package = root / "sparsestudy"
    reading = {file.name for file in package.rglob("*.py") if ".batch_tokens" in file.read_text("utf-8")}
    assert reading == {"batch_size.py"}


@pytest.mark.usefixtures("checkout")
def test_batches_do_not_change_replies() -> None:
    together, apart = run(batch_tokens=2048), run(batch_tokens=256)
    for name in ("score", "reply", "output_tokens", "finish", "prompt_id", "status"):
        assert together[name].equals(apart[name]), name
    np.testing.assert_allclose(together["attended_density"], apart["attended_density"], rtol=1e-6)


def test_a_stopped_run_goes_on_at_its_batch(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run()
    shard = AccuracyParameters.parse(RUN).shards()[0]
    files = sorted(shard.checkpoints.glob("*.json"))
    assert len(files) == 2 * 2
    for file in files[1:]:
        file.unlink()
    kept = files[0].stat().st_mtime_ns
    assert dataset.equal(run(), whole)
    assert files[0].stat().st_mtime_ns == kept
    record = json.loads(files[0].read_text())
    for setting in record.values():
        setting["score"] = [0.25] * len(setting["score"])
    files[0].write_text(json.dumps(record))
    assert (run()["score"][..., 0, :2].sel({"method": "dense", "sparsity": 0}) == 0.25).all(), (
        "checkpoints are used"
    )
    assert not (run(seed=1)["score"] == 0.25).any(), "those of other parameters are not"


@pytest.mark.usefixtures("checkout")
def test_less_context_is_run_densely_and_paired_with_the_whole() -> None:
    less = [{"name": "vt", "context": context} for context in ("none", "evidence")]
    data = run(tasks=["vt", *less], sparsities=[0, 500])
    dataset.validate(data)
    assert data["task"].values.tolist() == ["vt", "vt-context_none", "vt-context_evidence"]
    assert data["task_context"].values.tolist() == ["full", "none", "evidence"]
    status = data["status"].squeeze(["model", "length"])
    assert (status.sel({"method": "dense", "sparsity": 0}) == STATUS.index("ok")).all()
    others = status.sel({"method": [name for name in data.method.values if name != "dense"]})
    assert (others.sel(task="vt") != STATUS.index("not_run")).all()
    assert (others.sel(task=["vt-context_none", "vt-context_evidence"]) == STATUS.index("not_run")).all()
    tokens = data["prompt_tokens"].squeeze()
    whole, none, evidence = (tokens.sel(task=name).values for name in data["task"].values)
    assert (none < evidence).all()
    assert (evidence < whole).all()
    starts = data["evidence_start"].squeeze()
    assert (starts.sel(task="vt-context_none") == -1).all()
    assert (starts.sel(task=["vt", "vt-context_evidence"]) >= 0).all()
    chance = data["chance"].squeeze().values.tolist()
    assert chance[0] == chance[2] > 0.1
    assert chance[1] < 0.01, "nothing to copy"


@dataclass(frozen=True)
class Greedy(Quest):
    """A method that needs more memory than there is, from half of the tokens on."""

    name = "greedy"

    def decode(self, q: Any, k: Any, context: Any) -> Any:
        """Fails as an allocation does."""
        raise torch.OutOfMemoryError("out of memory")


@pytest.fixture
def greedy() -> Iterator[None]:
    METHODS.register("greedy", Greedy)
    yield
    METHODS.unregister("greedy")


@pytest.mark.usefixtures("checkout", "greedy")
def test_a_cell_without_memory_is_marked_and_the_others_go_on() -> None:
    data = run(methods=["dense", "greedy", "quest"], sparsities=[0, 500], tasks=["needle"])
    assert statuses(data, "greedy") == ["fell_back_dense", "skipped_memory"]
    assert statuses(data, "quest") == ["fell_back_dense", "ok"]
    assert np.isnan(data["score"].sel({"method": "greedy", "sparsity": 500})).all()
    assert np.isfinite(data["score"].sel({"method": "quest", "sparsity": 500})).all()


@pytest.mark.usefixtures("checkout")
def test_too_short_a_length_stops_before_the_model_runs() -> None:
    with pytest.raises(StudyError, match="needs at least"):
        run(lengths=[30])


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        assert placement("cuda", "auto") == ("cuda", "bfloat16")
        return
    assert placement("auto", "auto") == ("cpu", "float32")
    with pytest.raises(StudyError, match="torch sees no GPU"):
        placement("cuda", "auto")


EVERY = [
    "dense",
    *({"name": name} for name in METHODS if METHODS[name].role == "method"),
    {"name": "window", "like": "snapkv"},
    {"name": "random", "like": "vertical_slash"},
    {"name": "random", "like": "snapkv"},
    {"name": "oracle", "like": "block_sparse"},
    {"name": "oracle", "like": "snapkv"},
    {"name": "oracle"},
    {"name": "snapkv", "aware": False},
    {"name": "snapkv", "tail": "decode"},
    {"name": "vertical_slash", "tile": 16, "setting": "paper", "local": 16},
]


def test_every_method_and_its_controls_in_one_run(checkout: Path) -> None:
    # The tail that is read as decode steps stays beyond the budget: 38 tokens.
    data = run(methods=EVERY, lengths=[320], sparsities=[0, 300], tasks=["needle"], samples=2)
    dataset.validate(data)
    labels = data["method"].values.tolist()
    ran = [label for label in labels if statuses(data, label)[1] == "ok"]
    out_of_reach = [label for label in labels[1:] if label not in ran]
    assert set(out_of_reach) <= {"flexprefill_original"}, "128-token blocks leave little out of 320 tokens"
    sparse = data.sel({"method": ran, "sparsity": 300})
    density = sparse["attended_density"].mean("sample").squeeze()
    assert float(abs(density - 0.7).max()) < 0.15
    by_head = sparse["head_density"].squeeze()
    np.testing.assert_allclose(by_head.mean(["layer", "head"]), density, atol=0.02)
    assert (sparse["selection_seconds"] > 0).all()
    likes = dict(zip(labels, data["method_like"].values.tolist(), strict=True))
    assert likes["oracle"] == "tokens"
    assert likes["random-like_snapkv"] == "snapkv"
    calibrated = {
        label for label in ran if np.isfinite(data["calibrated_density"].sel({"method": label}))[0, 1, 0]
    }
    assert calibrated == {label for label in ran if "slash" in label or "flexprefill" in label}


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRETED, reason="kernels cannot run on this CPU")
def test_what_computed_is_stored_and_changes_no_reply(checkout: Path) -> None:
    asked = {"methods": ["dense", "quest", "ada_snapkv"], "sparsities": [0, 500], "tasks": ["needle"]}
    theirs, ours = (run(**asked, samples=2, backend=name) for name in ("torch", "triton"))
    assert theirs["backend"].squeeze().values.tolist() == ["torch", "torch", "torch"]
    assert ours["backend"].squeeze().values.tolist() == ["torch", "triton", "triton"]
    assert (ours["reply"] == theirs["reply"]).all()
    np.testing.assert_array_equal(ours["attended_density"], theirs["attended_density"])
    with pytest.raises(StudyError, match="oracle chooses row by row; use 'torch' or 'auto'"):
        run(methods=["dense", "vertical_slash", "oracle"], backend="triton")
    assert not (checkout / "results" / "local" / "calibration").exists(), (
        "refused before anything is computed"
    )


def test_frozen_budgets_are_read_again(checkout: Path) -> None:
    asked = {"methods": ["dense", "vertical_slash"], "sparsities": [0, 400], "tasks": ["needle"]}
    first = run(**asked)
    file = next((checkout / "results" / "local" / "calibration").glob("*.json"))
    stored = json.loads(file.read_text())
    (entry,) = [value for name, value in stored.items() if name.startswith("vertical_slash")]
    fields = json.loads(
        str(first["hyperparameters"].sel({"method": "vertical_slash", "sparsity": 400}).item())
    )
    assert fields["slash_size"] == entry["fields"]["slash_size"]
    entry["fields"] |= {"slash_size": 77, "vertical_size": 77}
    file.write_text(json.dumps(stored))
    again = run(**asked)
    fields = json.loads(
        str(again["hyperparameters"].sel({"method": "vertical_slash", "sparsity": 400}).item())
    )
    assert fields["slash_size"] == 77, "what is frozen is not measured again"
    entry["key"] = "made with other code"
    file.write_text(json.dumps(stored))
    assert dataset.equal(run(**asked), first)
    file.write_text("{")
    with pytest.raises(StudyError, match=r"calibration/tiny-256\.json is not a file of frozen budgets"):
        run(**asked)


def test_costs_are_those_of_the_cost_model_at_the_stored_densities(checkout: Path) -> None:
    methods = ["dense", "block_sparse", "quest", {"name": "quest", "tail": "decode"}, "snapkv"]
    shard = AccuracyParameters.parse(RUN | {"methods": methods, "sparsities": [0, 500]}).shards()[0]
    model, tokenizer = models.load(NAME)
    work = settle(prepare(shard, tokenizer), model, tokenizer)
    data, arch = evaluate(work, model, tokenizer), Architecture.of(model.config)
    for m, s in [(0, 0), *((m, 1) for m in range(1, len(methods)))]:
        setting = work.cells[m, s].setting
        assert setting is not None
        method, late = setting.method, setting.phase == "decode"
        cell = data.isel({"method": m, "sparsity": s, "task": 0}).squeeze(["model", "length"])
        prompts = work.cases[0]
        read = [len(case.encoded.ids) if setting.tail == "dense" else case.encoded.tail for case in prompts]
        density = cell["attended_density"].values.tolist()
        moved = cell["byte_density"].values.tolist() if late else [1.0] * len(prompts)
        before = [
            cost.prefill(arch, n, density=1 if late else d, selection=method).total
            for n, d in zip(read, density, strict=True)
        ]
        np.testing.assert_allclose(cell["prefill_flops"], np.mean([w.flops for w in before]), rtol=1e-6)
        np.testing.assert_allclose(cell["prefill_bytes"][0], np.mean([w.bytes for w in before]), rtol=1e-6)
        for (g, generated), (b, batch) in product(enumerate(GENERATED), enumerate(BATCHES)):
            after = [
                cost.decode(
                    arch,
                    n,
                    len(case.encoded.ids) - n + (generated or int(own)) - 1,
                    batch=batch,
                    density=d if late else 1,
                    byte_density=r,
                    selection=method,
                ).total
                for case, n, own, d, r in zip(
                    prompts, read, cell["output_tokens"].values, density, moved, strict=True
                )
            ]
            flops = np.mean([w.flops for w in after])
            np.testing.assert_allclose(cell["decode_flops"][g], flops, rtol=1e-6)
            np.testing.assert_allclose(
                cell["decode_bytes"][g, b], np.mean([w.bytes for w in after]), rtol=1e-6
            )
            np.testing.assert_allclose(cell["request_flops"][g] - cell["prefill_flops"], flops, rtol=1e-4)
    dense = data.sel({"method": "dense", "sparsity": 0})
    for name in COSTS:
        same = data[name].sel({"method": "quest", "sparsity": 0})
        np.testing.assert_array_equal(same, dense[name], err_msg="nothing is chosen at sparsity 0")
    assert (data["document"] == "").all()


def saved(**changes: Any) -> Any:
    """The dataset of :func:`run`, kept where its shard belongs."""
    data = run(**changes)
    dataset.save(data, AccuracyParameters.parse(RUN | changes).shards()[0].path)
    return data


def test_a_dataset_is_extended_by_the_samples_that_it_lacks(checkout: Path) -> None:
    """As if all had been made at once; what is there is not computed again."""
    methods = ["dense", "window", "flexprefill", "snapkv", {"name": "quest", "tail": "decode"}]
    # Two prompts a batch, so that the batches of both ways are the same.
    whole = run(methods=methods, samples=6)
    saved(methods=methods, samples=2)
    told: dict[str, Any] = {"methods": methods, "samples": 6}
    shard = AccuracyParameters.parse(RUN | told).shards()[0]
    model, tokenizer = models.load(NAME)
    assert settle(prepare(shard, tokenizer), model, tokenizer).known.samples == 2
    extended = run(**told)
    for name in whole.variables:
        if name in TIMINGS:
            assert np.isfinite(extended[name].values).sum() == np.isfinite(whole[name].values).sum()
        elif whole[name].dtype.kind == "f":
            assert np.allclose(whole[name], extended[name], rtol=1e-5, equal_nan=True), name
        else:
            assert whole[name].equals(extended[name]), name
    dataset.save(extended, shard.path)
    assert settle(prepare(shard, tokenizer), model, tokenizer).known.samples == 0


def test_the_samples_taken_over_are_those_of_the_file(checkout: Path) -> None:
    data = saved(samples=2)
    shard = AccuracyParameters.parse(RUN | {"samples": 4}).shards()[0]
    data["score"].values[0, 0, 0, 0, 0] = [0.25, 0.75]
    data["prefill_seconds"].values[0, 0, 0, 0, 0] = 3.0
    dataset.save(data, shard.path)
    extended = run(samples=4)
    assert extended["score"].values[0, 0, 0, 0, 0, :2].tolist() == [0.25, 0.75]
    assert 1.5 < extended["prefill_seconds"].values[0, 0, 0, 0, 0] < 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"batch_tokens": 1024},
        {"sparsities": [0, 250]},
        {"methods": ["dense", "quest"]},
        {"tasks": ["needle"]},
        {"samples": 2},
        {"samples": 3},
    ],
)
def test_a_dataset_of_another_run_is_not_extended(changes: dict[str, Any], checkout: Path) -> None:
    saved(samples=3)
    shard = AccuracyParameters.parse(RUN | {"samples": 4} | changes).shards()[0]
    model, tokenizer = models.load(NAME)
    assert settle(prepare(shard, tokenizer), model, tokenizer).known.samples == 0


def test_a_dataset_made_otherwise_is_not_extended(checkout: Path) -> None:
    made = saved(samples=3)
    shard = AccuracyParameters.parse(RUN | {"samples": 4}).shards()[0]
    model, tokenizer = models.load(NAME)
    work = prepare(shard, tokenizer)
    assert settle(work, model, tokenizer).known.samples == 3
    for name in ("key", "device", "dtype", "versions", "backend", "hyperparameters", "prompt_id"):
        data = made.copy(deep=True)
        data[name].values.reshape(-1)[-1] = "triton" if name == "backend" else json.dumps({"other": "one"})
        dataset.save(data, shard.path)
        assert settle(work, model, tokenizer).known.samples == 0, name
