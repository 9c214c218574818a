"""A hash of a program text that changes with the program and not with how it is written."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import lru_cache
from typing import Any


def text_hash(text: str) -> str:
    """A hash of a text, 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1024)
def parsed(source: str) -> ast.Module:
    """The syntax tree of a program text."""
    return ast.parse(source)


@lru_cache(maxsize=1024)
def source_hash(source: str) -> str:
    """A hash of a program text that changes with the program and not with how it is written."""
    return text_hash(json.dumps(_canonical(parsed(source))))


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
