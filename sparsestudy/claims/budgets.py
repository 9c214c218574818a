"""Estimand of budget policies: does a budget that grows with the length beat a fixed one of equal cost?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparsestudy import stats
from sparsestudy.claims.alike import Labels, alike
from sparsestudy.claims.evidence import Effect, Evidence, Outcome, smallest
from sparsestudy.claims.specs import Claim
from sparsestudy.claims.tolerances import Curves, curves, limits_of
from sparsestudy.errors import StudyError

CONSTANT, PROPORTIONAL = 0.0, 1.0
FITTED = ", power law fitted without each length"


class Gain(NamedTuple):
    """One budget policy less another, (lengths, samples), with the documents of the samples, if any."""

    values: stats.Array
    documents: Labels


@dataclass(frozen=True)
class Lengths:
    """One method on one task: what is known at each length.

    Args:
        tokens: (lengths,) of the prompts.
        weight: (lengths,), cost of a token of budget: 1 in a decode step, the length in a prefill.
        density: for each length the densities that were achieved.
        scores: for each length (settings, samples).
    """

    tokens: stats.Array
    weight: stats.Array
    density: list[stats.Array]
    scores: list[stats.Array]

    def growth(self, exponent: float) -> stats.Array:
        """Budgets that grow with a power of the length, in units of the constant one of equal cost."""
        power = (self.tokens / self.tokens.mean()) ** exponent
        return np.asarray(power * self.weight.sum() / (self.weight * power).sum())

    def constant(self, growths: list[stats.Array]) -> float | None:
        """The middle of the constants with which all policies stay within the settings; None without any."""
        ends = [(d.min() * t, d.max() * t) for d, t in zip(self.density, self.tokens, strict=True)]
        low = max(end[0] / g for growth in growths for end, g in zip(ends, growth, strict=True))
        high = min(end[1] / g for growth in growths for end, g in zip(ends, growth, strict=True))
        return float(np.sqrt(low * high)) if low < high else None

    def at(self, place: int, budget: float) -> stats.Array:
        """Scores of the prompts of one length at a budget, straight between settings in log density."""
        weights = stats.equal_cost_weights(self.density[place], budget / self.tokens[place])
        assert weights is not None  # the constant keeps every budget within the settings
        return np.asarray(weights @ self.scores[place])

    def gain(self, exponents: stats.Array) -> stats.Array | None:
        """(lengths, samples): the policy with the exponent of each length, less the constant budget."""
        growths = [self.growth(exponent) for exponent in exponents]
        constant = self.constant([*growths, self.growth(CONSTANT)])
        if constant is None:
            return None
        return np.stack(
            [self.at(i, constant * growth[i]) - self.at(i, constant) for i, growth in enumerate(growths)]
        )


def budget_policies(evidence: Evidence, claim: Claim) -> Outcome:
    """A budget proportional to the length less a constant one, at equal cost over the lengths.

    Parts are the methods and tasks; beside each, a power law with the exponent that the tolerated budgets of
    the other lengths give, where these set one.

    Raises:
        StudyError: no method has settings that span both budgets at two lengths.
    """
    found = curves(evidence, claim.margin, joint=False)
    gains: dict[str, Gain] = {}
    decisive: list[str] = []
    documents = evidence.documents
    shown = list(dict.fromkeys((p.model, p.method, p.task) for p in found.places))
    lengths = [_lengths(evidence, *curve) for curve in shown]
    powers = _fitted(limits_of(evidence, found), found, shown, [places for places, _ in lengths])
    for (model, method, task), (places, own), exponents in zip(shown, lengths, powers, strict=True):
        gain = own.gain(np.full(len(places), PROPORTIONAL)) if len(places) > 1 else None
        if gain is None:
            continue
        name = evidence.curve(model, method, task)
        own_documents = None if documents is None else documents[places, task]
        gains[name] = Gain(gain, own_documents)
        decisive.append(name)
        fitted = None if exponents is None else own.gain(exponents)
        if fitted is not None:
            gains[f"{name}{FITTED}"] = Gain(fitted, own_documents)
    if not decisive:
        raise StudyError("No method has settings that span both budgets at two lengths or more.")
    parts = _effects(gains, evidence.seed)
    return Outcome(_cautious_mean([parts[name] for name in decisive]), parts, evidence.models())


def _lengths(evidence: Evidence, model: int, method: int, task: int) -> tuple[list[int], Lengths]:
    """The lengths at which at least two settings ran on all prompts."""
    scores = evidence.scores[model, method, :, :, task]
    density, tokens = evidence.densities[model, method, :, :, task], evidence.tokens[model, :, task]
    ran = np.asarray((np.isfinite(scores) | ~evidence.asked).all(-1)) & evidence.asked.any(-1)
    places = [int(place) for place in np.flatnonzero(ran.sum(0) > 1)]
    prefill = evidence.data["method_phase"].values[method] == "prefill"
    weight = tokens[places] if prefill else np.ones(len(places))
    return places, Lengths(
        tokens[places],
        weight,
        [density[ran[:, place], place] for place in places],
        [scores[ran[:, place], place] for place in places],
    )


def _fitted(
    tokens: stats.Array, found: Curves, shown: list[tuple[int, int, int]], places: list[list[int]]
) -> list[stats.Array | None]:
    """For each curve and each of its lengths the exponent that the others give; None for a curve without any.

    Args:
        tokens: of the prompts, and the limits of the tolerated budgets.
        found: what is tolerated.
        shown: (model, method, task) of each curve.
        places: the lengths of each.
    """
    known: dict[tuple[int, int, int], list[int]] = {}
    for row, p in enumerate(found.places):
        if found.known.state[row] != stats.CANNOT_SAY:
            known.setdefault((p.model, p.method, p.task), []).append(row)
    others = [
        [[row for row in known.get(curve, []) if found.places[row].length != place] for place in own]
        for curve, own in zip(shown, places, strict=True)
    ]
    told = [all(len(rows) >= 3 for rows in some) for some in others]
    fits = iter(
        stats.exponents(
            [
                stats.Budgets(tokens[0, rows], tokens[1, rows], tokens[2, rows], np.zeros(len(rows)))
                for some, enough in zip(others, told, strict=True)
                for rows in (some if enough else [])
            ]
        )
    )
    exponents: list[stats.Array | None] = []
    for some, enough in zip(others, told, strict=True):
        own = [next(fits) for _ in (some if enough else [])]
        closed = bool(np.isfinite([(one.low, one.high) for one in own]).all()) and enough
        exponents.append(np.array([one.estimate for one in own]) if closed else None)
    return exponents


def _effects(gains: dict[str, Gain], seed: int) -> dict[str, Effect]:
    """The mean of each gain over its lengths."""
    found = {}
    for names, values, documents in alike(gains):
        each = stats.pooled_at(values, (stats.CONFIDENCE,), clusters=documents, seed=seed)[0]
        for row, name in enumerate(names):
            limits = float(each.estimate[row]), float(each.low[row]), float(each.high[row])
            found[name] = Effect(*limits, smallest(values[row]))
    return {name: found[name] for name in gains}


def _cautious_mean(parts: list[Effect]) -> Effect:
    """The mean of effects on the same prompts: limits as if they rose and fell together, the widest case."""
    estimate, low, high = (float(np.mean([part[i] for part in parts])) for i in range(3))
    return Effect(estimate, low, high, min(part.n for part in parts))
