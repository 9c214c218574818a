"""From samples to cells: means, intervals and paired differences to dense, one value a cell.

A cell is one (model, method, sparsity, length, task). `summarise` turns the samples of a dataset into
a small dataset over the same labels, and `sparsestudy.tables.tidy` turns that into a table with one row
a cell. Figures, tables and sentences read these two and nothing else.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sparsestudy import stats
from sparsestudy.schema import CELL, FELL_BACK_DENSE, FINISH, OK, SAMPLE

DENSITIES = ("attended_density", "kernel_density", "model_density", "byte_density")
KEPT = (
    "model_parameters",
    "method_name",
    "method_phase",
    "method_tail",
    "method_role",
    "method_like",
    "method_fields",
    "task_name",
    "task_preset",
    "task_question",
    "task_fields",
    "task_context",
    "task_binary",
)

_LONG_NAMES = {
    "score": "mean score",
    "score_low": "lower limit of the mean score",
    "score_high": "upper limit of the mean score",
    "n": "number of scored samples",
    "achieved": "achieved sparsity: 1 - mean attended density",
    "difference": "mean paired difference of the score to dense",
    "difference_low": "lower limit of the paired difference",
    "difference_high": "upper limit of the paired difference",
    "pairs": "number of samples scored both sparse and dense",
    "p": "two-sided p-value of no difference to dense",
    "p_holm": "the same, adjusted by Holm's rule over all compared cells of the dataset",
    "over_control": "mean paired difference of the score to the control of the same phase and sparsity",
    "over_control_low": "lower limit of the difference to the control",
    "over_control_high": "upper limit of the difference to the control",
    "over_control_pairs": "number of samples scored by both",
    "detectable": "smallest loss that a test over these pairs finds with the stated power",
    "parsed": "share of replies that could be parsed",
    "cut": "share of replies that ran into the token limit",
    "output_tokens": "mean number of generated tokens",
    "chance": "score of guessing in the right form",
    "floor": "whether the score cannot be told from guessing",
    "ceiling": "whether every sample scores 1",
    "status": "what happened to the cell",
    "lowest_density": "lowest density that the configuration can reach",
}


def _values(ds: xr.Dataset, name: str, dims: tuple[str, ...]) -> stats.Array:
    return cast(stats.Array, ds[name].transpose(*dims).to_numpy().astype(float))


def _mean(values: stats.Array) -> stats.Array:
    n = np.isfinite(values).sum(-1)
    mean: stats.Array = np.divide(np.nansum(values, -1), n, out=np.full(n.shape, np.nan), where=n > 0)
    return mean


def group_of(phase: str, tail: str) -> str:
    """The group of methods that a cell is compared in: its phase and, for decode methods, its tail."""
    return {"none": "dense", "prefill": "prefill"}.get(phase, f"decode, {tail} tail")


def _reference(ds: xr.Dataset, scores: stats.Array) -> stats.Array:
    """Dense scores of the same prompts, shape of ``scores`` with method and sparsity of size 1.

    NaN for a run that was asked without the dense method or without sparsity 0.
    """
    dense = np.flatnonzero(ds["method_role"].to_numpy() == "dense")
    zero = np.flatnonzero(ds["sparsity"].to_numpy() == 0)
    if not (len(dense) and len(zero)):
        return np.full_like(scores[:, :1, :1], np.nan)
    return scores[:, int(dense[0]), int(zero[0])][:, None, None]


def _controls(ds: xr.Dataset, scores: stats.Array) -> stats.Array:
    """Scores of the control that stands beside each method, NaN for controls, dense and sparsity 0.

    That is the first of the same phase and tail that was made for the method, else for no method.
    """
    roles, places = (
        ds["method_role"].to_numpy(),
        zip(ds["method_phase"].values, ds["method_tail"].values, strict=True),
    )
    groups = [group_of(phase, tail) for phase, tail in places]
    found = np.full_like(scores, np.nan)
    names, likes = ds["method_name"].to_numpy(), ds["method_like"].to_numpy()
    for index, (role, group) in enumerate(zip(roles, groups, strict=True)):
        beside = [i for i, other in enumerate(groups) if other == group and roles[i] == "control"]
        ranked = [i for like in (names[index], "") for i in beside if likes[i] == like]
        if role == "method" and ranked:
            found[:, index] = scores[:, ranked[0]]
    found[:, :, ds["sparsity"].to_numpy() == 0] = np.nan
    return found


def documents(ds: xr.Dataset) -> NDArray[np.str_] | None:
    """(model, length, task, sample), the text that each sample stands in; None where each is its own."""
    found = ds["document"].transpose("model", "length", "task", "sample").to_numpy().astype(str)
    if not (found != "").any():
        return None
    own = np.array([f"\0{sample}" for sample in range(found.shape[-1])])
    return np.where(found == "", own, found)


def _alike(ds: xr.Dataset, differences: stats.Array) -> stats.Array | float:
    """How many samples of a cell count as one because they share documents."""
    labels = documents(ds)
    return 1.0 if labels is None else stats.design_effect(differences, labels[:, None, None])


def summarise(ds: xr.Dataset) -> xr.Dataset:
    """Means, intervals and paired differences of every cell of a dataset.

    Args:
        ds: one run as `sparsestudy.dataset.open_study` gives it.

    Returns:
        A dataset over (model, method, sparsity, length, task) with the labels of ``ds``; the
        differences are NaN for dense itself, for nominal sparsity 0 (the same run) and where no
        sample was scored both ways.
    """
    status = _values(ds, "status", CELL).astype(int)
    ran = np.isin(status, (OK, FELL_BACK_DENSE))
    scores = np.where(ran[..., None], _values(ds, "score", SAMPLE), np.nan)
    scored = np.isfinite(scores)
    binary = ds["task_binary"].to_numpy().astype(bool)
    seed = stats.seed_of(ds.attrs.get("experiment"), ds.attrs.get("run"))
    mean = stats.mean_interval(scores, binary, seed=seed)

    controls = _controls(ds, scores)
    beside = np.where(np.isfinite(controls), scores, np.nan)
    over = stats.paired_difference(beside, controls, binary, effect=_alike(ds, beside - controls), seed=seed)
    sparse = (ds["method_role"].to_numpy() != "dense")[:, None] & (ds["sparsity"].to_numpy() > 0)
    compared = np.where(sparse[None, :, :, None, None, None], scores, np.nan)
    dense = _reference(ds, scores)
    paired = stats.paired_difference(compared, dense, binary, effect=_alike(ds, compared - dense), seed=seed)
    flips = 2 * np.minimum(paired.gains, paired.losses)

    columns: dict[str, Any] = {
        "status": status.astype("int8"),
        "lowest_density": _values(ds, "lowest_density", CELL),
        "score": mean.estimate,
        "score_low": mean.low,
        "score_high": mean.high,
        "n": mean.n,
        "difference": paired.estimate,
        "difference_low": paired.low,
        "difference_high": paired.high,
        "pairs": paired.n,
        "p": paired.p,
        "p_holm": stats.holm(paired.p),
        "over_control": over.estimate,
        "over_control_low": over.low,
        "over_control_high": over.high,
        "over_control_pairs": over.n,
        "detectable": stats.minimum_detectable_difference(paired.n, flips),
    }
    for name in DENSITIES:
        columns[name] = _mean(np.where(scored, _values(ds, name, SAMPLE), np.nan))
    columns["achieved"] = np.clip(1 - columns["attended_density"], 0, None)
    columns["parsed"] = _mean(np.where(scored, _values(ds, "parsed", SAMPLE) > 0, np.nan))
    cut = _values(ds, "finish", SAMPLE) == FINISH.index("length")
    columns["cut"] = _mean(np.where(scored, cut, np.nan))
    columns["output_tokens"] = _mean(np.where(scored, _values(ds, "output_tokens", SAMPLE), np.nan))
    # where guessing is always right, as with a single needle, there is no floor to stand on
    chance = _values(ds, "chance", ("model", "length", "task"))[:, None, None]
    columns["chance"] = np.broadcast_to(chance, mean.low.shape)
    columns["floor"] = (mean.low <= chance) & (chance < 1) & (mean.n > 0)
    columns["ceiling"] = (mean.estimate >= 1) & (mean.n > 0)
    return _dataset(ds, columns)


def _dataset(ds: xr.Dataset, columns: dict[str, Any]) -> xr.Dataset:
    variables = {
        name: (CELL, values, {"long_name": _LONG_NAMES.get(name, name.replace("_", " ")), "units": "1"})
        for name, values in columns.items()
    }
    coordinates = {dim: ds[dim].drop_vars(set(ds[dim].coords) - {dim}) for dim in CELL}
    coordinates |= {name: ds[name].drop_vars(set(ds[name].coords) - {name}) for name in KEPT}
    attributes = {name: ds.attrs[name] for name in ("experiment", "run", "published") if name in ds.attrs}
    attributes |= {"title": "cells of a sparsestudy run", "confidence": stats.CONFIDENCE}
    return xr.Dataset(variables, coordinates, attributes)
