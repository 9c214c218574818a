"""`make dist`: archives that hold what they should and are the same every time."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, pointed at a small checkout with a built report."""
    spec = importlib.util.spec_from_file_location("dist", ROOT / "tools" / "dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {
        "sparsestudy/__init__.py": '__version__ = "1.2.3"\n',
        "LICENSE": "licence",
        "CITATION.cff": "citation",
        "book/_build/html/index.html": "<html>",
        "book/_build/html/_static/a.css": "a {}",
        "results/accuracy/run/model-512.nc": "published",
        "results/local/accuracy/mine/model-512.nc": "private",
        "results/derived/x.nc": "derived",
        "notebooks/params/accuracy/run.yaml": "a: 1",
        "notebooks/params/local/accuracy/mine.yaml": "a: 2",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "DIST", tmp_path / "dist")
    monkeypatch.setattr(module, "HTML", tmp_path / "book" / "_build" / "html")
    return module


def test_archives_hold_the_report_and_the_published_data_alone(dist: ModuleType) -> None:
    dist.main()
    with zipfile.ZipFile(dist.DIST / "sparsestudy-report-1.2.3.zip") as archive:
        assert set(archive.namelist()) == {
            "sparsestudy-report-1.2.3/index.html",
            "sparsestudy-report-1.2.3/_static/a.css",
        }
    with zipfile.ZipFile(dist.DIST / "sparsestudy-datasets-1.2.3.zip") as archive:
        inside = {name.partition("/")[2] for name in archive.namelist()}
        assert archive.read("sparsestudy-datasets-1.2.3/results/accuracy/run/model-512.nc") == b"published"
    shipped = {"results/accuracy/run/model-512.nc", "notebooks/params/accuracy/run.yaml"}
    assert inside == shipped | {"LICENSE", "CITATION.cff"}


def test_checksums_are_right_and_archives_the_same_every_time(dist: ModuleType) -> None:
    dist.main()
    sums = dict(reversed(line.split()) for line in (dist.DIST / "SHA256SUMS").read_text().splitlines())
    for name, digest in sums.items():
        assert hashlib.sha256((dist.DIST / name).read_bytes()).hexdigest() == digest
    assert len(sums) == 2
    for file in (dist.ROOT / "results").rglob("*.nc"):
        file.touch()
    dist.main()
    assert (
        dict(reversed(line.split()) for line in (dist.DIST / "SHA256SUMS").read_text().splitlines()) == sums
    )


def test_no_report_is_one_sentence(dist: ModuleType) -> None:
    (dist.HTML / "index.html").unlink()
    with pytest.raises(SystemExit, match="no built report; run make report first"):
        dist.main()
