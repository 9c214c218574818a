"""Which datasets are fresh, stale or missing, and why. File times play no part; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparsestudy import paths, runfiles
from sparsestudy.dataset import open_shard
from sparsestudy.errors import StudyError
from sparsestudy.experiments import EXPERIMENTS, experiment
from sparsestudy.parameters import RunParameters
from sparsestudy.shards import Shard
from sparsestudy.staleness import explain, recorded, settled, shard_key

State = Literal["fresh", "stale", "missing", "unreadable"]


@dataclass(frozen=True)
class ShardPlan:
    """One dataset and its state.

    Args:
        shard: which dataset.
        state: fresh, stale, missing or unreadable.
        reasons: why, in plain words; empty when fresh.
    """

    shard: Shard
    state: State
    reasons: tuple[str, ...] = ()


def inspect(shard: Shard) -> ShardPlan:
    """The state of one dataset."""
    if not shard.path.exists():
        return ShardPlan(shard, "missing", ("there is no such file",))
    try:
        dataset = open_shard(shard.path)
    except StudyError as error:
        return ShardPlan(shard, "unreadable", (str(error),))
    stored = json.loads(str(dataset["key"].values[0, 0]))
    reasons = explain(settled(shard, stored), shard_key(shard, recorded(dataset)))
    if not reasons:
        return ShardPlan(shard, "fresh")
    made = json.loads(dataset.attrs["parameters"])
    return ShardPlan(shard, "stale", tuple(_detailed(reason, made, shard.run) for reason in reasons))


def _detailed(reason: str, made: dict[str, object], run: RunParameters) -> str:
    """Name the parameters that changed, where the reason is that some did."""
    now = run.plain()
    changed = [name for name in experiment(run.experiment).decisive if made.get(name) != now[name]]
    if reason != "the parameters changed" or not changed:
        return reason
    told = (f"{name} was {json.dumps(made.get(name))} and is {json.dumps(now[name])}" for name in changed)
    return f"the parameters changed: {', '.join(told)}"


def inspect_all(published: bool) -> list[ShardPlan]:
    """The state of every dataset that a run file, published or local, asks for.

    Raises:
        StudyError: a run file cannot be read.
    """
    return [inspect(shard) for path in runfiles.listed(published) for shard in runfiles.read(path).shards()]


def leftovers(published: bool, known: list[ShardPlan]) -> list[Path]:
    """Dataset files that no run file asks for, such as those of a length that was taken out again."""
    asked = {plan.shard.path for plan in known}
    found: list[Path] = []
    for name in EXPERIMENTS:
        found += sorted((paths.results(published) / name).glob("*/*.nc"))
    return [file for file in found if file not in asked and file.parent.name != runfiles.SCRATCH]


def remedy(plan: ShardPlan, whole_run: bool = False) -> str:
    """What to do about a dataset that is not fresh; nothing redoes a published one by itself.

    Args:
        plan: the dataset.
        whole_run: whether all datasets of its run are in the same state.
    """
    run, path = plan.shard.run, plan.shard.path
    if plan.state == "unreadable":
        return "nothing overwrites it by itself"
    if not run.published:
        return "`make book` makes it"
    again = f"`make results EXPERIMENT={run.experiment} NAME={run.run}` makes it again"
    if plan.state == "stale":
        return f"its pages say so; {again}"
    return f"`git restore {paths.shown(path.parent if whole_run else path)}` brings it back, or {again}"


def report(kinds: Sequence[bool] = (True, False)) -> list[str]:
    """The plan as lines of text: one a run, and one for each kind of trouble in it.

    Args:
        kinds: of published (True) and local (False) runs, which to report.
    """
    lines: list[str] = []
    for published in kinds:
        plans = inspect_all(published)
        for run in dict.fromkeys((plan.shard.run.experiment, plan.shard.run.run) for plan in plans):
            of_run = [plan for plan in plans if (plan.shard.run.experiment, plan.shard.run.run) == run]
            lines += describe("/".join(run), of_run)
        lines += [
            f"  {paths.shown(file)}: no run file asks for it; move it away if it is not wanted"
            for file in leftovers(published, plans)
        ]
    return lines or ["There are no run files in notebooks/params/."]


def describe(name: str, plans: list[ShardPlan]) -> list[str]:
    """One run as lines of text: the count of each state, then what is wrong, why, and what to do."""
    states = [plan.state for plan in plans]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    kind = "published" if plans[0].shard.run.published else "local"
    lines = [f"{kind} {name}: {counts}"]
    troubles: dict[tuple[str, ...], list[ShardPlan]] = {}
    for plan in plans:
        if plan.state != "fresh":
            troubles.setdefault((plan.state, *plan.reasons), []).append(plan)
    for (state, *reasons), alike in troubles.items():
        files = ", ".join(plan.shard.name for plan in alike)
        whole = len(alike) == len(plans)
        lines.append(f"  {files}: {state}, {'; '.join(reasons)} ({remedy(alike[0], whole)})")
    return lines
