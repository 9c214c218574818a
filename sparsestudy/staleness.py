"""What decides whether a dataset is up to date: parameters, weights and code. Nothing else does.

The code of a method or task is the syntax tree of its module and of every module of the package that
this one imports, directly or not, without comments, docstrings and formatting. The hash is the same on
every supported Python.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsestudy.shards import Shard

PACKAGE = "sparsestudy"
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
        ".speed",
        ".speed.parameters",
        ".speed.schema",
        ".dataset",
        ".merging",
        ".opening",
        ".validation",
        ".provenance",
        ".staleness",
        ".progress",
        ".models",
        ".weights",
        ".weights.manifest",
    )
)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def shard_key(shard: Shard) -> dict[str, str]:
    """The components that decide whether a shard's dataset is up to date, by name. Imports no torch.

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
        "parameters": _hash(json.dumps(decisive, sort_keys=True)),
        "weights": run.identity(shard.model),
        f"code:{kind.entry.rpartition('.')[2]}": code_hash(kind.entry),
    }
    for spec in run.methods:
        key |= {f"code:{name}": code_hash(METHODS.module(name)) for name in named(spec.name, spec.fields)}
    key |= {f"code:{spec.name}": code_hash(TASKS.module(spec.name)) for spec in run.task_specs()}
    return key


def named(name: str, fields: Mapping[str, Any]) -> list[str]:
    """The registered methods that a variant is made of: itself, and the one that it stands beside."""
    from sparsestudy.methods import METHODS

    like = fields.get("like")
    return [name, like] if isinstance(like, str) and like in METHODS else [name]


def code_of(name: str, fields: Mapping[str, Any]) -> str:
    """A hash of the code of a method variant."""
    from sparsestudy.methods import METHODS

    return _hash(" ".join(code_hash(METHODS.module(part)) for part in named(name, fields)))


def explain(stored: dict[str, str], current: dict[str, str]) -> list[str]:
    """Why a dataset with the key ``stored`` is stale, in plain sentences; empty when it is fresh."""
    reasons = []
    for name in sorted(current.keys() | stored.keys(), key=lambda name: (name != "parameters", name)):
        if stored.get(name) == current.get(name):
            continue
        kind, _, part = name.partition(":")
        if kind == "code" and name not in current:
            reasons.append(f"it holds {part}, which the run no longer has")
        elif kind == "code" and name not in stored:
            reasons.append(f"it lacks {part}")
        else:
            subject = f"the code of {part}" if kind == "code" else f"the {kind}"
            reasons.append(f"{subject} changed" if kind != "weights" else "the model's weights changed")
    return reasons


def code_hash(module: str) -> str:
    """A hash of a module's code and of the package's code that it imports."""
    parts = [f"{name} {_module_hash(_source(name))}" for name in sorted(closure(module))]
    return _hash("\n".join(parts))


def closure(module: str) -> set[str]:
    """The module and the modules of the package that it imports, directly or not, less ``OUTSIDE``."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [other for other in _imports(name, _source(name)) if other not in OUTSIDE]
    return found


def _source(module: str) -> str:
    path = _path(module)
    if path is None:
        raise FileNotFoundError(f"the source of {module} cannot be found")
    return path.read_text(encoding="utf-8")


def _path(module: str) -> Path | None:
    """The file of a module; the package's own are found without importing anything."""
    if module == PACKAGE or module.startswith(f"{PACKAGE}."):
        base = Path(__file__).parent.joinpath(*module.split(".")[1:])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
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
    for node in ast.walk(_parsed(source)):
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


@lru_cache(maxsize=1024)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


@lru_cache(maxsize=1024)
def _module_hash(source: str) -> str:
    return source_hash(source)


def source_hash(source: str) -> str:
    """A hash of a program text that changes with the program and not with how it is written."""
    return _hash(json.dumps(_canonical(_parsed(source))))


def _canonical(node: Any) -> Any:
    """A syntax tree as lists, without what differs between Python versions or has no effect."""
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "kind", "type_comment", "type_ignores"):
                continue
            if name == "body" and isinstance(value, list):
                value = _without_docstring(node, value)
            if isinstance(node, ast.JoinedStr) and name == "values":
                value = _joined_text(value)
            # Newer versions add fields that are empty in code that older ones can read.
            if value is None and isinstance(node, ast.Constant):
                fields.append([name, "NoneType", "None"])
            elif value is not None and value != []:
                fields.append([name, _canonical(value)])
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    return [type(node).__name__, repr(node)]


def _without_docstring(node: ast.AST, body: list[Any]) -> list[Any]:
    """The body of a module, class or function without its docstring."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, holders) and body and isinstance(body[0], ast.Expr):
        first = body[0].value
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return body[1:]
    return body


def _joined_text(values: list[Any]) -> list[Any]:
    """The parts of an f-string; versions differ in how they cut the text between the braces."""
    joined: list[Any] = []
    for value in values:
        text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if text and joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(joined[-1].value + value.value)
        elif not text or value.value:
            joined.append(value)
    return joined
