"""``report``: build the pages from the datasets that are there."""

from __future__ import annotations

import argparse

HELP = "build the report from the datasets that are there; needs no torch, no weights and no network"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--open", action="store_true", help="open the report in the default browser")
    parser.add_argument("--verbose", action="store_true", help="show all that the builder says")
    parser.add_argument("--force", action="store_true", help="build it again, also where nothing changed")


def execute(args: argparse.Namespace) -> int:
    """Build unless nothing would change, then say where the report is and how big.

    Raises:
        StudyError: the book cannot be built.
    """
    import time

    from sparsestudy import site

    start = time.monotonic()
    done = None if args.force else site.finished()
    index = done or site.build(verbose=args.verbose)
    megabytes = site.size(index.parent) / 1e6
    how = "nothing it is made of has changed" if done else f"built in {time.monotonic() - start:.0f} s"
    print(f"report: {index} ({megabytes:.1f} MB, {how})")
    if args.open:
        import webbrowser

        webbrowser.open(index.as_uri())
    return 0
