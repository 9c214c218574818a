"""What is derived from data is computed once, and again whenever data, code or question differ."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import write_run

from sparsestudy import (
    claim_blocks,
    claim_tables,
    derived,
    forms,
    length_tables,
    paths,
    report,
    tolerance_tables,
)
from sparsestudy.claims import Verdict, ledger
from sparsestudy.errors import StudyError

STUDY: dict[str, Any] = {
    "run": "smollm2",  # the claims name it
    "published": True,
    "lengths": [512],
    "sparsities": [0, 900],
    "samples": 60,
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout that the package looks into."""
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


NUMBER = forms.plain(int)
NUMBERS = st.floats() | st.sampled_from([0.1 + 0.2, 1e-300, float("nan"), float("inf"), -0.0])


@given(
    numbers=st.lists(NUMBERS, max_size=5),
    texts=st.lists(st.text(max_size=4), min_size=5, max_size=5),
    places=st.lists(st.integers(-(2**62), 2**62), min_size=5, max_size=5),
)
def test_tables_come_back_as_they_were(numbers: list[float], texts: list[str], places: list[int]) -> None:
    n = len(numbers)
    frame = pd.DataFrame(
        {
            "number": np.array(numbers, float),
            "text": pd.Series(texts[:n], dtype="str"),
            "place": np.array(places[:n], np.int64),
            "yes": np.array(places[:n], np.int64) > 0,
        }
    )
    pd.testing.assert_frame_equal(forms.FRAME.read(forms.FRAME.write(frame)), frame, check_exact=True)
    for got in forms.FRAMES.read(forms.FRAMES.write([frame, frame[["text"]]]))[:1]:
        pd.testing.assert_frame_equal(got, frame, check_exact=True)


def test_what_the_pages_keep_comes_back_as_it_was() -> None:
    write_run(STUDY)
    run = report.sparse()[0]
    assert forms.DATASET.read(forms.DATASET.write(run.data)).identical(run.data)
    assert forms.DATASET.read(forms.DATASET.write(run.summary)).identical(run.summary)
    kept = [length_tables.budgets(run), tolerance_tables.tolerances(run), claim_tables.tolerances(run)]
    for frame in kept:
        assert len(frame)
        pd.testing.assert_frame_equal(forms.FRAME.read(forms.FRAME.write(frame)), frame, check_exact=True)
    form = forms.plain(Verdict)
    judged = ledger({"accuracy/smollm2": run})
    assert any(one.outcome for one in judged)
    for one in judged:
        assert repr(form.read(form.write(one))) == repr(form.read(form.write(form.read(form.write(one)))))
        assert form.read(form.write(one)).claim == one.claim
        assert form.read(form.write(one)).verdict == one.verdict
        assert repr(_effects(form.read(form.write(one)))) == repr(_effects(one))


def _effects(one: Verdict) -> list[list[float]]:
    """All numbers of a verdict."""
    if one.outcome is None:
        return []
    return [[float(x) for x in effect] for effect in (one.outcome.effect, *one.outcome.parts.values())]


class Counted:
    """A computation that counts how often it ran."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        return 40 + self.times


def test_the_same_question_is_computed_once() -> None:
    make = Counted()
    assert [derived.kept("value", NUMBER, make, "data") for _ in range(3)] == [41, 41, 41]
    assert derived.kept("value", NUMBER, make, "other data") == 42
    assert derived.kept("another", NUMBER, make, "other data") == 43
    files = sorted(file.name.split(".")[0] for file in derived.folder().glob("[a-z]*.*"))
    assert files == ["another", "value"], "the old value made room"


def test_other_code_computes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Counted()
    derived.kept("value", NUMBER, make)
    monkeypatch.setattr(derived, "code", lambda: "other code")
    assert derived.kept("value", NUMBER, make) == 42


def test_every_file_of_the_package_is_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(derived, "__file__", str(package / "derived.py"))
    found = []
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.yaml", "x: 1"), ("note.txt", "x")):
        (package / name).write_text(text, encoding="utf-8")
        derived.code.cache_clear()
        found.append(derived.code())
    derived.code.cache_clear()
    assert len(set(found)) == 3
    assert found[2] == found[3], "text that is no code decides nothing"


def test_a_damaged_file_is_made_again_and_an_error_is_not_kept() -> None:
    make = Counted()
    derived.kept("value", NUMBER, make)
    file = next(derived.folder().glob("value.*"))
    file.write_bytes(file.read_bytes()[:-3])
    assert derived.kept("value", NUMBER, make) == 42
    assert derived.kept("value", NUMBER, make) == 42

    def fails() -> int:
        raise StudyError("There is nothing.")

    for _ in range(2):
        with pytest.raises(StudyError, match="nothing"):
            derived.kept("failure", NUMBER, fails)
    assert derived.kept("failure", NUMBER, make) == 43


def test_where_nothing_can_be_written_everything_is_computed(checkout: Path) -> None:
    (checkout / "results" / "derived").write_text("in the way", encoding="utf-8")
    make = Counted()
    assert [derived.kept("value", NUMBER, make) for _ in range(2)] == [41, 42]


def test_who_asks_meanwhile_waits() -> None:
    make = Counted()

    def slowly() -> int:
        time.sleep(0.3)
        return make()

    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(derived.kept("value", NUMBER, slowly))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [41, 41, 41]


def test_pages_share_verdicts_and_cells_and_other_data_change_both() -> None:
    write_run(STUDY)
    first = report.sparse()
    before = claim_blocks.judge(first)
    assert report.sparse()[0].summary.identical(first[0].summary)
    names = {file.name.split(".")[0] for file in derived.folder().glob("[a-z]*.*")}
    assert "cells-results-accuracy-smollm2" in names
    again = claim_blocks.judge(report.sparse())
    assert [(one.claim.id, one.verdict, one.hash) for one in again] == [
        (one.claim.id, one.verdict, one.hash) for one in before
    ]
    assert len(list(derived.folder().glob("claim-*.json"))) == sum(
        one.dataset == "accuracy/smollm2" for one in before
    )
    write_run(STUDY, seed=1)
    other = report.sparse()[0]
    assert not other.summary.identical(first[0].summary)
    judged = {one.hash for one in ledger({"accuracy/smollm2": other})}
    assert judged == {"", other.hash} != {"", first[0].hash}
