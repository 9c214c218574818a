"""What decides claims: equivalence tests, exponents, frontiers and laws, on data whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sparsestudy import stats
from sparsestudy.errors import StudyError
from sparsestudy.stats import resampling, simulation
from sparsestudy.stats.censored import Regression, log_share
from sparsestudy.stats.crossfit import crossfit
from sparsestudy.stats.tolerance import exclusion_p, shared_depth

COVERED = (0.93, 0.97)


@pytest.mark.parametrize("n", [100, 400])
def test_intervals_cover_as_they_say(n: int) -> None:
    assert COVERED[0] <= simulation.wilson_coverage(5000, n) <= COVERED[1]
    assert COVERED[0] <= simulation.paired_coverage(5000, n) <= COVERED[1]


@pytest.mark.parametrize(("tasks", "documents", "questions"), [(1, 100, 1), (4, 50, 4), (9, 25, 2)])
def test_the_clustered_bootstrap_covers(tasks: int, documents: int, questions: int) -> None:
    heeded, ignored = simulation.clustered_coverage(1000, tasks, documents, questions)
    assert COVERED[0] <= heeded <= COVERED[1]
    assert ignored < 0.9 or questions == 1


@pytest.mark.parametrize(("documents", "questions"), [(100, 4), (200, 2)])
def test_tangos_interval_with_a_design_effect_covers(documents: int, questions: int) -> None:
    heeded, ignored = simulation.alike_coverage(2000, documents, questions)
    assert COVERED[0] <= heeded <= COVERED[1]
    assert ignored < heeded - 0.02


def test_copies_of_samples_count_once() -> None:
    once = np.random.default_rng(9).choice([-1.0, 0.0, 1.0], p=[0.1, 0.85, 0.05], size=(2, 3, 150))
    copies, labels = np.repeat(once, 4, axis=2), np.repeat(np.arange(150), 4)
    assert stats.design_effect(copies, labels) == pytest.approx(4, rel=0.02)
    assert stats.design_effect(np.zeros(600), labels) == 4
    assert stats.design_effect(once, np.arange(150)) == pytest.approx(1)
    alone = stats.tolerated([0.5, 0.8, 0.9], once, [True, True])
    found = stats.tolerated([0.5, 0.8, 0.9], copies, [True, True], clusters=np.tile(labels, (2, 1)))
    assert np.array_equal(found.kept, alone.kept, equal_nan=True)
    assert np.array_equal(found.lost, alone.lost, equal_nan=True)
    assert found.detectable == pytest.approx(alone.detectable, rel=0.02)


def test_the_exponent_is_covered(full_size: bool) -> None:
    runs = 1000 if full_size else 500
    assert COVERED[0] <= simulation.exponent_coverage(runs, 8, 0.6, 0.3, seed=1) <= COVERED[1]
    if full_size:
        assert COVERED[0] <= simulation.exponent_coverage(runs, 8, 1.0, 0.2, seed=2) <= COVERED[1]


def test_what_is_not_tolerated_is_rarely_called_so() -> None:
    alone, together = simulation.false_tolerance(1000, 6, 200)
    assert alone <= 0.025
    assert together <= 0.025


def test_the_frontier_is_rarely_moved_by_nothing_and_often_by_something(full_size: bool) -> None:
    assert simulation.frontier_support(1000 if full_size else 150, 60) <= 0.05
    assert simulation.frontier_support(40, 200, gain=0.1) >= 0.8


def test_the_gain_of_a_frontier_is_covered(full_size: bool) -> None:
    runs = [
        simulation.null_frontier(seed, 60, tasks=2, gain=0.1) for seed in range(1000 if full_size else 150)
    ]
    truth = np.mean([run.estimate for run in runs])
    assert 0.92 <= np.mean([run.low <= truth <= run.high for run in runs]) <= 0.99


def test_more_than_dense_at_equal_cost_is_no_gain_for_ties() -> None:
    scores = np.tile(np.linspace(0, 1, 20) > 0.5, (4, 1, 1)).astype(float)
    gain = stats.frontier_gain([1, 2, 1, 2], [True, True, False, False], scores)
    assert (float(gain.estimate), float(gain.low), float(gain.high)) == (0.0, 0.0, 0.0)


def test_a_better_setting_at_the_same_cost_is_the_gain() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.random((4, 1, 400)) < np.array([0.2, 0.2, 0.9, 0.9])[:, None, None]).astype(float)
    gain = stats.frontier_gain([1, 2, 1, 2], [True, True, False, False], scores)
    better = scores[2:].mean() - scores[:2].mean()
    assert gain.low < better < gain.high
    won = stats.winner([1, 2, 1, 4], [True, True, False, False], scores, 2)
    assert won.chosen.tolist() == pytest.approx([0, 0, 1, 0])
    assert won.gain.low < scores[2].mean() - scores[:2].mean() < won.gain.high


def test_a_split_never_scores_what_it_chose_by() -> None:
    # Noise alone: the best on one half is no better on the other.
    scores = np.random.default_rng(1).integers(0, 2, (30, 1, 60)).astype(float)
    gain, _ = crossfit(scores, lambda m: np.eye(30)[m.argmax(1)] - 1 / 30)
    assert gain.low < 0 < gain.high
    assert np.max(scores.mean((1, 2))) - scores.mean() > gain.estimate + 0.05


def test_documents_stay_on_one_side_of_a_split() -> None:
    # Every document is one sample four times over; a choice by copies of what is scored would look good.
    rng = np.random.default_rng(2)
    scores = np.repeat(rng.integers(0, 2, (30, 1, 40)), 4, axis=2).astype(float)
    labels = np.repeat(np.arange(40), 4)[None]

    def weigh(means: np.ndarray) -> np.ndarray:
        return np.eye(30)[means.argmax(1)] - 1 / 30

    heeded, ignored = (crossfit(scores, weigh, clusters=c)[0] for c in (labels, None))
    assert heeded.low < 0 < heeded.high
    assert ignored.low > 0


def test_a_frontier_says_what_it_needs() -> None:
    scores = np.ones((2, 1, 10))
    with pytest.raises(StudyError, match="dense models of at least two costs"):
        stats.frontier_gain([1, 2], [True, False], scores)
    with pytest.raises(StudyError, match="10 scores are missing"):
        stats.frontier_gain([1, 2], [True, True], np.where([[[True]], [[False]]], scores, np.nan))
    with pytest.raises(StudyError, match="No dense model costs at most"):
        stats.winner([1, 2], [True, True], scores, 0.5)


def _drawn(chances: list[float], samples: int, seed: int) -> np.ndarray:
    """Scores of one task, with luck that configurations share in part, as they do on the same prompts."""
    rng = np.random.default_rng(seed)
    shared = rng.random((len(chances), 1, samples)) < 0.7
    ease = np.where(shared, rng.random((1, 1, samples)), rng.random((len(chances), 1, samples)))
    return (ease < np.array(chances)[:, None, None]).astype(float)


def test_budgets_go_down_as_long_as_the_accuracy_is_kept() -> None:
    scores = _drawn([0.5, 0.9, 0.9, 0.9, 0.6], 600, 0)
    cost, dense = [1.0, 8.0, 4.0, 1.9, 0.5], [True, True, False, False, False]
    found = stats.cheaper(cost, dense, scores, seed=1)
    assert found.best == 1
    assert found.budget[0] == 8
    assert found.budget[found.kept - 1] == pytest.approx(2)
    assert found.chosen[found.kept - 1].argmax() == 3
    assert found.chosen.sum(1) == pytest.approx(np.ones(len(found.budget)))
    alone = stats.cheaper(cost, dense, scores, allowed=dense, seed=1)
    assert alone.kept < found.kept
    assert alone.budget[alone.kept - 1] > 4, "the smaller dense model loses too much"
    assert float(alone.change.estimate[0]) == 0, "the best dense model less itself"


def test_a_budget_that_loses_the_margin_is_rarely_called_enough(full_size: bool) -> None:
    dense, cost = [True] + [False] * 6, [2.0] + [1.0] * 6
    kept = [
        stats.cheaper(cost, dense, _drawn([0.8] + [0.75] * 6, 100, seed), seed=seed).kept
        for seed in range(200 if full_size else 60)
    ]
    # Whole costs to half of it are three budgets; the last two hold only configurations that lose the margin.
    enough = np.mean([one == 3 for one in kept])
    assert enough <= 0.06
    free = [
        stats.cheaper(cost, dense, _drawn([0.8] * 7, 400, seed), seed=seed).kept == 3 for seed in range(20)
    ]
    assert np.mean(free) > 0.5


def test_equal_cost_is_between_two_settings_or_nowhere() -> None:
    assert stats.equal_cost_weights([4, 2, 1], 3) is not None
    assert np.allclose(stats.equal_cost_weights([4, np.nan, 1], 2), [0.5, 0, 0.5])
    assert np.allclose(stats.equal_cost_weights([4, 2, 1], 2), [0, 1, 0])
    assert stats.equal_cost_weights([4, 2, 1], 0.5) is None
    assert stats.equal_cost_weights([np.nan, np.nan], 1) is None


def _curve(losses: list[float], n: int = 400) -> np.ndarray:
    """Differences of one curve: the given share of pairs is lost, none gained."""
    return np.stack([np.where(np.arange(n) < round(loss * n), -1.0, 0.0) for loss in losses])[None]


@pytest.mark.parametrize(
    ("losses", "state", "kept", "lost"),
    [
        ([0, 0, 0], "at least", 0.9, np.nan),
        ([0, 0, 0.3], "between", 0.8, 0.9),
        ([0, 0.05, 0.3], "between", 0.5, 0.9),
        ([0.3, 0.3, 0.3], "below", 0, 0.5),
        ([0.3, 0, 0.3], "between", 0, 0.9),
        ([0.05, 0.05, 0.05], "cannot say", np.nan, np.nan),
    ],
)
def test_tolerance_is_known_between_what_is_kept_and_what_is_lost(
    losses: list[float], state: str, kept: float, lost: float
) -> None:
    for binary in (True, False):
        found = stats.tolerated([0.5, 0.8, 0.9], _curve(losses), [binary])
        assert found.state[0] == state
        assert np.array_equal([found.kept[0], found.lost[0]], [kept, lost], equal_nan=True)


def test_too_few_samples_cannot_say() -> None:
    assert stats.tolerated([0.5], _curve([0.0], 99), [True]).state[0] == stats.CANNOT_SAY
    assert stats.tolerated([0.5], _curve([0.0], 100), [True]).state[0] == "at least"


def test_a_setting_that_did_not_run_ends_a_curve_or_stops_it() -> None:
    gap = _curve([0, 0, 0, 0])
    gap[0, 3] = np.nan
    assert stats.tolerated([0.5, 0.8, 0.9, 0.95], gap, [True]).kept[0] == 0.9
    gap[0, 1] = np.nan
    assert stats.tolerated([0.5, 0.8, 0.9, 0.95], gap, [True]).kept[0] == 0.5


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_one_setting_a_curve_is_holms_procedure(p: list[float]) -> None:
    depth = shared_depth(np.array(p)[:, None], np.ones(len(p), int), 0.025)
    assert (depth == 1).tolist() == (stats.holm(p) <= 0.025).tolist()


def test_the_margin_that_can_be_excluded_is_excluded_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n, flips in ((200, 0.1), (400, 0.05)):
        margin = float(stats.excludable_margin(n, flips))
        change = rng.choice([-1.0, 1.0, 0.0], p=[flips / 2, flips / 2, 1 - flips], size=(2000, n))
        found = (exclusion_p(change, True, margin) <= 0.025).mean()
        assert found == pytest.approx(stats.POWER, abs=0.04)
        assert float(stats.exclusion_power(n, flips, margin)) == pytest.approx(stats.POWER, abs=1e-3)


@given(st.floats(-30, 30), st.floats(0.01, 5))
@settings(max_examples=60, deadline=None)
def test_the_share_between_two_limits_keeps_its_digits(low: float, width: float) -> None:
    from scipy.integrate import quad

    # relative to the density at the nearer limit, so that nothing underflows
    near = low if low > 0 else min(low + width, 0.0)
    area = quad(lambda z: np.exp(-(z**2 - near**2) / 2), low, low + width)[0]
    expected = np.log(area) - near**2 / 2 - np.log(2 * np.pi) / 2
    assert float(log_share(np.array(low), np.array(low + width))) == pytest.approx(expected, abs=1e-6)


def test_narrow_intervals_give_the_slope_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    x, curve = np.tile(simulation.LENGTHS, 3), np.repeat(np.arange(3), 5)
    k = np.exp(1 + curve + 0.7 * np.log(x) + rng.normal(0, 0.3, 15))
    found = _exponent(x, k * 0.999, k * 1.001, curve)
    centred = np.log(x) - np.log(x).mean()
    slope = centred @ np.log(k) / (centred @ centred)
    assert found.estimate == pytest.approx(slope, abs=1e-3)
    assert found.low < slope < found.high
    assert (found.observations, found.curves) == (15, 3)


def test_the_ends_of_the_exponent_are_where_the_likelihood_falls() -> None:
    x = simulation.LENGTHS
    low, high = 300 * (x / 1024) ** 0.5, 500 * (x / 1024) ** 0.5
    found = _exponent(x, low, high, np.zeros(5))
    model = Regression(np.log(x), np.log(low), np.log(high), np.zeros(5, int))
    best = model.best()[0]
    for end in (found.low, found.high):
        assert model.deviance(end, best) == pytest.approx(model.threshold(), rel=0.02)


def test_curves_on_the_same_prompts_are_not_counted_twice() -> None:
    rng = np.random.default_rng(8)
    x = simulation.LENGTHS
    k = 300 * (x / 1024) ** 0.5 * np.exp(rng.normal(0, 0.3, 5))
    alone = _exponent(x, k * 0.9, k * 1.1, np.zeros(5))
    copies, curve = (np.tile(x, 3), np.tile(k * 0.9, 3), np.tile(k * 1.1, 3)), np.repeat([0, 1, 2], 5)
    thrice = _exponent(*copies, curve, repeats=3)
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert _exponent(*copies, curve).high < alone.high - 0.05


def _exponent(*budgets: Any, **more: Any) -> stats.Exponent:
    return stats.exponents([stats.Budgets(*budgets, **more)])[0]


def _budgets(seed: int, curves: int, lengths: int) -> stats.Budgets:
    """Budgets that are known between two settings, of curves that grow with a power of the length."""
    rng = np.random.default_rng(seed)
    x, curve = np.tile(1024 * 2.0 ** np.arange(lengths), curves), np.repeat(np.arange(curves), lengths)
    density = np.array([1.0, 0.5, 0.2, 0.1, 0.05, 0.025])
    noise = rng.normal(0, 0.3, len(x)) + rng.normal(0, 0.6, curves)[curve]
    share = np.clip(200 / x * (x / 1024) ** 0.6 * np.exp(noise), 0.001, 1)
    at = (density[None] >= share[:, None]).sum(1) - 1
    high = np.where(at > 0, density[at] * x, np.inf)
    return stats.Budgets(x, np.where(at < 5, density[np.minimum(at + 1, 5)] * x, 0), high, curve)


def _lost(model: Regression, beta: float, best: float) -> float:
    """The deviance at a slope, by a search that asks for no derivative."""

    def negative(theta: np.ndarray) -> float:
        scale = np.exp(theta[0])
        centre = theta[1] + beta * model.x
        return -float(log_share(scale * (model.low - centre), scale * (model.high - centre)).sum())

    bounds = [(np.log(0.05), np.log(50)), (-50, 50)]
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    middle = np.where(np.isfinite(model.low), model.low, model.high).mean()
    tries = [
        minimize(negative, (start, middle), method="Nelder-Mead", bounds=bounds, options=options).fun
        for start in (0.0, 1.5)
    ]
    return 2 * (best + min(tries))


def test_exponents_that_are_found_together_end_where_the_likelihood_falls() -> None:
    budgets = [_budgets(seed, 1 + seed % 3, 3 + seed % 3) for seed in range(24)]
    closed = 0
    for one, found in zip(budgets, stats.exponents(budgets), strict=True):
        assert found == pytest.approx(_exponent(*one[:4]), abs=1e-6, nan_ok=True)
        with np.errstate(divide="ignore"):
            model = Regression(*np.log(one[:3]), np.asarray(one.curve))
        best, beta, _ = model.best()
        assert found.estimate == beta
        for end, side in ((found.low, -1), (found.high, 1)):
            if np.isfinite(end):
                # A search that stops early takes too much for lost, never too little.
                assert model.deviance(end + side * 1e-4, best) > model.threshold()
            if model.curves.shape[1] > 1:
                continue
            if np.isfinite(end):
                closed += 1
                assert _lost(model, end, best) == pytest.approx(model.threshold(), abs=1e-4)
            else:
                assert _lost(model, beta + side * 8, best) <= model.threshold()
    assert closed > 4


def test_budgets_without_bounds_set_no_exponent() -> None:
    x = simulation.LENGTHS
    none = _exponent(x, np.zeros(5), np.full(5, np.inf), np.zeros(5))
    assert (none.observations, none.low, none.high) == (0, -np.inf, np.inf)
    one_sided = _exponent(x, np.zeros(5), np.full(5, 100.0), np.zeros(5))
    assert one_sided.low == -np.inf


def _law(slope: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    size, length, compression, task = (
        grid.ravel() for grid in np.meshgrid([1e6, 2e6, 4e6, 8e6], [1e3, 2e3, 4e3], [1, 2, 4, 8, 16], [0, 1])
    )
    z = 1 + 0.6 * np.log(size / 1e6) - 0.3 * np.log(length / 1e3) - slope * np.log(compression) - 0.5 * task
    accuracy = rng.binomial(200, 1 / (1 + np.exp(-z))) / 200
    n = np.full(z.shape, 200.0)
    return {
        "size": size,
        "length": length,
        "compression": compression,
        "task": task,
        "accuracy": accuracy,
        "n": n,
    }


@pytest.mark.parametrize("axis", stats.AXES)
def test_a_law_that_holds_is_found_and_one_that_does_not_is_not(axis: str) -> None:
    true = stats.held_out(**_law(0.8), axis=axis)
    assert true.low > 0.5
    assert true.law < 0.06
    flat = stats.held_out(**_law(0.0), axis=axis)
    assert flat.low < 0.5
    with pytest.raises(StudyError, match="at least 3 values along"):
        stats.held_out(**{name: values[:1] for name, values in _law(0.8).items()}, axis=axis)


def test_one_cell_far_out_is_not_all_that_a_law_is_judged_on() -> None:
    law = _law(0.8)
    law["compression"] = law["compression"].copy()
    law["compression"][int(np.argmax(law["compression"]))] *= 3
    found = stats.held_out(**law, axis="compression")
    assert found.cells >= len(law["size"]) / 10
    assert found.high > found.low


def test_the_slope_over_sizes_is_covered_with_models_as_units() -> None:
    rng = np.random.default_rng(5)
    size = np.array([1e6, 2e6, 4e6, 8e6, 16e6])
    change = 0.03 * np.log2(size) + rng.normal(0, 0.05, (2000, 5))
    limits = np.array([stats.size_slope(size, row)[1:] for row in change])
    assert 0.93 <= ((limits[:, 0] <= 0.03) & (limits[:, 1] >= 0.03)).mean() <= 0.97
    assert np.isnan(stats.size_slope(size[:2], change[0, :2])[0])


def test_cells_share_their_resamples() -> None:
    rng = np.random.default_rng(6)
    values = rng.random((3, 2, 50))
    together = stats.stratified(values, seed=4)
    alone = stats.stratified(values[1], seed=4)
    assert float(alone.pooled.low) == pytest.approx(float(together.pooled.low[1]), abs=1e-6)
    shifted = stats.stratified(values + 0.25, seed=4)
    assert np.allclose(shifted.pooled.low, together.pooled.low + 0.25, atol=1e-5)
    assert np.allclose(together.pooled.estimate, values.mean((1, 2)))
    assert together.each.low.shape == (3, 2)
    assert stats.shares(50, 7, 0).sum(0) == pytest.approx(np.ones(7), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(asked=st.lists(st.integers(3, 30), min_size=1, max_size=4), clustered=st.booleans())
def test_strata_of_fewer_samples_are_as_they_would_be_without_the_room(
    asked: list[int], clustered: bool
) -> None:
    values = np.random.default_rng(9).random((2, len(asked), 30))
    for stratum, n in enumerate(asked):
        values[:, stratum, n:] = np.nan
    documents = np.arange(30)[None].repeat(len(asked), 0) // 2 if clustered else None
    wide = stats.stratified(values, clusters=documents, resamples=200, seed=3)
    most = max(asked)
    tight = stats.stratified(
        values[..., :most],
        clusters=None if documents is None else documents[:, :most],
        resamples=200,
        seed=3,
    )
    for roomy, own in zip((*wide.each, *wide.pooled), (*tight.each, *tight.pooled), strict=True):
        np.testing.assert_allclose(roomy, own, atol=1e-6)
    first = stats.stratified(values[:, :1, : asked[0]], resamples=200, seed=3).each
    if not clustered:
        np.testing.assert_allclose(wide.each.low[:, 0], first.low[:, 0], atol=1e-6)


def test_equal_differences_do_not_claim_certainty() -> None:
    found = stats.stratified(np.zeros((2, 60)))
    assert float(found.pooled.low) < -0.02
    assert float(found.pooled.high) > 0.02


def test_the_curves_of_the_frontiers_agree_with_their_gain() -> None:
    rng = np.random.default_rng(3)
    ease = rng.random((2, 120))
    chances = np.array([0.3, 0.7, 0.5, 0.6, 0.2])
    scores = (ease[None] < chances[:, None, None]).astype(float)
    cost, dense = [1.0, 4.0, 1.5, 2.0, 3.0], [True, True, False, False, False]
    found = stats.frontiers(cost, dense, scores, seed=5)
    alone = stats.frontier_gain(cost, dense, scores, seed=5)
    assert [float(x) for x in found.gain] == pytest.approx([float(x) for x in alone])
    assert found.cost[[0, -1]] == pytest.approx([1, 4])
    assert found.dense.estimate[[0, -1]] == pytest.approx(scores[:2].mean((1, 2)))
    assert (np.diff(found.dense.estimate) > 0).all()
    assert (found.full.estimate >= found.dense.estimate - 1e-9).all()
    assert (found.full.low <= found.full.estimate).all()
    assert found.full.n.tolist() == [240] * len(found.cost)


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0, 1.3])
def test_an_exact_power_has_its_exponent_and_no_width(beta: float) -> None:
    x = np.array([512.0, 1024, 2048, 4096])
    found = stats.growth(np.repeat(3 * x[:, None] ** beta, 6, 1), x)
    np.testing.assert_allclose([found.estimate, found.low, found.high], beta, atol=1e-6)
    assert found.n == 6


def test_a_growth_exponent_is_held_by_its_interval_about_as_often_as_it_says() -> None:
    x, rng, beta = np.array([512.0, 1024, 2048, 4096]), np.random.default_rng(0), 0.8
    cells = x[:, None] ** beta * rng.gamma(4, 0.25, (400, len(x), 12))
    hits = 0
    for number, cell in enumerate(cells):
        found = stats.growth(cell, x, resamples=400, seed=number)
        hits += bool(found.low <= beta <= found.high)
    assert 0.88 <= hits / len(cells) <= 0.99


def test_growth_leaves_out_lengths_without_samples_and_says_nothing_of_one() -> None:
    x = np.array([512.0, 1024, 2048])
    values = np.repeat(x[:, None], 4, 1)
    values[1] = np.nan
    values[2, 3:] = np.nan
    found = stats.growth(values, x)
    assert found.estimate == pytest.approx(1)
    assert found.n == 3
    assert np.isnan(stats.growth(values[:1], x[:1]).estimate)


@pytest.mark.parametrize("resamples", [400, 30_000])
def test_many_cells_at_several_levels_are_each_alone(resamples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_HELD", 2 * resamples)  # two cells at a time
    rng = np.random.default_rng(8)
    values = rng.normal(size=(5, 3, 40))
    values[1, 2, 4:9], values[3] = np.nan, 0.2
    documents = np.repeat(np.arange(10), 4)[None].repeat(3, 0)
    for labels in (None, documents):
        together = stats.pooled_at(values, (0.9, 0.99), clusters=labels, resamples=resamples, seed=5)
        for level, found in zip((0.9, 0.99), together, strict=True):
            for place, own in enumerate(values):
                alone = stats.stratified(
                    own, clusters=labels, confidence=level, resamples=resamples, seed=5
                ).pooled
                for many, one in zip(found, alone, strict=True):
                    assert many[place] == pytest.approx(one, abs=1e-6)
