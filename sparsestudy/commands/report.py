"""``report``: build the pages from the datasets that are there."""

from __future__ import annotations

import argparse

HELP = "build the report from the datasets that are there; needs no torch, no weights and no network"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--open", action="store_true", help="open the report in the default browser")
    parser.add_argument("--verbose", action="store_true", help="show all that the builder says")


def execute(args: argparse.Namespace) -> int:
    """Build, then say where the report is and how big.

    Raises:
        StudyError: the book cannot be built.
    """
    import time

    from sparsestudy import site

    start = time.monotonic()
    index = site.build(verbose=args.verbose)
    megabytes = site.size(index.parent) / 1e6
    print(f"report: {index} ({megabytes:.1f} MB, built in {time.monotonic() - start:.0f} s)")
    if args.open:
        import webbrowser

        webbrowser.open(index.as_uri())
    return 0
