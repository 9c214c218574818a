"""``python -m sparsestudy data``: data of tasks that do not ship; fetching, checking and removing them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sparsestudy import corpora
from sparsestudy.errors import StudyError
from sparsestudy.weights import manifest

HELP = "list the data of tasks that do not ship, or fetch, verify or remove those of one"
ACTIONS = {
    "list": "list all of them (the default)",
    "fetch": "download the official file, or take over a copy; the first good one is recorded",
    "verify": "hash the cached copy, compare and read it",
    "remove": "delete the cached copy and its record",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    listing = "; ".join(f"{action}: {text}" for action, text in ACTIONS.items())
    parser.add_argument("action", nargs="?", default="list", choices=ACTIONS, help=listing)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data, as the list shows them")
    parser.add_argument(
        "--source", default="", help="fetch: a file, folder or address to take instead of the official one"
    )


def execute(args: argparse.Namespace) -> int:
    """Run one action."""
    if args.source and (args.action != "fetch" or len(args.names) != 1):
        raise StudyError("`--source` goes with one name: `data fetch NAME --source FILE`.")
    if args.action == "list":
        if args.names:
            raise StudyError("`data list` takes no names; `data fetch NAME` fetches one.")
        show()
        return 0
    if not args.names:
        raise StudyError(f"Name the data: `python -m sparsestudy data {args.action} NAME`.")
    for name in args.names:
        source = _source(name)
        if args.action == "fetch":
            print(fetch(source, args.source))
        else:
            print({"verify": verify, "remove": remove}[args.action](source))
    return 0


def show() -> None:
    """Print what there is as a table; a log gets wide plain lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "data", "licence", "from", "cached", box=None, pad_edge=False)
    for source in corpora.SOURCES.values():
        origin = source.url or f"{source.page} (fetch it yourself)"
        wrong = corpora.problem(source)
        cached = "yes" if not wrong else "no" if wrong == corpora.ABSENT else "damaged"
        table.add_row(*map(escape, (source.name, source.title, source.licence, origin, cached)))
    console = Console() if sys.stdout.isatty() else Console(width=240)
    console.print(table)
    console.print(f"cache: {manifest.cache_root()}", soft_wrap=True, markup=False, highlight=False)


def fetch(source: corpora.Source, origin: str = "") -> str:
    """Fetch what is absent, and restore what is damaged."""
    terms = f"{source.licence}, {source.licence_url}" if source.licence_url else source.licence
    print(f"{source.name}: {source.title}, licence {terms}", file=sys.stderr)
    path = corpora.fetch(source, _task(source).check, origin)
    return f"{source.name}: {path}, sha256 {corpora.recorded(source)['sha256']}"


def verify(source: corpora.Source) -> str:
    """Hash a cached copy and read it."""
    data = corpora.read(source)
    _task(source).check(data)
    return f"{source.name}: {len(data)} bytes with the recorded sha256, in the official format"


def remove(source: corpora.Source) -> str:
    """Delete a cached copy."""
    found = corpora.remove(source)
    return (
        f"{source.name}: removed from {source.folder.parent}"
        if found
        else f"{source.name}: was not in the cache"
    )


def _source(name: str) -> corpora.Source:
    if name not in corpora.SOURCES:
        raise StudyError(f"There are no data '{name}'; choose one of {', '.join(corpora.SOURCES)}.")
    return corpora.SOURCES[name]


def _task(source: corpora.Source) -> Any:
    from sparsestudy.tasks import TASKS

    return TASKS[source.name]
