"""Budgets from measured densities, for methods whose density has no closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sparsestudy.errors import StudyError, Unreachable
from sparsestudy.methods.base import Measure, Method

# How far above the target the lowest density may lie before the target is out of reach, as a share of it:
# density 0.05 is still tried where the forced units alone make 0.0525. What is achieved is stored anyway.
TOLERANCE = 0.05

Variant = TypeVar("Variant", bound=Method)


def calibrate(
    variant: Callable[[int], Variant],
    steps: range,
    sparsity: float,
    length: int,
    measure: Measure | None,
) -> Variant:
    """The variant whose measured density is closest to a target.

    Densities are taken to rise with the step. Measured ones may fall here and there; the closest of all that
    were measured on the way is returned, the smaller step where two are equally close.

    Args:
        variant: step -> method with that budget.
        steps: the steps to choose from, the first one the smallest budget there is.
        sparsity: target share of causal pairs left out, 0 < sparsity < 1.
        length: prompt length in tokens, for the message.
        measure: mean attended density of a variant; each step is measured at most once.

    Raises:
        StudyError: there is no measure.
        Unreachable: the first step has more than the target by over :data:`TOLERANCE` of it.
    """
    name = variant(steps[0]).name
    if measure is None:
        raise StudyError(
            f"{name} has no closed form from sparsity to budget; give at_sparsity a measure of its density "
            "on calibration prompts, or set its budget yourself."
        )
    target = 1 - sparsity
    found: dict[int, float] = {steps[0]: measure(variant(steps[0]))}
    lowest = found[steps[0]]
    if lowest > target * (1 + TOLERANCE):
        raise Unreachable(
            f"{name} cannot reach sparsity {sparsity:.3f} at {length} tokens: its smallest budget already "
            f"makes density {lowest:.4f}.",
            lowest,
        )
    below, above = 0, len(steps)
    while above - below > 1:
        middle = (below + above) // 2
        found[steps[middle]] = measure(variant(steps[middle]))
        below, above = (middle, above) if found[steps[middle]] < target else (below, middle)
    return variant(min(found, key=lambda step: (abs(found[step] - target), step)))
