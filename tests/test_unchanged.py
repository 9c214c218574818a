"""Edits that changed no number: noted by a dataset made again that is equal, and looked through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from hypothesis import given
from hypothesis import strategies as st
from synthetic import parse, synthetic_shard

from sparsestudy import dataset as ds
from sparsestudy import paths, plan, staleness, unchanged
from sparsestudy.__main__ import main
from sparsestudy.errors import StudyError
from sparsestudy.experiments import EXPERIMENTS
from sparsestudy.shards import Shard

SMALL: dict[str, Any] = {
    "run": "study",
    "published": True,
    "methods": ["dense", "quest"],
    "sparsities": [0, 500],
    "lengths": [512],
    "samples": 5,
}
QUEST = "code:quest"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """A published dataset, made with the code of today."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    shard = parse(SMALL).shards()[0]
    ds.save(synthetic_shard(shard, current=True), shard.path)
    return shard


@pytest.fixture
def edited(published: Shard, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """The same dataset after an edit of a method."""
    real = staleness.code_hash
    monkeypatch.setattr(staleness, "code_hash", lambda name: ("1" if "quest" in name else "") + real(name))
    assert plan.inspect(published).state == "stale"
    return published


def _again(shard: Shard, tmp_path: Path, change: Any = None) -> Path:
    """The dataset made again with the code of now, and changed."""
    data = synthetic_shard(shard, current=True)
    if change:
        change(data)
    file = tmp_path / "again.nc"
    ds.save(data, file)
    return file


def _name(shard: Shard) -> str:
    return f"{shard.run.experiment}/{shard.run.run}/{shard.name}"


def _key(shard: Shard) -> dict[str, str]:
    with xr.open_dataset(shard.path, engine="netcdf4") as data:
        found: dict[str, str] = json.loads(str(data["key"].item()))
    return found


def test_a_dataset_that_comes_out_equal_makes_the_published_one_fresh(
    edited: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = edited.path.read_bytes()

    def other_times(data: xr.Dataset) -> None:
        data["prefill_seconds"].values[:] += 1
        data["commit"][:] = "1" * 40

    file = _again(edited, tmp_path, other_times)
    assert main(["unchanged", _name(edited), str(file)]) == 0
    assert "code:quest changed no number" in capsys.readouterr().out
    assert plan.inspect(edited).state == "fresh"
    assert edited.path.read_bytes() == before
    (entry,) = yaml.safe_load((paths.results(True) / unchanged.FILE).read_text(encoding="utf-8"))
    assert entry["component"] == QUEST
    assert entry["shown_by"] == _name(edited)
    assert entry["values"] > 100
    assert entry["commit_now"] == "1" * 40
    assert staleness.shard_key(edited, {"torch"}) == _key(edited), "what is made now is stamped as before"
    with pytest.raises(StudyError, match="No code .* changed"):
        unchanged.record(_name(edited), file)


@pytest.mark.parametrize("variable", ["score", "reply", "attended_density", "status"])
def test_one_other_value_is_refused(edited: Shard, tmp_path: Path, variable: str) -> None:
    def other(data: xr.Dataset) -> None:
        values = data[variable].values
        first = values.flat[0]
        number = first / 2 + 0.25 if values.dtype.kind == "f" else None
        values.flat[0] = number if number is not None else 1 - first if values.dtype.kind == "i" else "word"

    with pytest.raises(StudyError, match=rf"changed numbers of .*{variable}"):
        unchanged.record(_name(edited), _again(edited, tmp_path, other))
    assert not (paths.results(True) / unchanged.FILE).exists()
    assert plan.inspect(edited).state == "stale"


@pytest.mark.parametrize("place", unchanged.PLACE)
def test_another_machine_shows_nothing(edited: Shard, tmp_path: Path, place: str) -> None:
    def elsewhere(data: xr.Dataset) -> None:
        data[place].values.flat[0] = "other"

    with pytest.raises(StudyError, match=rf"differ in .*{place}"):
        unchanged.record(_name(edited), _again(edited, tmp_path, elsewhere))


def test_other_weights_and_missing_files_are_refused(edited: Shard, tmp_path: Path) -> None:
    def others(data: xr.Dataset) -> None:
        data["key"][:] = json.dumps(json.loads(str(data["key"].item())) | {"weights": "others"})

    with pytest.raises(StudyError, match="More than code differs .*weights"):
        unchanged.record(_name(edited), _again(edited, tmp_path, others))
    with pytest.raises(StudyError, match="There is no .*nothing.nc"):
        unchanged.record(_name(edited), tmp_path / "nothing.nc")


def test_a_wrong_file_is_one_sentence(edited: Shard) -> None:
    paths.write_text(paths.results(True) / unchanged.FILE, "- {component: code:quest}\n")
    with pytest.raises(StudyError, match=r"unchanged\.yaml cannot be read; `git restore` it"):
        plan.inspect(edited)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8))
def test_hashes_that_entries_join_count_as_one_and_no_others(edits: list[tuple[str, str]]) -> None:
    class Stat:
        st_mtime_ns = hash(tuple(edits))

    entries = [
        {"component": QUEST, "was": was, "now": now, "shown_by": "x", "values": 1, "device": "cpu"}
        | {"commit_was": "0", "commit_now": "1"}
        for was, now in edits
    ]
    joined = {name: {name} for name in "abcdef"}
    for was, now in edits:
        both = joined[was] | joined[now]
        joined |= dict.fromkeys(both, both)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unchanged, "listed", lambda _: [unchanged.Edit(**entry) for entry in entries])
        patch.setattr(Path, "stat", lambda _: Stat)
        unchanged._joined.cache_clear()
        origins = {name: unchanged.origin(QUEST, name) for name in "abcdef"}
        assert unchanged.origin("code:snapkv", "a") == "a"
    unchanged._joined.cache_clear()
    for first, second in ((a, b) for a in "abcdef" for b in "abcdef"):
        assert (origins[first] == origins[second]) == (second in joined[first])


def test_times_are_not_looked_through(edited: Shard, tmp_path: Path) -> None:
    unchanged.record(_name(edited), _again(edited, tmp_path))
    timed = [name for name, kind in EXPERIMENTS.items() if kind.of_time]
    assert timed == ["speed"]
    key = {QUEST: "1" + _key(edited)[QUEST]}
    shard = EXPERIMENTS["speed"].parameters.parse({}).shards()[0]
    assert staleness.settled(shard, key) == key
    assert staleness.settled(edited, key) != key
