"""What is derived from datasets, computed once: kept in `results/derived/` under a hash of data and code.

Pages run in processes of their own and share much of what they show. Whoever asks first computes; the
others wait for it. Nothing is looked up under another hash, so the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    with _place(name, form.suffix, decisive) as file:
        if file is None:
            return make()
        if file.is_file():
            try:
                return form.read(file.read_bytes())
            except (ValueError, KeyError, TypeError, OSError):
                file.unlink()  # cut short or damaged: what a form says of bytes that it did not write
        value = make()
        _clear(file, name)
        paths.write_bytes(file, form.write(value))
        return value


def kept_file(name: str, suffix: str, write: Callable[[Path], None], *decisive: str) -> Path | None:
    """The file that ``write`` made, now or before; None where nothing can be written.

    Args:
        name: as in `kept`.
        suffix: of the file.
        write: makes the file under a path that it is given.
        decisive: as in `kept`.
    """
    with _place(name, suffix, decisive) as file:
        if file is not None and not file.is_file():
            part = file.with_name(f".{file.name}.part")
            write(part)
            _clear(file, name)
            part.replace(file)
        return file


@contextmanager
def _place(name: str, suffix: str, decisive: tuple[str, ...]) -> Iterator[Path | None]:
    """The path of what is kept, which nobody else touches meanwhile; None where it cannot be written."""
    key = hashlib.blake2b("\n".join([code(), *decisive]).encode(), digest_size=12).hexdigest()
    file = folder() / f"{name}.{key}.{suffix}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.parent / f".{name}.lock")
        lock.acquire()
    except OSError:
        yield None  # a checkout that cannot be written
        return
    try:
        yield file
    finally:
        lock.release()


def _clear(file: Path, name: str) -> None:
    """Remove what had this name before."""
    for old in file.parent.glob(f"{name}.*.*"):
        old.unlink()


@lru_cache(maxsize=1)
def code() -> str:
    """A hash of all files of the package and of the versions of what computes."""
    home = Path(__file__).parent
    versions = [platform.python_version(), *(metadata.version(name) for name in _COMPUTING)]
    found = hashlib.blake2b(" ".join(versions).encode(), digest_size=12)
    for file in sorted([*home.rglob("*.py"), *home.rglob("*.yaml")]):
        found.update(f"{file.relative_to(home)}\n".encode() + file.read_bytes())
    return found.hexdigest()
