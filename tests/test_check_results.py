"""`check-results` says as text what the comparison page shows, and fails on a real difference alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import parse, synthetic_shard, write_run

from sparsestudy import compare, comparison_words, paths, report
from sparsestudy import dataset as ds
from sparsestudy.__main__ import main

SMALL: dict[str, Any] = {"run": "study", "lengths": [512], "sparsities": [0, 900], "samples": 60}
LOCAL: dict[str, Any] = {**SMALL, "run": "smoke", "published": False}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty checkout that the package looks into."""
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(paths, "ROOT", tmp_path)


def _spoil(parameters: dict[str, Any]) -> None:
    """Save a local run in which every answer of dense attention is the other way round."""
    for shard in parse(parameters).shards():
        data = synthetic_shard(shard)
        dense = data["score"].values[:, 0, 0]
        data["score"].values[:, 0, 0] = 1 - dense
        ds.save(data, shard.path)


def test_a_repeated_run_passes(capsys: pytest.CaptureFixture[str]) -> None:
    write_run({**SMALL, "published": True})
    write_run({**LOCAL, "samples": 4})
    assert main(["check-results"]) == 0
    said = capsys.readouterr().out
    assert comparison_words.verdicts(compare.beside(report.found_locally()[0], report.published())) in said
    assert "  same: " not in said
    assert main(["check-results", "--all"]) == 0
    assert "  same: dense" in capsys.readouterr().out


def test_other_prompts_are_noise_and_pass(capsys: pytest.CaptureFixture[str]) -> None:
    write_run({**SMALL, "published": True})
    write_run({**LOCAL, "samples": 30}, seed=3)
    assert main(["check-results"]) == 0
    assert "within noise: " in capsys.readouterr().out


def test_a_real_difference_fails_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_run({**SMALL, "published": True})
    _spoil(LOCAL)
    assert main(["check-results"]) == 1
    said = capsys.readouterr().out
    assert "  differs: dense (dense), needle, 512 tokens, sparsity 0 %: here 0." in said
    assert "1 different" in said


def test_only_the_named_run_decides(capsys: pytest.CaptureFixture[str]) -> None:
    write_run({**SMALL, "published": True})
    write_run(LOCAL)
    _spoil({**LOCAL, "run": "mine"})
    assert main(["check-results", "smoke"]) == 0
    assert "run mine" not in capsys.readouterr().out
    assert main(["check-results"]) == 1
    assert "run mine" in capsys.readouterr().out


def test_nothing_to_check_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-results"]) == 2
    assert "`make smoke` makes the smoke run" in capsys.readouterr().err
    write_run({**LOCAL, "run": "mine"})
    assert main(["check-results"]) == 2
    assert "nothing to check" in capsys.readouterr().err
    assert main(["check-results", "yours"]) == 2
    assert "no local run 'yours'" in capsys.readouterr().err
