"""Where things lie in the checkout.

``ROOT`` is looked up when the package is imported: the folder named by ``SPARSESTUDY_ROOT``, else
the working folder or the nearest parent that holds both ``notebooks/`` and ``results/``, else the
folder that holds the package. Other modules read ``paths.ROOT`` when they are called, so that one
process can be pointed at another checkout.
"""

from __future__ import annotations

import os
from pathlib import Path


def find_root() -> Path:
    """The root of the checkout, as an absolute path."""
    named = os.environ.get("SPARSESTUDY_ROOT")
    if named:
        return Path(named).expanduser().resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    return Path(__file__).resolve().parent.parent


ROOT = find_root()
# The name that a notebook started by hand gives its run: scratch, shown on no page.
SCRATCH = "notebook"


def results(published: bool) -> Path:
    """The folder that holds one folder an experiment: tracked when published, git-ignored when local."""
    return ROOT / "results" if published else ROOT / "results" / "local"


def run_folder(experiment: str, run: str, published: bool) -> Path:
    """The folder that holds the datasets of one run."""
    return results(published) / experiment / run


def params_folder(experiment: str, published: bool) -> Path:
    """The folder that holds one YAML file a run."""
    base = ROOT / "notebooks" / "params"
    return base / experiment if published else base / "local" / experiment


def notebook(experiment: str) -> Path:
    """The notebook that runs an experiment."""
    return ROOT / "notebooks" / f"{experiment}.ipynb"


def scratch(kind: str) -> Path:
    """A git-ignored folder for things that may vanish: ``checkpoints``, ``locks``, ``logs``, ``work``."""
    return ROOT / "results" / "local" / f".{kind}"


def shown(path: Path) -> str:
    """A path as messages show it: relative to the checkout where it lies inside."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a temporary file beside it takes its place.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is intact.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all: a temporary file beside it takes its place.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
