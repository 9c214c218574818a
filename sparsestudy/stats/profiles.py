"""Profile likelihoods of many regressions on intervals at once, by Newton's method.

Where the slope is held, each regression has a precision and a level for each of its curves, and its
log-likelihood is concave in both. Its second derivatives couple the levels with the precision alone, so a
step for thousands of curves takes a few sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsestudy.stats.base import Array

_STEPS, _HALVINGS, _DONE = 200, 30, 1e-11
_FLAT = 1e-12


class Observations(NamedTuple):
    """Intervals of several regressions in one list.

    Args:
        x: (observations,).
        low: lower ends, minus infinity where there is none.
        high: upper ends, infinity where there is none.
        curve: the curve of each observation, counted over all regressions.
        member: (curves,), the regression of each curve.
    """

    x: Array
    low: Array
    high: Array
    curve: NDArray[np.int64]
    member: NDArray[np.int64]


class State(NamedTuple):
    """Parameters: the precision of each regression, and the level of each curve times its precision."""

    precision: Array
    level: Array


def log_share(low: Array, high: Array) -> Array:
    """log(Phi(high) - Phi(low)) for low < high, without loss of digits in the tails."""
    from scipy.special import log_ndtr

    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    upper, lower = log_ndtr(b), log_ndtr(a)
    return np.asarray(upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-15))))


class Profiles:
    """Log-likelihoods of regressions whose slopes are held.

    Args:
        seen: what was observed.
        bounds: of the precision.
        start: where the search begins; each search begins where the last one ended.
    """

    def __init__(self, seen: Observations, bounds: tuple[float, float], start: State) -> None:
        self.seen, self.bounds, self.state = seen, bounds, start
        self._of = seen.member[seen.curve]

    def __call__(self, slopes: Array) -> Array:
        """The largest log-likelihood of each regression at its slope."""
        shift = slopes[self._of] * self.seen.x
        low, high = self.seen.low - shift, self.seen.high - shift
        state, best = self.state, self._value(self.state, low, high)
        moving = np.ones(len(best), bool)
        for _ in range(_STEPS):
            step, gain = self._step(state, low, high)
            moving &= gain > _DONE
            if not moving.any():
                break
            state, best, moving = self._along(state, step, best, moving, low, high)
        self.state = state
        return best

    def _ends(self, state: State, low: Array, high: Array) -> tuple[Array, Array]:
        precision, level = state.precision[self._of], state.level[self.seen.curve]
        return precision * low - level, precision * high - level

    def _value(self, state: State, low: Array, high: Array) -> Array:
        value = log_share(*self._ends(state, low, high))
        return np.asarray(np.bincount(self._of, value, len(state.precision)), float)

    def _step(self, state: State, low: Array, high: Array) -> tuple[State, Array]:
        """Newton's step, and the gain that it promises."""
        a, b = self._ends(state, low, high)
        share = log_share(a, b)
        # An end that is not there has no density and takes no part.
        at_a, at_b = (np.exp(-(z**2) / 2 - share) / np.sqrt(2 * np.pi) for z in (a, b))
        a, b, low, high = (np.where(np.isfinite(z), z, 0.0) for z in (a, b, low, high))
        aa, bb, ab = a * at_a - at_a**2, -b * at_b - at_b**2, at_a * at_b
        curves, fits = len(state.level), len(state.precision)
        by_curve = [
            np.bincount(self.seen.curve, values, curves)
            for values in (at_a - at_b, -(aa + bb + 2 * ab), low * (aa + ab) + high * (bb + ab))
        ]
        slope, bend, cross = by_curve
        bend = np.maximum(bend, _FLAT)
        own = np.bincount(self._of, at_b * high - at_a * low, fits)
        curved = -np.bincount(self._of, low**2 * aa + high**2 * bb + 2 * low * high * ab, fits)
        down = own - np.bincount(self.seen.member, cross * slope / bend, fits)
        curved = np.maximum(curved - np.bincount(self.seen.member, cross**2 / bend, fits), _FLAT)
        moved = np.clip(state.precision + down / curved, *self.bounds) - state.precision
        levels = (slope - cross * moved[self.seen.member]) / bend
        gain = moved * own + np.bincount(self.seen.member, levels * slope, fits)
        return State(moved, levels), gain

    def _along(
        self,
        state: State,
        step: State,
        best: Array,
        moving: NDArray[np.bool_],
        low: Array,
        high: Array,
    ) -> tuple[State, Array, NDArray[np.bool_]]:
        """As far along the step as the likelihood rises, by halves; where it never does the search ends."""
        length = moving.astype(float)
        for _ in range(_HALVINGS):
            there = State(
                state.precision + length * step.precision,
                state.level + length[self.seen.member] * step.level,
            )
            value = self._value(there, low, high)
            worse = (length > 0) & ~(value >= best)
            if not worse.any():
                break
            length = np.where(worse, length / 2, length)
        else:
            length = np.where(worse, 0.0, length)
            there = State(
                state.precision + length * step.precision,
                state.level + length[self.seen.member] * step.level,
            )
            value = self._value(there, low, high)
        return there, value, moving & (length > 0)
