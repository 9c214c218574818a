"""Data of tasks that the package may not or does not ship: where they come from, and the copies in the cache.

Every copy lies in a folder of its own beside ``record.json``, which holds the sha256 of the first copy whose
content could be read as its official format. That record is this machine's own: the package knows no hash
that was not read from a file here. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.weights import manifest

RECORD = "record.json"
FORMAT = 1
ABSENT = "not fetched yet"
TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """Where the data of a task come from.

    Args:
        name: of the task.
        title: of the data.
        file: name of the copy in the cache.
        url: of the official file; empty where the user must bring a copy.
        page: that describes the data.
        licence: its name, or what is known about it.
        licence_url: its text; empty without one.
        many: the official form is a folder of text files, which the copy holds together as JSON.
    """

    name: str
    title: str
    file: str
    url: str
    page: str
    licence: str
    licence_url: str = ""
    many: bool = False

    @property
    def folder(self) -> Path:
        """The copy's folder in the cache."""
        return manifest.cache_root() / "data" / self.name

    @property
    def path(self) -> Path:
        """The copy."""
        return self.folder / self.file

    @property
    def how(self) -> str:
        """The command that fetches the data."""
        command = f"python -m sparsestudy data fetch {self.name}"
        if self.url:
            return f"`{command}` fetches them, or takes a copy of yours with `--source FILE`"
        return f"get a copy from {self.page} yourself, and `{command} --source FOLDER` takes it over"


SOURCES = {
    source.name: source
    for source in (
        Source(
            "squad",
            "SQuAD 2.0, development set",
            "dev-v2.0.json",
            "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json",
            "https://rajpurkar.github.io/SQuAD-explorer/",
            "CC BY-SA 4.0",
            "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
        ),
        Source(
            "quality",
            "QuALITY 1.0.1, development set without HTML",
            "QuALITY.v1.0.1.htmlstripped.dev",
            "https://raw.githubusercontent.com/nyu-mll/quality/main/data/v1.0.1/QuALITY.v1.0.1.htmlstripped.dev",
            "https://github.com/nyu-mll/quality",
            "CC BY 4.0",
            "https://creativecommons.org/licenses/by/4.0/legalcode",
        ),
        Source(
            "toefl",
            "TOEFL-QA",
            "toefl-qa.json",
            "",
            "https://github.com/iamyuanchung/TOEFL-QA",
            "none stated: for your own use, never to be passed on",
            many=True,
        ),
    )
}


def problem(source: Source) -> str:
    """What is wrong with the copy in the cache, in a few words; empty when it is sound."""
    record = _record(source)
    if not record or not source.path.is_file():
        return ABSENT
    if manifest.sha256(source.path) != record["sha256"]:
        return "its sha256 is not the recorded one"
    return ""


def missing(source: Source) -> str:
    """Why a task cannot have its data here, in one sentence; empty when it can."""
    wrong = problem(source)
    return f"The data of the task '{source.name}' are not here ({wrong}): {source.how}." if wrong else ""


def read(source: Source) -> bytes:
    """The copy in the cache.

    Raises:
        StudyError: it is not there, or not what was recorded.
    """
    if wrong := missing(source):
        raise StudyError(wrong)
    return source.path.read_bytes()


def recorded(source: Source) -> dict[str, Any]:
    """What the record of a sound copy says: origin, bytes, sha256 and licence.

    Raises:
        StudyError: as :func:`read`.
    """
    if wrong := missing(source):
        raise StudyError(wrong)
    return _record(source)


def fetch(source: Source, check: Callable[[bytes], object], origin: str = "") -> Path:
    """Put the data into the cache, or leave a sound copy there as it is.

    Args:
        source: the data.
        check: reads their content, and raises if it is not the official format.
        origin: a file, or a folder where the official form is one, or another address; the official one if
            empty.

    Returns:
        The copy.

    Raises:
        StudyError: the data cannot be had or read, are in another format, or differ from the first ones.
    """
    if not origin and not problem(source):
        return source.path
    if not (origin or source.url):
        raise StudyError(f"The data of '{source.name}' are not downloaded by this package: {source.how}.")
    data = _obtained(source, origin or source.url)
    try:
        check(data)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StudyError(
            f"What {origin or source.url} holds is not {source.title} in its official format "
            f"({type(error).__name__}: {error}); fetch it anew from {source.page}."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    try:
        source.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(source.folder.with_suffix(".lock")):
            known = _record(source)
            if known and known["sha256"] != digest:
                raise StudyError(
                    f"The data of '{source.name}' from {origin or source.url} have the sha256 {digest}, but "
                    f"the first ones that were fetched here had {known['sha256']}; to accept the new ones, "
                    f"`python -m sparsestudy data remove {source.name}` forgets the first."
                )
            paths.write_bytes(source.path, data)
            record = {
                "format": FORMAT,
                "data": source.title,
                "origin": origin or source.url,
                "licence": source.licence,
                "bytes": len(data),
                "sha256": digest,
            }
            paths.write_text(source.folder / RECORD, json.dumps(known or record, indent=1) + "\n")
    except OSError as error:
        raise StudyError(
            f"The data of '{source.name}' cannot be written to {source.folder} ({error.strerror or error}); "
            f"make room or set {manifest.CACHE_VARIABLE} to another folder."
        ) from error
    return source.path


def remove(source: Source) -> bool:
    """Delete the copy and its record; whether there was anything."""
    found = source.folder.is_dir()
    if found:
        shutil.rmtree(source.folder)
    return found


def _record(source: Source) -> dict[str, Any]:
    try:
        record = json.loads((source.folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == FORMAT else {}


def _obtained(source: Source, origin: str) -> bytes:
    """The bytes of a file, a folder or an address."""
    try:
        if origin.startswith(("http://", "https://")):
            with urllib.request.urlopen(origin, timeout=TIMEOUT) as answer:
                content: bytes = answer.read()
                return content
        path = Path(origin).expanduser()
        if path.is_dir():
            return _together(source, path)
        return path.read_bytes()
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise StudyError(
            f"The data of '{source.name}' could not be read from {origin} ({reason}); check the network or "
            f"the path, or get a copy from {source.page} and give it with `--source`."
        ) from error


def _together(source: Source, folder: Path) -> bytes:
    """The text files of a folder as one JSON object, the same whatever their order on the disk."""
    if not source.many:
        raise StudyError(
            f"The data of '{source.name}' are one file, {source.file}; give it instead of {folder}."
        )
    files = sorted(file for file in folder.rglob("tpo_*") if file.is_file())
    texts = {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return json.dumps(texts, indent=0, sort_keys=True).encode()
