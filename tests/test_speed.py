"""Speed: the dataset, the bars and the command on synthetic data; what is timed, on a small shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import INTERPRETED
from synthetic_speed import synthetic_speed, write_speed
from tolerances import relative_error

from sparsestudy import attention, dataset, eviction, paths, plan
from sparsestudy.__main__ import main
from sparsestudy.errors import StudyError
from sparsestudy.schema import OK
from sparsestudy.speed import bars, capture, decode, models, patterns, peers, prefill, tables
from sparsestudy.speed.bench import Bench, Case
from sparsestudy.speed.clock import Clock
from sparsestudy.speed.code import Code, TritonCode
from sparsestudy.speed.parameters import SpeedParameters
from sparsestudy.speed.shapes import SHAPES

torch.set_num_threads(1)
LIKE = torch.empty(0)
TINY = SHAPES["tiny"]
CODE = Code("torch", attention.selected_attention)
SMALL: dict[str, Any] = {
    "lengths": [256],
    "sparsities": [500],
    "methods": [
        {"name": "block_sparse", "block_size": 16},
        "vertical_slash",
        "quest",
        "snapkv",
        "ada_snapkv",
    ],
    "blocks": [64, 16],
    "end_to_end_sparsity": 400,
    "steps": 1,
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def data() -> Any:
    shard = SpeedParameters.parse(SMALL).shards()[0]
    return dataset.stamp(capture.capture(shard, "cpu", "float32"), shard)


def table(**changes: Any) -> pd.DataFrame:
    shards = write_speed(**changes)
    return tables.cases(dataset.open_run(shards[0].path.parent))


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRETED, reason="kernels cannot run on this CPU")
def test_whole_models_run_the_kernels_or_say_why_not() -> None:
    from sparsestudy.kernels.prefill import selected_attention

    small = {"name": "block_sparse", "block_size": 16}, "quest", {"name": "snapkv", "window": 16}
    asked = {"lengths": [96], "methods": list(small), "end_to_end_sparsity": 200, "steps": 1}
    for backend, code, status in [
        ("triton", TritonCode("triton", selected_attention), "ok"),
        ("torch", TritonCode("triton", selected_attention), "failed"),
    ]:
        bench = Bench(Clock(LIKE.device, 3), "whole model", 96, float("inf"))
        models.measure(bench, SpeedParameters.parse(asked | {"backend": backend}), TINY, 96, code, LIKE)
        found = {case.method_name: record for case, record in bench.records.items() if case.sparsity}
        assert {name: record.status for name, record in found.items()} == dict.fromkeys(
            ("block_sparse", "quest", "snapkv"), status
        ), found
        for record in found.values():
            if status == "ok":
                assert 0 < record.values["attended_density"] < 0.95
            else:
                assert record.reason.startswith("The model ran the backend torch, but triton was to be timed")


def test_everything_asked_for_is_timed_or_says_why_not(data: Any) -> None:
    dataset.validate(data)
    rows = tables.cases(data)
    ran = rows[rows["state"] == "ok"]
    assert (ran["n"] >= 3).all()
    assert (ran[["seconds", "flops", "bytes"]] > 0).all(axis=None)
    assert (rows.loc[rows["state"] != "ok", "reason"].str.len() > 10).all()
    assert set(rows.loc[rows["state"] != "ok", "code"]) == {"flex"}
    assert set(ran["part"]) == {"prefill", "decode", "model"}
    assert set(ran["method_name"]) == {
        *("", "dense", "block_sparse", "vertical_slash", "quest", "snapkv", "ada_snapkv")
    }
    of_pattern = ran[ran["method"] == "pattern"]
    assert set(of_pattern["block"]) == {64, 16}
    assert (of_pattern["density"].between(0.5, 0.7)).all()
    assert (data["copy_rate"].values > 0).all()
    assert (data["multiply_rate"].values > 0).all()


@pytest.mark.gpu
def test_on_a_gpu_every_kernel_runs_and_steps_replay_from_graphs() -> None:
    shard = SpeedParameters.parse(SMALL | {"lengths": [1024]}).shards()[0]
    found = dataset.stamp(capture.capture(shard, "cuda", "bfloat16"), shard)
    dataset.validate(found)
    rows = tables.cases(found)
    own = rows[rows["code"] == "triton"]
    assert (own["state"] == "ok").all(), own[own["state"] != "ok"][["case", "reason"]]
    assert (own.loc[own["part"] == "decode", "graph"] == 1).mean() == 0.5


def test_a_dataset_survives_the_disk_and_is_fresh(data: Any, checkout: Path) -> None:
    shard = SpeedParameters.parse(SMALL).shards()[0]
    dataset.save(data, shard.path)
    assert dataset.equal(dataset.open_run(shard.path.parent), data)
    assert plan.inspect(shard).state == "fresh"
    more = SpeedParameters.parse(SMALL | {"repeats": 4}).shards()[0]
    assert plan.inspect(more).reasons == ("the parameters changed: repeats was 3 and is 4",)


def test_a_failing_case_is_kept_and_the_next_one_runs() -> None:
    bench = Bench(Clock(torch.device("cpu"), 3), "bench", 64, float("inf"))

    def fails() -> Any:
        raise torch.OutOfMemoryError("no room\nat all")

    def refuses() -> Any:
        raise RuntimeError("No available kernel.\nAborting")

    same = {"part": "prefill", "stage": "kernel", "method": "dense"}
    bench.attempt(Case(**same, code="a"), fails)
    bench.attempt(Case(**same, code="b"), refuses)
    bench.attempt(Case(**same, code="c"), lambda: ([1.0, 2.0, 3.0], {}))
    late = Bench(bench.clock, "late", 64, 0.0)
    late.attempt(Case(**same, code="d"), fails)
    found = [*bench.records.values(), *late.records.values()]
    assert [record.status for record in found] == ["skipped_memory", "failed", "ok", "not_run"]
    assert found[0].reason == "OutOfMemoryError: no room"
    assert found[1].reason == "RuntimeError: No available kernel."
    with pytest.raises(KeyError):  # a bug is no refusal
        bench.attempt(Case(**same, code="e"), lambda: {}["missing"])


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 12),
    size=st.sampled_from([16, 64]),
    sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.95]),
)
def test_random_blocks_are_causal_and_leave_out_at_most_what_is_asked(
    tokens: int, size: int, sparsity: float
) -> None:
    tokens *= 64
    chosen = patterns.blocks(TINY, tokens, size, sparsity, LIKE.device, 0)
    mask = chosen.mask(slice(0, tokens), tokens)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    assert not (mask & ~causal).any()
    blocks = torch.arange(tokens) // size
    assert (mask | ~causal | (blocks[:, None] != blocks)).all()  # the own block
    assert mask[..., 0].all()
    assert int(chosen.attended().sum()) == int(mask.sum())
    count = tokens // size
    one_more = count / (tokens * (tokens + 1) / 2) * size * size
    assert float(chosen.density().min()) >= 1 - sparsity - 1e-9
    least = (count * size * (size + 1) / 2 + max(count - 1, 0) * size * size) / (tokens * (tokens + 1) / 2)
    assert float(chosen.density().max()) <= max(1 - sparsity + one_more, least) + 1e-9


@pytest.mark.parametrize("backend", list(peers.BACKENDS["cpu"]))
@pytest.mark.parametrize("queries", [96, 1])
def test_dense_peers_agree(backend: str, queries: int) -> None:
    around = patterns.normal(TINY, 96, queries, 1, LIKE, 0)
    k, v = (x.repeat_interleave(2, 1) for x in (around.k, around.v))
    scores = around.q @ k.transpose(-1, -2) * around.scaling
    if queries > 1:
        scores = scores.masked_fill(torch.ones(96, 96, dtype=torch.bool).triu(1), float("-inf"))
    assert relative_error(peers.dense(backend, around)(), scores.softmax(-1) @ v) < 1e-5


def test_flex_attends_the_same_blocks() -> None:
    chosen = patterns.blocks(TINY, 512, 64, 0.5, LIKE.device, 0)
    mask = chosen.mask(slice(0, 512), 512)
    blocks = mask.unflatten(3, (8, 64)).unflatten(2, (8, 64)).any(5).any(3)
    assert torch.equal(peers.block_mask(chosen, 512).to_dense().bool(), blocks)


def test_evicted_layers_hold_the_budget() -> None:
    around = patterns.normal(TINY, 200, 1, 2, LIKE, 0)
    even, ragged = (decode.evicted(around, 50, kind) for kind in (False, True))
    assert even.counts.tolist() == [[50, 50], [50, 50]]
    assert ragged.counts.sum(1).tolist() == [100, 100]
    assert ragged.ragged
    new = around.k[:, :, :4], around.v[:, :, :4]
    assert CODE.evicted(around, new, ragged)().shape == around.q.shape
    assert isinstance(even, eviction.EvictedLayer)


def test_lifelike_attention_has_columns_and_depends_on_the_distance() -> None:
    around = patterns.lifelike(TINY, 512, LIKE, 0)
    scores = around.q[0, 0] @ around.k[0, 0].T * around.scaling
    causal = torch.ones(512, 512, dtype=torch.bool).tril()
    share = scores.masked_fill(~causal, float("-inf")).softmax(-1)[-64:]
    near = sum(share.diagonal(449 - d)[: 64 - d].mean() for d in range(4)) / 4
    assert near > 2 / 512
    assert share[:, :4].mean() > 2 / 512


def test_densities_are_measured_once_and_close_to_the_choice() -> None:
    around = patterns.lifelike(TINY, 256, LIKE, 0)
    measured = prefill.Densities(CODE, around)
    from sparsestudy.methods import METHODS

    method = METHODS["vertical_slash"]().at_sparsity(0.4, 256, measured.measure)
    assert measured.measure(method) == float(CODE.choose(method, around).density().mean())


def test_speed_ups_are_over_the_fastest_dense_case_of_the_same_kind(checkout: Path) -> None:
    rows = table()
    dense = rows[rows["method"] == "dense"]
    assert (dense["speedup"] < 1.01).all()
    assert set(rows.loc[rows["part"] == "prefill", "dense_code"].dropna()) == {"cudnn"}
    ours = rows[(rows["method"] == "pattern") & (rows["code"] == "triton")]
    np.testing.assert_allclose(ours["efficiency"], 0.95, rtol=0.01)
    assert (rows["state"] == "failed").sum() == 4


def test_bars_are_judged_and_a_missed_one_is_missed(checkout: Path) -> None:
    judged = bars.judge(table()).set_index(["name", "length", "sparsity", "batch"])
    kernel = judged.loc["prefill kernel over random blocks"]
    assert kernel.loc[(131072, 500, 1), "met"]
    assert kernel.loc[(131072, 500, 1), "peer_code"] == "flex"
    assert kernel.loc[(131072, 500, 1), "ratio"] == pytest.approx(0.95 / 0.7, rel=0.01)
    assert not kernel.loc[(131072, 800, 1), "met"]
    assert kernel.loc[(131072, 800, 1), "note"] == "not measured"
    chosen = judged.loc["prefill with the choice of blocks"]
    assert not chosen.loc[(131072, 500, 1), "met"]
    assert chosen.loc[(131072, 500, 1), "ours"] == pytest.approx(0.6, rel=0.01)
    assert np.isnan(chosen.loc[(131072, 500, 1), "peer"])
    paged = judged.loc["decode step that chooses pages, in a CUDA graph"]
    assert paged["met"].tolist() == [False, True]
    assert paged["peer"].tolist() == pytest.approx([1, 1], rel=0.01)
    evicted = judged.loc["decode step over an evicted cache, in a CUDA graph"]
    assert evicted["met"].tolist() == [True, True]


def test_a_bar_says_why_there_is_no_figure(checkout: Path) -> None:
    shards = write_speed(models=["qwen2.5-7b"])
    data = dataset.open_run(shards[0].path.parent)
    lost = (data["case_method"] == "pattern").values & (data["case_code"] == "triton").values
    data["status"].values[:, :, lost] = 4
    data["reason"].values[:, :, lost] = "OutOfResources: shared memory"
    data["seconds"].values[:, :, lost] = np.nan
    first = bars.judge(tables.cases(data)).iloc[0]
    assert not first["met"]
    assert first["note"] == "failed: OutOfResources: shared memory"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=5))
def test_a_crossing_lies_between_the_last_slower_and_the_first_faster_length(gains: list[float]) -> None:
    lengths = [1024.0 * 2**i for i in range(len(gains))]
    found = tables.crossing(lengths, gains)
    slower = [i for i, gain in enumerate(gains) if gain <= 1]
    if not slower:
        assert found == 0
    elif slower[-1] == len(gains) - 1:
        assert found == np.inf
    else:
        assert lengths[slower[-1]] * (1 - 1e-9) <= found <= lengths[slower[-1] + 1] * (1 + 1e-9)


def test_crossings_and_parts_of_a_run(checkout: Path) -> None:
    rows = table()
    crossings = tables.crossings(rows)
    alone = crossings[crossings["part"] == "prefill"]
    assert alone["crossing"].between(8192, 131072).all()
    assert (crossings.loc[crossings["part"] == "model", "crossing"] == 0).all()
    parts = tables.split(rows)
    sums = parts[["selection", "kernel", "rest"]].sum(axis=1)
    assert (sums >= parts["total"] * (1 - 1e-9)).all()


def test_the_command_prints_every_bar(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_speed(models=["qwen2.5-7b"])
    assert main(["speed-report"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"\d  (yes|no)\b", said)) == 32
    assert " of 32 bars are met" in said
    assert main(["speed-report", "elsewhere"]) == 2
    assert "There is no dataset of speed/elsewhere" in capsys.readouterr().err


def test_shards_of_a_run_merge_to_their_parts(checkout: Path) -> None:
    shards = write_speed()
    whole = dataset.open_run(shards[0].path.parent)
    for shard in shards:
        part = synthetic_speed(shard)
        at = whole.sel(model=[shard.model], length=[shard.length], case=part["case"].values)
        np.testing.assert_array_equal(at["seconds"].values, part["seconds"].values)
    missing = whole.sel(model="tiny", length=8192)
    assert (missing["status"].values == OK).sum() == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": ["qwen"]}, ["no shape 'qwen'", "qwen2.5-7b"]),
        ({"end_to_end": ["window"]}, ["'end_to_end' names window"]),
        ({"methods": [{"name": "quest", "tail": "decode"}]}, ["quest-tail_decode", "none of"]),
        ({"repeats": 2}, ["'repeats' holds 2", "at least 3"]),
        ({"parts": ["kernels"]}, ["'parts' holds", "prefill, decode"]),
    ],
)
def test_a_wrong_parameter_is_one_sentence(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        SpeedParameters.parse(given)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
