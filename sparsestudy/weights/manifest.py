"""What lies in the weights cache, and whether it is still what was put there.

Every finished model folder holds ``manifest.json``: the origin of the weights and the size, sha256 and
modification time of each file. A folder appears under its name only when it is complete (it is renamed
into place), so a fetch that was cut short never looks finished.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from sparsestudy.errors import StudyError

CACHE_VARIABLE = "SPARSESTUDY_CACHE"
FILE = "manifest.json"
FORMAT = 1
# Below this size a file is hashed at the first use in every process (well under a second);
# above it only when its size or modification time differs from what was recorded.
HASH_ALWAYS_BYTES = 400_000_000


def cache_root() -> Path:
    """The cache folder: ``$SPARSESTUDY_CACHE``, else ``~/.cache/sparsestudy``."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser().resolve() if named else Path.home() / ".cache" / "sparsestudy"


def models_root() -> Path:
    """The folder that holds one folder a model."""
    return cache_root() / "models"


def work_folder(name: str) -> Path:
    """Where an unfinished fetch of a model keeps what it has."""
    return models_root() / f".{name}.work"


def size(count: int) -> str:
    """Bytes as people read them: ``93 MB``, ``1.1 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{math.ceil(count / 1e6)} MB"


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal; remembered while size and modification time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined(hashes: dict[str, str]) -> str:
    """One hash for a set of weights files: the file's own when there is one, else of the sorted list."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def safetensors(folder: Path) -> list[Path]:
    """The weights files of a folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def write(folder: Path, model: str, origin: str) -> None:
    """Record every file of a finished model folder."""
    files = {
        str(file.relative_to(folder)): {
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
            "mtime_ns": file.stat().st_mtime_ns,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != FILE
    }
    record = {"format": FORMAT, "model": model, "origin": origin, "files": files}
    (folder / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def exists(folder: Path, origin: str) -> bool:
    """Whether a finished copy of this origin lies in the folder, sound or not."""
    return _record(folder).get("origin") == origin


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == FORMAT else {}


def problem(folder: Path, origin: str, deep: bool | None) -> str | None:
    """What is wrong with a cached model, in a few words; ``None`` when it is sound.

    Args:
        folder: the model's folder in the cache.
        origin: what the registry says it was made from.
        deep: hash every file; ``False``: sizes only; ``None``: hash what is cheap or looks changed.
    """
    record = _record(folder)
    if record.get("origin") != origin:
        return "not fetched yet"
    for name, kept in record["files"].items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        stat = file.stat()
        if stat.st_size != kept["bytes"]:
            return f"{name} has {stat.st_size} bytes instead of {kept['bytes']}"
        doubtful = stat.st_size <= HASH_ALWAYS_BYTES or stat.st_mtime_ns != kept["mtime_ns"]
        if (deep or (deep is None and doubtful)) and sha256(file) != kept["sha256"]:
            return f"the sha256 of {name} is not the recorded one"
    return None


def describe(folder: Path, name: str) -> dict[str, Any]:
    """Registry fields of a model that is given as a folder, read from its own files.

    Raises:
        StudyError: the folder is not a model's.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = [_header(file) for file in safetensors(folder)]
    except (OSError, ValueError) as error:
        raise StudyError(
            f"The folder of the model '{name}', {folder}, must hold config.json, *.safetensors and a "
            f"tokenizer; reading it failed: {error}."
        ) from error
    if not weights:
        raise StudyError(f"The folder of the model '{name}', {folder}, holds no *.safetensors file.")
    text = config.get("text_config", config)
    shapes = [info["shape"] for header in weights for key, info in header.items() if key != "__metadata__"]
    fields = {
        "architecture": ", ".join(config.get("architectures") or ["unknown"]),
        "parameters": sum(math.prod(shape) for shape in shapes),
        "chat_template": (folder / "chat_template.jinja").is_file(),
    }
    if "max_position_embeddings" in text:
        fields["context"] = text["max_position_embeddings"]
    return fields


def _header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: tensor name to dtype, shape and offsets."""
    total = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length)) if 8 + length <= total else None
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} is cut short or not a safetensors file")
    ends = [info["data_offsets"][1] for name, info in header.items() if name != "__metadata__"]
    if total != 8 + length + max(ends, default=0):
        raise ValueError(f"{file.name} is cut short")
    return header
