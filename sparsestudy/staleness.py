"""What decides whether a dataset is up to date: parameters, weights and code. Nothing else does.

The code of a method or task is the syntax tree of its module and of every module of the package that
this one imports, directly or not, without comments, docstrings and formatting. The hash is the same on
every supported Python. The kernels are a component of their own, which only datasets have that they computed.
Edits that are shown to have changed no number (:mod:`sparsestudy.unchanged`) are looked through.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsestudy.syntax import parsed, source_hash, text_hash

if TYPE_CHECKING:
    import xarray as xr

    from sparsestudy.shards import Shard

PACKAGE = "sparsestudy"
# The folder of the kernels, their component, and the backend, as datasets record it, that runs them.
KERNELS, COMPONENT, BACKEND = f"{PACKAGE}.kernels", "code:kernels", "triton"
# Modules that move files, text and settings but compute no number: an edit there makes nothing stale.
# Registries are here because a new line in one would make every method stale.
OUTSIDE = frozenset(
    f"{PACKAGE}{name}"
    for name in (
        "",
        ".methods",
        ".tasks",
        ".registry",
        ".errors",
        ".paths",
        ".parameters",
        ".specs",
        ".shards",
        ".experiments",
        ".schema",
        ".mask_parameters",
        ".mask_schema",
        ".fidelity_parameters",
        ".fidelity_schema",
        ".concentration_parameters",
        ".concentration_schema",
        ".speed",
        ".speed.parameters",
        ".speed.schema",
        ".dataset",
        ".merging",
        ".opening",
        ".validation",
        ".provenance",
        ".staleness",
        ".unchanged",
        ".syntax",
        ".progress",
        ".models",
        ".weights",
        ".weights.manifest",
    )
)


def shard_key(shard: Shard, backends: Collection[str] | None = None) -> dict[str, str]:
    """The components that decide whether a shard's dataset is up to date, by name. Imports no torch.

    Args:
        shard: model and length.
        backends: what computed the dataset (:func:`recorded`); None, where none is made yet, is everything
            that the run may use.

    Raises:
        StudyError: the model, a method or a task is not registered.
    """
    from sparsestudy.experiments import experiment
    from sparsestudy.methods import METHODS
    from sparsestudy.tasks import TASKS

    run = shard.run
    kind = experiment(run.experiment)
    plain = run.plain()
    decisive = {name: plain[name] for name in kind.decisive} | {"model": shard.model, "length": shard.length}
    key = {
        "parameters": text_hash(json.dumps(decisive, sort_keys=True)),
        "weights": run.identity(shard.model),
        f"code:{kind.entry.rpartition('.')[2]}": code_hash(kind.entry),
    }
    for spec in run.methods:
        key |= {f"code:{name}": code_hash(METHODS.module(name)) for name in named(spec.name, spec.fields)}
    key |= {f"code:{spec.name}": code_hash(TASKS.module(spec.name)) for spec in run.task_specs()}
    if BACKEND in backends if backends is not None else run.backend != "torch":
        key[COMPONENT] = _code_hash(kernels(kind.entry))
    return settled(shard, key)


def settled(shard: Shard, key: Mapping[str, str]) -> dict[str, str]:
    """A key with the oldest of the hashes that edits which changed no number have joined.

    Raises:
        StudyError: the file of such edits is wrong.
    """
    from sparsestudy.experiments import experiment
    from sparsestudy.unchanged import origin

    if experiment(shard.run.experiment).of_time:
        return dict(key)
    return {name: origin(name, digest) for name, digest in key.items()}


def recorded(dataset: xr.Dataset) -> set[str]:
    """The backends that computed a dataset, as it says itself."""
    return {str(name) for name in dataset["backend"].values.ravel()}


def named(name: str, fields: Mapping[str, Any]) -> list[str]:
    """The registered methods that a variant is made of: itself, and the one that it stands beside."""
    from sparsestudy.methods import METHODS

    like = fields.get("like")
    return [name, like] if isinstance(like, str) and like in METHODS else [name]


def code_of(name: str, fields: Mapping[str, Any]) -> str:
    """A hash of the code of a method variant."""
    from sparsestudy.methods import METHODS

    return text_hash(" ".join(code_hash(METHODS.module(part)) for part in named(name, fields)))


def explain(stored: dict[str, str], current: dict[str, str]) -> list[str]:
    """Why a dataset with the key ``stored`` is stale, in plain sentences; empty when it is fresh."""
    reasons = []
    for name in sorted(current.keys() | stored.keys(), key=lambda name: (name != "parameters", name)):
        if stored.get(name) == current.get(name):
            continue
        kind, _, part = name.partition(":")
        if kind == "code" and name not in current:
            reasons.append(f"it holds {part}, which the run no longer has")
        # Datasets that are older than the component hold the kernels in other code, as it was.
        elif kind == "code" and name not in stored and name != COMPONENT:
            reasons.append(f"it lacks {part}")
        else:
            subject = f"the code of {part}" if kind == "code" else f"the {kind}"
            reasons.append(f"{subject} changed" if kind != "weights" else "the model's weights changed")
    return reasons


def code_hash(module: str) -> str:
    """A hash of a module's code and of the package's code that it imports, the kernels left out."""
    return _code_hash(closure(module))


def _code_hash(modules: Collection[str]) -> str:
    return text_hash("\n".join(f"{name} {source_hash(_source(name))}" for name in sorted(modules)))


def closure(module: str) -> set[str]:
    """The module and those of the package that it imports, directly or not, less ``OUTSIDE`` and kernels."""
    return _closure(module, with_kernels=False)


def kernels(module: str) -> set[str]:
    """What the kernels add to a module's closure: they themselves, and what only they import."""
    return _closure(module, with_kernels=True) - closure(module)


def _closure(module: str, with_kernels: bool) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for other in _imports(name, _source(name)):
            kernel = other == KERNELS or other.startswith(f"{KERNELS}.")
            if other not in OUTSIDE and (with_kernels or not kernel):
                waiting.append(other)
    return found


def _source(module: str) -> str:
    path = _path(module)
    if path is None:
        raise FileNotFoundError(f"the source of {module} cannot be found")
    return path.read_text(encoding="utf-8")


def _path(module: str) -> Path | None:
    """The file of a module; the package's own are found without importing anything."""
    if module == PACKAGE or module.startswith(f"{PACKAGE}."):
        # A sweep asks a hundred thousand times; a Path takes four times as long to put together as a text.
        base = os.path.join(os.path.dirname(__file__), *module.split(".")[1:])
        for candidate in (f"{base}.py", os.path.join(base, "__init__.py")):
            if os.path.isfile(candidate):
                return Path(candidate)
        return None
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def _imports(module: str, source: str) -> list[str]:
    """The package's modules that a source text names in its imports, those inside functions included."""
    path = _path(module)
    is_package = path is not None and path.name == "__init__.py"
    # A name may be a module or something in a module; only modules have a file.
    return [name for name in _named(module, source, is_package) if _path(name) is not None]


# Every method of every shard asks about the same few hundred modules; read once each, `plan` takes 3.8 s of
# CPU time instead of 6.4.
@lru_cache(maxsize=1024)
def _named(module: str, source: str, is_package: bool) -> tuple[str, ...]:
    """What of the package a source text imports, modules and things in them."""
    found: dict[str, None] = {}
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                kept = parents[: len(parents) - node.level + (1 if is_package else 0)]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= dict.fromkeys(name for name in names if name.split(".")[0] == PACKAGE)
    return tuple(found)
