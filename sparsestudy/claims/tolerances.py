"""Estimands of tolerated sparsity: how it differs between tasks, and how it grows with length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparsestudy import stats
from sparsestudy.claims.evidence import Effect, Evidence, Outcome
from sparsestudy.claims.specs import Claim
from sparsestudy.errors import StudyError


class Curve(NamedTuple):
    """Places of one curve: accuracy over sparsities."""

    model: int
    method: int
    length: int
    task: int


class Curves(NamedTuple):
    """Curves with what is known of their tolerated sparsity."""

    places: list[Curve]
    known: stats.Tolerance
    point: stats.Array


def curves(evidence: Evidence, margin: float, joint: bool) -> Curves:
    """The tolerated sparsity of every curve that has any cell.

    Args:
        evidence: the cells.
        margin: the loss that is tolerated.
        joint: whether the intervals hold for all curves together (Bonferroni), not one at a time.

    ``point`` is the largest sparsity up to which every mean loss is below the margin, 0 where none is.
    """
    differences = evidence.differences[:, :, evidence.settings]
    found = np.isfinite(differences).any((2, 5))
    places = [Curve(*map(int, place)) for place in np.argwhere(found)]
    rows = np.stack([differences[p.model, p.method, :, p.length, p.task] for p in places])
    binary = evidence.binary[[p.task for p in places]]
    sparsity = evidence.nominal[evidence.settings]
    confidence = 1 - (1 - stats.CONFIDENCE) / (len(places) if joint else 1)
    documents, at = evidence.documents, ([p.length for p in places], [p.task for p in places])
    known = stats.tolerated(
        sparsity,
        rows,
        binary,
        clusters=None if documents is None else documents[at],
        margin=margin,
        confidence=confidence,
        seed=evidence.seed,
    )
    n = np.isfinite(rows).sum(-1)
    mean = np.divide(np.nansum(rows, -1), n, out=np.full(n.shape, -np.inf), where=n > 0)
    depth = np.logical_and.accumulate(mean > -margin, axis=1).sum(1)
    return Curves(places, known, np.concatenate([[0.0], sparsity])[depth])


def task_spread(evidence: Evidence, claim: Claim) -> Outcome:
    """The largest tolerated sparsity of a task less the smallest, where these are widest apart.

    Raises:
        StudyError: tasks of fewer than two kinds, or no curve that can be judged.
    """
    kinds = _kinds(evidence, claim)
    found = curves(evidence, claim.margin, joint=True)
    parts: dict[str, Effect] = {}
    worst: list[tuple[float, str]] = []
    for group in _groups(found.places):
        rows = [row for row in group if found.known.state[row] != stats.CANNOT_SAY]
        named = {kinds.get(found.places[row].task) for row in rows}
        if len(named) < 2:
            continue
        kept, lost = (
            found.known.kept[rows],
            np.where(np.isnan(found.known.lost[rows]), 1, found.known.lost[rows]),
        )
        first = found.places[rows[0]]
        point = found.point[rows]
        low = float(kept.max() - lost.min())
        n = int(found.known.n[rows].min())
        effect = Effect(float(np.ptp(point)), low, float(lost.max() - kept.min()), n)
        parts[_place(evidence, first)] = effect
        worst.append((float(point.min()), evidence.task(found.places[rows[int(point.argmin())]].task)))
    if not parts:
        raise StudyError("No method has tasks of two kinds whose tolerance these samples can tell.")
    widest = max(parts.values(), key=lambda part: (part.low, part.estimate))
    name = min(worst)[1]
    return Outcome(widest, parts, evidence.models(), f"The task that tolerates least is {name}.")


def _groups(places: list[Curve]) -> Iterator[list[int]]:
    """Rows of the curves that differ in their task alone."""
    keys = [place[:3] for place in places]
    for key in dict.fromkeys(keys):
        yield [row for row, other in enumerate(keys) if other == key]


def _kinds(evidence: Evidence, claim: Claim) -> dict[int, str]:
    """The kind of each task, by its place.

    Raises:
        StudyError: tasks of fewer than two kinds.
    """
    names = evidence.data["task_name"].values.tolist()
    found = {
        place: kind
        for place, name in enumerate(names)
        for kind, tasks in claim.cells.kinds.items()
        if name in tasks
    }
    if len(set(found.values())) < 2:
        held = ", ".join(dict.fromkeys(found.values())) or "none of them"
        raise StudyError(
            f"The claim compares tasks of the kinds {', '.join(claim.cells.kinds)}, and the run holds {held}."
        )
    return found


def _place(evidence: Evidence, curve: Curve) -> str:
    length = int(evidence.data["length"].values[curve.length])
    return f"{evidence.method(curve.method)}, {evidence.data['model'].values[curve.model]}, {length:,} tokens"


def budget_exponent(evidence: Evidence, claim: Claim) -> Outcome:
    """The exponent of the tolerated token budget against length, common to all curves.

    Raises:
        StudyError: fewer than three lengths, or no curve that can be judged.
    """
    found = curves(evidence, claim.margin, joint=False)
    judged = [row for row, state in enumerate(found.known.state) if state != stats.CANNOT_SAY]
    lengths = {found.places[row].length for row in judged}
    if len(lengths) < 3:
        raise StudyError(
            f"The exponent needs tolerances at three lengths at least, and these samples tell {len(lengths)}."
        )
    tokens = limits_of(evidence, found)
    labels = np.array([(p.model, p.method, p.task) for p in found.places])
    curve = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    own = [[row for row in judged if curve[row] == index] for index in np.unique(curve[judged])]
    methods = {(p.model, p.task): set[int]() for p in found.places}
    for row in judged:
        methods[found.places[row].model, found.places[row].task].add(found.places[row].method)
    repeats = [1] * len(own) + [max(map(len, methods.values()))]
    fitted = stats.exponents(
        [
            stats.Budgets(tokens[0, rows], tokens[1, rows], tokens[2, rows], curve[rows], several)
            for rows, several in zip([*own, judged], repeats, strict=True)
        ]
    )
    *each, pooled = (
        Effect(one.estimate, one.low, one.high, int(found.known.n[rows].min()))
        for rows, one in zip([*own, judged], fitted, strict=True)
    )
    firsts = [found.places[rows[0]] for rows in own]
    parts = {
        evidence.curve(first.model, first.method, first.task): effect
        for first, effect in zip(firsts, each, strict=True)
    }
    above = sum(found.known.kept[row] == 0 for row in judged)
    below = sum(np.isnan(found.known.lost[row]) for row in judged)
    remark = f"Of {len(judged)} tolerated budgets {above} are open above and {below} below."
    return Outcome(pooled, parts, evidence.models(), remark)


def limits_of(evidence: Evidence, found: Curves) -> stats.Array:
    """(3, curves): tokens of the prompt, and the limits of the tolerated budget, as achieved."""
    values, prompt = evidence.densities, evidence.tokens
    rows = []
    for row, place in enumerate(found.places):
        own = values[place.model, place.method, :, place.length, place.task]
        length = float(prompt[place.model, place.length, place.task])
        kept, lost = (float(limit[row]) for limit in (found.known.kept, found.known.lost))
        low = 0.0 if np.isnan(lost) else own[np.argmin(np.abs(evidence.nominal - lost))]
        # With nothing kept even all tokens may be too few: what would be needed is open above.
        high = own[np.argmin(np.abs(evidence.nominal - kept))] if kept > 0 else np.inf
        rows.append((length, low * length, high * length))
    return np.array(rows).T
