"""Data that a user fetches: official formats, the cache and its record, and the tasks made of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import qa_files
from word_level import word_level

from sparsestudy import corpora
from sparsestudy.__main__ import main
from sparsestudy.calibration import prompts_of
from sparsestudy.errors import StudyError
from sparsestudy.tasks import TASKS
from sparsestudy.tasks.documents import JOINT
from sparsestudy.tasks.prompt import encode, tokens_in

NAMES = list(corpora.SOURCES)


def written(root: Path) -> dict[str, str]:
    """For each name a file, or a folder, in its official form."""
    folder = root / "official"
    folder.mkdir()
    (folder / "dev-v2.0.json").write_bytes(qa_files.squad())
    (folder / "quality.dev").write_bytes(qa_files.quality())
    checkout = qa_files.toefl(root / "TOEFL-QA")
    return {
        "squad": str(folder / "dev-v2.0.json"),
        "quality": str(folder / "quality.dev"),
        "toefl": str(checkout),
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return written(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all of them, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESTUDY_CACHE", str(folder / "cache"))
        for name, file in written(folder).items():
            assert main(["data", "fetch", name, "--source", file]) == 0
    return folder / "cache"


@pytest.fixture
def here(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESTUDY_CACHE", str(filled))


@pytest.fixture
def fetched(files: dict[str, str], cache: Path) -> dict[str, str]:
    """A cache of the test's own that holds all of them."""
    for name, file in files.items():
        assert main(["data", "fetch", name, "--source", file]) == 0
    return files


@pytest.fixture
def server(files: dict[str, str]) -> Iterator[str]:
    """The address of a folder with the files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path(files["squad"]).parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_every_task_without_text_in_the_package_has_a_source_and_no_other_has() -> None:
    assert {name for name in TASKS if not TASKS[name].shipped} == set(NAMES)
    for name, source in corpora.SOURCES.items():
        assert source.name == name
        assert source.licence


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_here_is_said_in_one_sentence(
    name: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = TASKS[name].unavailable()
    assert f"The data of the task '{name}' are not here (not fetched yet)" in said
    assert f"`python -m sparsestudy data fetch {name}" in said
    with pytest.raises(StudyError, match="are not here"):
        TASKS[name]().sample(word_level(), 1024, 0)
    assert main(["data", "verify", name]) == 2
    assert main(["data"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))
    assert row.split()[-1] == "no"
    assert not list(cache.rglob("*"))


def test_budgets_are_calibrated_on_the_same_prompts_with_and_without_data(
    files: dict[str, str], cache: Path
) -> None:
    before = [prompt.ids for prompt in prompts_of(word_level(), 1024)]
    for name, file in files.items():
        assert main(["data", "fetch", name, "--source", file]) == 0
    assert [prompt.ids for prompt in prompts_of(word_level(), 1024)] == before


def test_a_fetch_over_http_is_recorded_and_verified(
    server: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = replace(corpora.SOURCES["squad"], url=f"{server}/dev-v2.0.json")
    check = TASKS["squad"].check  # type: ignore[attr-defined]
    path = corpora.fetch(source, check)
    assert path.read_bytes() == qa_files.squad()
    record = json.loads((path.parent / "record.json").read_text())
    assert record["origin"] == source.url
    assert record["licence"] == "CC BY-SA 4.0"
    assert len(record["sha256"]) == 64
    assert {file.name for file in path.parent.iterdir()} == {"dev-v2.0.json", "record.json"}
    assert main(["data", "verify", "squad"]) == 0
    stamp = path.stat().st_mtime_ns
    assert corpora.fetch(source, check) == path
    assert path.stat().st_mtime_ns == stamp, "a sound copy is left as it is"
    with pytest.raises(StudyError, match=r"could not be read from .*/other.json \(File not found\)"):
        corpora.fetch(source, check, f"{server}/other.json")


def test_a_damaged_copy_is_found_and_restored(
    fetched: dict[str, str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = corpora.SOURCES["quality"].path
    path.write_bytes(path.read_bytes()[:-10])
    assert "its sha256 is not the recorded one" in TASKS["quality"].unavailable()
    assert main(["data", "verify", "quality"]) == 2
    main(["data"])
    assert "damaged" in capsys.readouterr().out
    assert main(["data", "fetch", "quality", "--source", fetched["quality"]]) == 0
    assert main(["data", "verify", "quality"]) == 0


def test_other_data_than_the_first_are_refused_until_the_first_are_removed(
    fetched: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(fetched["squad"]).write_bytes(qa_files.squad(articles=31))
    kept = corpora.SOURCES["squad"].path.read_bytes()
    assert main(["data", "fetch", "squad", "--source", fetched["squad"]]) == 2
    assert "first ones that were fetched here" in capsys.readouterr().err
    assert corpora.SOURCES["squad"].path.read_bytes() == kept
    assert main(["data", "remove", "squad"]) == 0
    assert main(["data", "fetch", "squad", "--source", fetched["squad"]]) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("squad", b""),
        ("squad", b"<html>moved</html>"),
        ("squad", b'{"data": []}'),
        ("squad", b'{"data": [{"title": "x"}]}'),
        ("quality", b'{"article_id": "1"}'),
        ("quality", b"\xff\xfe"),
        ("toefl", b'{"data/dev/tpo_1": "SENTENCE a"}'),
        ("toefl", b'{"data/dev/tpo_1": "OTHER a"}'),
        ("toefl", b"[1]"),
    ],
)
def test_what_is_in_no_official_format_is_not_kept(
    name: str, content: bytes, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main(["data", "fetch", name, "--source", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: What ")
    assert "in its official format" in said
    assert not list(cache.rglob("*.json"))


def test_wrong_commands_are_refused(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (["fetch"], "Name the data"),
        (["list", "squad"], "takes no names"),
        (["fetch", "sqad"], "There are no data 'sqad'; choose one of squad, quality, toefl"),
        (["verify", "squad", "--source", "x"], "goes with one name"),
        (["fetch", "toefl"], "not downloaded by this package: get a copy from https://github.com"),
        (["fetch", "squad", "--source", str(tmp_path)], "are one file"),
        (["fetch", "squad", "--source", str(tmp_path / "none")], "could not be read"),
    ):
        assert main(["data", *arguments]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "fields", [{}, {"preset": "paper"}, {"question": "both"}, {"question": "before"}], ids=str
)
def test_tasks_of_fetched_data_keep_the_laws(
    name: str, fields: dict[str, str], here: None, full_size: bool
) -> None:
    task = TASKS[name](**fields)
    seen: dict[str, set[str]] = {}
    for split in ("eval", "calibration", "train"):
        for index in range(12 if full_size else 3):
            length = 900 + 251 * index
            if split != "eval":
                length = 700
            sample = task.sample(word_level(), length, index, split=split)  # type: ignore[arg-type]
            assert 0.95 * length <= tokens_in(word_level(), sample) <= length
            assert sample == task.sample(word_level(), length, index, split=split)  # type: ignore[arg-type]
            ((begin, end),) = sample.evidence
            gold = sample.prompt[begin:end]
            context = sample.prompt[: sample.context_end]
            assert context.count(gold) == 1
            assert JOINT in context
            seen.setdefault(split, set()).add(sample.document)
            reply = ", ".join(sample.answer) if task.binary else sample.answer[0]
            reply = f" {reply}" if task.preset == "direct" else f"<answer>{reply}</answer>"
            assert task.score(sample, reply).value == 1
            assert not task.score(sample, "").parsed
            less = replace(task, context="evidence").sample(word_level(), length, index, split=split)  # type: ignore[arg-type]
            assert less.prompt[slice(*less.evidence[0])] == gold
            assert len(encode(word_level(), sample).evidence) == 1
            assert 0 <= sample.chance <= 1
    assert not seen["eval"] & seen["train"] | seen["eval"] & seen["calibration"]
    with pytest.raises(StudyError, match="No rule answers"):
        task.find("")


def test_squad_has_no_other_paragraph_with_the_answer_and_asks_nothing_impossible(here: None) -> None:
    for index in range(20):
        sample = TASKS["squad"]().sample(word_level(), 1500, index)
        year, phrase = sample.answer
        assert phrase == f"the year {year}"
        assert sample.prompt.count(year) == 1
        assert "fall?" not in sample.prompt


def test_documents_come_once_with_all_their_questions(here: None) -> None:
    for name, documents, questions in (("squad", 180, 1), ("quality", 40, 2), ("toefl", 40, 2)):
        splits = TASKS[name]().library().splits  # type: ignore[attr-defined]
        found = [document for pool in splits.values() for document in pool.documents]
        assert len(found) == len({document.text for document in found}) == documents
        assert {len(document.questions) for document in found} == {questions}
        assert all(pool.asked for pool in splits.values())
    articles = [{d.group for d in pool.documents} for pool in TASKS["squad"]().library().splits.values()]  # type: ignore[attr-defined]
    assert not articles[0] & articles[1] | articles[0] & articles[2] | articles[1] & articles[2]


def test_long_documents_only_distract(here: None) -> None:
    with pytest.raises(StudyError, match="no question in the split"):
        TASKS["quality"](most_words=20).sample(word_level(), 1024, 0)
    with pytest.raises(StudyError, match="most_words of 1 or more"):
        TASKS["quality"](most_words=0)


def test_a_question_with_two_right_options_says_so(here: None) -> None:
    chances = set()
    for index in range(40):
        sample = TASKS["toefl"]().sample(word_level(), 900, index)
        asked = "the letters of the 2 right answers" in sample.prompt
        assert asked == (len(sample.answer) == 2)
        chances.add(sample.chance)
    assert chances == {1 / 4, 1 / 6}
