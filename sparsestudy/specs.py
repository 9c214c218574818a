"""Which method or task variant a run means: a registered name and the fields that were given.

A specification is written as ``quest`` or as ``{name: quest, tail: decode, page_size: 16}``. It is
kept as it was given: a field that is written out appears in the label even when it repeats the
default of the class, because labels and hashes must be the same where torch, and so the class,
cannot be imported.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from difflib import get_close_matches
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_serializer, model_validator

from sparsestudy.errors import StudyError

Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar]
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_BARE = re.compile(r"[a-z][a-z0-9]*")


def nearest(word: str, known: list[str]) -> str:
    """A hint at the known word nearest to ``word``, or nothing when none is near."""
    close = get_close_matches(word, known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _shown(value: Value) -> str:
    """A field's value in a label; two different values never look the same, type included."""
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in ("true", "false", "null"):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _checked_fields(kind: str, name: str, fields: dict[str, Any]) -> dict[str, Value]:
    for field, value in fields.items():
        if not isinstance(field, str) or not _FIELD.fullmatch(field):
            raise ValueError(
                f"The {kind} '{name}' has a field {field!r}; fields are written in lower case, such as "
                "`page_size`."
            )
        parts = value if isinstance(value, list) else [value]
        for part in parts:
            plain = part is None or isinstance(part, str | int | float)
            if not plain or (isinstance(part, float) and not math.isfinite(part)):
                raise ValueError(
                    f"The field '{field}' of {kind} '{name}' is {value!r}; allowed are text, numbers, "
                    "true, false and lists of these."
                )
    return dict(sorted(fields.items()))


class Spec(BaseModel):
    """A variant of a registered class, as given.

    Args:
        name: the registered name.
        fields: the hyperparameters that were given, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    fields: dict[str, Value] = {}

    @classmethod
    def kind(cls) -> str:
        """What is specified, in the singular, for messages."""
        return "method" if cls is MethodSpec else "task"

    @classmethod
    def _own(cls) -> list[str]:
        return [field for field in cls.model_fields if field != "fields"]

    @model_validator(mode="before")
    @classmethod
    def _from_given(cls, given: Any) -> Any:
        """Accept a name or a flat mapping, and move what is not known here into ``fields``."""
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, cls):
            return given
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise ValueError(
                f"A {cls.kind()} is written as a name, such as `quest`, or as a mapping with a name, such as "
                f"`{{name: quest, page_size: 16}}`; got {given!r}."
            )
        name = given["name"]
        registry = _registry(cls.kind())
        if name not in registry:
            raise ValueError(registry.unknown(name))
        own = {key: value for key, value in given.items() if key in cls._own()}
        rest = {key: value for key, value in given.items() if key not in cls._own()}
        if isinstance(rest.get("fields"), dict) and len(rest) == 1:
            rest = rest["fields"]
        return {**own, "fields": _checked_fields(cls.kind(), name, rest)}

    @model_serializer
    def given(self) -> Any:
        """The shortest way to write this: the name alone, or the flat mapping."""
        flat = {key: getattr(self, key) for key in self._own() if not self._is_default(key)}
        flat |= self.fields
        return self.name if len(flat) == 1 else flat

    def _is_default(self, key: str) -> bool:
        info = type(self).model_fields[key]
        return not info.is_required() and bool(getattr(self, key) == info.default)

    def _defaults(self) -> dict[str, Any]:
        """Values of fields that are not given and differ from the class's own."""
        return {}

    @property
    def label(self) -> str:
        """The name and every given field, such as ``quest-page_size_16-tail_decode``.

        Fields are sorted. Text other than lower-case letters and digits is quoted, so that two different
        specifications never share a label.
        """
        given = self.given()
        flat = {} if isinstance(given, str) else {k: v for k, v in given.items() if k != "name"}
        return "-".join([self.name, *(f"{key}_{_shown(flat[key])}" for key in sorted(flat))])

    def __hash__(self) -> int:
        """Equal specifications have equal labels."""
        return hash(self.label)

    def build(self) -> Any:
        """The method or task with these fields; imports its class, so it may import torch.

        Raises:
            StudyError: a field that the class does not have, or a value that it does not take.
        """
        cls = _registry(self.kind())[self.name]
        hints = get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        values = self._defaults()
        for field, value in self.fields.items():
            if field not in known:
                allowed = f"choose among {', '.join(known)}" if known else "it has none"
                raise StudyError(
                    f"The {self.kind()} '{self.name}' has no field '{field}'; {allowed}."
                    + nearest(field, known)
                )
            try:
                values[field] = TypeAdapter(hints[field]).validate_json(json.dumps(value), strict=True)
            except ValidationError as error:
                problem = error.errors()[0]["msg"]
                raise StudyError(
                    f"The field '{field}' of {self.kind()} '{self.name}' is {value!r}: {problem}."
                ) from None
        try:
            return cls(**values)
        except ValueError as error:
            raise StudyError(f"The {self.kind()} '{self.name}' cannot be made so: {error}") from error


class MethodSpec(Spec):
    """A sparse attention method, its fields, and what happens to the tail of the prompt.

    Args:
        tail: for decode methods, whether question and answer prefix are processed densely with the
            prompt (``dense``) or as sparse steps (``decode``). A method that evicts has the question in view
            with the first, and evicts before it comes with the second.
        setting: constants that scale with the length (``neutral``) or those of the paper's code (``paper``);
            fields that are given come before either.
    """

    tail: Literal["dense", "decode"] = "dense"
    setting: Literal["neutral", "paper"] = "neutral"

    def _defaults(self) -> dict[str, Any]:
        return dict(_registry("method")[self.name].PAPER) if self.setting == "paper" else {}

    def build(self) -> Any:
        """The method with these fields; see :meth:`Spec.build`."""
        method = super().build()
        if self.tail == "decode" and method.phase != "decode":
            raise StudyError(
                f"The method '{self.name}' works in the {method.phase} phase here, so it takes no `tail: "
                "decode`; leave the tail out, or choose the decode phase."
            )
        return method


class TaskSpec(Spec):
    """A task and its fields."""


def _registry(kind: str) -> Any:
    if kind == "method":
        from sparsestudy.methods import METHODS

        return METHODS
    from sparsestudy.tasks import TASKS

    return TASKS
