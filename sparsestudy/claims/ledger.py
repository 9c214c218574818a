"""Verdicts: each claim judged on each of its datasets, by the rule that was committed with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sparsestudy import stats
from sparsestudy.claims import budgets, frontiers, methods, pairs, tolerances, trends
from sparsestudy.claims.evidence import Evidence, Outcome
from sparsestudy.claims.specs import Claim, load
from sparsestudy.errors import StudyError
from sparsestudy.forms import Form, plain

if TYPE_CHECKING:
    from sparsestudy.view import Run

SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED = (
    "supported",
    "contradicted",
    "inconclusive",
    "not measured",
)
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)

ESTIMANDS: dict[str, Callable[[Evidence, Claim], Outcome]] = {
    "frontier": frontiers.frontier,
    "smaller_dense_wins": pairs.smaller_dense_wins,
    "decision": frontiers.decision,
    "size_trend": trends.size_trend,
    "law": trends.law,
    "budget_exponent": tolerances.budget_exponent,
    "task_spread": tolerances.task_spread,
    "budget_policies": budgets.budget_policies,
    "decode_over_prefill": methods.decode_over_prefill,
    "best_everywhere": methods.best_everywhere,
    "moderate_loss": methods.moderate_loss,
}
"""What can be estimated, by the name that `claims.yaml` uses."""
OF_THE_MARGIN = ("budget_exponent", "task_spread")
"""Estimands whose effect itself depends on the margin, so that the wider one needs a second estimate."""


@dataclass(frozen=True)
class Verdict:
    """One claim judged on one dataset.

    Args:
        claim: what was judged.
        dataset: ``experiment/run``.
        hash: of the dataset, empty where there is none.
        verdict: one of `VERDICTS`.
        outcome: what was found; None where nothing was measured.
        reason: why nothing was measured or concluded, a sentence; empty otherwise.
        wide: the verdict with the wider margin.
    """

    claim: Claim
    dataset: str
    hash: str
    verdict: str
    outcome: Outcome | None
    reason: str
    wide: str


def ledger(runs: Mapping[str, Run], claims: list[Claim] | None = None) -> list[Verdict]:
    """Every claim judged on every dataset that it names.

    Args:
        runs: the published runs by ``experiment/run``.
        claims: the committed ones unless given.

    Raises:
        StudyError: `claims.yaml` is wrong.
    """
    entries = load(list(ESTIMANDS)) if claims is None else claims
    return [_kept(claim, name, runs.get(name)) for claim in entries for name in claim.datasets]


def _kept(claim: Claim, dataset: str, run: Run | None) -> Verdict:
    """The verdict, computed once for the files of a run; several pages show it."""
    if run is None:
        return judge(claim, dataset, None)
    form: Form[Verdict] = plain(Verdict)
    return run.keep(
        f"claim-{claim.id}", form, lambda: judge(claim, dataset, run), dataset, claim.model_dump_json()
    )


def judge(claim: Claim, dataset: str, run: Run | None) -> Verdict:
    """One claim on one dataset, or *not measured* with the reason."""
    if run is None:
        reason = f"There is no published dataset {dataset}."
        return Verdict(claim, dataset, "", NOT_MEASURED, None, reason, NOT_MEASURED)
    try:
        evidence, outcome = _found(claim, run)
    except StudyError as error:
        return Verdict(claim, dataset, run.hash, NOT_MEASURED, None, str(error), NOT_MEASURED)
    verdict, reason = _decided(claim, outcome, claim.margin)
    wider = claim.model_copy(update={"margin": stats.WIDE_MARGIN})
    wide, _ = _decided(claim, _again(evidence, wider, outcome), stats.WIDE_MARGIN)
    return Verdict(claim, dataset, run.hash, verdict, outcome, reason, wide)


def _found(claim: Claim, run: Run) -> tuple[Evidence, Outcome]:
    """What the cells with enough samples say; where they say nothing, what all do, which decides nothing.

    Raises:
        StudyError: the claim cannot be estimated from these data.
    """
    try:
        evidence = Evidence.of(run.data, claim.cells, claim.id, stats.LEAST)
        outcome = ESTIMANDS[claim.estimand](evidence, claim)
    except StudyError:
        evidence = Evidence.of(run.data, claim.cells, claim.id)
        return evidence, ESTIMANDS[claim.estimand](evidence, claim)
    if evidence.few:
        few = f"Left out, with fewer than {stats.LEAST} samples: {evidence.few}."
        outcome = replace(outcome, remark=f"{outcome.remark} {few}".strip())
    return evidence, outcome


def _again(evidence: Evidence, claim: Claim, outcome: Outcome) -> Outcome | None:
    """The outcome with the wider margin; None where that cannot be estimated."""
    if claim.estimand not in OF_THE_MARGIN:
        return outcome
    try:
        return ESTIMANDS[claim.estimand](evidence, claim)
    except StudyError:
        return None


def _decided(claim: Claim, outcome: Outcome | None, margin: float) -> tuple[str, str]:
    """The verdict, and why it is inconclusive where no limit decides that."""
    if outcome is None:
        return NOT_MEASURED, ""
    effect = outcome.effect
    if effect.n < stats.LEAST:
        return INCONCLUSIVE, f"No verdict below n = {stats.LEAST}; a cell has {effect.n}."
    if np.isnan(effect.estimate):
        return INCONCLUSIVE, "The data set no value of the effect."
    if claim.rule.supported.holds(effect.low, effect.high, margin):
        return SUPPORTED, ""
    if claim.rule.contradicted.holds(effect.low, effect.high, margin):
        return CONTRADICTED, ""
    return INCONCLUSIVE, ""
