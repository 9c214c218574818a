"""How a tolerated budget grows with length, from intervals that hold it: k proportional to L to the beta.

Regression of log k on log L with a normal error and an intercept for every curve, by the likelihood of
interval-censored observations. In the parameters coefficients / sigma and 1 / sigma it is concave (Burridge
1981, A note on maximum likelihood estimation for regression models using grouped data).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats.base import CONFIDENCE, Array
from sparsestudy.stats.profiles import Observations, Profiles, State, log_share

# Bounds of 1 / sigma: an error of log k below 2 % or above a factor of e^20 means nothing here.
_PRECISION = (0.05, 50.0)
_STEEPEST = 8.0
_HALVINGS = 30


class Exponent(NamedTuple):
    """The exponent beta with its limits (infinite where the data set none), sigma of log k, and counts."""

    estimate: float
    low: float
    high: float
    sigma: float
    observations: int
    curves: int


class Regression:
    """The likelihood of intervals of log k.

    Args:
        x: log length, (observations,).
        low: lower ends of log k, minus infinity where there is none.
        high: upper ends, infinity where there is none.
        curve: which curve each observation belongs to.
        repeats: how many curves rest on the same prompts, which count as one.
    """

    def __init__(
        self, x: Array, low: Array, high: Array, curve: NDArray[np.int64], repeats: float = 1
    ) -> None:
        self.repeats = repeats
        self.curves = np.eye(int(curve.max()) + 1)[curve]
        self.x, self.low, self.high = x - x.mean(), low, high

    def _fit(self, columns: Array, low: Array, high: Array) -> tuple[float, Array]:
        """Largest log-likelihood and its parameters: 1 / sigma, then coefficients / sigma."""
        from scipy.optimize import minimize

        bounded_low, bounded_high = np.isfinite(low), np.isfinite(high)
        low_0, high_0 = np.where(bounded_low, low, 0), np.where(bounded_high, high, 0)

        def negative(theta: Array) -> tuple[float, Array]:
            centre = columns @ theta[1:]
            a = np.where(bounded_low, theta[0] * low_0 - centre, -np.inf)
            b = np.where(bounded_high, theta[0] * high_0 - centre, np.inf)
            share = log_share(a, b)
            with np.errstate(over="ignore"):
                at_a, at_b = (np.exp(-(z**2) / 2 - share) / np.sqrt(2 * np.pi) for z in (a, b))
            slope = (at_b * high_0 - at_a * low_0).sum()
            return -share.sum(), -np.concatenate([[slope], columns.T @ (at_a - at_b)])

        middle = np.where(bounded_low & bounded_high, (low_0 + high_0) / 2, low_0 + high_0)
        guess = np.linalg.lstsq(columns, middle, rcond=None)[0]
        precision = 1 / max(float(np.std(middle - columns @ guess)), 0.2)
        bounds = [_PRECISION, *[(None, None)] * columns.shape[1]]
        start = np.concatenate([[precision], guess * precision])
        found = minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds)
        return -float(found.fun), np.asarray(found.x)

    def peak(self) -> tuple[float, Array]:
        """Largest log-likelihood, and 1 / sigma, exponent / sigma and levels / sigma that reach it."""
        return self._fit(np.column_stack([self.x, self.curves]), self.low, self.high)

    def best(self) -> tuple[float, float, float]:
        """Largest log-likelihood, with the exponent and the sigma that reach it."""
        value, theta = self.peak()
        return value, float(theta[1] / theta[0]), float(1 / theta[0])

    def deviance(self, beta: float, best: float) -> float:
        """Twice the log-likelihood that is lost where the exponent is held at ``beta``."""
        shift = beta * self.x
        return 2 * (best - self._fit(self.curves, self.low - shift, self.high - shift)[0])

    def threshold(self, confidence: float = CONFIDENCE) -> float:
        """The deviance at the ends of the interval: exact for uncensored normal data (an F quantile).

        Curves that rest on the same prompts are taken for copies of one another, the worst case.
        """
        from scipy.stats import f

        n, curves = len(self.x) / self.repeats, self.curves.shape[1] / self.repeats
        free = n - curves - 1
        if free <= 0:
            return np.inf
        return float(self.repeats * n * np.log1p(f.ppf(confidence, 1, free) / free))


class Budgets(NamedTuple):
    """Tolerated budgets of several curves.

    Args:
        length: of each observation, in tokens.
        low: lower end of the tolerated budget in tokens; 0 where there is none.
        high: its upper end; infinity where there is none.
        curve: a label for each observation; each curve has a level of its own.
        repeats: how many curves rest on the same prompts, such as those of several methods on one task.
    """

    length: ArrayLike
    low: ArrayLike
    high: ArrayLike
    curve: ArrayLike
    repeats: float = 1


def exponents(budgets: Sequence[Budgets], *, confidence: float = CONFIDENCE) -> list[Exponent]:
    """For each of some budgets the common exponent of its curves, with its profile-likelihood interval.

    Args:
        budgets: each judged for itself; limits are looked for at the same time.
        confidence: level of the intervals.

    Observations without any bound, and curves with a single length, say nothing about beta and are left out.
    """
    models = [_model(one) for one in budgets]
    known = [model for model in models if model is not None]
    peaks = [model.peak() for model in known]
    low, high = _limits(known, peaks, confidence)
    found = iter(
        Exponent(
            float(theta[1] / theta[0]),
            float(low[place]),
            float(high[place]),
            float(1 / theta[0]),
            len(model.x),
            model.curves.shape[1],
        )
        for place, (model, (_, theta)) in enumerate(zip(known, peaks, strict=True))
    )
    nothing = Exponent(np.nan, -np.inf, np.inf, np.nan, 0, 0)
    return [nothing if model is None else next(found) for model in models]


def _model(budgets: Budgets) -> Regression | None:
    """The likelihood of what says anything about beta; None where nothing does."""
    x, a, b = (np.asarray(v, float) for v in budgets[:3])
    labels = np.asarray(budgets.curve)
    known = np.isfinite(x) & ((a > 0) | np.isfinite(b))
    names, member = np.unique(labels[known], return_inverse=True)
    enough = np.array([len(np.unique(x[known][member == i])) > 1 for i in range(len(names))], bool)
    keep = np.flatnonzero(known)[enough[member]] if len(names) else np.zeros(0, int)
    if not len(keep):
        return None
    _, member = np.unique(labels[keep], return_inverse=True)
    with np.errstate(divide="ignore"):
        return Regression(np.log(x[keep]), np.log(a[keep]), np.log(b[keep]), member, budgets.repeats)


def _limits(models: list[Regression], peaks: list[tuple[float, Array]], confidence: float) -> Array:
    """The ends of the intervals, (2, models); infinite beyond the steepest slope that is looked at."""
    best = np.array([value for value, _ in peaks])
    beta = np.array([theta[1] / theta[0] for _, theta in peaks])
    limit = np.array([model.threshold(confidence) for model in models])
    ends = np.array([-np.inf, np.inf])[:, None] * np.ones(len(models))
    some = np.flatnonzero(np.isfinite(limit))
    if not len(some):
        return ends
    seen, start = _together([models[i] for i in some], [peaks[i][1] for i in some])

    def beyond(slopes: Array) -> NDArray[np.bool_]:
        return np.asarray(2 * (best[some] - profiles(slopes)) > limit[some])

    for end, side in zip(ends, (-1.0, 1.0), strict=True):
        profiles = Profiles(seen, _PRECISION, start)
        near, far = beta[some], np.full(len(some), np.nan)
        for step in (0.1, 0.3, 1.0, 3.0, _STEEPEST):
            there = beta[some] + side * step
            out = beyond(there)
            far = np.where(np.isnan(far) & out, there, far)
            near = np.where(np.isnan(far), there, near)
        closed = ~np.isnan(far)
        far = np.where(closed, far, near)
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            out = beyond(middle)
            near, far = np.where(out, near, middle), np.where(out, middle, far)
        end[some[closed]] = far[closed]
    return ends


def _together(models: list[Regression], peaks: list[Array]) -> tuple[Observations, State]:
    """Regressions in one list, with the parameters at their peaks."""
    x, low, high = (np.concatenate([getattr(one, name) for one in models]) for name in ("x", "low", "high"))
    counts = [one.curves.shape[1] for one in models]
    before = np.cumsum([0, *counts])
    curve = np.concatenate([one.curves.argmax(1) + first for one, first in zip(models, before, strict=False)])
    precision = np.array([theta[0] for theta in peaks])
    level = np.concatenate([theta[2:] for theta in peaks])
    return Observations(x, low, high, curve, np.repeat(np.arange(len(models)), counts)), State(
        precision, level
    )
