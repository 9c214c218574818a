"""Zip the built report and the published datasets into dist/, with their sha256 (`make dist`).

Entries are sorted and carry no clock times, so equal contents make equal archives.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
HTML = ROOT / "book" / "_build" / "html"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


def version() -> str:
    """The version of the package, read without importing it."""
    for line in (ROOT / "sparsestudy" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise SystemExit("error: sparsestudy/__init__.py names no __version__.")


def dataset_files() -> list[Path]:
    """Published datasets with their executed notebooks and parameter files, and the licence."""
    results = ROOT / "results"
    private = (results / "local", results / "derived")
    shipped = [
        file for file in results.rglob("*") if not any(file.is_relative_to(folder) for folder in private)
    ]
    params = ROOT / "notebooks" / "params"
    shipped += [file for file in params.rglob("*") if not file.is_relative_to(params / "local")]
    return [*shipped, ROOT / "LICENSE", ROOT / "CITATION.cff"]


def archive(name: str, files: Iterable[Path], base: Path) -> Path:
    """A deflated archive of ``files``, named relative to ``base``, inside one folder called ``name``."""
    target = DIST / f"{name}.zip"
    temporary = target.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w") as zipped:
        for file in sorted(file for file in files if file.is_file()):
            info = zipfile.ZipInfo(f"{name}/{file.relative_to(base).as_posix()}", EPOCH)
            info.external_attr = 0o644 << 16
            zipped.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    os.replace(temporary, target)
    return target


def main() -> None:
    """Make both archives and the list of their checksums."""
    if not (HTML / "index.html").is_file():
        sys.exit("error: there is no built report; run make report first.")
    DIST.mkdir(exist_ok=True)
    made = [
        archive(f"sparsestudy-report-{version()}", HTML.rglob("*"), HTML),
        archive(f"sparsestudy-datasets-{version()}", dataset_files(), ROOT),
    ]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in made]
    (DIST / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    for path in made:
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
