"""Names to classes, imported when first asked for.

A registry knows where each class lives without importing it, so listing the methods costs nothing and
loads no torch; ``REGISTRY["name"]`` imports the one module that is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from sparsestudy.errors import StudyError

T = TypeVar("T")


class Registry(Mapping[str, type[T]], Generic[T]):
    """A lazy mapping from a name to a class.

    Args:
        kind: what an entry is, in the singular, for error messages ("method").
        entries: name to ``"package.module:Class"``.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries: dict[str, str | type[T]] = dict(entries)

    def register(self, name: str, entry: str | type[T]) -> None:
        """Add a class, or the ``"package.module:Class"`` where it lives, under a new name.

        Raises:
            StudyError: the name is taken.
        """
        if name in self._entries:
            raise StudyError(f"The {self.kind} '{name}' is registered already; choose another name.")
        self._entries[name] = entry

    def unregister(self, name: str) -> None:
        """Remove a name again (tests and notebooks that try a class out)."""
        del self._entries[name]

    def module(self, name: str) -> str:
        """The module that defines the class, without importing it."""
        entry = self._entry(name)
        return entry.partition(":")[0] if isinstance(entry, str) else entry.__module__

    def _entry(self, name: str) -> str | type[T]:
        try:
            return self._entries[name]
        except KeyError:
            raise StudyError(self.unknown(name)) from None

    def unknown(self, name: str) -> str:
        """The sentence for a name that is not registered, with the nearest one."""
        near = get_close_matches(name, self._entries, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"There is no {self.kind} '{name}'; choose one of {', '.join(self._entries)}.{hint}"

    def __getitem__(self, name: str) -> type[T]:
        entry = self._entry(name)
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            loaded: type[T] = getattr(importlib.import_module(module), attribute)
            return loaded
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
