"""What the report is made of, as one hash: the same hash, the same pages."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from sparsestudy import paths, provenance
from sparsestudy.weights import manifest

# Folders of the checkout that pages are made from, and files beside them that change what pages say.
_FOLDERS = ("book", "notebooks", "results", "models")
_FILES = ("pyproject.toml", "models.local.yaml")
# What a build makes itself; `results/derived` is made of the rest.
_BUILT = frozenset(("_build", "_generated", "__pycache__", "derived"))


def digest() -> str:
    """A hash of the book, the package, the datasets, the fetched data of tasks, and the installed software.

    It reads every file (9 MB, 0.2 s), so that times and the order of commits decide nothing.
    """
    parts = {
        "python": sys.version,
        "software": sorted(f"{found.name} {found.version}" for found in metadata.distributions()),
        "commit": provenance.commit(),
        "files": dict(sorted(_files())),
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _files() -> Iterator[tuple[str, str]]:
    """Every file that counts, with a hash of its content."""
    package = Path(__file__).resolve().parent
    for folder in (package, *(paths.ROOT / name for name in _FOLDERS)):
        yield from ((f"{folder.name}/{name}", _hash(path)) for name, path in _under(folder))
    for path in (paths.ROOT / name for name in _FILES):
        if path.is_file():
            yield path.name, _hash(path)
    # Copies of data are checked against their hashes when they are fetched: names and sizes do.
    for name, path in _under(manifest.cache_root() / "data"):
        yield f"data/{name}", str(path.stat().st_size)


def _under(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder, those in hidden folders and in what a build makes left out."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part in _BUILT or part.startswith(".") for part in inside.parts):
            yield inside.as_posix(), path


def _hash(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
