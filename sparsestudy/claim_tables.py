"""Tables of the page on decisions: tolerances, planning numbers, verdicts and simulations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparsestudy import claim_words, forms, stats, words
from sparsestudy.claims import Verdict
from sparsestudy.claims.evidence import Evidence
from sparsestudy.claims.specs import Cells
from sparsestudy.claims.tolerances import curves
from sparsestudy.derived import kept
from sparsestudy.errors import StudyError
from sparsestudy.stats import simulation
from sparsestudy.view import Run

PAIRS = (50, 100, 200, 400, 800, 1600)
FLIPS = (0.0, 0.05, 0.1, 0.2)
RUNS, FEW_RUNS = 1000, 200
"""Simulations of what is quick, and of what is not."""
_SAMPLES, _FEW_SAMPLES = 100, 60


def tolerances(run: Run) -> pd.DataFrame:
    """One row a curve of a run: what is known of its tolerated sparsity; empty where nothing was compared."""
    return run.keep("tolerances", forms.FRAME, lambda: _tolerances(run))


def _tolerances(run: Run) -> pd.DataFrame:
    try:
        evidence = Evidence.of(run.data, Cells(), "tolerances")
    except StudyError:
        return pd.DataFrame()
    found = curves(evidence, stats.MARGIN, joint=False)
    labels = {dim: run.data[dim].values for dim in ("model", "method", "length", "task")}
    shown = []
    for row, place in enumerate(found.places):
        shown.append(
            {
                "run": run.name,
                "model": str(labels["model"][place.model]),
                "method": str(labels["method"][place.method]),
                "name": evidence.method(place.method),
                "subject": evidence.task(place.task),
                "length": int(labels["length"][place.length]),
                "state": str(found.known.state[row]),
                "kept": float(found.known.kept[row]),
                "kept_holm": float(found.known.kept_holm[row]),
                "lost": float(found.known.lost[row]),
                "n": int(found.known.n[row]),
                "excludable": float(found.known.detectable[row]),
            }
        )
    return pd.DataFrame(shown)


def told(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The tolerances as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "task": rows["subject"],
            "method": rows["name"],
            "length": [f"{n:,}" for n in rows["length"]],
            "tolerated": [claim_words.tolerance_state(row) for _, row in rows.iterrows()],
            "kept, all curves together": [
                words.DASH if np.isnan(k) else words.percent(k) for k in rows["kept_holm"]
            ],
            "n": rows["n"],
            "margin in reach": [words.number(x) for x in rows["excludable"]],
        }
    )
    caption = (
        f"Tolerated sparsity (nominal) at a margin of {stats.MARGIN:g}, {rows['model'].iloc[0]}, one curve a "
        "row. The fifth column holds for all curves together (Holm); the last is the margin that the lowest "
        f"sparsity could exclude with a probability of {words.percent(stats.POWER)}."
    )
    return shown, caption


def planning() -> pd.DataFrame:
    """What numbers of pairs can find and exclude, for several shares of flips."""
    return kept("planning", forms.FRAME, _planning)


def _planning() -> pd.DataFrame:
    n, flips = (grid.ravel() for grid in np.meshgrid(PAIRS, FLIPS, indexing="ij"))
    return pd.DataFrame(
        {
            "n": n,
            "flips": flips,
            "found": stats.minimum_detectable_difference(n, flips),
            "excluded": stats.excludable_margin(n, flips),
            "power": stats.exclusion_power(n, flips, stats.MARGIN),
        }
    )


def planned(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The planning numbers as a page shows them, with a caption."""
    shown = pd.DataFrame(
        {
            "pairs": [f"{n:,}" for n in rows["n"]],
            "flips": [words.percent(q) for q in rows["flips"]],
            "loss that is found": [words.number(x, 3) for x in rows["found"]],
            "margin that is excluded": [words.number(x, 3) for x in rows["excluded"]],
            f"probability to exclude {stats.MARGIN:g}": [words.percent(round(p, 2)) for p in rows["power"]],
        }
    )
    caption = (
        f"Planning numbers for pairs of right-or-wrong scores. Found and excluded: with a probability of "
        f"{words.percent(stats.POWER)}."
    )
    return shown, caption


def verdicts(found: list[Verdict]) -> pd.DataFrame:
    """One row a claim and dataset, for the page and to download."""
    rows = []
    for one in found:
        effect = one.outcome.effect if one.outcome else None
        rows.append(
            {
                "claim": one.claim.id,
                "dataset": one.dataset,
                "hash": one.hash,
                "verdict": one.verdict,
                "wide_verdict": one.wide,
                "effect": one.claim.effect,
                "estimate": effect.estimate if effect else np.nan,
                "low": effect.low if effect else np.nan,
                "high": effect.high if effect else np.nan,
                "n": effect.n if effect else 0,
                "models": ", ".join(one.outcome.models) if one.outcome else "",
                "reason": one.reason,
            }
        )
    return pd.DataFrame(rows)


def judged(found: list[Verdict]) -> tuple[pd.DataFrame, str]:
    """The ledger as a page shows it, with a caption."""
    rows = []
    for one in found:
        outcome = one.outcome
        rows.append(
            {
                "claim": one.claim.id,
                "dataset": one.dataset,
                "verdict": one.verdict,
                "effect": claim_words.limits(outcome.effect) if outcome else words.DASH,
                "n": f"{outcome.effect.n}" if outcome else words.DASH,
                "decided by": ", ".join(outcome.models) if outcome else words.DASH,
                f"at {stats.WIDE_MARGIN:g}": one.wide,
            }
        )
    caption = (
        f"The claims ledger. Effects with their {words.level()}, n: samples of the smallest cell. The last "
        f"column is the verdict with the wider margin. {claim_words.counts(found)}"
    )
    return pd.DataFrame(rows), caption


def parts(found: list[Verdict]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """What the measured verdicts are made of: as shown, as data, and a caption."""
    data = [
        {"claim": one.claim.id, "dataset": one.dataset, "part": name, **part._asdict()}
        for one in found
        if one.outcome
        for name, part in one.outcome.parts.items()
    ]
    shown = [
        {
            "claim": one.claim.id,
            "dataset": one.dataset,
            "part": name,
            "effect": claim_words.limits(part),
            "n": f"{part.n}",
        }
        for one in found
        if one.outcome
        for name, part in one.outcome.parts.items()
    ]
    caption = f"What the measured verdicts are made of, each with its {words.level()}."
    return pd.DataFrame(shown), pd.DataFrame(data), caption


def checks() -> pd.DataFrame:
    """The methods on simulated data: what was tried, what was found and what was asked for."""
    return kept("simulations", forms.FRAME, _checks)


def _checks() -> pd.DataFrame:
    wanted = words.percent(stats.CONFIDENCE)
    heeded, ignored = simulation.clustered_coverage(RUNS, 3, 40, 4)
    alike, _ = simulation.alike_coverage(RUNS, _SAMPLES, 4)
    alone, together = simulation.false_tolerance(FEW_RUNS, 6, 2 * _SAMPLES)
    level = words.percent((1 - stats.CONFIDENCE) / 2)
    support = simulation.frontier_support(FEW_RUNS // 2, _FEW_SAMPLES)
    rows = [
        ("Wilson's interval holds the mean", simulation.wilson_coverage(RUNS, _SAMPLES), wanted, RUNS),
        ("Tango's interval holds the difference", simulation.paired_coverage(RUNS, _SAMPLES), wanted, RUNS),
        ("The clustered bootstrap holds the difference", heeded, wanted, RUNS),
        ("The same without heed of documents", ignored, "none: it is wrong", RUNS),
        ("Tango's with the design effect of documents", alike, wanted, RUNS),
        (
            "The interval of the exponent holds it",
            simulation.exponent_coverage(FEW_RUNS, 8, 0.6, 0.3),
            wanted,
            FEW_RUNS,
        ),
        ("A curve is said to tolerate what it does not", alone, f"at most {level}", FEW_RUNS),
        ("Any of several curves is", together, f"at most {level}", FEW_RUNS),
        (
            "A frontier is said to move that does not",
            support,
            f"at most {words.percent(1 - stats.CONFIDENCE)}",
            FEW_RUNS // 2,
        ),
    ]
    return pd.DataFrame(
        [
            {"what": what, "found": words.percent(share), "asked for": asked, "runs": f"{runs:,}"}
            for what, share, asked, runs in rows
        ]
    )
