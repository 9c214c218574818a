"""What is derived from datasets, computed once: kept in `results/derived/` under a hash of data and code.

Pages run in processes of their own and share much of what they show. Whoever asks first computes; the
others wait for it. Nothing is looked up under another hash, so the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from sparsestudy import paths
from sparsestudy.forms import Form

_COMPUTING = ("numpy", "pandas", "scipy", "xarray")
T = TypeVar("T")


def folder() -> Path:
    """The git-ignored folder of what is kept."""
    return paths.ROOT / "results" / "derived"


def kept(name: str, form: Form[T], make: Callable[[], T], *decisive: str) -> T:
    """What ``make`` returns, from the disk where it was made before from the same data by the same code.

    Args:
        name: of the value, without dots; it takes the place of what had this name before.
        form: how it is written and read.
        make: computes it; what it raises is raised, and nothing is kept.
        decisive: whatever the value depends on beside the package's code, such as the hash of a dataset.
    """
    key = hashlib.blake2b("\n".join([code(), *decisive]).encode(), digest_size=12).hexdigest()
    file = folder() / f"{name}.{key}.{form.suffix}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.parent / f".{name}.lock")
        lock.acquire()
    except OSError:
        return make()  # a checkout that cannot be written
    try:
        if file.is_file():
            try:
                return form.read(file.read_bytes())
            except (ValueError, KeyError, TypeError, OSError):
                file.unlink()  # cut short or damaged: what a form says of bytes that it did not write
        value = make()
        for old in file.parent.glob(f"{name}.*.*"):
            old.unlink()
        paths.write_bytes(file, form.write(value))
        return value
    finally:
        lock.release()


@lru_cache(maxsize=1)
def code() -> str:
    """A hash of all files of the package and of the versions of what computes."""
    home = Path(__file__).parent
    versions = [platform.python_version(), *(metadata.version(name) for name in _COMPUTING)]
    found = hashlib.blake2b(" ".join(versions).encode(), digest_size=12)
    for file in sorted([*home.rglob("*.py"), *home.rglob("*.yaml")]):
        found.update(f"{file.relative_to(home)}\n".encode() + file.read_bytes())
    return found.hexdigest()
