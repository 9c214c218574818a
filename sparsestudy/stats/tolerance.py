"""Up to which sparsity a loss stays within a margin: tests from the lowest sparsity up.

A curve is tested from the lowest sparsity up until a test fails; no correction is needed inside it, because
each test is only made where all before it passed. From the highest sparsity down, in the same way, a loss of
more than the margin is shown. What lies between is open, so the tolerated sparsity is known as an interval.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.stats import tango
from sparsestudy.stats.base import CONFIDENCE, LEAST, MARGIN, Array, count_and_mean
from sparsestudy.stats.paired import design_effect, paired_difference
from sparsestudy.stats.power import excludable_margin

BETWEEN, AT_LEAST, BELOW, CANNOT_SAY = "between", "at least", "below", "cannot say"


class Tolerance(NamedTuple):
    """What is known of the tolerated sparsity of each curve, all arrays (curves,).

    Args:
        kept: largest sparsity up to which every loss is shown to be below the margin; 0 where none is.
        kept_holm: the same with all curves holding together (Holm).
        lost: smallest sparsity from which on every loss is shown to exceed the margin; NaN where none is.
        state: ``between`` kept and lost, ``at least`` kept, ``below`` lost (the lowest that was tested), or
            ``cannot say``.
        n: smallest number of pairs among the settings that were tested.
        detectable: margin that the first setting could exclude with the usual power, given its noise.
    """

    kept: Array
    kept_holm: Array
    lost: Array
    state: NDArray[np.str_]
    n: NDArray[np.int64]
    detectable: Array


def exclusion_p(
    differences: ArrayLike, binary: ArrayLike, margin: float = MARGIN, effect: ArrayLike = 1.0
) -> Array:
    """One-sided p-value against "the loss is at least ``margin``".

    Args:
        differences: (..., samples), sparse minus dense, NaN where not scored.
        binary: True where scores are 0 or 1: Tango's score test; else a paired t-test, which has Tango's
            test in its place where the differences have no spread.
        margin: the loss to exclude.
        effect: `stats.design_effect` of clusters, by which the samples are divided.
    """
    from scipy.stats import t as student

    d = np.asarray(differences, float)
    n, mean = count_and_mean(d)
    alike = np.broadcast_to(np.asarray(effect, float), n.shape)
    gains, losses = np.nansum(np.maximum(d, 0), -1), np.nansum(np.maximum(-d, 0), -1)
    exact = tango.p_above(gains / alike, losses / alike, n / alike, -margin)
    squares = np.nansum((d - mean[..., None]) ** 2, -1)
    error = np.sqrt(alike * squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    usable = ~np.broadcast_to(np.asarray(binary, bool), n.shape) & (error > 0)
    t = np.divide(mean + margin, error, out=np.zeros_like(error), where=usable)
    return np.asarray(np.where(usable, student.sf(t, np.maximum(n / alike - 1, 1)), exact))


def tolerated(
    sparsity: ArrayLike,
    differences: ArrayLike,
    binary: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Tolerance:
    """The tolerated sparsity of each curve.

    Args:
        sparsity: (settings,), ascending, without 0: at 0 a method is dense and loses nothing.
        differences: (curves, settings, samples), sparse minus dense, NaN where not scored.
        binary: (curves,), True where scores are 0 or 1.
        clusters: (curves, samples), labels of samples that are alike, such as documents.
        margin: the loss that is tolerated.
        confidence: of the two-sided intervals; one-sided tests have half the rest.
        seed: of the bootstrap for graded scores.

    Settings that did not run end a curve where none follows; between others they stop the tests.
    """
    s, d = np.asarray(sparsity, float), np.asarray(differences, float)
    kind = np.broadcast_to(np.asarray(binary, bool)[:, None], d.shape[:2])
    effect = 1.0 if clusters is None else design_effect(d, np.asarray(clusters)[:, None])
    paired = paired_difference(d, 0.0, kind, effect=effect, confidence=confidence, seed=seed)
    tested = paired.n > 0
    p = np.where(tested, exclusion_p(d, kind, margin, effect), 1.0)
    level = (1 - confidence) / 2
    depth = np.logical_and.accumulate(p <= level, axis=1).sum(1)
    # Settings after the last that ran neither pass nor lose; they are no part of the curve.
    last = np.where(tested, np.arange(1, len(s) + 1), 0).max(1, initial=0)
    ended = np.arange(len(s)) >= last[:, None]
    shown = (paired.high < -margin) | ended
    trailing = np.logical_and.accumulate(shown[:, ::-1], axis=1)[:, ::-1] & ~ended
    first = np.where(trailing.any(1), trailing.argmax(1), -1)
    n = np.where(tested, paired.n, np.iinfo(np.int64).max).min(1, initial=np.iinfo(np.int64).max)
    n = np.where(tested.any(1), n, 0)
    detectable = excludable_margin((paired.n / effect)[:, 0], _noise(d[:, 0]), confidence=confidence)
    lost = np.where(first >= 0, s[first], np.nan)
    blind = (n < LEAST) | ((depth == 0) & (first < 0)) | ((depth == 0) & (first > 0) & (detectable > margin))
    state = np.where(first == 0, BELOW, np.where(first > 0, BETWEEN, AT_LEAST))
    ladder = np.concatenate([[0.0], s])
    return Tolerance(
        np.where(blind, np.nan, ladder[depth]),
        np.where(blind, np.nan, ladder[shared_depth(p, last, level)]),
        np.where(blind, np.nan, lost),
        np.where(blind, CANNOT_SAY, state),
        n,
        detectable,
    )


def _noise(d: Array) -> Array:
    """Share of pairs that flip by noise: twice the rarer direction (of graded scores its mean square)."""
    ways = [count_and_mean(np.maximum(side, 0) ** 2)[1] for side in (d, -d)]
    return np.asarray(2 * np.fmin(*ways))


def shared_depth(p: Array, last: NDArray[np.int64], level: float) -> NDArray[np.int64]:
    """How many settings of each curve pass when all curves hold together at ``level``.

    Every curve tests its settings in order at its part of the level, and one that has passed all of them
    leaves its part to the others: with one setting a curve this is Holm's procedure (the graphical method of
    Bretz et al. 2009, Statistics in Medicine 28, 586-604).

    Args:
        p: (curves, settings) p-values.
        last: (curves,), number of settings of each curve.
        level: one-sided level of all of them together.
    """
    waiting = last > 0
    depth = np.zeros(len(p), np.int64)
    while waiting.any():
        passes = p <= level / waiting.sum()
        reached = np.logical_and.accumulate(passes, axis=1).sum(1)
        depth = np.where(waiting, np.minimum(np.maximum(depth, reached), last), depth)
        still = waiting & (depth < last)
        if still.sum() == waiting.sum():
            break
        waiting = still
    return depth
