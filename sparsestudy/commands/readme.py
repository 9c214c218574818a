"""``readme``: write the figure and the findings of README.md again."""

from __future__ import annotations

import argparse

HELP = "write the figure and the findings of README.md from the published data"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""
    del parser


def execute(args: argparse.Namespace) -> int:
    """Write both and name the files.

    Raises:
        StudyError: there is no published run, or README.md has no place for the findings.
    """
    from sparsestudy import paths, readme

    del args
    for file in readme.write():
        print(f"written: {paths.shown(file)}")
    return 0
