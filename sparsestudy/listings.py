"""Tables as the pages show them: headings and values as text, with the caption that belongs to them."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Any

import pandas as pd
import xarray as xr

from sparsestudy import tables, words
from sparsestudy.freshness import State

Shown = tuple[pd.DataFrame, str]
NONE = words.DASH


def _percent(value: float) -> str:
    return NONE if pd.isna(value) else words.percent(value)


def tolerance(rows: pd.DataFrame) -> Shown:
    """Where each method loses, at every length."""
    shown = []
    table = words.tolerance(rows)
    for entry in table.sort_values("role", ascending=False, kind="stable").to_dict("records"):
        ran = not pd.isna(entry["top"])
        low, high = words.number(entry["difference_low"]), words.number(entry["difference_high"])
        shown.append(
            {
                "method": entry["name"] + ("" if entry["role"] == "method" else f" ({entry['role']})"),
                "phase": entry["group"],
                "length": f"{entry['length']:,}",
                "first loss at": _percent(entry["loss_from"]),
                "loss excluded to": _percent(entry["kept_to"]),
                "unreachable from": _percent(entry["unreachable_from"]),
                "highest": _percent(entry["top"]),
                "difference there": f"{words.number(entry['difference'])} ({low} to {high})" if ran else NONE,
                "pairs": f"{int(entry['pairs'])}" if ran else "0",
            }
        )
    caption = (
        f"Where losses begin, {rows['subject'].iloc[0]}, {rows['model'].iloc[0]}. Sparsities are nominal; a "
        f"loss is excluded when it is shown to be smaller than {tables.MARGIN:g}; {words.level()}s."
    )
    return pd.DataFrame(shown), caption


def cells(rows: pd.DataFrame) -> Shown:
    """Every cell of one model and task with its interval, difference and sample count."""
    shown = [_cell(row) for row in tables.distinct(rows).to_dict("records")]
    caption = (
        f"All cells, {rows['subject'].iloc[0]}, {rows['model'].iloc[0]}: mean score and paired difference to "
        f"dense with {words.level()}s. A star marks a loss that remains after correction for the number of "
        "comparisons."
    )
    return pd.DataFrame(shown), caption


def _cell(row: dict[str, Any]) -> dict[str, str]:
    ran, paired = row["n"] > 0, not pd.isna(row["difference"])
    star = " *" if paired and row["difference"] < 0 and row["p_holm"] < tables.LEVEL else ""
    return {
        "method": row["name"],
        "phase": row["group"],
        "length": f"{row['length']:,}",
        "nominal": words.percent(row["nominal"]),
        "achieved": words.percent(row["achieved"]) if ran else NONE,
        "n": f"{int(row['n'])}",
        "score": words.interval(row) if ran else NONE,
        "difference to dense": words.interval(row, "difference") + star if paired else NONE,
        "bytes read": _percent(row["byte_density"]),
        "unparsed": _percent(1 - row["parsed"]),
        "tokens": words.number(row["output_tokens"], 1) if ran else NONE,
        "note": row["note"],
    }


def comparison(table: pd.DataFrame) -> Shown:
    """A local run beside the published one, cell by cell."""
    shown = []
    for row in table.to_dict("records"):
        both = not pd.isna(row["change"])
        shown.append(
            {
                "method": row["name"],
                "phase": row["group"],
                "task": row["subject"],
                "length": f"{row['length']:,}",
                "nominal": words.percent(row["nominal"]),
                "this machine": f"{words.number(row['score'])} (n = {int(row['n'])})"
                if row["n"] > 0
                else row["state"],
                "published": _published(row),
                "shared prompts": f"{int(row['paired'])}",
                "change": words.interval(row, "change") if both else NONE,
                "achieved here / there": _achieved(row),
                "verdict": row["verdict"],
            }
        )
    caption = (
        "Every cell of the local run. The change is paired by prompt where prompts are shared; its interval "
        "holds for all rows together (Bonferroni)."
    )
    return pd.DataFrame(shown), caption


def _published(row: dict[str, Any]) -> str:
    if not row["published_run"]:
        return "not published"
    if not row["published_n"] > 0:
        return str(row["published_state"])
    return f"{words.interval(row, 'published_score')}, n = {int(row['published_n'])}"


def _achieved(row: dict[str, Any]) -> str:
    return f"{_percent(row['achieved'])} / {_percent(row['published_achieved'])}"


def provenance(data: xr.Dataset, plans: dict[tuple[str, int], State]) -> Shown:
    """One row a dataset file of a run: what made it, and whether it is fresh."""
    shown = []
    for model in data["model"].values.tolist():
        for length in data["length"].values.tolist():
            at = data.sel(model=model, length=length)
            if str(at["commit"].item()):
                shown.append(_origin(at, model, length, plans.get((model, length))))
    return pd.DataFrame(shown), f"Datasets of the run {data.attrs['run']}: one row a file."


def _origin(at: xr.Dataset, model: str, length: int, plan: State | None) -> dict[str, str]:
    backends = sorted({str(value) for value in at["backend"].values.ravel() if value})
    key = json.loads(str(at["key"].item()) or "{}")
    # The shapes of the speed study have no licence.
    facts = [str(at[name].item()) for name in ("model_source", "model_licence") if name in at.coords]
    facts.append(f"sha256 {str(at['model_weights_sha256'].item())[:12]}…")
    return {
        "model": model,
        "length": f"{length:,}",
        "state": f"{plan.state}{': ' if plan.reasons else ''}{'; '.join(plan.reasons)}"
        if plan
        else "no run file",
        "device": str(at["device"].item()),
        "number format": str(at["dtype"].item()),
        "backend": ", ".join(backends),
        "commit": str(at["commit"].item())[:12],
        "weights": ", ".join(filter(None, facts)),
        "key": ", ".join(f"{name} {str(value)[:8]}" for name, value in sorted(key.items())),
    }


def versions(data: xr.Dataset) -> str:
    """Versions of the software that made a run, in one line; several where the files differ."""
    found: dict[str, set[str]] = {}
    for text in data["versions"].values.ravel().tolist():
        for name, version in json.loads(text or "{}").items():
            found.setdefault(name, set()).add(str(version))
    return ", ".join(f"{name} {' or '.join(sorted(found[name]))}" for name in sorted(found, key=str.lower))


def builder() -> Shown:
    """Versions of what built this report."""
    names = (
        "numpy",
        "scipy",
        "statsmodels",
        "xarray",
        "netCDF4",
        "pandas",
        "matplotlib",
        "seaborn",
        "jupyter-book",
    )
    shown = [{"software": "Python", "version": platform.python_version()}]
    shown += [{"software": name, "version": importlib.metadata.version(name)} for name in names]
    return pd.DataFrame(shown), "Software that built these pages."
