"""Parts of the pages on speed: what was timed, the pictures, the bars, and what was tried on the way."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from sparsestudy import assets, forms, paths
from sparsestudy import words as general
from sparsestudy.report import html, markdown, show_table
from sparsestudy.speed import bars, figures, tables, words
from sparsestudy.view import Run

NOTHING = "Not measured yet: no published run has timed anything."


def _cases(run: Run) -> pd.DataFrame:
    """The cases of a run, of which every part of the page shows some."""
    return run.keep("cases", forms.FRAME, lambda: tables.cases(run.data))


def scene(runs: list[Run]) -> str:
    """What was timed, in a sentence."""
    told = []
    for run in runs:
        rows = _cases(run)
        states = rows["state"].value_counts()
        device = general.listed(sorted({str(name) for name in run.data["device"].values.ravel() if name}))
        ends = general.listed(f"{count} {str(state).replace('_', ' ')}" for state, count in states.items())
        told.append(
            f"Run `{run.name}` on {device}: {general.counted(len(rows), 'case')} ({ends}) of "
            f"{general.listed(f'`{name}`' for name in run.data['model'].values)} at "
            f"{general.listed(f'{int(n):,}' for n in run.data['length'].values)} tokens, each repeated "
            f"{general.span(rows.loc[rows['n'] > 0, 'n'])} times."
        )
    return " ".join(told) or NOTHING


def _each(runs: list[Run], keep: Any) -> list[tuple[str, pd.DataFrame]]:
    """A name for files and the cases of each run and model that have any row to show."""
    found = []
    for run in runs:
        for model, rows in _cases(run).groupby("model", sort=False):
            if len(keep(rows)):
                found.append((assets.slug(run.name, str(model)), rows.reset_index(drop=True)))
    return found


def roofline(runs: list[Run]) -> None:
    """Show achieved rates under the ceilings, one figure a model."""
    for name, rows in _each(runs, words.kernels):
        html(assets.figure(figures.roofline, f"speed-roofline-{name}", rows))


def efficiency(runs: list[Run]) -> None:
    """Show efficiency against sparsity, one figure a model."""
    for name, rows in _each(runs, words.sparse_prefills):
        html(assets.figure(figures.efficiency, f"speed-efficiency-{name}", rows))


def time(runs: list[Run]) -> None:
    """Show time against length with the crossings, one figure a run."""
    for run in runs:
        rows = _cases(run)
        if len(words.timed(rows)):
            name = assets.slug("speed-time", run.name)
            html(assets.figure(figures.time, name, rows, tables.crossings(rows)))


def split(runs: list[Run]) -> None:
    """Show where the time of a prefill goes, one figure a model."""
    for name, rows in _each(runs, tables.split):
        html(assets.figure(figures.split, f"speed-split-{name}", tables.split(rows)))


def judged(runs: list[Run]) -> None:
    """Show every bar with what was reached."""
    if not runs:
        markdown(NOTHING)
    for run in runs:
        rows = bars.judge(_cases(run))
        shown = pd.DataFrame(
            {
                "bar": f"{row['name']} ({row['measure']})",
                "length": f"{row['length']:,}",
                "asked": general.percent(row["sparsity"] / 1000),
                "batch": row["batch"],
                "at least": general.number(row["least"]),
                "ours": _or_dash(row["ours"]),
                "best peer": f"{_or_dash(row['peer'])} {_who(row['peer_code'])}".strip(),
                "met": "yes" if row["met"] else "no",
                "note": row["note"],
            }
            for row in rows.to_dict("records")
        )
        caption = (
            f"Bars of run {run.name}: {int(rows['met'].sum())} of {len(rows)} are met. A peer is somebody "
            "else's code in the same run; none of them comes with a choice."
        )
        show_table(shown, caption, data=rows, name=f"speed-bars-{run.name}")


def _or_dash(value: float) -> str:
    return general.DASH if pd.isna(value) else general.number(value)


def _who(code: str) -> str:
    return f"({tables.code_name({'code': code})})" if code else ""


def kernels(runs: list[Run]) -> None:
    """Show every kernel over random blocks, as it is called and from a graph."""
    for run in runs:
        rows = _cases(run)
        rows = rows[(rows["part"] == "prefill") & (rows["method"] == "pattern")].reset_index(drop=True)
        if rows.empty:
            continue
        keys = ["length", "block", "sparsity", "code"]
        shown = []
        for key, some in rows.groupby(keys, sort=False):
            line = _kernel(dict(zip(keys, key, strict=True)), some)
            shown.append(line)
        caption = "Kernels over random blocks: time, efficiency, and the same from a CUDA graph."
        show_table(pd.DataFrame(shown), caption, data=rows, name=f"speed-kernels-{run.name}")


def _kernel(row: dict[str, Any], some: pd.DataFrame) -> dict[str, Any]:
    line = {
        "length": f"{row['length']:,}",
        "block": row["block"],
        "asked": general.percent(row["sparsity"] / 1000),
        "achieved": general.DASH
        if some["density"].isna().all()
        else general.percent(1 - some["density"].max()),
        "code": tables.code_name(row),
    }
    for graph, title in ((0, "called"), (1, "in a graph")):
        here = some[some["graph"] == graph]
        line[title] = words.milliseconds(here["seconds"].max())
        line[f"efficiency, {title}"] = _or_dash(here["efficiency"].max())
    return line


def decode(runs: list[Run]) -> None:
    """Show every decode step, and what it gains over dense."""
    for run in runs:
        rows = _cases(run)
        rows = rows[rows["part"] == "decode"].reset_index(drop=True)
        if len(rows):
            show_table(*_steps(rows), data=rows, name=f"speed-decode-{run.name}")


def _steps(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    keys = ["model", "length", "batch", "method", "method_name", "block", "code", "sparsity"]
    shown = []
    for key, some in rows.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        line = {
            "length": f"{row['length']:,}",
            "batch": row["batch"],
            "step": tables.name(row),
            "code": tables.code_name(row),
            "asked": general.percent(row["sparsity"] / 1000),
        }
        for graph, title in ((0, "called"), (1, "in a graph")):
            here = some[(some["graph"] == graph) & (some["stage"] != "selection")]
            one = here.iloc[0] if len(here) else None
            line[title] = general.DASH if one is None else words.milliseconds(one["seconds"])
            line[f"gain, {title}"] = general.DASH if one is None else _or_dash(one["speedup"])
        scores = some.loc[(some["stage"] == "selection") & (some["graph"] == some["graph"].max()), "seconds"]
        line["scores alone"] = words.milliseconds(scores.max())
        shown.append(line)
    return pd.DataFrame(shown), (
        "One decode step, how many times as fast as the fastest dense one it is, and its scores alone."
    )


def models(runs: list[Run]) -> None:
    """Show whole models: prefill, step, and peak memory."""
    for run in runs:
        rows = _cases(run)
        rows = rows[rows["part"] == "model"].reset_index(drop=True)
        if rows.empty:
            continue
        shown = pd.DataFrame(
            {
                "model": row["model"],
                "length": f"{row['length']:,}",
                "phase": "prefill" if row["stage"] == "prefill" else "decode step",
                "method": tables.name(row),
                "achieved": general.DASH if pd.isna(row["density"]) else general.percent(1 - row["density"]),
                "time": words.milliseconds(row["seconds"]),
                "spread": f"{words.milliseconds(row['smallest'])} to {words.milliseconds(row['largest'])}",
                "of it choosing": words.milliseconds(row["choosing"]),
                "gain": _or_dash(row["speedup"]),
                "peak memory": general.DASH if pd.isna(row["peak"]) else f"{row['peak'] / 1e9:.1f} GB",
                "note": row["reason"],
            }
            for row in rows.to_dict("records")
        )
        caption = "Whole models with random weights: median time, smallest and largest, and gain over dense."
        show_table(shown, caption, data=rows, name=f"speed-models-{run.name}")


def crossings(runs: list[Run]) -> None:
    """Show from which length on each method is faster than dense."""
    for run in runs:
        rows = tables.crossings(_cases(run))
        if rows.empty:
            continue
        shown = pd.DataFrame(
            {
                "model": row["model"],
                "of": "whole prefill" if row["part"] == "model" else "attention with its choice",
                "method": row["name"],
                "asked": general.percent(row["sparsity"] / 1000),
                "faster than dense": words.crossing(row),
            }
            for row in rows.to_dict("records")
        )
        caption = "Length from which on each method is faster than the fastest dense attention."
        show_table(shown, caption, data=rows, name=f"speed-crossings-{run.name}")


def failures(runs: list[Run]) -> None:
    """Show what did not run, and why."""
    for run in runs:
        rows = _cases(run)
        rows = rows[rows["state"] != "ok"].reset_index(drop=True)
        if len(rows):
            columns = ["model", "length", "case", "state", "reason"]
            shown = rows[columns].assign(state=[str(state).replace("_", " ") for state in rows["state"]])
            show_table(shown, "Cases that did not run.", data=rows, name=f"speed-failures-{run.name}")


def log() -> None:
    """Show what was tried on the way: `book/speed-log.yaml` beside the page."""
    text = (paths.ROOT / "book" / "speed-log.yaml").read_text(encoding="utf-8")
    for chapter in yaml.safe_load(text):
        markdown(f"### {chapter['about']}\n\n{chapter['where']}")
        html(assets.table(pd.DataFrame(chapter["tried"]).fillna(general.DASH), chapter["about"]))
