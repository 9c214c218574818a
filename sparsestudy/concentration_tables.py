"""Tables of concentration: keys that hold attention by length, and how their number grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsestudy import stats, tables
from sparsestudy.schema import OK
from sparsestudy.view import Run

EFFECTIVE = 0
"""Stands for the effective number of keys where a mass in permille is meant otherwise."""
CHIEF = 900
"""The mass that sentences quote."""


def _values(data: xr.Dataset) -> xr.DataArray:
    """Keys by sample, means over layers and heads, with the effective number as a further mass."""
    parts = [data["effective_keys"].expand_dims(mass=[EFFECTIVE], axis=-1), data["keys"]]
    return xr.concat(parts, "mass").mean(["layer", "head"])


def _places(data: xr.Dataset) -> list[tuple[str, str, str, int]]:
    """Every model, task, region and mass that was measured, the effective number after the masses."""
    ran = (data["status"] == OK).any("length")
    masses = [*(int(mass) for mass in data["mass"].values), EFFECTIVE]
    return [
        (str(model), str(task), str(region), mass)
        for model in data["model"].values
        for task in data["task"].values
        if bool(ran.sel(model=model, task=task))
        for region in data["region"].values
        for mass in masses
    ]


def _labels(run: Run, place: tuple[str, str, str, int]) -> dict[str, Any]:
    model, task, region, mass = place
    at = run.data.sel(model=model, task=task)
    subject = tables.subject(*(str(at[key].item()) for key in ("task_name", "task", "task_fields")))
    return {
        "run": run.name,
        "model": model,
        "parameters": int(at["model_parameters"]),
        "task": task,
        "subject": subject,
        "region": region,
        "mass": mass,
    }


def counts(run: Run) -> pd.DataFrame:
    """One row a model, task, region, mass and length: keys with Student's limits, and keys available.

    Samples are what varies: queries, layers and heads of one prompt are averaged first.
    """
    values, rows = _values(run.data), []
    for place in _places(run.data):
        model, task, region, mass = place
        where: dict[str, Any] = {"model": model, "task": task, "region": region}
        for length in run.data["length"].values:
            keys = values.sel({**where, "mass": mass, "length": length}).to_numpy()
            keys = keys[np.isfinite(keys)]
            if len(keys):
                rows.append(
                    _labels(run, place)
                    | {"length": int(length), "n": len(keys)}
                    | _student(keys)
                    | {"available": float(run.data["available_keys"].sel({**where, "length": length}).mean())}
                )
    return pd.DataFrame(rows)


def _student(values: stats.Array) -> dict[str, float]:
    """Mean with Student's limits, which lie at one key at least; NaN limits for one sample."""
    from scipy.stats import t as student

    n, mean = len(values), float(values.mean())
    if n < 2:
        return {"keys": mean, "keys_low": np.nan, "keys_high": np.nan}
    reach = float(values.std(ddof=1)) / np.sqrt(n) * float(student.ppf(0.5 + stats.CONFIDENCE / 2, n - 1))
    return {"keys": mean, "keys_low": max(mean - reach, 1.0), "keys_high": mean + reach}


def exponents(run: Run) -> pd.DataFrame:
    """One row a model, task, region and mass: the exponent of the keys against the length, with its interval.

    Rows of fewer than two lengths are left out.
    """
    values, rows = _values(run.data).transpose(..., "length", "sample"), []
    for place in _places(run.data):
        model, task, region, mass = place
        keys = values.sel(model=model, task=task, region=region, mass=mass).to_numpy()
        seed = stats.seed_of(run.data.attrs["experiment"], run.name, *place)
        found = stats.growth(keys, tokens(run.data, model, task), seed=seed)
        if np.isfinite(found.estimate):
            rows.append(
                _labels(run, place)
                | {"estimate": float(found.estimate), "low": float(found.low), "high": float(found.high)}
                | {"n": int(found.n), "lengths": int(np.isfinite(keys).any(-1).sum())}
            )
    return pd.DataFrame(rows)


def tokens(data: xr.Dataset, model: str, task: str) -> stats.Array:
    """Mean tokens of the prompts at each length; that of the length where there is none."""
    found = data["prompt_tokens"].sel(model=model, task=task).transpose("length", "sample").to_numpy()
    n = (found > 0).sum(-1)
    mean = np.where(found > 0, found, 0).sum(-1) / np.maximum(n, 1)
    return np.where(n > 0, mean, data["length"].to_numpy())


def heads(run: Run) -> pd.DataFrame:
    """One row a model, region, layer and head: the exponent of the keys that hold the chief mass.

    Samples and tasks are averaged, lengths that a model was not measured at are left out.
    """
    keys = run.data["keys"].sel(mass=CHIEF).mean(["sample", "task"])
    rows = []
    for model in run.data["model"].values:
        for region in run.data["region"].values:
            means = keys.sel(model=model, region=region).transpose("layer", "head", "length").to_numpy()
            used = np.isfinite(means).any((0, 1))
            if used.sum() < 2:
                continue
            found = stats.slopes(run.data["length"].to_numpy()[used].astype(float), means[..., used])
            rows += [
                {"run": run.name, "model": str(model), "region": str(region), "layer": layer, "head": head}
                | {"estimate": float(found[layer, head])}
                for layer, head in np.argwhere(np.isfinite(found)).tolist()
            ]
    return pd.DataFrame(rows)


def shared_prompts(run: Run, others: list[Run]) -> dict[str, int]:
    """For each of other runs how many of this one's prompts it holds too, told by their hashes."""
    own = prompts(run.data)
    found = {other.name: len(own & prompts(other.data)) for other in others}
    return {name: number for name, number in found.items() if number}


def prompts(data: xr.Dataset) -> set[str]:
    """The hashes of the prompts of a run; models of one tokenizer share them."""
    return {str(prompt) for prompt in data["prompt_id"].to_numpy().ravel() if prompt}
