"""The claims ledger: verdicts follow the data, are never typed, and say what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from synthetic import synthetic_run

from sparsestudy import claim_tables, claim_words, stats
from sparsestudy.claims import VERDICTS, Verdict, judge, ledger
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import FILE, Cells, Claim, Conditions, load, parse
from sparsestudy.errors import StudyError
from sparsestudy.pareto_views import REPLY
from sparsestudy.schema import UNREACHABLE
from sparsestudy.view import Run

CLAIMS = {claim.id: claim for claim in load(list(ESTIMANDS))}
SIZES = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m", "qwen2.5-coder-1.5b-q4_k_m"]
DENSE_COST = dict(zip(SIZES, (1.0, 2.0, 4.0), strict=True))
ONE: dict[str, Any] = {
    "lengths": [512, 1024, 2048],
    "sparsities": [0, 500, 800, 900],
    "samples": 120,
    "methods": [
        "dense",
        "block_sparse",
        "vertical_slash",
        "quest",
        {"name": "oracle", "like": "block_sparse"},
    ],
    "tasks": ["needle", {"name": "needle", "needles": 4}],
}
COSTS = ("prefill_flops", "decode_bytes", "request_flops")


FINE = {
    "sparsities": [0, 250, 500, 667, 800, 867, 900, 933],
    "lengths": [512, 1024, 2048, 4096],
    "samples": 400,
}


@cache
def _made(many: bool, fine: bool) -> xr.Dataset:
    """A run of one model, or of three whose costs fall with the share that is kept."""
    run = synthetic_run({**ONE, **(FINE if fine else {}), "models": SIZES if many else SIZES[:1]})
    role, keep = run["method_role"].values, 1 - run["sparsity"].values / 1000
    role = np.where(np.isin(run["method_name"].values, ["vertical_slash"]), "method", role)
    run["method_role"].values[:] = role
    run["task_name"].values[:] = ["needle", "vt"]
    if many:
        dense = np.array([DENSE_COST[name] for name in run["model"].values])
        share = 0.2 + 0.8 * np.where((role == "dense")[:, None], 1.0, keep)
        cost = dense[:, None, None, None] * share[None, :, :, None] * np.ones(run.sizes["length"])
        for name in COSTS:
            run[name] = (("model", "method", "sparsity", "length"), cost)
    return run


def _run(change: Callable[[xr.Dataset], None] | None = None, many: bool = False, fine: bool = False) -> Run:
    data = _made(many, fine).copy(deep=True)
    if change:
        change(data)
    return Run("synthetic", data)


def _judged(
    name: str,
    change: Callable[[xr.Dataset], None] | None = None,
    many: bool = False,
    fine: bool = False,
) -> Verdict:
    return judge(CLAIMS[name], "accuracy/synthetic", _run(change, many, fine))


def _accuracy(of: Callable[[str, str, int, int], float], paired: bool = True) -> Callable[[xr.Dataset], None]:
    """A change that draws every score with a given chance: of model, method, sparsity and length.

    Scores of one prompt go together over methods and models, as they do in a run.
    """

    def change(data: xr.Dataset) -> None:
        score = data["score"]
        ran = np.isfinite(score.values)
        shape = (score.sizes["length"], score.sizes["task"], score.sizes["sample"])
        ease = np.random.default_rng(7).random(shape)
        for i, model in enumerate(data["model"].values.tolist()):
            for j, method in enumerate(data["method_name"].values.tolist()):
                for k, sparsity in enumerate(data["sparsity"].values.tolist()):
                    for m, length in enumerate(data["length"].values.tolist()):
                        chance = of(model, method, sparsity, length)
                        score.values[i, j, k, m] = ease[m] < chance
        score.values[~ran] = np.nan

    return change


def _short(change: Callable[[xr.Dataset], None]) -> Callable[[xr.Dataset], None]:
    """The change, and the first length alone, which is quicker."""

    def both(data: xr.Dataset) -> None:
        change(data)
        data["score"].values[:, :, :, 1:] = np.nan

    return both


def _lossless(model: str, method: str, sparsity: int, length: int) -> float:
    return 0.8


def test_the_committed_claims_are_read_and_cover_the_list() -> None:
    listed = {
        *("pareto-prefill", "pareto-decode", "length-tolerance", "fixed-budget", "task-tolerance"),
        *(
            "decode-over-prefill",
            "no-universal-method",
            "size-tolerance",
            "scaling-law",
            "bounded",
            "decision",
        ),
    }
    assert listed <= set(CLAIMS)
    assert {claim.estimand for claim in CLAIMS.values()} == set(ESTIMANDS)
    assert not re.search(r"verdict: ", FILE.read_text(encoding="utf-8"))


def test_a_claim_without_its_dataset_is_not_measured() -> None:
    verdicts = ledger({})
    assert {one.verdict for one in verdicts} == {"not measured"}
    assert len(verdicts) == sum(len(claim.datasets) for claim in CLAIMS.values())
    assert all(one.dataset in claim_words.sentence(one) for one in verdicts)
    shown, caption = claim_tables.judged(verdicts)
    assert set(shown["verdict"]) == {"not measured"}
    assert f"{len(verdicts)} not measured" in caption


ENTRY = next(entry for entry in yaml.safe_load(FILE.read_text(encoding="utf-8")))
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"estimand": "fronteer"},
        ["names the estimand 'fronteer'", "choose one of", "Did you mean 'frontier'?"],
    ),
    ({"verdict": "supported"}, ["verdict", "Extra inputs"]),
    ({"id": "Pareto 1"}, ["lower-case words"]),
    ({"datasets": []}, ["datasets"]),
    ({"datasets": ["ladder"]}, ["experiment/run"]),
    ({"cells": {"phases": "prefill"}}, ["cells.phases"]),
    ({"margin": 2}, ["margin", "less than 1"]),
    ({"rule": {"supported": {"low_above": 0}, "contradicted": {"high_above": 0}}}, ["at once"]),
    ({"rule": {"supported": {"low_over": 0}, "contradicted": {"high_below": 0}}}, ["low_over"]),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_wrong_entry_is_one_clear_sentence(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as refused:
        parse([{**ENTRY, **change}], list(ESTIMANDS))
    message = str(refused.value)
    assert all(word in message for word in words)
    assert "claims.yaml" in message
    assert "\n" not in message


def test_two_claims_of_one_name_are_refused() -> None:
    with pytest.raises(StudyError, match="twice"):
        parse([ENTRY, ENTRY], list(ESTIMANDS))
    with pytest.raises(StudyError, match="list of claims"):
        parse({"id": "x"}, list(ESTIMANDS))


def test_no_rule_holds_both_ways_or_without_conditions() -> None:
    assert not Conditions().holds(0.0, 1.0, 0.05)
    ends = np.round(np.linspace(-1.2, 1.2, 49), 3)
    for claim in CLAIMS.values():
        for margin in (stats.MARGIN, stats.WIDE_MARGIN):
            for low in ends:
                for high in ends[ends >= low]:
                    rule = claim.rule
                    assert not (
                        rule.supported.holds(low, high, margin) and rule.contradicted.holds(low, high, margin)
                    )


def _better_decode(model: str, method: str, sparsity: int, length: int) -> float:
    return 0.8 if method in ("dense", "quest") else 0.4


def _better_prefill(model: str, method: str, sparsity: int, length: int) -> float:
    return 0.4 if method == "quest" else 0.8


def test_changed_values_flip_a_verdict_and_its_sentence() -> None:
    name = "decode-over-prefill"
    found = [_judged(name, _accuracy(of)) for of in (_better_decode, _better_prefill, _lossless)]
    assert [one.verdict for one in found] == ["supported", "contradicted", "inconclusive"]
    assert len({claim_words.sentence(one) for one in found}) == 3


def test_one_changed_score_changes_the_sentence() -> None:
    def one_more_wrong(data: xr.Dataset) -> None:
        cells = data["score"].loc[{"method": "quest"}].values
        cells[..., 1:, :, :, 0] = np.where(np.isfinite(cells[..., 1:, :, :, 0]), 0.0, np.nan)

    name = "decode-over-prefill"
    before, after = _judged(name), _judged(name, one_more_wrong)
    assert before.outcome
    assert after.outcome
    assert before.outcome.effect != after.outcome.effect
    assert before.hash != after.hash
    assert claim_words.sentence(before) != claim_words.sentence(after)


def test_a_sentence_carries_effect_interval_count_models_and_dataset() -> None:
    one = _judged("decode-over-prefill")
    text = claim_words.sentence(one)
    assert re.search(r"\d\.\d\d \(−?\d\.\d\d to −?\d\.\d\d\), n = 120", text)
    assert SIZES[0] in text
    assert "accuracy/synthetic" in text
    assert one.hash in text


def test_below_the_least_number_of_samples_there_is_no_verdict() -> None:
    def few(data: xr.Dataset) -> None:
        _accuracy(_better_decode)(data)
        data["score"].values[..., 60:] = np.nan

    one = _judged("decode-over-prefill", few)
    assert one.verdict == "inconclusive"
    assert f"n = {stats.LEAST}" in one.reason


def _fewer(n: int, change: Callable[[xr.Dataset], None]) -> Callable[[xr.Dataset], None]:
    """The change, and the last length with the first samples alone."""

    def both(data: xr.Dataset) -> None:
        change(data)
        data["score"].values[:, :, :, -1, :, n:] = np.nan

    return both


def test_a_length_with_too_few_samples_decides_nothing_and_is_named() -> None:
    few = _judged("pareto-prefill", _fewer(48, _accuracy(_by_size(LEVEL, 0.0))), many=True)
    assert few.verdict == "supported"
    assert few.outcome
    assert few.outcome.effect.n == 120
    assert not any("2,048" in name for name in few.outcome.parts)
    assert "2,048 tokens (48)" in few.outcome.remark


def test_lengths_may_have_different_numbers_of_samples() -> None:
    change = _fewer(105, _accuracy(_by_size(LEVEL, 0.0)))
    frontier = _judged("pareto-prefill", change, many=True).outcome
    assert frontier
    assert frontier.effect.n == 105
    assert {name.split(" tokens")[0] for name in frontier.parts} == {"512", "1,024", "2,048"}
    assert frontier.parts["2,048 tokens"].n == 105
    alone = _judged("pareto-prefill", lambda data: _only_last(data, change), many=True).outcome
    assert alone
    assert alone.parts["2,048 tokens"].estimate == pytest.approx(frontier.parts["2,048 tokens"].estimate)
    fixed, whole = _judged("fixed-budget", _fewer(105, _accuracy(_fixed))), _accuracy(_fixed)
    assert fixed.outcome
    assert fixed.outcome.effect.n == 105
    every = _judged("fixed-budget", whole).outcome
    assert every
    assert fixed.outcome.effect.estimate == pytest.approx(every.effect.estimate, abs=0.02)


def _only_last(data: xr.Dataset, change: Callable[[xr.Dataset], None]) -> None:
    change(data)
    data["score"].values[:, :, :, :-1] = np.nan


@pytest.mark.parametrize(
    "name", ["decode-over-prefill", "no-universal-method", "no-free-sparsity", "fixed-budget"]
)
def test_questions_on_one_document_count_as_fewer(name: str) -> None:
    def fives(data: xr.Dataset) -> None:
        labels = np.array([f"document {index // 5}" for index in range(data.sizes["sample"])], dtype=object)
        shape = tuple(data.sizes[dim] for dim in ("model", "length", "task", "sample"))
        data["document"] = (("model", "length", "task", "sample"), np.broadcast_to(labels, shape).copy())
        # Questions on one document share their luck.
        for start in range(0, data.sizes["sample"], 5):
            data["score"].values[..., start : start + 5] = data["score"].values[..., start : start + 1]

    def single(data: xr.Dataset) -> None:
        fives(data)
        data["document"].values[:] = ""

    heeded, ignored = _judged(name, fives).outcome, _judged(name, single).outcome
    assert heeded
    assert ignored
    assert heeded.effect.estimate == pytest.approx(ignored.effect.estimate)
    assert heeded.effect.high - heeded.effect.low > 1.3 * (ignored.effect.high - ignored.effect.low)


def test_oracles_and_controls_decide_nothing() -> None:
    before = _judged("decode-over-prefill")

    def better_oracle(data: xr.Dataset) -> None:
        oracle = data["method_role"].values == "oracle"
        data["score"].values[:, oracle] = np.where(np.isfinite(data["score"].values[:, oracle]), 1.0, np.nan)

    assert _judged("decode-over-prefill", better_oracle).outcome == before.outcome


def test_cells_at_the_floor_and_beyond_the_context_are_left_out() -> None:
    def change(data: xr.Dataset) -> None:
        data["chance"].values[:] = [0.0, 0.999]
        data["model_context"].values[:] = 1024

    run = _run(change)
    evidence = Evidence.of(run.data, Cells(), "claim")
    seen = np.isfinite(evidence.scores).any((0, 1, 2, 5))
    assert seen.tolist() == [[True, False], [True, False], [False, False]]


def test_only_settings_that_both_variants_reach_count_where_asked() -> None:
    def change(data: xr.Dataset) -> None:
        data["method_name"].values[2] = "block_sparse"
        data["method_fields"].values[2] = '{"setting": "paper"}'
        data["status"].values[:, 2, 3] = UNREACHABLE

    data = _run(change).data
    free, both = (
        Evidence.of(data, Cells(phase="prefill", reachable_by_all=asked), "claim") for asked in (False, True)
    )
    assert np.isfinite(free.scores[:, 1, 3]).any()
    assert not np.isfinite(both.scores[:, 1, 3]).any()
    assert np.isfinite(both.scores[:, 1, 2]).any()


def _fixed(model: str, method: str, sparsity: int, length: int) -> float:
    """A budget of 200 tokens is enough at every length."""
    return 0.9 if method == "dense" or length * (1 - sparsity / 1000) >= 200 else 0.1


def _shrinking(model: str, method: str, sparsity: int, length: int) -> float:
    """The share that must be kept grows with the length."""
    return 0.9 if method == "dense" or 1 - sparsity / 1000 >= (length / 4096) ** 0.5 * 0.8 else 0.1


def test_the_exponent_tells_fixed_budgets_from_growing_ones() -> None:
    fixed, grown = (_judged("length-tolerance", _accuracy(of), fine=True) for of in (_fixed, _shrinking))
    assert fixed.verdict == "supported"
    assert grown.verdict == "contradicted"
    assert fixed.outcome
    assert grown.outcome
    assert fixed.outcome.effect.estimate < 0.6
    assert grown.outcome.effect.estimate > 1.5
    short = _judged("length-tolerance", lambda data: data["score"].values[:, :, :, 1:].fill(np.nan))
    assert short.verdict == "not measured"
    assert "three lengths" in short.reason


def _kept_share(model: str, method: str, sparsity: int, length: int) -> float:
    return 0.9 if method == "dense" or sparsity <= 800 else 0.1


def test_budget_policies_compare_at_equal_cost() -> None:
    proportional = _judged("fixed-budget", _accuracy(_kept_share))
    constant = _judged("fixed-budget", _accuracy(_fixed))
    assert proportional.outcome
    assert constant.outcome
    assert proportional.outcome.effect.estimate > constant.outcome.effect.estimate
    assert proportional.verdict != constant.verdict


def test_tolerance_that_differs_between_kinds_of_tasks_is_found_and_the_worst_named() -> None:
    def change(data: xr.Dataset) -> None:
        _accuracy(_lossless)(data)
        hard = data["score"].values[:, 1:, 2:, :, 1]
        hard[np.isfinite(hard)] = 0.0

    one = _judged("task-tolerance", change, fine=True)
    assert one.verdict == "supported"
    assert one.outcome
    assert "vt (needles 4)" in one.outcome.remark
    same = _judged("task-tolerance", _accuracy(_lossless), fine=True)
    assert same.verdict == "contradicted"
    alone = _judged("task-tolerance", lambda data: data["task_name"].values.fill("needle"))
    assert "the run holds simple" in alone.reason


def test_a_method_that_is_best_everywhere_contradicts_and_mixed_ones_support() -> None:
    def best(model: str, method: str, sparsity: int, length: int) -> float:
        return 0.8 if method in ("dense", "block_sparse") else 0.5

    def mixed(data: xr.Dataset) -> None:
        _accuracy(_lossless)(data)
        for place, task in ((1, 0), (2, 1)):
            own = data["score"].values[:, place, 1:, :, task]
            own[np.isfinite(own)] = 0.0

    assert _judged("no-universal-method", _accuracy(best)).verdict == "contradicted"
    assert _judged("no-universal-method", mixed).verdict == "supported"


def test_moderate_sparsity_hurts_or_does_not() -> None:
    assert _judged("no-free-sparsity", _accuracy(_lossless)).verdict == "contradicted"
    assert _judged("no-free-sparsity", _accuracy(_better_decode)).verdict == "contradicted"

    def all_hurt(model: str, method: str, sparsity: int, length: int) -> float:
        return 0.9 if method == "dense" else 0.3

    assert _judged("no-free-sparsity", _accuracy(all_hurt)).verdict == "supported"


def _by_size(level: dict[str, float], loss: float) -> Callable[[str, str, int, int], float]:
    return lambda model, method, sparsity, length: level[model] - (0 if method == "dense" else loss)


LEVEL = dict(zip(SIZES, (0.3, 0.55, 0.8), strict=True))


@pytest.mark.parametrize("name", ["pareto-prefill", "decision", "pareto-decode"])
def test_the_frontier_moves_where_sparse_is_cheap_and_good_and_not_where_it_is_bad(name: str) -> None:
    good = _judged(name, _short(_accuracy(_by_size(LEVEL, 0.0))), many=True)
    assert good.verdict == "supported"
    assert good.outcome
    assert good.outcome.models == sorted(SIZES, key=good.outcome.models.index)
    bad = _judged(name, _short(_accuracy(_by_size(LEVEL, 0.5))), many=True)
    assert bad.verdict == "contradicted"
    one = _judged(name)
    assert one.verdict == "not measured"
    assert "cost" in one.reason


@pytest.mark.parametrize("name", ["pareto-prefill", "decision", "pareto-decode", "bounded"])
def test_sizes_that_score_alike_decide_nothing(name: str) -> None:
    alike = _judged(name, _short(_accuracy(_by_size(dict.fromkeys(SIZES, 0.8), 0.5))), many=True)
    assert alike.verdict == "not measured"
    assert "No larger dense model is shown to score higher" in alike.reason


def test_cells_in_which_the_smaller_dense_model_wins_are_listed() -> None:
    bad = _judged("bounded", _short(_accuracy(_by_size(LEVEL, 0.5))), many=True)
    assert bad.verdict == "supported"
    assert bad.outcome
    assert all("against" in name for name in bad.outcome.parts)
    good = _judged("bounded", _short(_accuracy(_by_size(LEVEL, 0.0))), many=True)
    assert good.verdict == "contradicted"

    @_short
    def dear(data: xr.Dataset) -> None:
        _accuracy(_by_size(LEVEL, 0.0))(data)
        data["prefill_flops"].values[1:, 1:] = np.maximum(data["prefill_flops"].values[1:, 1:], 3.9)

    none = _judged("bounded", dear, many=True)
    assert none.verdict == "not measured"
    assert "equal cost" in none.reason


def test_losses_that_shrink_with_size_are_a_trend_over_models() -> None:
    loss = dict(zip(SIZES, (0.5, 0.45, 0.2), strict=True))

    def shrinking(model: str, method: str, sparsity: int, length: int) -> float:
        return 0.9 - (0 if method == "dense" else loss[model])

    found = _judged("size-tolerance", _accuracy(shrinking), many=True)
    assert found.outcome
    assert found.outcome.effect.estimate > 0
    assert len(found.outcome.models) == 3
    two = _judged("size-tolerance", lambda data: data["score"].values[:1].fill(np.nan), many=True)
    assert two.verdict == "not measured"
    assert "three models" in two.reason


def test_a_law_without_effect_of_sparsity_saves_nothing() -> None:
    def falling(model: str, method: str, sparsity: int, length: int) -> float:
        z = np.log(1 / (1 - sparsity / 1000)) if method != "dense" else 0.0
        size = {name: 0.8 * place for place, name in enumerate(SIZES)}[model]
        return float(1 / (1 + np.exp(-(1 + size - 0.9 * z))))

    found = _judged("scaling-law", _accuracy(falling), many=True)
    assert found.outcome
    assert found.outcome.effect.low > 0
    assert len(found.outcome.parts) == 3 * 3
    flat = _judged("scaling-law", _accuracy(_lossless), many=True)
    assert flat.verdict != "supported"


def test_equal_cost_across_phases_reads_decode_at_the_cost_of_prefill() -> None:
    found = _judged("decode-over-prefill-at-equal-cost", _accuracy(_better_decode), many=True)
    assert found.verdict == "supported"
    assert found.outcome
    assert found.outcome.effect.estimate == pytest.approx(0.4, abs=0.05)


def test_decode_is_priced_for_replies_of_one_length() -> None:
    data = synthetic_run({**ONE, "models": SIZES[:1]})
    # A method that breaks off: its replies cost next to nothing, and as long ones as much as dense replies.
    priced = [
        claim.cells for claim in CLAIMS.values() if claim.cells.cost in ("decode_bytes", "request_flops")
    ]
    assert len(priced) >= 2
    for name in {str(cells.cost) for cells in priced}:
        data[name].loc[{"generated": 0}] /= 100
    for cells in priced:
        assert cells.generated == REPLY, "the page and the claim price the same replies"
        long = data[str(cells.cost)].sel(generated=REPLY).isel(task=0)
        long = long.sel(batch=cells.batch) if "batch" in long.dims else long
        found = Evidence.of(data, Cells(), "a-claim").cost(cells)
        assert np.array_equal(found, long.values.astype(float), equal_nan=True)


def test_costs_are_those_of_whole_contexts_at_a_batch_of_one_and_the_replies_that_were_scored() -> None:
    tasks = ["needle", {"name": "needle", "context": "none"}]
    data = synthetic_run({**ONE, "models": SIZES[:1], "tasks": tasks})
    less = data["task_context"].values == "none"
    for name in COSTS:
        data[name].values[:, :, :, :, less] /= 2
    evidence = Evidence.of(data, Cells(), "a-claim")
    whole = data.isel(task=0, generated=0, batch=0)
    for name in COSTS:
        assert np.array_equal(
            evidence.cost(Cells(cost=name)), whole[name].values.astype(float), equal_nan=True
        )
    data["decode_bytes"].values[..., 0, :] = 0
    assert np.isnan(evidence.cost(Cells(cost="decode_bytes"))).all(), "replies of one token take no step"
    data["decode_bytes"].values[:] = np.nan
    with pytest.raises(StudyError, match="does not hold the cost `decode_bytes`"):
        evidence.cost(Cells(cost="decode_bytes"))


def test_every_verdict_is_one_of_four_and_tables_hold_them_all() -> None:
    run = _run(many=True)
    run.data["prefill_flops"].values[:] *= 1.0
    everywhere = [claim.model_copy(update={"datasets": ["accuracy/synthetic"]}) for claim in CLAIMS.values()]
    found = ledger({"accuracy/synthetic": run}, everywhere)
    assert {one.verdict for one in found} <= set(VERDICTS)
    assert {one.wide for one in found} <= set(VERDICTS)
    data = claim_tables.verdicts(found)
    assert len(data) == len(CLAIMS)
    assert len(claim_words.told(found)) == len(CLAIMS)
    shown, parts, _ = claim_tables.parts(found)
    assert len(shown) == len(parts) > len(CLAIMS)


def test_tolerances_of_a_run_without_dense_attention_are_empty() -> None:
    alone = Run("alone", synthetic_run({"methods": ["quest"], "sparsities": [500], "lengths": [512]}))
    assert claim_tables.tolerances(alone).empty
    claim: Claim = CLAIMS["decode-over-prefill"]
    one = judge(claim, "accuracy/alone", alone)
    assert one.verdict == "not measured"
    assert "no dense attention" in one.reason
