"""``python -m sparsestudy <command>``: every module in ``sparsestudy/commands/`` is one command."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from sparsestudy import __version__, commands
from sparsestudy.errors import StudyError

INTERRUPTED = 130


def _commands() -> dict[str, ModuleType]:
    """The command modules by name; importing them loads nothing heavy."""
    names = sorted(info.name for info in pkgutil.iter_modules(commands.__path__))
    modules = {name: importlib.import_module(f"{commands.__name__}.{name}") for name in names}
    return {name.replace("_", "-"): module for name, module in modules.items()}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsestudy", description="A reproducible study of sparse attention."
    )
    parser.add_argument("--version", action="version", version=f"sparsestudy {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _commands().items():
        sub = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(sub)
        sub.set_defaults(execute=module.execute)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 with one sentence on standard error."""
    parsed = build_parser().parse_args(arguments)
    try:
        status: int = parsed.execute(parsed)
        return status
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is kept, and the same command goes on from there", file=sys.stderr
        )
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
