"""Laws of the intervals, and their coverage in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from statsmodels.stats.contingency_tables import mcnemar

from sparsestudy import stats
from sparsestudy.stats import tango


def test_wilson_agrees_with_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    low, high = stats.wilson(81, 263)
    assert (round(float(low), 4), round(float(high), 4)) == (0.2553, 0.3662)


def test_wilson_is_exact_at_the_ends_and_silent_without_samples() -> None:
    low, high = stats.wilson([0, 10, 0], [10, 10, 0])
    assert low[0] == 0.0
    assert high[1] == 1.0
    assert np.isnan(low[2])
    assert np.isnan(high[2])


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_their_estimate_and_stay_in_range(n: int, cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((cells, n))
    scores[rng.random(scores.shape) < 0.2] = np.nan
    for binary in (True, False):
        values = np.round(scores) if binary else scores
        interval = stats.mean_interval(values, binary, seed=seed)
        some = interval.n > 0
        assert np.array_equal(interval.n, np.isfinite(values).sum(-1))
        assert (interval.low[some] <= interval.estimate[some] + 1e-12).all()
        assert (interval.high[some] >= interval.estimate[some] - 1e-12).all()
        assert (interval.low[some] >= 0).all()
        assert (interval.high[some] <= 1).all()
        assert np.isnan(interval.estimate[~some]).all()


def test_cells_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random((6, 40))
    scores[2, 30:] = np.nan
    together = stats.mean_interval(scores, False, seed=5)
    for index in range(6):
        alone = stats.mean_interval(scores[index : index + 1], False, seed=5)
        assert alone.low[0] == pytest.approx(together.low[index], abs=1e-12)
        assert alone.high[0] == pytest.approx(together.high[index], abs=1e-12)


def test_mixed_binary_and_graded_cells_get_the_interval_of_their_kind() -> None:
    scores = np.random.default_rng(0).integers(0, 2, (2, 50)).astype(float)
    mixed = stats.mean_interval(scores, np.array([True, False]), seed=1)
    assert mixed.low[0] == pytest.approx(float(stats.wilson(scores[0].sum(), 50)[0]))
    assert mixed.low[1] != pytest.approx(float(stats.wilson(scores[1].sum(), 50)[0]))


def test_equal_graded_scores_do_not_claim_certainty() -> None:
    interval = stats.mean_interval(np.full((1, 20), 0.75), False)
    assert interval.low[0] < 0.7
    assert interval.high[0] > 0.8


@pytest.mark.parametrize(("n", "rate"), [(12, 0.5), (100, 0.5), (100, 0.95), (100, 0.99)])
def test_wilson_covers(n: int, rate: float) -> None:
    scores = np.random.default_rng(n).random((4000, n)) < rate
    interval = stats.mean_interval(scores.astype(float), True)
    assert ((interval.low <= rate) & (rate <= interval.high)).mean() > 0.92


@pytest.mark.parametrize("n", [16, 100])
def test_bootstrap_covers_graded_scores(n: int) -> None:
    scores = np.random.default_rng(n).beta(4, 1.5, (600, n))
    interval = stats.mean_interval(scores, False, seed=n)
    truth = 4 / 5.5
    covered = ((interval.low <= truth) & (truth <= interval.high)).mean()
    assert 0.91 < covered < 0.99


def _pairs(cells: int, n: int, loss: float, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dense = (rng.random((cells, n)) < 0.9).astype(float)
    draw = rng.random((cells, n))
    return np.where(dense == 1, draw >= loss, draw < gain).astype(float), dense


@pytest.mark.parametrize(("loss", "gain"), [(0.0, 0.0), (0.05, 0.3), (0.3, 0.05)])
def test_the_paired_interval_covers(loss: float, gain: float) -> None:
    sparse, dense = _pairs(3000, 100, loss, gain, 7)
    difference = stats.paired_difference(sparse, dense, True)
    truth = 0.1 * gain - 0.9 * loss
    assert ((difference.low <= truth) & (truth <= difference.high)).mean() > 0.92


def _by_hand(gains: float, losses: float, n: float, difference: float) -> float:
    """Tango's statistic with the share of losses found by a search, not by the quadratic."""

    def negative(q: float) -> float:
        rest = n - gains - losses
        return -(gains * np.log(q + difference) + losses * np.log(q) + rest * np.log(1 - 2 * q - difference))

    bounds = (max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12)
    q = minimize_scalar(negative, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (gains - losses - n * difference) / np.sqrt(n * (2 * q + difference * (1 - difference)))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100), st.floats(-0.6, 0.6))
@settings(max_examples=60, deadline=None)
def test_tangos_statistic_agrees_with_a_search(gains: int, losses: int, rest: int, at: float) -> None:
    n = gains + losses + rest
    assert float(tango.score(gains, losses, n, at)) == pytest.approx(_by_hand(gains, losses, n, at), abs=1e-4)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_tangos_limits_are_where_the_test_turns(gains: int, losses: int, rest: int) -> None:
    n = gains + losses + rest
    low, high = (float(limit) for limit in tango.limits(gains, losses, n))
    assert low <= (gains - losses) / n <= high
    assert float(tango.score(gains, losses, n, low)) == pytest.approx(1.959964, abs=1e-6)
    assert float(tango.score(gains, losses, n, high)) == pytest.approx(-1.959964, abs=1e-6)
    back = tango.limits(losses, gains, n)
    assert (float(-back[1]), float(-back[0])) == pytest.approx((low, high))


def test_tangos_test_of_no_difference_is_mcnemars() -> None:
    table = [[50, 12], [5, 33]]
    chi2 = mcnemar(table, exact=False, correction=False).statistic
    assert float(tango.score(12, 5, 100, 0)) ** 2 == pytest.approx(chi2)


def test_tangos_limits_at_the_ends() -> None:
    low, high = tango.limits([10, 0, 0], [0, 10, 0], [10, 10, 0])
    assert high[0] == 1.0
    assert low[1] == -1.0
    assert np.isnan([low[2], high[2]]).all()


def test_paired_difference_changes_sign_with_its_arguments() -> None:
    sparse, dense = _pairs(20, 40, 0.3, 0.2, 1)
    there = stats.paired_difference(sparse, dense, True)
    back = stats.paired_difference(dense, sparse, True)
    assert np.allclose(there.estimate, -back.estimate)
    assert np.allclose(there.low, -back.high)
    assert np.allclose(there.p, back.p)


def test_pairs_with_a_missing_half_are_left_out() -> None:
    a, b = np.array([[1.0, 0.0, np.nan, 1.0]]), np.array([[1.0, np.nan, 0.0, 0.0]])
    difference = stats.paired_difference(a, b, True)
    assert difference.n[0] == 2
    assert difference.estimate[0] == 0.5


def test_p_values_under_no_difference_are_not_too_small() -> None:
    rng = np.random.default_rng(11)
    a, b = (rng.random((3000, 100)) < 0.8 for _ in range(2))
    binary = stats.paired_difference(a.astype(float), b.astype(float), True).p
    assert (binary < 0.05).mean() < 0.06
    graded = stats.paired_difference(rng.beta(3, 1, (400, 100)), rng.beta(3, 1, (400, 100)), False).p
    assert (graded < 0.05).mean() < 0.09


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(200) ** 3
    p[50:60] = p[40]
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)


def test_holm_ignores_missing_cells_and_keeps_the_shape() -> None:
    adjusted = stats.holm([[0.01, np.nan], [0.04, 0.03]])
    assert np.isnan(adjusted[0, 1])
    assert adjusted[0, 0] == pytest.approx(0.03)
    assert adjusted[1, 0] == pytest.approx(0.06)


@pytest.mark.parametrize(("n", "flips"), [(100, 0.0), (400, 0.0), (400, 0.1)])
def test_the_minimum_detectable_difference_is_found_as_often_as_it_says(n: int, flips: float) -> None:
    loss = float(stats.minimum_detectable_difference(n, flips))
    rng = np.random.default_rng(2)
    shares = [loss + flips / 2, flips / 2, 1 - loss - flips]
    change = rng.choice([-1.0, 1.0, 0.0], p=shares, size=(2000, n))
    # a pair that changes by -1 went from right to wrong
    dense, sparse = (change < 0).astype(float), (change > 0).astype(float)
    found = stats.paired_difference(sparse, dense, True).p < 1 - stats.CONFIDENCE
    assert found.mean() == pytest.approx(stats.POWER, abs=0.08)


def test_seeds_depend_on_every_part() -> None:
    assert stats.seed_of("a", "bc") != stats.seed_of("ab", "c")
    assert stats.seed_of("a", 1) == stats.seed_of("a", 1)
