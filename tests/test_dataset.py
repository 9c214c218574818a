"""Datasets: the schema, saving and opening, merging, hashes, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from synthetic import parse, synthetic_run, synthetic_shard, write_run

from sparsestudy import dataset as ds
from sparsestudy import opening, paths, schema, validation
from sparsestudy.errors import StudyError
from sparsestudy.schema import SCHEMA, TIMINGS

SMALL = {"samples": 6, "tasks": ["needle", {"name": "needle", "needles": 3, "queries": 3}]}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def shard_data() -> xr.Dataset:
    return synthetic_shard(parse(SMALL).shards()[0])


def test_a_shard_survives_saving_and_opening(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    written = synthetic_shard(shard)
    opened = ds.open_shard(shard.path)
    assert ds.equal(opened, written)
    assert ds.content_hash(opened) == ds.content_hash(written)
    for name, variable in SCHEMA.items():
        assert opened[name].dims == variable.dims
        assert opened[name].attrs["long_name"]
        assert opened[name].attrs["units"]
        if not variable.is_text:
            assert opened[name].dtype == np.dtype(variable.dtype)
    assert list(shard.path.parent.glob(".*")) == []


def test_the_file_keeps_to_cf_and_can_be_read_without_this_package(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    with netCDF4.Dataset(shard.path) as file:
        status = file["status"]
        assert status.flag_meanings.split() == list(schema.STATUS)
        assert status.flag_values.tolist() == list(range(len(schema.STATUS)))
        assert np.isnan(file["score"]._FillValue)
        assert file.Conventions == schema.CONVENTIONS
        assert file["prefill_seconds"].units == "s"
    with xr.open_dataset(shard.path) as plain:
        assert plain["score"].sel({"task": "needle", "sparsity": 0, "method": "dense"}).mean() > 0.5
        assert plain["model_parameters"].item() > 1e8


def test_replies_of_any_text_survive(checkout: Path, shard_data: xr.Dataset) -> None:
    texts = ["", "naïve", "値は 1234", "\U0001f600" * 50, "a\0b", "\ud800"]
    replies = [ds.clip_reply(text) for text in texts]
    shard_data["reply"].values[0, 0, 0, 0, 0, :6] = replies
    path = checkout / "x.nc"
    ds.save(shard_data, path)
    assert ds.open_shard(path)["reply"].values[0, 0, 0, 0, 0].tolist() == replies


@given(st.text(max_size=200))
def test_clipped_replies_are_whole_characters_within_the_limit(text: str) -> None:
    clipped = ds.clip_reply(text)
    assert len(clipped.encode("utf-8")) <= schema.REPLY_BYTES
    assert "\0" not in clipped
    if text.isascii() and "\0" not in text:
        assert clipped == text[: schema.REPLY_BYTES]


def _drop(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda data: data.drop_vars(name)


def _put(name: str, value: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(data: xr.Dataset) -> xr.Dataset:
        values = data[name].values.copy()
        values.flat[0] = value
        return data.assign({name: (data[name].dims, values)})

    return change


BROKEN: list[tuple[Callable[[xr.Dataset], xr.Dataset], str]] = [
    (_drop("score"), "'score' is missing"),
    (_drop("method_phase"), "'method_phase' is missing"),
    (lambda data: data.assign(extra=1), "'extra' is unknown"),
    (_put("score", 1.5), "'score' holds 1.5"),
    (_put("score", -0.1), "'score'"),
    (_put("status", 9), "'status' holds 9"),
    (_put("method_phase", "sometimes"), "'method_phase'.*prefill"),
    (_put("reply", "x" * 97), "'reply'.*96"),
    (_put("reply", 5), "'reply' holds 5"),
    (_put("lowest_density", 0.5), "'lowest_density'"),
    (_put("evidence_start", 10**6), "'evidence_stop'"),
    (_put("decode_bytes", -1.0), "'decode_bytes' holds -1"),
    (_put("request_flops", 1.0), "'request_flops' is not the sum"),
    (
        lambda data: data.assign(prefill_bytes=data["prefill_bytes"].fillna(1.0)),
        "'prefill_bytes' has a value",
    ),
    (_put("document", "x" * 97), "'document'.*96"),
    (_put("status", schema.NOT_RUN), "'score' has a value"),
    (lambda data: data.assign(score=data["score"] * np.nan), "'score' is empty"),
    (lambda data: data.transpose("sample", ...), "dimensions"),
    (lambda data: data.isel(sample=slice(0, 0)), "'sample' is empty"),
    (lambda data: data.assign_coords(sparsity=data["sparsity"] * 0), "'sparsity' names something twice"),
    (lambda data: data.isel(sparsity=slice(None, None, -1)), "'sparsity' is not in rising order"),
    (lambda data: data.assign(output_tokens=data["output_tokens"] + 0.5), "'output_tokens' holds float"),
    (lambda data: data.drop_attrs(deep=False), "attribute"),
    (lambda data: data.assign_attrs(parameters="{"), "'parameters' is not JSON"),
]


@pytest.mark.parametrize(("breach", "words"), BROKEN)
def test_every_breach_of_the_schema_is_named_and_nothing_is_written(
    breach: Callable[[xr.Dataset], xr.Dataset], words: str, shard_data: xr.Dataset, tmp_path: Path
) -> None:
    ds.validate(shard_data)
    with pytest.raises(StudyError, match=words):
        ds.save(breach(shard_data), tmp_path / "x.nc")
    assert list(tmp_path.iterdir()) == []


def test_wider_types_are_narrowed_when_nothing_is_lost(shard_data: xr.Dataset) -> None:
    wide = shard_data.assign(
        score=shard_data["score"].astype("float64"), output_tokens=shard_data["output_tokens"].astype("int64")
    )
    assert ds.equal(wide, shard_data)


def test_a_merged_run_holds_every_shard_and_fills_elsewhere(checkout: Path) -> None:
    write_run(SMALL | {"run": "a", "lengths": [512, 1024]})
    run = ds.open_run(paths.run_folder("accuracy", "a", False))
    assert run["length"].values.tolist() == [512, 1024]
    for length in (512, 1024):
        shard = parse(SMALL | {"run": "a", "lengths": [length]}).shards()[0]
        assert ds.equal(run.sel(length=[length]).assign_attrs(ds.attributes(shard)), synthetic_shard(shard))
    validation.validate(run)


def test_merging_does_not_depend_on_order_and_keeps_integers() -> None:
    shards = parse(SMALL | {"lengths": [512, 1024, 2048]}).shards()
    parts = [synthetic_shard(shard) for shard in shards]
    names = [shard.name for shard in shards]
    forward, backward = ds.merge(parts, names), ds.merge(parts[::-1], names[::-1])
    assert ds.equal(forward, backward)
    assert forward["output_tokens"].dtype == np.int16
    assert forward["status"].dtype == np.int8


def test_different_labels_join_and_what_no_part_covers_is_not_run() -> None:
    one = synthetic_run(SMALL | {"lengths": [512]})
    left = one.isel(method=slice(0, 2), sample=slice(0, 3))
    right = one.isel(method=slice(1, 4))
    both = ds.merge([left, right], ["left", "right"])
    assert both.sizes["method"] == 4
    gap = both.sel({"method": "dense"}).isel(sample=slice(3, None))
    assert (gap["output_tokens"].values == -1).all()
    assert np.isnan(gap["score"].values).all()
    assert ds.merge([one], ["one"]).equals(one)


def test_parts_may_have_different_numbers_of_samples() -> None:
    """Longer texts have fewer, and of a run that is being extended some models have more already."""
    short, long = ({"lengths": [length], "samples": n} for length, n in ((512, 6), (1024, 2)))
    parts = [synthetic_run(SMALL | told) for told in (short, long)]
    both = ds.merge(parts, ["a.nc", "b.nc"])
    ds.validate(both)
    assert json.loads(both.attrs["parameters"])["samples"] == {"512": 6, "1024": 2}
    assert np.isfinite(both["score"].sel(length=1024)).any(("method", "sparsity", "task", "model")).sum() == 2
    told = {**short, "models": ["gemma-3-270m-q4_k_m"], "samples": 3}
    extended = ds.merge([parts[0], synthetic_run(SMALL | told)], ["a.nc", "c.nc"])
    assert json.loads(extended.attrs["parameters"])["samples"] == 6
    assert extended.sizes["sample"] == 6


def test_parts_that_disagree_are_refused_with_both_names() -> None:
    one = synthetic_run(SMALL | {"lengths": [512]})
    other = one.copy(deep=True)
    other["score"].values[0, 0, 0, 0, 0, 0] = 1 - one["score"].values[0, 0, 0, 0, 0, 0]
    with pytest.raises(StudyError, match=r"a\.nc and b\.nc disagree about 'score'"):
        ds.merge([one, other], ["a.nc", "b.nc"])
    with pytest.raises(StudyError, match=r"a\.nc and c\.nc disagree about the parameter 'seed'"):
        ds.merge([one, synthetic_run(SMALL | {"lengths": [1024], "seed": 5})], ["a.nc", "c.nc"])
    changed = other.assign_coords(model_context=("model", [1]))
    with pytest.raises(StudyError, match=r"a\.nc and d\.nc disagree about 'model_context'"):
        ds.merge([one, changed], ["a.nc", "d.nc"])


def test_two_files_of_a_run_that_disagree_are_named(checkout: Path) -> None:
    write_run(SMALL | {"run": "mine", "lengths": [512]})
    write_run(SMALL | {"run": "mine", "lengths": [1024], "seed": 5})
    with pytest.raises(StudyError) as refused:
        ds.open_local("accuracy")
    for name in ("mine/smollm2-135m-q4_1-512.nc", "mine/smollm2-135m-q4_1-1024.nc", "'seed'"):
        assert name in str(refused.value)


def test_equality_ignores_timings_and_nothing_else(shard_data: xr.Dataset) -> None:
    for name, variable in SCHEMA.items():
        other = shard_data.copy(deep=True)
        if variable.is_text:
            other = _put(name, "other")(other)
        elif name in schema.DIMS:
            continue
        else:
            other = _put(name, 0 if other[name].values.flat[0] != 0 else 1)(other)
        assert ds.equal(shard_data, other) == (name in TIMINGS), name
    assert not ds.equal(shard_data, shard_data.assign_attrs(run="other"))


def test_studies_are_opened_by_run_and_local_ones_apart(checkout: Path) -> None:
    write_run(SMALL | {"run": "public", "published": True})
    write_run(SMALL | {"run": "mine"})
    write_run(SMALL | {"run": "notebook"})
    assert list(ds.open_study("accuracy")) == ["public"]
    assert list(ds.open_local("accuracy")) == ["mine"]
    assert ds.open_study("nothing") == {}
    with pytest.raises(StudyError, match="There is no dataset in"):
        ds.open_run(checkout)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[64 : len(data) // 2] = bytes(len(data) // 2 - 64)
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.unlink()
    xr.Dataset({"temperature": ("time", [1.0, 2.0])}).to_netcdf(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "cannot be read"),
        (_scramble, "cannot be read|missing|holds"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_text("not netCDF"), "cannot be read"),
        (_foreign, "not a dataset of this study"),
    ],
)
def test_an_unreadable_or_foreign_file_is_named(checkout: Path, damage: Any, words: str) -> None:
    shard = write_run(SMALL)[0]
    damage(shard.path)
    with pytest.raises(StudyError, match=words) as refused:
        ds.open_local("accuracy")
    assert paths.shown(shard.path) in str(refused.value)


def test_a_file_in_the_wrong_place_is_named(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    elsewhere = shard.path.parent.parent / "other" / shard.path.name
    elsewhere.parent.mkdir()
    shutil.copy(shard.path, elsewhere)
    with pytest.raises(StudyError, match=r"other/smollm2.*does not belong there"):
        ds.open_run(elsewhere.parent)
    shutil.copy(shard.path, shard.path.parent.parent / "stray.nc")
    with pytest.raises(StudyError, match=r"stray\.nc belongs to no run"):
        ds.open_local("accuracy")


def _rewrite(path: Path, change: Callable[[xr.Dataset], xr.Dataset]) -> None:
    with xr.open_dataset(path, mask_and_scale=False, decode_timedelta=False) as opened:
        data = change(opened.load())
    data.to_netcdf(path)


def test_a_newer_schema_is_refused_and_an_older_one_migrates(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_run(SMALL)[0]
    _rewrite(shard.path, lambda data: data.assign_attrs(schema_version=schema.SCHEMA_VERSION + 1))
    newest = schema.SCHEMA_VERSION
    with pytest.raises(StudyError, match=f"schema_version {newest + 1} is newer than {newest}"):
        ds.open_shard(shard.path)
    older = newest - 1
    _rewrite(shard.path, lambda data: data.rename(score="points").assign_attrs(schema_version=older))
    monkeypatch.delitem(opening.MIGRATIONS, older)
    with pytest.raises(StudyError, match=f"schema_version {older} is older"):
        ds.open_shard(shard.path)
    monkeypatch.setitem(opening.MIGRATIONS, older, lambda data: data.rename(points="score"))
    assert ds.equal(ds.open_shard(shard.path), synthetic_shard(shard))


IN_4 = (*schema.COSTS, "document", "generated", "batch")


def test_version_1_had_no_diagnostics(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    new = ("selection_seconds", "head_density", "notes", "calibrated_density", "layer", "head", "method_like")
    _rewrite(shard.path, lambda data: data.drop_vars((*new, *IN_4)).assign_attrs(schema_version=1))
    opened = ds.open_shard(shard.path)
    whole = synthetic_shard(shard)
    assert opened["score"].identical(whole["score"])
    assert opened.sizes["layer"] == opened.sizes["head"] == 0
    assert opened["selection_seconds"].isnull().all()


def test_version_2_had_full_contexts_and_one_chance_level_for_all_lengths(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    chance = np.array([0.25, 0.5], "float32")

    def older(data: xr.Dataset) -> xr.Dataset:
        data = data.drop_vars(("chance", "task_context", *IN_4))
        all_fields = [json.dumps({"needles": n, "queries": n, "value_length": 4}) for n in (1, 3)]
        data = data.assign_coords(task_fields=("task", all_fields))
        return data.assign_coords(task_chance=("task", chance)).assign_attrs(schema_version=2)

    _rewrite(shard.path, older)
    opened = ds.open_shard(shard.path)
    assert opened["task_context"].values.tolist() == ["full", "full"]
    assert opened["chance"].values.tolist() == [[[0.25, 0.5]]]
    assert opened["task_fields"].equals(synthetic_shard(shard)["task_fields"]), "those that were given"
    assert opened["score"].identical(synthetic_shard(shard)["score"])


def test_version_3_knew_no_costs_and_no_documents(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    _rewrite(shard.path, lambda data: data.drop_vars(IN_4).assign_attrs(schema_version=3))
    opened = ds.open_shard(shard.path)
    assert opened["score"].identical(synthetic_shard(shard)["score"])
    assert opened.sizes["generated"] == opened.sizes["batch"] == 0
    assert opened["prefill_flops"].isnull().all()
    assert (opened["document"] == "").all()
    later = synthetic_shard(parse(SMALL | {"lengths": [1024]}).shards()[0])
    both = ds.merge([opened, later], ["old", "new"])
    assert both["decode_bytes"].sel(length=1024).notnull().any()
    assert both["decode_bytes"].sel(length=512).isnull().all()


def test_published_runs_of_earlier_schemas_open() -> None:
    for name, data in ds.open_study("accuracy").items():
        assert data.attrs["schema_version"] == schema.SCHEMA_VERSION, name
        assert set(schema.COSTS) <= set(data.variables), name


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from synthetic import parse, synthetic_shard
from sparsestudy import dataset
from sparsestudy.errors import StudyError
data = synthetic_shard(parse({"samples": 50}).shards()[0])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    dataset.save(data, Path(sys.argv[1]))
except StudyError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(checkout: Path) -> None:
    shard = write_run(SMALL)[0]
    before = shard.path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(shard.path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    assert "could not be written" in done.stdout
    assert shard.path.read_bytes() == before
    assert sorted(shard.path.parent.iterdir()) == sorted(s.path for s in write_run(SMALL))


def test_blank_refuses_missing_coordinates() -> None:
    with pytest.raises(StudyError, match="model_context"):
        ds.blank({"model": ["a"]})
