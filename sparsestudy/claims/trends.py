"""Estimands of size and of the law: how losses change with the model, and what can be foretold."""

from __future__ import annotations

import numpy as np

from sparsestudy import stats
from sparsestudy.claims.evidence import Effect, Evidence, Outcome
from sparsestudy.claims.specs import Claim
from sparsestudy.errors import StudyError


def size_trend(evidence: Evidence, claim: Claim) -> Outcome:
    """Change of (sparse minus dense) with each doubling of the size, on the cells that all models have.

    The models are the units, training seeds of a size among them, so the interval is over models.

    Raises:
        StudyError: fewer than three models share cells.
    """
    del claim
    differences = evidence.differences
    n = np.isfinite(differences).sum(-1)
    mean = np.divide(np.nansum(differences, -1), n, out=np.full(n.shape, np.nan), where=n > 0)
    models = np.flatnonzero(np.isfinite(mean).any((1, 2, 3, 4)))
    shared = np.isfinite(mean[models]).all(0)
    if len(models) < 3 or not shared.any():
        raise StudyError(
            f"A trend with size needs three models that ran the same cells; the run has {len(models)}."
        )
    size = evidence.data["model_parameters"].values[models].astype(float)
    parts = {}
    least = int(n[models][:, shared].min())
    for method in evidence.methods:
        own = shared[method]
        if own.any():
            slope = stats.size_slope(size, mean[models][:, method][:, own].mean(1))
            parts[evidence.method(method)] = Effect(*slope, least)
    slope = stats.size_slope(size, mean[models][:, shared].mean(1))
    return Outcome(Effect(*slope, least), parts, evidence.models())


def law(evidence: Evidence, claim: Claim) -> Outcome:
    """Share of a baseline's squared error that a law with compression saves beyond the fitted range.

    The baseline is the same law without compression. Both are fitted below the largest size, length or
    compression, one law a method, and foretell the cells there; the worst of these decides.

    Raises:
        StudyError: an axis has fewer than three values.
    """
    del claim
    parts: dict[str, Effect] = {}
    errors: dict[str, tuple[float, float]] = {}
    for method in evidence.methods:
        size, length, compression, task, accuracy, n = _cells(evidence, method)
        for axis in stats.AXES:
            held = stats.held_out(size, length, compression, task, accuracy, n, axis, seed=evidence.seed)
            name = f"{evidence.method(method)}, held out: largest {axis}"
            parts[name] = Effect(held.skill, held.low, held.high, int(n.min()))
            errors[name] = (held.law, held.baseline)
    worst = min(parts.values(), key=lambda part: part.low)
    own = [law for law, _ in errors.values()]
    remark = f"The law errs by {min(own):.2f} to {max(own):.2f} (root mean square) on the cells held out."
    return Outcome(worst, parts, evidence.models(), remark, errors)


def _cells(evidence: Evidence, method: int) -> stats.Array:
    """(6, cells) of a method and of dense attention: size, length, compression, task, accuracy, samples."""
    size, length = (evidence.data[name].values.astype(float) for name in ("model_parameters", "length"))
    rows = []
    for m, at, t in np.argwhere(np.isfinite(evidence.dense).any(-1)):
        own = {1.0: evidence.dense[m, at, t]}
        for s in np.flatnonzero(np.isfinite(evidence.scores[m, method, :, at, t]).any(-1)):
            own[1 / float(evidence.densities[m, method, s, at, t])] = evidence.scores[m, method, s, at, t]
        for compression, scores in own.items():
            known = scores[np.isfinite(scores)]
            rows.append((size[m], length[at], compression, t, known.mean(), len(known)))
    return np.array(rows, float).T
