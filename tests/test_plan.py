"""The plan: fresh, stale, missing and why; run files; file times decide nothing."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import yaml
from synthetic import DEFAULTS, parse, synthetic_shard, write_run

from sparsestudy import dataset as ds
from sparsestudy import paths, plan, runfiles
from sparsestudy.__main__ import main
from sparsestudy.errors import StudyError
from sparsestudy.shards import Shard

SMALL = {"samples": 3}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def write_file(run: str, published: bool = False, **changes: object) -> Path:
    """A run file of a synthetic run."""
    given = {name: value for name, value in (DEFAULTS | SMALL | changes).items() if name != "run"}
    path = paths.params_folder("accuracy", published) / f"{run}.yaml"
    paths.write_text(path, yaml.safe_dump(given))
    return path


def states(published: bool) -> dict[str, str]:
    return {item.shard.name: item.state for item in plan.inspect_all(published)}


def test_a_fresh_clone_with_shuffled_file_times_plans_no_published_run(checkout: Path) -> None:
    write_file("public", published=True)
    write_run(SMALL | {"run": "public", "published": True}, current=True)
    files = [file for file in checkout.rglob("*") if file.is_file()]
    for seed in range(3):
        shuffled = random.Random(seed)
        for file in files:
            moment = shuffled.randrange(10**9)
            os.utime(file, (moment, moment))
        assert set(states(published=True).values()) == {"fresh"}


def test_deleting_a_dataset_plans_it_and_only_it(checkout: Path) -> None:
    write_file("mine")
    shards = write_run(SMALL | {"run": "mine"}, current=True)
    assert set(states(published=False).values()) == {"fresh"}
    shards[1].path.unlink()
    assert states(published=False) == {shards[0].name: "fresh", shards[1].name: "missing"}


def test_a_new_length_leaves_the_others_fresh_and_new_samples_do_not(checkout: Path) -> None:
    shards = write_run(SMALL | {"run": "mine"}, current=True)
    write_file("mine", lengths=[512, 1024, 2048])
    assert list(states(published=False).values()) == ["fresh", "fresh", "missing"]
    write_file("mine", samples=4)
    stale = plan.inspect_all(published=False)
    assert [item.state for item in stale] == ["stale", "stale"]
    assert stale[0].reasons == ("the parameters changed: samples was 3 and is 4",)
    assert shards[0].path.exists()


def test_stale_code_is_explained_and_a_published_run_only_reported(checkout: Path) -> None:
    write_file("public", published=True)
    for shard in write_run(SMALL | {"run": "public", "published": True}, current=True):
        data = ds.open_shard(shard.path)
        key = json.loads(str(data["key"].values[0, 0]))
        data["key"] = (data["key"].dims, [[json.dumps(key | {"code:quest": "0"})]])
        ds.save(data, shard.path)
    lines = "\n".join(plan.report())
    assert "published accuracy/public: 2 stale" in lines
    assert "the code of quest changed" in lines
    assert "make results EXPERIMENT=accuracy NAME=public" in lines


def test_a_missing_published_dataset_says_how_to_restore_it(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_file("public", published=True)
    shards = write_run(SMALL | {"run": "public", "published": True}, current=True)
    shards[0].path.unlink()
    assert main(["plan"]) == 0
    told = capsys.readouterr().out
    assert f"git restore results/accuracy/public/{shards[0].name}.nc" in told
    assert "1 fresh, 1 missing" in told


def test_unreadable_and_left_over_datasets_are_told(checkout: Path) -> None:
    write_file("mine", lengths=[512])
    shards = write_run(SMALL | {"run": "mine"}, current=True)
    shards[0].path.write_text("no data")
    lines = "\n".join(plan.report())
    assert "unreadable" in lines
    assert f"{paths.shown(shards[1].path)}: no run file asks for it" in lines


def test_run_refuses_an_unreadable_dataset_and_keeps_it(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_file("mine")
    shard = write_run(SMALL | {"run": "mine"}, current=True)[0]
    shard.path.write_text("no data")
    for arguments in (["run", str(path)], ["run", "--missing-local"]):
        assert main(arguments) == 2
        assert shard.path.name in capsys.readouterr().err
    assert shard.path.read_text() == "no data"


def test_run_files_say_what_is_wrong_and_where(checkout: Path) -> None:
    path = write_file("mine")
    for text, words in {
        "lenghts: [512]": "mine.yaml: There is no parameter 'lenghts'",
        "lengths: [512": "mine.yaml: this is not YAML at line 1",
        "- a": "mine.yaml: expected `name: value` pairs",
        "run: other": "mine.yaml: `run` is 'other'",
        "published: true": "mine.yaml: `published` is True",
    }.items():
        path.write_text(text)
        with pytest.raises(StudyError, match=words.replace("(", r"\(")):
            runfiles.read(path)
    elsewhere = checkout / "mine.yaml"
    elsewhere.write_text("{}")
    with pytest.raises(StudyError, match="not where run files lie"):
        runfiles.read(elsewhere)
    with pytest.raises(StudyError, match="There is no run file"):
        runfiles.read(checkout / "none.yaml")


def test_a_new_run_is_written_whole_and_read_back(checkout: Path) -> None:
    given = runfiles.parameters_from_text("{lengths: [2048], methods: [dense, {name: quest, tail: decode}]}")
    path, created = runfiles.create_local("accuracy", "mine", given)
    assert created
    parameters = runfiles.read(path)
    assert parameters.lengths == [2048]
    assert parameters.run == "mine"
    assert not parameters.published
    assert set(yaml.safe_load(path.read_text())) == set(parameters.plain()) - {"run", "published"}
    assert runfiles.create_local("accuracy", "mine", given) == (path, False)


def test_a_different_run_is_never_overwritten(checkout: Path) -> None:
    path, _ = runfiles.create_local("accuracy", "mine", {"samples": 4})
    before = path.read_text()
    with pytest.raises(StudyError) as refused:
        runfiles.create_local("accuracy", "mine", {"samples": 5})
    for words in (
        "samples: 4 there, 5 here",
        "params/local/accuracy/mine.yaml",
        "results/local/accuracy/mine",
    ):
        assert words in str(refused.value)
    assert path.read_text() == before
    write_run(SMALL | {"run": "other"}, current=True)
    with pytest.raises(StudyError, match="results/local/accuracy/other is a different run"):
        runfiles.create_local("accuracy", "other", {})


@pytest.mark.parametrize("name", [*runfiles.SMOKE, "notebook", "public"])
def test_names_of_the_study_are_reserved(checkout: Path, name: str) -> None:
    write_file("public", published=True)
    with pytest.raises(StudyError, match="reserved"):
        runfiles.create_local("accuracy", name, {})


def test_the_command_line_refuses_in_one_sentence(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = ["run", "--experiment", "accuracy", "--name", "mine", "--params"]
    for arguments, words in (
        (["run"], "Give one of"),
        (["run", "--experiment", "accuracy"], "needs both"),
        (["run", "--smoke", "--experiment", "accuracy", "--name", "mine"], "--smoke goes with"),
        (["run", "--experiment", "acuracy", "--name", "mine"], "Did you mean 'accuracy'?"),
        (["run", "--experiment", "accuracy", "--name", "My_Run"], "lower-case"),
        ([*new, "{sparsities: [0.9]}"], "900"),
        ([*new, "{methods: [{name: quest, page_sise: 8}]}"], "page_size"),
        ([*new, "{a: 1}", "--params-file", "x"], "not both"),
        ([*new, "", "--params-file", "none.yaml"], "no parameter file none.yaml"),
        ([*new, "{run: x}"], "`run` is no parameter"),
        ([*new, "[1]"], "The parameters given"),
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith("error: ")
        assert "\n" not in told
        assert words in told
    assert list(checkout.rglob("*.yaml")) == []


def test_run_files_of_the_study_are_valid(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", root)
    published = [runfiles.read(path) for path in runfiles.listed(published=True)]
    folder = paths.params_folder("accuracy", False)
    smokes = [runfiles.read(folder / f"{name}.yaml") for name in runfiles.SMOKE]
    for run in (*published, *smokes):
        run.check_fields()
    for smoke, name in zip(smokes, ("ladder", "smollm2"), strict=True):
        study = next(run for run in published if run.run == name)
        # A smoke run's prompts are the first ones of the published study, and its budgets are frozen.
        assert smoke.seed == study.seed
        assert set(smoke.models) <= set(study.models)
        assert set(smoke.lengths) <= set(study.lengths)
        assert set(smoke.sparsities) <= set(study.sparsities)
        assert {spec.label for spec in smoke.methods} <= {spec.label for spec in study.methods}
        assert {spec.label for spec in smoke.tasks} <= {spec.label for spec in study.tasks}
        budgets = paths.results(True) / "calibration"
        assert all((budgets / f"{shard.name}.json").is_file() for shard in smoke.shards())


def test_a_held_shard_is_not_written_by_another_run(checkout: Path) -> None:
    shard: Shard = parse(SMALL).shards()[0]
    with shard.lock():
        other = parse(SMALL).shards()[0]
        with pytest.raises(StudyError, match="Another run is making"), other.lock():
            pass
        with parse(SMALL | {"run": "else"}).shards()[0].lock():
            pass
    with shard.lock():
        ds.save(synthetic_shard(shard), shard.path)
