"""Statistics of the study, on numpy and scipy: nothing here knows what a method or a task is.

Arrays have the samples of a cell on their last axis, with NaN for a sample that was not scored.

- ``intervals``, ``paired``, ``tango``: means, differences of pairs, and corrections for many of them.
- ``resampling``: means over tasks, clustered by document, with resamples that all cells share.
- ``power``: what a number of samples can find, and what it can exclude.
- ``tolerance``, ``censored``, ``profiles``: tolerated sparsity, and how a tolerated budget grows with length.
- ``growth``: how a mean grows with length.
- ``crossfit``, ``frontier``, ``scaling``: accuracy against cost; a law of size, length and compression.
"""

from __future__ import annotations

from sparsestudy.stats.base import (
    CONFIDENCE,
    LEAST,
    MARGIN,
    POWER,
    RESAMPLES,
    WIDE_MARGIN,
    Array,
    Difference,
    Interval,
    seed_of,
)
from sparsestudy.stats.censored import Budgets, Exponent, exponents
from sparsestudy.stats.cheaper import Cheaper, cheaper
from sparsestudy.stats.crossfit import SPLITS
from sparsestudy.stats.frontier import Frontiers, Winner, equal_cost_weights, frontier_gain, frontiers, winner
from sparsestudy.stats.growth import growth, slopes
from sparsestudy.stats.intervals import combine, mean_interval, wilson
from sparsestudy.stats.paired import design_effect, holm, paired_difference
from sparsestudy.stats.power import excludable_margin, exclusion_power, minimum_detectable_difference
from sparsestudy.stats.resampling import pooled_at, shares, stratified
from sparsestudy.stats.scaling import AXES, Held, held_out, size_slope
from sparsestudy.stats.tolerance import CANNOT_SAY, Tolerance, tolerated

__all__ = [
    "AXES",
    "CANNOT_SAY",
    "CONFIDENCE",
    "LEAST",
    "MARGIN",
    "POWER",
    "RESAMPLES",
    "SPLITS",
    "WIDE_MARGIN",
    "Array",
    "Budgets",
    "Cheaper",
    "Difference",
    "Exponent",
    "Frontiers",
    "Held",
    "Interval",
    "Tolerance",
    "Winner",
    "cheaper",
    "combine",
    "design_effect",
    "equal_cost_weights",
    "excludable_margin",
    "exclusion_power",
    "exponents",
    "frontier_gain",
    "frontiers",
    "growth",
    "held_out",
    "holm",
    "mean_interval",
    "minimum_detectable_difference",
    "paired_difference",
    "pooled_at",
    "seed_of",
    "shares",
    "size_slope",
    "slopes",
    "stratified",
    "tolerated",
    "wilson",
    "winner",
]
