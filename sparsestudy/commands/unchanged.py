"""``unchanged``: note that edits of code changed no number, with a dataset made again as evidence."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "note that edits of code changed no number: a published dataset and the same one made again are equal"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name", metavar="NAME", help="published dataset, such as accuracy/ladder/ladder-0.4m-1024"
    )
    parser.add_argument("again", metavar="FILE", type=Path, help="the same dataset, made again elsewhere")


def execute(args: argparse.Namespace) -> int:
    """Compare, write the entries, and print them.

    Raises:
        StudyError: see :func:`sparsestudy.unchanged.record`.
    """
    from sparsestudy import unchanged

    for edit in unchanged.record(args.name, args.again):
        print(
            f"noted: {edit.component} changed no number, by {edit.values:,} values of {edit.shown_by} "
            f"on {edit.device}"
        )
    return 0
