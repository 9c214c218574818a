"""The registry of models: ``models.yaml``, shipped checkpoints, the user's own file, and recorded pins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sparsestudy import paths
from sparsestudy.errors import StudyError
from sparsestudy.weights import manifest
from sparsestudy.weights.entries import ENTRY, ModelEntry

CARD = "card.json"
EXTRA_VARIABLE = "SPARSESTUDY_MODELS"


class ModelRegistry(Mapping[str, ModelEntry]):
    """The models of ``models.yaml``, of the folder ``models`` and of the user's own file, by name.

    Files are read again when they change.
    """

    def __getitem__(self, name: str) -> ModelEntry:
        """The entry of a model.

        Raises:
            StudyError: there is no such model, its entry is wrong, or its folder is missing.
        """
        specs = _specs()
        if name not in specs:
            near = get_close_matches(name, specs, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise StudyError(f"There is no model '{name}'; choose one of {', '.join(specs)}.{hint}")
        return _entry(name, *specs[name])

    def __contains__(self, name: object) -> bool:
        return name in _specs()

    def __iter__(self) -> Iterator[str]:
        return iter(_specs())

    def __len__(self) -> int:
        return len(_specs())


def extra_file() -> Path:
    """The user's own registry: ``$SPARSESTUDY_MODELS``, else ``models.local.yaml`` in the checkout."""
    named = os.environ.get(EXTRA_VARIABLE)
    return Path(named).expanduser().resolve() if named else paths.ROOT / "models.local.yaml"


def pins_file() -> Path:
    """Where ``models pin`` records revisions: user data, so that the checkout stays clean."""
    return manifest.cache_root() / "pins.yaml"


def _specs() -> dict[str, tuple[dict[str, Any], Path]]:
    """Name to (fields as written, file that holds them)."""
    shipped = Path(__file__).parents[1] / "models.yaml"
    specs = {name: (dict(spec), shipped) for name, spec in read_registry(shipped).items()}
    specs.update(_shipped())
    extra = extra_file()
    if EXTRA_VARIABLE in os.environ and not extra.is_file():
        raise StudyError(f"{EXTRA_VARIABLE} names {extra}, which is not a file; correct it or unset it.")
    for name, spec in read_registry(extra).items():
        if name in specs:
            raise StudyError(f"{extra} defines '{name}', which the study has already; choose another name.")
        specs[name] = (dict(spec), extra)
    for name, pin in read_registry(pins_file()).items():
        if name in specs and specs[name][0].get("source") == "hub":
            specs[name][0].update(pin)
    return specs


def _shipped() -> dict[str, tuple[dict[str, Any], Path]]:
    """The checkpoints of the checkout: a folder with a card each, smallest first."""
    found = {}
    for card in (paths.ROOT / "models").glob(f"*/{CARD}"):
        try:
            fields = json.loads(card.read_text(encoding="utf-8"))["model"]
        except (ValueError, KeyError) as error:
            raise StudyError(f"{card} is not a model's card ({error}); restore it from git.") from error
        found[card.parent.name] = ({"source": "shipped", "path": str(card.parent), **fields}, card)
    return dict(sorted(found.items(), key=lambda item: (item[1][0]["parameters"], item[0])))


def read_registry(path: Path) -> dict[str, dict[str, Any]]:
    """A registry file as written; empty when there is none."""
    if not path.is_file():
        return {}
    stat = path.stat()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _parse(path: Path, mtime_ns: int, size: int) -> dict[str, dict[str, Any]]:
    """Parse a registry file; the stamp makes a changed file a new one."""
    del mtime_ns, size
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"The model registry {path} is not readable YAML: {reason}.") from error
    if not isinstance(data, dict) or not all(isinstance(spec, dict) for spec in data.values()):
        raise StudyError(f"The model registry {path} must map each model's name to its fields.")
    return {str(name): spec for name, spec in data.items()}


def _entry(name: str, spec: dict[str, Any], file: Path) -> ModelEntry:
    fields = {**spec, "name": name}
    if spec.get("source") == "folder" and isinstance(spec.get("path"), str):
        folder = file.parent / Path(spec["path"]).expanduser()
        fields = {**manifest.describe(folder, name), **fields, "path": folder}
    try:
        return ENTRY.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "source"
        raise StudyError(f"The model '{name}' in {file} is not valid: {where}: {first['msg']}.") from error
