"""Estimands that compare methods: on every task, at moderate sparsity, and across phases."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from sparsestudy import stats
from sparsestudy.claims.alike import Labels, alike
from sparsestudy.claims.evidence import Effect, Evidence, Outcome, smallest
from sparsestudy.claims.specs import Claim
from sparsestudy.errors import StudyError

Limits = tuple[stats.Array, stats.Array, stats.Array]


class Challenge(NamedTuple):
    """Something that may show a method to be wanting: a name, and the limits of a difference.

    Args:
        name: what it is.
        values: (strata, samples), the method less what it is held against.
        binary: whether there is one stratum of 0/1 scores.
        documents: what is drawn together, shape of ``values``.
    """

    name: str
    values: stats.Array
    binary: bool
    documents: Labels = None


def least_bad(challenges: dict[str, list[Challenge]], models: list[str], seed: int, what: str) -> Outcome:
    """The worst difference of the method whose worst difference is least bad.

    The upper limit holds for all challenges of all methods together (Bonferroni), since a method is found
    wanting by the worst of many. The lower limit holds one at a time: that a method stands every challenge
    is an intersection of tests, which needs no correction.

    Raises:
        StudyError: fewer than two methods have challenges.
    """
    challenges = {name: some for name, some in challenges.items() if some}
    if len(challenges) < 2:
        raise StudyError(f"The run has {len(challenges)} methods that can be compared; the claim needs two.")
    together = 1 - (1 - stats.CONFIDENCE) / sum(map(len, challenges.values()))
    parts, named = {}, {}
    found = iter(_limits([one for some in challenges.values() for one in some], together, seed))
    for name, some in challenges.items():
        effects = [next(found) for _ in some]
        worst = min(range(len(some)), key=lambda i: effects[i].estimate)
        estimate, low, high = (min(effect[i] for effect in effects) for i in range(3))
        parts[name] = Effect(estimate, low, high, min(effect.n for effect in effects))
        named[name] = some[worst].name
    ends = [max(part[i] for part in parts.values()) for i in range(3)]
    best = max(parts, key=lambda name: parts[name].estimate)
    effect = Effect(ends[0], ends[1], ends[2], min(part.n for part in parts.values()))
    return Outcome(effect, parts, models, f"{what} is {best}; its worst is {named[best]}.")


def _limits(challenges: list[Challenge], together: float, seed: int) -> list[Effect]:
    """The limits of each challenge."""
    found: dict[int, Effect] = {}
    for binary in (True, False):
        some = {i: (one.values, one.documents) for i, one in enumerate(challenges) if one.binary == binary}
        for places, values, documents in alike(some):
            limits = _of_pairs if binary else partial(_of_strata, seed=seed)
            estimate, low, high = limits(values, documents, together)
            for row, place in enumerate(places):
                n = smallest(challenges[place].values)
                found[place] = Effect(float(estimate[row]), float(low[row]), float(high[row]), n)
    return [found[place] for place in range(len(challenges))]


def _of_pairs(values: stats.Array, documents: Labels, together: float) -> Limits:
    """Of (challenges, 1, samples) of 0/1 scores."""
    effect = 1.0 if documents is None else stats.design_effect(values, documents)
    alone, joint = (
        stats.paired_difference(values, 0.0, True, effect=effect, confidence=level)
        for level in (stats.CONFIDENCE, together)
    )
    return alone.estimate[:, 0], alone.low[:, 0], joint.high[:, 0]


def _of_strata(values: stats.Array, documents: Labels, together: float, *, seed: int) -> Limits:
    """Of (challenges, strata, samples)."""
    # Enough resamples for the outermost limits that many challenges ask for.
    resamples = max(stats.RESAMPLES, int(20 / (1 - together)))
    alone, joint = stats.pooled_at(
        values, (stats.CONFIDENCE, together), clusters=documents, resamples=resamples, seed=seed
    )
    return alone.estimate, alone.low, joint.high


def moderate_loss(evidence: Evidence, claim: Claim) -> Outcome:
    """Sparse minus dense on the task and length where a method loses most, for the method that loses least.

    Raises:
        StudyError: fewer than two methods, or fewer than two tasks.
    """
    del claim
    _need_tasks(evidence)
    differences, documents = evidence.differences, evidence.documents
    challenges: dict[str, list[Challenge]] = {}
    for method in evidence.methods:
        own = challenges.setdefault(evidence.method(method), [])
        for model, sparsity, length, task in np.argwhere(np.isfinite(differences[:, method]).any(-1)):
            values = differences[model, method, sparsity, length, task][None]
            name = (
                f"{evidence.task(int(task))} at {evidence.data['length'].values[length]:,} tokens and "
                f"nominal sparsity {evidence.nominal[sparsity]:g}"
            )
            labels = None if documents is None else documents[length, [task]]
            own.append(Challenge(name, values, bool(evidence.binary[task]), labels))
    return least_bad(challenges, evidence.models(), evidence.seed, "The method that loses least")


def best_everywhere(evidence: Evidence, claim: Claim) -> Outcome:
    """A method less another on the task where it is beaten most, for the method that is beaten least.

    Only methods of one phase and tail are compared, on the settings and prompts that both have; the settings
    are averaged prompt by prompt.

    Raises:
        StudyError: fewer than two methods, or fewer than two tasks.
    """
    del claim
    _need_tasks(evidence)
    documents = evidence.documents
    challenges: dict[str, list[Challenge]] = {}
    for method in evidence.methods:
        own = challenges.setdefault(evidence.method(method), [])
        for other in evidence.rivals(method):
            difference = evidence.scores[:, method] - evidence.scores[:, other]
            for task in range(difference.shape[3]):
                theirs = None if documents is None else documents[:, [task]]
                values, labels = _strata(_nanmean(difference[:, :, :, [task]], 1), theirs)
                if values.size:
                    name = f"{evidence.task(task)} against {evidence.method(other)}"
                    own.append(Challenge(name, values, False, labels))
    return least_bad(challenges, evidence.models(), evidence.seed, "The method that is beaten least")


def _need_tasks(evidence: Evidence) -> None:
    tasks = np.flatnonzero(np.isfinite(evidence.scores).any((0, 1, 2, 3, 5)))
    if len(tasks) < 2:
        raise StudyError(f"The claim is about several tasks, and the run can tell {len(tasks)}.")


def _strata(values: stats.Array, documents: Labels) -> tuple[stats.Array, Labels]:
    """(strata, samples) from (model, length, task, sample), empty strata left out, and their documents."""
    flat = values.reshape(-1, values.shape[-1])
    some = np.asarray(np.isfinite(flat).any(-1))
    if documents is None:
        return flat[some], None
    return flat[some], np.broadcast_to(documents, values.shape).reshape(flat.shape)[some]


def decode_over_prefill(evidence: Evidence, claim: Claim) -> Outcome:
    """Decode-time methods less prefill-time methods on the same prompts, at equal sparsity or at equal cost.

    Methods of a phase are averaged prompt by prompt. Parts are the tails of decode methods, and the tasks.

    Raises:
        StudyError: no setting that both phases have, or no cost where the claim names one.
    """
    phases = evidence.data["method_phase"].values
    prefill, decode = ([m for m in evidence.methods if phases[m] == phase] for phase in ("prefill", "decode"))
    if not (prefill and decode):
        raise StudyError(
            "The claim compares prefill with decode, and the run has methods of one phase alone."
        )
    pairs = _equal_sparsity if claim.cells.cost is None else _equal_cost
    difference = pairs(evidence, claim, decode, prefill)  # (decode method, model, length, task, sample)
    if not np.isfinite(difference).any():
        raise StudyError("No decode method has a setting that stands beside one of a prefill method.")
    documents, seed = evidence.documents, evidence.seed
    parts = {evidence.method(m): _mean(difference[i : i + 1], documents, seed) for i, m in enumerate(decode)}
    for task in range(difference.shape[3]):
        own = None if documents is None else documents[:, [task]]
        parts[evidence.task(task)] = _mean(difference[..., [task], :], own, seed)
    parts = {name: part for name, part in parts.items() if part.n}
    return Outcome(_mean(difference, documents, seed), parts, evidence.models())


def _equal_sparsity(evidence: Evidence, claim: Claim, decode: list[int], prefill: list[int]) -> stats.Array:
    del claim
    each = evidence.scores[:, decode] - _nanmean(evidence.scores[:, prefill], 1)[:, None]
    return _nanmean(each, 2).swapaxes(0, 1)


def _equal_cost(evidence: Evidence, claim: Claim, decode: list[int], prefill: list[int]) -> stats.Array:
    """Each prefill setting against each decode method read at its cost; NaN where none has that cost."""
    cost = evidence.cost(claim.cells)
    shape = evidence.scores.shape
    found = np.full((len(decode), shape[0], *shape[3:]), np.nan)
    for i, method in enumerate(decode):
        for model, length in np.ndindex(shape[0], shape[3]):
            ladder = np.where(
                np.isfinite(evidence.scores[model, method, :, length]).any((1, 2)),
                cost[model, method, :, length],
                np.nan,
            )
            rows = []
            for other in prefill:
                for s in np.flatnonzero(np.isfinite(evidence.scores[model, other, :, length]).any((1, 2))):
                    weights = stats.equal_cost_weights(ladder, cost[model, other, s, length])
                    if weights is not None:
                        used = np.flatnonzero(weights)
                        there = np.tensordot(weights[used], evidence.scores[model, method, used, length], 1)
                        rows.append(there - evidence.scores[model, other, s, length])
            if rows:
                found[i, model, length] = _nanmean(np.stack(rows), 0)
    return found


def _nanmean(values: stats.Array, axis: int) -> stats.Array:
    n = np.isfinite(values).sum(axis)
    return np.asarray(np.divide(np.nansum(values, axis), n, out=np.full(n.shape, np.nan), where=n > 0))


def _mean(difference: stats.Array, documents: Labels, seed: int) -> Effect:
    """The mean over methods, and over models, lengths and tasks as strata."""
    flat, labels = _strata(_nanmean(difference, 0), documents)
    if not len(flat):
        return Effect(np.nan, -np.inf, np.inf, 0)
    interval = stats.pooled_at(flat, (stats.CONFIDENCE,), clusters=labels, seed=seed)[0]
    return Effect(float(interval.estimate), float(interval.low), float(interval.high), smallest(flat))
