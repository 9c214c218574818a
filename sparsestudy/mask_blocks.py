"""Parts of the page on methods: what a method is, what it chose, and the budgets that it was given."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparsestudy import assets, mask_figures, mask_tables, words
from sparsestudy.definitions import definition
from sparsestudy.report import describe, html, show_table
from sparsestudy.view import Run


def defined(name: str) -> None:
    """Say what a method is, where it comes from, and in what it differs from its source."""
    describe(definition(name))


def chosen(runs: list[Run], name: str) -> None:
    """Show what every variant of a method chose, and its hyperparameters at each sparsity and length."""
    for run in runs:
        table = mask_tables.settings(run.data)
        of_method = table[table["method_name"] == name]
        for (model, method), rows in of_method.groupby(["model", "method"], sort=False):
            drawing = mask_tables.drawing(run.data, str(model), str(method))
            if drawing is not None:
                file = assets.slug("mask", run.name, str(model), str(method))
                html(assets.figure(mask_figures.mask, file, drawing))
            show_table(*budgets(rows), data=rows, name=f"budgets-{run.name}-{model}-{method}")


def spread(runs: list[Run]) -> None:
    """Show achieved against asked sparsity of every method, one figure a model."""
    for run in runs:
        for model, rows in mask_tables.settings(run.data).groupby("model", sort=False):
            if rows["achieved"].notna().any():
                html(assets.figure(mask_figures.spread, assets.slug("spread", run.name, str(model)), rows))


def scene(runs: list[Run]) -> str:
    """What was drawn, in a sentence."""
    told = []
    for run in runs:
        data = run.data
        layers, heads = (words.listed(map(str, data[f"drawn_{kind}"].values)) for kind in ("layer", "head"))
        task = words.listed(sorted({str(name) for name in data["task_name"].values.ravel() if name}))
        told.append(
            f"Run `{run.name}`: one prompt of the task {task} for each of the lengths "
            f"{words.listed(f'{int(n):,}' for n in data['length'].values)}, through "
            f"{words.listed(f'`{name}`' for name in data['model'].values)}; drawn are the layers {layers} "
            f"and the query heads {heads} of {data.sizes['layer']} and {data.sizes['head']}."
        )
    return " ".join(told) or "No published run has pictures yet."


def budgets(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The hyperparameters of one variant at each sparsity and length, those that change in columns."""
    fields = [mask_tables.given(text) for text in rows["hyperparameters"]]
    known = list(dict.fromkeys(name for found in fields for name in found))
    values = {name: [found[name] for found in fields if name in found] for name in known}
    moving = [name for name in known if any(value != values[name][0] for value in values[name])]
    shown = []
    for row, found in zip(rows.to_dict("records"), fields, strict=True):
        ran = not pd.isna(row["achieved"])
        heads = f"{words.percent(row['smallest'])} to {words.percent(row['largest'])}" if ran else words.DASH
        shown.append(
            {
                "length": f"{row['length']:,}",
                "asked": words.percent(row["nominal"]),
                "achieved": words.percent(row["achieved"]) if ran else words.DASH,
                "over heads": heads,
                **{
                    name.replace("_", " "): _value(found[name]) if name in found else words.DASH
                    for name in moving
                },
                "note": _note(row),
            }
        )
    first = rows.iloc[0]
    fixed = [f"{name.replace('_', ' ')} {_value(values[name][0])}" for name in known if name not in moving]
    constant = f" The same everywhere: {'; '.join(fixed)}." if fixed else ""
    caption = f"Hyperparameters of {first['name']} ({first['group']}), {first['model']}.{constant}"
    return pd.DataFrame(shown), caption


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None or value == "":
        return words.DASH if not isinstance(value, bool) else "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("_", " ")


def _note(row: dict[str, Any]) -> str:
    if row["state"] == "unreachable":
        return f"unreachable: at most {words.percent(1 - row['lowest_density'])} can be left out"
    return "" if row["state"] == "ok" else str(row["state"]).replace("_", " ")
