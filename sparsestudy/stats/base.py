"""What the statistics share: levels, types, seeds, counts and quantiles."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Level of every interval in the report."""
POWER = 0.8
"""Probability with which a minimum detectable difference would be found."""
RESAMPLES = 2000
MARGIN = 0.05
"""A loss smaller than this counts as no loss that matters (one twentieth of the scale)."""
WIDE_MARGIN = 0.1
"""The margin of the sensitivity analysis."""
LEAST = 100
"""Samples below which nothing is judged."""

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate per cell with its limits and the number of samples behind it."""

    estimate: Array
    low: Array
    high: Array
    n: NDArray[np.int64]


class Difference(NamedTuple):
    """A paired difference per cell: limits, number of pairs, p-value and shares of gains and losses."""

    estimate: Array
    low: Array
    high: Array
    n: NDArray[np.int64]
    p: Array
    gains: Array
    losses: Array


def seed_of(*parts: object) -> int:
    """A 64-bit seed from what is resampled, so that a page never changes without its data."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def quantile(confidence: float) -> float:
    """The standard normal quantile of a two-sided interval, such as 1.96 for 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def count_and_mean(scores: Array) -> tuple[NDArray[np.int64], Array]:
    """Number and mean of the finite values along the last axis; NaN for none."""
    n = np.isfinite(scores).sum(-1)
    total = np.nansum(scores, -1)
    return n, np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)


def spread(values: Array) -> Array:
    """Largest minus smallest finite value along the last axis; minus infinity for none."""
    filled_low = np.where(np.isfinite(values), values, np.inf)
    filled_high = np.where(np.isfinite(values), values, -np.inf)
    with np.errstate(invalid="ignore"):
        return np.asarray(filled_high.max(-1, initial=-np.inf) - filled_low.min(-1, initial=np.inf))
