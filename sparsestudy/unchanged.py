"""Edits of code that changed no number, each shown by a dataset that was made again.

Any edit of a kernel or a method makes the datasets stale that it computed, also one that only launches a
kernel in fewer steps. Making a whole sweep again to see that nothing changed can cost an hour of GPUs. One of
its datasets, made again and equal in every value, is evidence of which a reader can judge how far it carries:
the entries of ``results/unchanged.yaml`` name it. Hashes of code that entries join count as one.
Imports no torch.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sparsestudy import paths
from sparsestudy.errors import StudyError

if TYPE_CHECKING:
    import xarray as xr

FILE = "unchanged.yaml"
HEAD = """\
# Edits of code that changed no number, each shown by a dataset that was made again and was equal in every
# value but times and provenance. Written by `python -m sparsestudy unchanged`. was, now: hashes of the code;
# values: how many were compared.
"""
CODE = "code:"
PLACE = ("device", "dtype", "backend", "versions")
"""What must be alike for a comparison to say something about the code."""
_OWN = ("commit", "key", "notes")
_TIMES = "_seconds"


class Edit(BaseModel):
    """One edit of one component of :func:`sparsestudy.staleness.shard_key`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    component: str
    was: str
    now: str
    shown_by: str
    values: int
    device: str
    commit_was: str
    commit_now: str


def origin(component: str, digest: str) -> str:
    """The oldest of the hashes that edits which changed no number join with this one; itself without any.

    Raises:
        StudyError: the file of edits is wrong.
    """
    file = paths.results(True) / FILE
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        return digest
    return _joined(file, changed).get((component, digest), digest)


# A sweep asks a hundred thousand times.
@lru_cache(maxsize=8)
def _joined(file: Path, changed: int) -> dict[tuple[str, str], str]:
    """The oldest hash by component and hash; read once for each time of change."""
    del changed
    oldest: dict[tuple[str, str], str] = {}
    for edit in listed(file):
        was = oldest.setdefault((edit.component, edit.was), edit.was)
        now = oldest.setdefault((edit.component, edit.now), was)
        for place, digest in oldest.items():
            if place[0] == edit.component and digest == now:
                oldest[place] = was
    return oldest


def listed(file: Path) -> list[Edit]:
    """The edits in a file, none where there is no such file.

    Raises:
        StudyError: an entry is wrong.
    """
    if not file.is_file():
        return []
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8")) or []
        return [Edit.model_validate(entry) for entry in entries]
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise StudyError(
            f"{paths.shown(file)} cannot be read; `git restore` it, or take out the entry that is wrong: "
            f"{str(error).splitlines()[0]}."
        ) from error


def record(name: str, again: Path) -> list[Edit]:
    """Compare a published dataset with one made again by later code, and note the edits between them.

    Args:
        name: of the published dataset, ``experiment/run/model-length``.
        again: the file that was made again.

    Raises:
        StudyError: a file is missing or cannot be read, they are not of one dataset or not from one kind of
            machine, a value differs, or no code changed.
    """
    from sparsestudy.opening import open_shard

    published = paths.results(True) / f"{name}.nc"
    for file in (published, again):
        if not file.is_file():
            raise StudyError(f"There is no {paths.shown(file)}; name a published dataset and one made again.")
    old, new = open_shard(published), open_shard(again)
    same_request(old, new, name)
    was, now = (json.loads(str(data["key"].item())) for data in (old, new))
    changed = sorted(part for part in now if origin(part, now[part]) != origin(part, str(was.get(part))))
    others = [part for part in changed if not part.startswith(CODE) or part not in was]
    if others:
        raise StudyError(f"More than code differs between the two datasets of {name}: {', '.join(others)}.")
    if not changed:
        raise StudyError(f"No code that computes {name} changed between the two datasets; nothing to note.")
    values = same_values(old, new, name)
    edits = [
        Edit(
            component=part,
            was=str(was[part]),
            now=str(now[part]),
            shown_by=name,
            values=values,
            device=_first(new, "device"),
            commit_was=_first(old, "commit"),
            commit_now=_first(new, "commit"),
        )
        for part in changed
    ]
    file = paths.results(True) / FILE
    entries = [edit.model_dump() for edit in (*listed(file), *edits)]
    paths.write_text(file, HEAD + yaml.safe_dump(entries, sort_keys=False))
    return edits


def same_request(old: xr.Dataset, new: xr.Dataset, name: str) -> None:
    """Refuse datasets of different cells or machines; parameters that decide numbers are in their keys.

    Raises:
        StudyError: they differ, in what.
    """
    differ = ["experiment"] if old.attrs["experiment"] != new.attrs["experiment"] else []
    differ += [str(key) for key in old.coords if key not in new.coords or not old[key].equals(new[key])]
    differ += [key for key in PLACE if not old[key].equals(new[key])]
    if differ:
        raise StudyError(
            f"The two datasets of {name} differ in {', '.join(differ)}; make it again with the same "
            "parameters, software and kind of device."
        )


def same_values(old: xr.Dataset, new: xr.Dataset, name: str) -> int:
    """How many values two datasets have in common, all of them but times and provenance.

    Raises:
        StudyError: some differ, or one dataset lacks a variable.
    """
    names = {str(key) for key in (*old.data_vars, *new.data_vars)}
    compared = sorted(key for key in names - {*_OWN, *PLACE} if not key.endswith(_TIMES))
    differ = [
        key
        for key in compared
        if key not in old.data_vars or key not in new.data_vars or not old[key].equals(new[key])
    ]
    if differ:
        raise StudyError(
            f"The edits changed numbers of {name}, since {', '.join(differ)} differ; make its runs again."
        )
    return sum(int(old[key].size) for key in compared)


def _first(data: xr.Dataset, name: str) -> str:
    return str(data[name].values.ravel()[0])
