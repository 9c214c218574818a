"""Tables of a run over many models and tasks: what its page shows of it, and means over tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparsestudy import tables

FEW = 3
"""Pairs of a model and a task that a page shows one by one; a run with more is shown by small multiples."""
_AVERAGED = ("score", "difference", "over_control")
_MEANS = ("achieved", "attended_density", "kernel_density", "model_density", "byte_density", "chance")


class View(NamedTuple):
    """What a page shows of a run over many models and tasks; the rest of it is there to download.

    Args:
        model: the one with the most parameters.
        length: that of `telling_length` for the model.
        tasks: cells of the model at the length, every task.
        models: means over tasks at the length, every model in order of size.
        lengths: means over tasks of the model, every length.
    """

    model: str
    length: int
    tasks: pd.DataFrame
    models: pd.DataFrame
    lengths: pd.DataFrame


def view(table: pd.DataFrame) -> View:
    """What a page shows of the cells of a run (see `sparsestudy.tables.tidy`)."""
    table = table.assign(label=labels(table))
    largest = table["model_parameters"].max()
    mine = table[table["model_parameters"] == largest]
    mine = mine[mine["model"] == mine["model"].iloc[0]]
    length = telling_length(mine)
    here = table[table["length"] == length].sort_values("model_parameters", kind="stable")
    return View(
        str(mine["model"].iloc[0]),
        length,
        mine[mine["length"] == length].reset_index(drop=True),
        over_tasks(here),
        over_tasks(mine),
    )


def labels(table: pd.DataFrame) -> pd.Series:
    """The task of each row in as few words as tell it from the others of the run."""
    variants = table.drop_duplicates("task").groupby("task_name")["task"].transform("size")
    alone = set(table.loc[variants.index[variants == 1], "task"])
    short = table["task_name"].str.replace("_", " ")
    return short.where(table["task"].isin(alone), table["subject"])


def telling_length(mine: pd.DataFrame) -> int:
    """The greatest length at which dense attention can be told from guessing on as many tasks as anywhere."""
    dense = mine[(mine["method_role"] == "dense") & (mine["n"] > 0) & ~mine["floor"]]
    counts = dense["length"].value_counts()
    return int(max(counts[counts == counts.max()].index) if len(counts) else mine["length"].max())


def over_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the tasks with the whole context, one row a model, method, sparsity and length.

    Tasks count alike and their prompts are independent, so the deviations of their limits add up in
    squares. A setting that did not run on every task has the state of one where it did not, and no mean.
    ``n`` and the numbers of pairs are the smallest of a task.
    """
    whole = table[table["task_context"] == "full"]
    tasks = whole["task"].nunique()
    keys = ["model", "method", "sparsity", "length"]
    worst = whole.sort_values("n", kind="stable").drop_duplicates(keys)
    frame = worst.set_index(keys)
    groups = whole.groupby(keys, sort=False)
    complete = groups["n"].min().gt(0) & groups.size().eq(tasks)
    complete = complete.reindex(frame.index)
    for name in _AVERAGED:
        mean = groups[name].mean()
        known = groups[name].count().eq(tasks)
        for limit, sign in ((f"{name}_low", -1), (f"{name}_high", 1)):
            apart = (whole[limit] - whole[name]).pow(2).groupby([whole[key] for key in keys], sort=False)
            bound = mean + sign * np.sqrt(apart.sum()) / tasks
            frame[limit] = bound.where(known).reindex(frame.index)
        frame[name] = mean.where(known).reindex(frame.index)
    for name in _MEANS:
        frame[name] = groups[name].mean().reindex(frame.index)
    for name in ("pairs", "over_control_pairs"):
        frame[name] = groups[name].min().reindex(frame.index)
    frame["n"] = frame["n"].where(complete, 0)
    frame["subject"] = frame["label"] = f"the mean over {tasks} tasks"
    frame = frame.reset_index()
    order = whole.drop_duplicates(keys)[keys]
    return order.merge(frame, on=keys, how="left").reset_index(drop=True)


def grid(tasks: pd.DataFrame) -> pd.DataFrame:
    """Scores of methods as text: a row a method and sparsity, a column a task, a star at a shown loss."""
    ran = tables.distinct(tasks[tasks["method_role"].isin(("dense", "method")) & (tasks["n"] > 0)])
    star = np.where(tables.loses(ran), " *", "")
    ran = ran.assign(text=[f"{score:.2f}{mark}" for score, mark in zip(ran["score"], star, strict=True)])
    names = list(ran["label"].unique())
    rows: list[dict[str, Any]] = []
    for (group, name, nominal), some in ran.groupby(["group", "name", "nominal"], sort=False):
        told = dict(zip(some["label"], some["text"], strict=True))
        rows.append(
            {"group": group, "name": name, "nominal": nominal} | {one: told.get(one) for one in names}
        )
    return pd.DataFrame(rows)
