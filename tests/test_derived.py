"""What is derived from data is computed once, and again whenever data, code or question differ."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from synthetic import write_run

from sparsestudy import claim_blocks, derived, paths, report
from sparsestudy.claims import ledger
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


class Counted:
    """A computation that counts how often it ran."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        return 40 + self.times


def test_the_same_question_is_computed_once() -> None:
    make = Counted()
    assert [derived.kept("value", make, "data") for _ in range(3)] == [41, 41, 41]
    assert derived.kept("value", make, "other data") == 42
    assert derived.kept("another", make, "other data") == 43
    files = sorted(file.name.split(".")[0] for file in derived.folder().glob("*.pickle"))
    assert files == ["another", "value"], "the old value made room"


def test_other_code_computes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Counted()
    derived.kept("value", make)
    monkeypatch.setattr(derived, "code", lambda: "other code")
    assert derived.kept("value", make) == 42


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
    derived.kept("value", make)
    file = next(derived.folder().glob("value.*"))
    file.write_bytes(file.read_bytes()[:-3])
    assert derived.kept("value", make) == 42
    assert derived.kept("value", make) == 42

    def fails() -> int:
        raise StudyError("There is nothing.")

    for _ in range(2):
        with pytest.raises(StudyError, match="nothing"):
            derived.kept("failure", fails)
    assert derived.kept("failure", make) == 43


def test_where_nothing_can_be_written_everything_is_computed(checkout: Path) -> None:
    (checkout / "results" / "derived").write_text("in the way", encoding="utf-8")
    make = Counted()
    assert [derived.kept("value", make) for _ in range(2)] == [41, 42]


def test_who_asks_meanwhile_waits() -> None:
    make = Counted()

    def slowly() -> int:
        time.sleep(0.3)
        return make()

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(derived.kept("value", slowly))) for _ in range(3)]
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
    names = {file.name.split(".")[0] for file in derived.folder().glob("*.pickle")}
    assert {"cells-results-accuracy-smollm2", "samples-results-accuracy-smollm2"} <= names
    again = claim_blocks.judge(report.sparse())
    assert [(one.claim.id, one.verdict, one.hash) for one in again] == [
        (one.claim.id, one.verdict, one.hash) for one in before
    ]
    assert len(list(derived.folder().glob("claim-*.pickle"))) == sum(
        one.dataset == "accuracy/smollm2" for one in before
    )
    write_run(STUDY, seed=1)
    other = report.sparse()[0]
    assert not other.summary.identical(first[0].summary)
    judged = {one.hash for one in ledger({"accuracy/smollm2": other})}
    assert judged == {"", other.hash} != {"", first[0].hash}
