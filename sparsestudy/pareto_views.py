"""What accuracy is set against: operations of a prefill, bytes of a decode, and seconds that compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from sparsestudy import paths, stats
from sparsestudy.cells import group_of
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.frontiers import Configurations, by_length
from sparsestudy.claims.ledger import ESTIMANDS
from sparsestudy.claims.specs import Claim, load
from sparsestudy.errors import StudyError
from sparsestudy.schema import BATCHES, GENERATED
from sparsestudy.view import Run

REPLY = GENERATED[1]
"""Tokens of the replies that a decode is priced for; those that were given differ between methods."""
GROUPS = (("prefill", None), ("decode", "dense"), ("decode", "decode"))


@dataclass(frozen=True)
class View:
    """Methods of one phase and tail against one cost.

    Args:
        group: of the methods, as tables name it.
        claim: the committed claim of the phase, for the cells and the cost of this view.
    """

    group: str
    claim: Claim

    @property
    def kind(self) -> str:
        """What is counted: ``flops``, ``bytes`` or ``seconds``."""
        return str(self.claim.cells.cost).rpartition("_")[2]

    def cost(self, evidence: Evidence) -> stats.Array:
        """(model, method, sparsity, length) of this view's cost."""
        return evidence.cost(self.claim.cells)


def timed(run: Run) -> bool:
    """Whether the seconds of a run compare: `results/timed.yaml` names those made on a quiet device."""
    file = paths.results(True) / "timed.yaml"
    named = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    devices = set(run.data["device"].values.ravel().tolist()) - {""}
    return f"{run.data.attrs['experiment']}/{run.name}" in (named or []) and len(devices) == 1


def views(run: Run) -> list[View]:
    """What the page compares: operations of the prefill; bytes of the decode, by tail and batch; seconds."""
    claims = {claim.id: claim for claim in load(list(ESTIMANDS))}
    found = []
    for phase, tail in GROUPS:
        claim = claims[f"pareto-{phase}"]
        costs: list[dict[str, Any]] = [{}] if phase == "prefill" else _bytes()
        if timed(run):
            costs.append({"cost": f"{phase}_seconds"})
        for cost in costs:
            cells = claim.cells.model_copy(update={"tail": tail, **cost})
            found.append(View(group_of(phase, str(tail)), claim.model_copy(update={"cells": cells})))
    return found


def _bytes() -> list[dict[str, Any]]:
    return [{"generated": REPLY, "batch": batch} for batch in BATCHES]


def evidence_of(run: Run, view: View) -> Evidence | None:
    """The cells of a view; None where the run has none that can lose anything, or no such cost."""
    try:
        evidence = Evidence.of(run.data, view.claim.cells, view.claim.id)
        view.cost(evidence)
    except StudyError:
        return None
    return evidence


def compared(evidence: Evidence | None, view: View) -> dict[int, Configurations]:
    """The configurations of each length at which models of several sizes compare; none without any."""
    try:
        return {} if evidence is None else by_length(evidence, view.claim)
    except StudyError:
        return {}
