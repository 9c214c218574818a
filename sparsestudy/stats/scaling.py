"""A law of accuracy in size, length and compression, and how well it foretells what it was not fitted to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsestudy.errors import StudyError
from sparsestudy.stats.base import CONFIDENCE, RESAMPLES, Array

AXES = ("size", "length", "compression")
HELD = 0.1
"""Least share of the cells that is held out."""


class Held(NamedTuple):
    """Errors on cells that were held out.

    Args:
        axis: which of `AXES` was held out beyond its last fitted value.
        law: root mean squared error of the law.
        baseline: that of the same law without compression.
        skill: share of the baseline's squared error that the law saves; below 0 it is worse.
        low: lower limit of the skill.
        high: upper limit.
        cells: number of cells held out.
    """

    axis: str
    law: float
    baseline: float
    skill: float
    low: float
    high: float
    cells: int


def design(size: Array, length: Array, compression: Array, task: NDArray[np.int64], full: bool) -> Array:
    """Columns of the law, (cells, columns): a level for each task, log size and log length and, if ``full``,
    log compression with a slope for each task that changes with log size and log length.

    Args:
        size: parameters of the model.
        length: tokens of the prompt.
        compression: 1 / attended density, at least 1.
        task: which task, from 0.
        full: False for the baseline, which ignores sparsity.
    """
    levels = np.eye(int(task.max()) + 1)[task]
    n, t, c = np.log(size / 1e6), np.log(length / 1e3), np.log(compression)
    columns = [levels, n[:, None], t[:, None]]
    if full:
        columns += [levels * c[:, None], (c * n)[:, None], (c * t)[:, None]]
    return np.concatenate(columns, axis=1)


def fit(columns: Array, accuracy: Array, n: Array) -> Array:
    """Coefficients of a logistic law of accuracy, fitted to ``n`` samples a cell.

    A slight pull towards 0 (a normal prior of standard deviation 10) keeps them finite where a task is
    always solved.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    total = n.sum()

    def loss(beta: Array) -> tuple[float, Array]:
        z = columns @ beta
        value = (n * (np.logaddexp(0, z) - accuracy * z)).sum() + (beta**2).sum() / 200
        slope = columns.T @ (n * (expit(z) - accuracy)) + beta / 100
        return value / total, slope / total

    return np.asarray(minimize(loss, np.zeros(columns.shape[1]), jac=True, method="BFGS").x)


def held_out(
    size: ArrayLike,
    length: ArrayLike,
    compression: ArrayLike,
    task: ArrayLike,
    accuracy: ArrayLike,
    n: ArrayLike,
    axis: str,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Held:
    """Fit the law below the largest value of one axis, and foretell the cells at it.

    Where fewer than a tenth of the cells are at the largest value, those at the next ones are held out too:
    achieved compression differs from cell to cell, and a single cell far out would be all that is foretold.

    Args:
        size: parameters of the model of each cell, all (cells,).
        length: tokens of its prompts.
        compression: 1 / attended density.
        task: a label.
        accuracy: its mean score, in 0..1.
        n: its samples.
        axis: one of `AXES`.
        confidence: level of the interval of the skill, which resamples the cells held out.
        seed: of the resamples.

    Raises:
        StudyError: the axis has fewer than three values, so that no trend along it can be fitted and tested.
    """
    values = [np.asarray(v, float) for v in (size, length, compression, accuracy, n)]
    _, tasks = np.unique(np.asarray(task), return_inverse=True)
    held_along = values[AXES.index(axis)]
    rounded = np.round(np.log(held_along), 1)
    steps, cells = np.unique(rounded, return_counts=True)
    outer = 1 + int(np.argmax(np.cumsum(cells[::-1]) >= HELD * len(rounded)))
    if len(steps) < outer + 2:
        raise StudyError(
            f"The law needs at least {outer + 2} values along {axis}; there are {len(steps)}: add some to "
            "the run."
        )
    test = rounded >= steps[-outer]
    error = {}
    for full in (True, False):
        columns = design(values[0], values[1], values[2], tasks, full)
        beta = fit(columns[~test], values[3][~test], values[4][~test])
        error[full] = (1 / (1 + np.exp(-columns[test] @ beta)) - values[3][test]) ** 2
    law, base = error[True], error[False]
    draws = np.random.default_rng(seed % 2**63).integers(0, len(law), (RESAMPLES, len(law)))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(1 - law[draws].mean(1) / np.maximum(base[draws].mean(1), 1e-12), tails)
    skill = 1 - law.mean() / max(base.mean(), 1e-12)
    root = [float(np.sqrt(part.mean())) for part in (law, base)]
    return Held(axis, root[0], root[1], float(skill), float(low), float(high), len(law))


def size_slope(
    size: ArrayLike, change: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """How the loss by sparsity changes with each doubling of the size, with t limits.

    Args:
        size: parameters of each model, (models,); training seeds of one size are models of their own.
        change: mean of sparse minus dense for each.
        confidence: level of the interval.

    The models are the units: what is seen holds for models like these, not only for these. NaN and infinite
    limits with fewer than three models or a single size.
    """
    from scipy.stats import t as student

    x, y = np.log2(np.asarray(size, float)), np.asarray(change, float)
    x = x - x.mean()
    square = float((x**2).sum())
    if len(x) < 3 or square == 0:
        return np.nan, -np.inf, np.inf
    slope = float(x @ y) / square
    rest = y - y.mean() - slope * x
    half = student.ppf(0.5 + confidence / 2, len(x) - 2) * np.sqrt((rest @ rest) / (len(x) - 2) / square)
    return slope, slope - half, slope + half
