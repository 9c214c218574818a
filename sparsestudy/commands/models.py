"""``python -m sparsestudy models``: the registry, and fetching, checking, pinning and removing weights."""

from __future__ import annotations

import argparse
import sys

from sparsestudy import models
from sparsestudy.errors import StudyError
from sparsestudy.weights import catalogue, manifest
from sparsestudy.weights.entries import FolderEntry, HubEntry, LocalEntry, ShippedEntry

HELP = "list the models, or fetch, verify, pin or remove the weights of one"
ACTIONS = {
    "list": "list all models (the default)",
    "fetch": "download and convert the weights, or restore damaged ones",
    "verify": "hash every cached file and compare",
    "pin": "look up the newest revision of a hub model and record it",
    "remove": "delete the cached weights, or what an unfinished fetch left",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    listing = "; ".join(f"{action}: {text}" for action, text in ACTIONS.items())
    parser.add_argument("action", nargs="?", default="list", choices=ACTIONS, help=listing)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models, as the list shows them")


def execute(args: argparse.Namespace) -> int:
    """Run one action."""
    if args.action == "list":
        if args.names:
            raise StudyError("`models list` takes no names; `models fetch NAME` fetches one.")
        show()
        return 0
    if not args.names:
        raise StudyError(f"Name the model: `python -m sparsestudy models {args.action} NAME`.")
    action = {"fetch": fetch, "verify": verify, "pin": pin, "remove": remove}[args.action]
    for name in args.names:
        print(action(name))
    return 0


def show() -> None:
    """Print the registry as a table; a log gets wide plain lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "name", "parameters", "disk", "context", "source", "licence", "cached", box=None, pad_edge=False
    )
    broken = []
    for name in models.REGISTRY:
        try:
            table.add_row(*map(escape, _row(models.REGISTRY[name])))
        except StudyError as error:
            table.add_row(name, *["?"] * 5, "unusable")
            broken.append(str(error))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    for line in [f"cache: {manifest.cache_root()}", *broken]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _row(entry: models.ModelEntry) -> list[str]:
    disk = manifest.size(entry.disk_bytes) if entry.disk_bytes else "unknown"
    licence = f"{entry.licence} (terms to accept)" if entry.terms else entry.licence
    millions = entry.parameters / 1e6
    parameters = f"{millions:.0f} M" if millions >= 10 else f"{millions:.1f} M"
    cached = "yes" if models.is_cached(entry.name) else _why_not(entry)
    return [entry.name, parameters, disk, str(entry.context), _source(entry), licence, cached]


def _source(entry: models.ModelEntry) -> str:
    if isinstance(entry, LocalEntry):
        return str(entry.path) if isinstance(entry, FolderEntry) else "shipped"
    if isinstance(entry, HubEntry):
        return f"{entry.hub}@{entry.revision[:12]}" if entry.revision else f"{entry.hub} (unpinned)"
    more = f" and {len(entry.wheels) - 1} more" if len(entry.wheels) > 1 else ""
    return f"{entry.wheels[0]}{more} (PyPI)"


def _why_not(entry: models.ModelEntry) -> str:
    damaged = not isinstance(entry, LocalEntry) and manifest.exists(models.folder(entry.name), entry.origin)
    return "damaged" if damaged else "no"


def fetch(name: str) -> str:
    """Fetch what is absent, and restore what is damaged."""
    return f"{name}: {models.fetch(name)}"


def verify(name: str) -> str:
    """Hash every file of a cached model."""
    entry = models.REGISTRY[name]
    if isinstance(entry, FolderEntry):
        return f"{name}: a folder of your own, weights sha256 {entry.weights_sha256()}"
    if isinstance(entry, ShippedEntry):
        models.ready(name)
        return f"{name}: the weights have the sha256 of the card"
    problem = manifest.problem(models.folder(name), entry.origin, deep=True)
    if problem:
        raise StudyError(
            f"The cached weights of '{name}' are not sound ({problem}); "
            f"`python -m sparsestudy models fetch {name}` restores them."
        )
    return f"{name}: every file has the recorded sha256"


def pin(name: str) -> str:
    """Record the newest revision of a hub model."""
    entry = models.REGISTRY[name]
    if not isinstance(entry, HubEntry):
        raise StudyError(f"The model '{name}' comes from {_source(entry)}, not from the hub: nothing to pin.")
    from sparsestudy.weights import hub

    recorded = hub.pin(entry)
    return f"{name}: revision {recorded['revision']} recorded in {catalogue.pins_file()}"


def remove(name: str) -> str:
    """Delete a model's files from the cache; a folder of the user's own is never touched."""
    entry = models.REGISTRY[name]
    if isinstance(entry, FolderEntry):
        raise StudyError(f"The model '{name}' is a folder of your own, {entry.path}; remove it yourself.")
    if isinstance(entry, ShippedEntry):
        raise StudyError(f"The model '{name}' is shipped with the study, not kept in the cache; it stays.")
    from sparsestudy.weights.fetch import discard

    found = discard(name)
    return f"{name}: removed from {manifest.models_root()}" if found else f"{name}: was not in the cache"
