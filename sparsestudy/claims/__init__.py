"""The claims under test: from `claims.yaml` and the published datasets to verdicts, which are never typed."""

from __future__ import annotations

from sparsestudy.claims.ledger import VERDICTS, Verdict, judge, ledger

__all__ = ["VERDICTS", "Verdict", "judge", "ledger"]
