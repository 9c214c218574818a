"""``plan``: which datasets are fresh, stale or missing, and why."""

from __future__ import annotations

import argparse

HELP = "say for each run which datasets are fresh, stale or missing, and why"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""
    del parser


def execute(args: argparse.Namespace) -> int:
    """Print the plan; nothing is run."""
    from sparsestudy.plan import report

    del args
    print("\n".join(report()))
    return 0
