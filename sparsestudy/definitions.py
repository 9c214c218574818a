"""What each method and task is, in the words of its class, read from its file: no import, so no torch."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from sparsestudy.errors import StudyError
from sparsestudy.methods import METHODS
from sparsestudy.registry import Registry

SECTIONS = ("Idea", "Args", "Score", "Source", "Deviations")


def definition(name: str, registry: Registry[Any] = METHODS) -> dict[str, str]:
    """The docstring of a registered class, by section: ``summary``, then those of :data:`SECTIONS` it has.

    Args:
        name: of the method or task.
        registry: where it is registered.

    Raises:
        StudyError: there is no such name, or its class has no docstring.
    """
    module = registry.module(name)
    path = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and _names(node, name):
            return _sections(inspect.cleandoc(ast.get_docstring(node) or ""))
    raise StudyError(f"{path.name} defines no class whose `name` is '{name}'.")


def _names(node: ast.ClassDef, name: str) -> bool:
    """Whether a class sets ``name`` to this one."""
    return any(
        isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and line.target.id == "name"
        and isinstance(line.value, ast.Constant)
        and line.value.value == name
        for line in node.body
    )


def _sections(text: str) -> dict[str, str]:
    parts = re.split(rf"(?:^|(?<=\s))({'|'.join(SECTIONS)}):\s", text)
    found = {"summary": " ".join(parts[0].split())}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        found[name] = body.strip() if name == "Args" else " ".join(body.split())
    return found
