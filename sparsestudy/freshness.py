"""Whether the datasets of a run are what this checkout would make, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsestudy import forms, paths, runfiles, words
from sparsestudy.errors import StudyError
from sparsestudy.view import HASH_DIGITS, Run

if TYPE_CHECKING:
    from sparsestudy.shards import Shard


def freshness(run: Run) -> tuple[str, str]:
    """Title and text of a box on a run that is not what this checkout would make; empty where it is.

    Each dataset is asked through `sparsestudy.plan`; a run without a run file is compared as it was made.
    """
    try:
        plans = states(run)
    except StudyError as error:
        return f"Run `{run.name}`", f"Whether it is up to date cannot be told: {error}"
    behind = [item for item in plans if item.state != "fresh"]
    if not behind:
        return "", ""
    if all(item.state == "missing" for item in behind):
        missing = words.listed(f"`{item.shard}`" for item in behind)
        return f"Run `{run.name}` is incomplete", f"Datasets that are missing: {missing}."
    reasons = list(dict.fromkeys(reason for item in behind for reason in item.reasons))
    commits = sorted({commit_name(str(value)) for value in run.data["commit"].values.ravel() if value})
    return (
        f"Run `{run.name}` was made with earlier code",
        f"{words.counted(len(behind), 'dataset')} of {len(plans)} differ from what this checkout would make "
        f"({'; '.join(_together(reasons))}). The numbers are those of commit {words.listed(commits)}.",
    )


def states(run: Run) -> list[State]:
    """The state of every dataset that the file of a run asks for, or that it was made from without one.

    Raises:
        StudyError: the file cannot be read, or names what there is no more.
    """
    from sparsestudy.experiments import experiment

    name = str(run.data.attrs["experiment"])
    file = run_file(run)
    made = json.loads(run.data.attrs["parameters"])
    asked = runfiles.read(file) if file.exists() else experiment(name).parameters.parse(made)
    decisive = [json.dumps(asked.plain()), *(asked.identity(model) for model in asked.models)]
    # Every page asks, and each dataset is read and hashed for the answer.
    return run.keep("states", forms.plain(list[State]), lambda: _states(asked.shards()), *decisive)


def run_file(run: Run) -> Path:
    """The run file of a run, which may not be there."""
    folder = paths.params_folder(str(run.data.attrs["experiment"]), bool(run.data.attrs["published"]))
    return folder / f"{run.name}.yaml"


_CODE = re.compile(r"the code of (\S+) changed")


def _together(reasons: list[str]) -> list[str]:
    """The reasons why datasets are stale, all changes of code in one."""
    names = [found[1] for reason in reasons if (found := _CODE.fullmatch(reason))]
    others = [reason for reason in reasons if not _CODE.fullmatch(reason)]
    return [*others, *([f"the code of {words.listed(names)} changed"] if names else [])]


class State(NamedTuple):
    """Whether a dataset is up to date, and why not."""

    shard: str
    model: str
    length: int
    state: str
    reasons: list[str]


def _states(shards: Iterable[Shard]) -> list[State]:
    from sparsestudy import plan

    found = [plan.inspect(shard) for shard in shards]
    return [
        State(item.shard.name, item.shard.model, item.shard.length, item.state, list(item.reasons))
        for item in found
    ]


def commit_name(commit: str) -> str:
    """A commit as it is quoted: its first characters, and whether files had been changed."""
    head, _, dirty = commit.partition("-")
    return f"`{head[:HASH_DIGITS]}`{' with changes' if dirty else ''}"
