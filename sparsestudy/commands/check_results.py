"""``check-results``: do the runs of this machine repeat the published ones?"""

from __future__ import annotations

import argparse

from sparsestudy.errors import StudyError

HELP = "say whether the runs of this machine repeat the published ones; fails on a real difference"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="local runs (default: all of them)")
    parser.add_argument(
        "--all", action="store_true", help="list every cell, not only those that are not the same"
    )


def execute(args: argparse.Namespace) -> int:
    """Print what the comparison page says; the exit status is 1 where a cell differs beyond noise.

    Raises:
        StudyError: there is no such local run, or none of its cells was published, so nothing was checked.
    """
    from sparsestudy import blocks, comparison_words, report
    from sparsestudy.compare import DIFFERS, beside
    from sparsestudy.freshness import freshness

    runs = report.found_locally()
    names = args.names or [run.name for run in runs]
    unknown = [name for name in names if name not in [run.name for run in runs]]
    if unknown or not names:
        skipped = " ".join(blocks.skipped().values())
        raise StudyError(
            f"There is no local run{f' {unknown[0]!r}' if unknown else ''} to compare; `make smoke` makes "
            f"the smoke run.{f' {skipped}' if skipped else ''}"
        )
    published = report.published()
    differ = matched = 0
    for run in runs:
        if run.name not in names:
            continue
        table = beside(run, published)
        print("\n".join(comparison_words.lines(run.name, table, args.all)))
        title, text = freshness(run)
        if title:
            print(f"{title}: {text}")
        differ += int((table["verdict"] == DIFFERS).sum())
        matched += int((table["published_run"] != "").sum())
    if not matched:
        raise StudyError("No cell of these runs was also published, so there is nothing to check.")
    return 1 if differ else 0
