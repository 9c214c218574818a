"""The methods tried on simulated data whose truth is known: how often intervals hold it, and tests err."""

from __future__ import annotations

import numpy as np

from sparsestudy.stats.base import CONFIDENCE, MARGIN, Array, Interval
from sparsestudy.stats.censored import Regression
from sparsestudy.stats.frontier import frontier_gain
from sparsestudy.stats.intervals import wilson
from sparsestudy.stats.paired import design_effect, paired_difference
from sparsestudy.stats.resampling import stratified
from sparsestudy.stats.tolerance import CANNOT_SAY, exclusion_p, shared_depth, tolerated

SPARSITIES = np.array([0.25, 0.5, 0.667, 0.8, 0.867, 0.9, 0.933, 0.95, 0.975])
"""Those of the studies' runs."""
LENGTHS = np.array([1024.0, 2048.0, 4096.0, 8192.0, 16384.0])
# Four dense models on a line of accuracy against log cost, and what their sparse settings would cost.
_DENSE_COST, _ACCURACY = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.4, 0.55, 0.7, 0.85])
_SHARES = np.array([1.0, 0.7, 0.5, 0.35])


def _holds(low: Array, high: Array, truth: float | Array) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


def wilson_coverage(runs: int, n: int, seed: int = 0) -> float:
    """Coverage of Wilson's interval, the mean over true shares that are spread evenly over 0..1.

    At a single share it swings around its level, because counts are whole numbers.
    """
    rng = np.random.default_rng(seed)
    share = rng.random(runs)
    return _holds(*wilson(rng.binomial(n, share), n), share)


def paired_coverage(runs: int, n: int, seed: int = 0) -> float:
    """Coverage of Tango's interval, the mean over losses and gains that are drawn evenly from 0.02 to 0.3."""
    rng = np.random.default_rng(seed)
    losses, gains = rng.uniform(0.02, 0.3, (2, runs, 1))
    draw = rng.random((runs, n))
    change = (draw < gains).astype(float) - (draw > 1 - losses)
    found = paired_difference(change, 0.0, True)
    return _holds(found.low, found.high, (gains - losses)[:, 0])


def clustered_coverage(
    runs: int, tasks: int, documents: int, questions: int, seed: int = 0
) -> tuple[float, float]:
    """Coverage of the bootstrap for graded differences over tasks, with and without heed of documents.

    Questions on one document share half of their variance, as several questions on one passage do.
    """
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.2, (runs, tasks, documents, questions))
    shared = rng.normal(0, 0.2, (runs, tasks, documents, 1))
    values = (own + shared - 0.03).reshape(runs, tasks, -1)
    labels = np.broadcast_to(np.repeat(np.arange(documents), questions), values.shape[1:])
    heeded, ignored = (stratified(values, clusters=c, seed=seed).pooled for c in (labels, None))
    return _holds(heeded.low, heeded.high, -0.03), _holds(ignored.low, ignored.high, -0.03)


def alike_coverage(runs: int, documents: int, questions: int, seed: int = 0) -> tuple[float, float]:
    """Coverage of Tango's interval with the design effect of documents, and without it.

    Each document has a chance of its own to lose and one to gain, and its questions draw from them.
    """
    rng = np.random.default_rng(seed)
    losses = rng.beta(0.4, 1.6, (runs, documents, 1))
    gains = (1 - losses) * rng.beta(0.3, 2.7, (runs, documents, 1))
    draw = rng.random((runs, documents, questions))
    change = ((draw < gains).astype(float) - (draw > 1 - losses)).reshape(runs, -1)
    effect = design_effect(change, np.repeat(np.arange(documents), questions))
    truth = 0.8 * 0.1 - 0.2
    heeded, ignored = (paired_difference(change, 0.0, True, effect=e) for e in (effect, 1.0))
    return _holds(heeded.low, heeded.high, truth), _holds(ignored.low, ignored.high, truth)


def exponent_coverage(runs: int, curves: int, beta: float, sigma: float, seed: int = 0) -> float:
    """Coverage of the interval of the exponent, from budgets that are only known between two settings."""
    rng = np.random.default_rng(seed)
    x, curve = np.tile(np.log(LENGTHS), curves), np.repeat(np.arange(curves), len(LENGTHS))
    ladder = np.concatenate([[0.0], SPARSITIES])
    held = 0
    for _ in range(runs):
        level = rng.normal(np.log(300), 0.5, curves)
        budget = np.exp(level[curve] + beta * (x - x.min()) + rng.normal(0, sigma, len(x)))
        at = np.searchsorted(ladder, 1 - budget / np.exp(x), side="right") - 1
        upper = np.where(at >= 1, (1 - ladder[at]) * np.exp(x), np.inf)
        lower = np.where(at + 1 < len(ladder), 1 - ladder[np.minimum(at + 1, len(ladder) - 1)], 0) * np.exp(x)
        with np.errstate(divide="ignore"):
            model = Regression(x, np.log(lower), np.log(upper), curve)
        held += model.deviance(beta, model.best()[0]) <= model.threshold()
    return held / runs


def false_tolerance(runs: int, curves: int, n: int, seed: int = 0) -> tuple[float, float]:
    """How often a sparsity is called tolerated that loses exactly the margin: a curve alone, and any of many.

    The loss grows along each curve and reaches the margin at a setting of its own; a twentieth of the pairs
    flips both ways besides.
    """
    rng = np.random.default_rng(seed)
    settings = 4
    wrong = rng.integers(0, settings, curves)
    loss = MARGIN * (1 + np.arange(settings) - wrong[:, None]).clip(0, 3)
    draw = rng.random((runs, curves, settings, n))
    change = (draw < 0.05).astype(float) - (draw > 1 - loss[..., None] - 0.05)
    rows = change.reshape(-1, settings, n)
    found = tolerated(SPARSITIES[:settings], rows, np.ones(len(rows), bool))
    called = (found.state != CANNOT_SAY) & (found.kept > np.tile(SPARSITIES[wrong], runs) - 1e-9)
    p, level = exclusion_p(change, True), (1 - CONFIDENCE) / 2
    last = np.full(curves, settings)
    together = [(shared_depth(part, last, level) > wrong).any() for part in p]
    return float(called.mean()), float(np.mean(together))


def null_frontier(seed: int, n: int, tasks: int = 1, gain: float = 0.0) -> Interval:
    """What sparse attention adds to a family where it is as good as dense attention of equal cost.

    Args:
        seed: of the scores.
        n: samples of a task.
        tasks: number of tasks.
        gain: what sparse configurations score beyond that.

    Scores of a prompt go together over the configurations, as they do in a run.
    """
    rng = np.random.default_rng(seed)
    cost = (_DENSE_COST[:, None] * _SHARES).ravel()
    dense = np.tile(_SHARES == 1, len(_DENSE_COST))
    slope = (_ACCURACY[1] - _ACCURACY[0]) / np.log(2)
    accuracy = _ACCURACY[0] + slope * np.log(cost) + np.where(dense, 0, gain)
    ease, luck = rng.random((1, tasks, n)), rng.random((len(cost), tasks, n))
    shared = rng.random((len(cost), tasks, n)) < 0.6
    scores = (np.where(shared, ease, luck) < accuracy[:, None, None]).astype(float)
    return frontier_gain(cost, dense, scores, seed=seed)


def frontier_support(runs: int, n: int, gain: float = 0.0) -> float:
    """How often the frontier is said to move outwards; with ``gain`` 0 wrongly."""
    return float(np.mean([null_frontier(seed, n, gain=gain).low > 0 for seed in range(runs)]))
